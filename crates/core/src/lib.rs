//! Which expert-load forecast, if any, makes a mixture-of-experts deployment faster: the advice
//! itself, as pure functions over checked values, and the readers and writers of its files.
//!
//! No I/O runtime, no clock, no environment, no unseeded randomness and no hash-ordered maps.
//! Serialised types are API contracts and live in the service's `wire`.
//!
//! Reading order: [`question`], [`advice`], [`strategies`], [`pricing`], [`evaluate`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod advice;
pub mod cancel;
pub mod catalog;
pub mod charts;
pub mod comm;
pub mod cost;
pub mod diagnosis;
pub mod engines;
pub mod evaluate;
pub mod forecast;
pub mod formats;
pub mod hardware;
pub mod memory;
pub mod model;
pub mod named;
pub mod options;
pub mod placement;
pub mod predict;
pub mod price;
pub mod pricing;
pub mod question;
pub mod rebalance;
pub mod revision;
pub mod routing;
pub mod seed;
pub mod serving;
pub mod strategies;
pub mod system;
pub mod terms;
pub mod trace;
pub mod trend;
pub mod units;
pub mod violation;
pub mod watch;
