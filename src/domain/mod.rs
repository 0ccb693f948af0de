//! The advice itself, as pure functions over checked values.
//!
//! No I/O, no clock, no environment, no unseeded randomness, no hash-ordered maps, no
//! serialisation: what is serialised is a promise, and promises live in `wire`.

pub mod advice;
pub mod calibrate;
pub mod comm;
pub mod cost;
pub mod diagnosis;
pub mod duplication_pays;
pub mod engine;
pub mod forecast;
pub mod hardware;
pub mod memory;
pub mod model;
pub mod named;
pub mod placement;
pub mod predict;
pub mod price;
pub mod question;
pub mod rebalance;
pub mod routing;
pub mod seed;
pub mod simulate;
pub mod strategy;
pub mod system;
pub mod terms;
pub mod trace;
pub mod units;
pub mod validate;
