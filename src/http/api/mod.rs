//! The handlers, one file per resource: extract, call `app`, answer.

pub mod catalog;
pub mod deployments;
pub mod devices;
pub mod health;
pub mod plans;
pub mod recommendations;
pub mod report;
pub mod sweeps;
pub mod traces;
