//! The service: which expert-load forecast, if any, makes a mixture-of-experts deployment faster,
//! over HTTP.
//!
//! Reading order: `moe_gps_core` is the advice itself, [`wire`] the public schema, [`app`] the use
//! cases.

pub mod app;
pub mod cli;
pub mod config;
pub mod http;
pub mod jobs;
pub mod store;
pub mod telemetry;
pub mod web;
pub mod wire;
