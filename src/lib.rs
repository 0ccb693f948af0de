//! Which expert-load forecast, if any, makes a mixture-of-experts deployment faster.
//!
//! Reading order: [`domain`] is the advice itself, [`wire`] the public schema, [`app`]
//! the use cases.

pub mod app;
pub mod catalog;
pub mod cli;
pub mod config;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod domain;
pub mod formats;
pub mod http;
pub mod jobs;
pub mod store;
pub mod telemetry;
pub mod wire;
