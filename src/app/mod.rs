//! The use cases, one function each; the only room where domain, formats and store meet.

pub mod advise;
pub mod advisor;
mod answer;
mod assumed;
pub mod board;
pub mod calibrate;
pub mod catalog;
pub mod clock;
pub mod context;
pub mod cost_model;
pub mod error;
mod fitted;
pub mod health;
pub mod ingest;
mod known;
pub mod place;
pub mod plan_file;
mod predictor_cost;
pub mod question;
pub mod recommendations;
mod replay;
pub mod report;
pub mod traces;
pub mod uploads;
pub mod validate;
