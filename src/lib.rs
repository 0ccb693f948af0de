//! Which expert-load forecast, if any, makes a mixture-of-experts deployment faster.
//!
//! Reading order: [`domain`] is the advice itself, [`wire`] the public schema, [`app`]
//! the use cases. Without the feature `service` there are only [`domain`] and [`formats`].

#[cfg(feature = "service")]
pub mod app;
#[cfg(feature = "service")]
pub mod catalog;
#[cfg(feature = "service")]
pub mod cli;
#[cfg(feature = "service")]
pub mod config;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod domain;
pub mod formats;
#[cfg(feature = "service")]
pub mod http;
#[cfg(feature = "service")]
pub mod jobs;
#[cfg(feature = "service")]
pub mod store;
#[cfg(feature = "service")]
pub mod telemetry;
#[cfg(feature = "service")]
pub mod wire;
