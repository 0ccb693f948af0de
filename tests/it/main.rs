//! The one integration test binary: the service through its router and as a process, and
//! the parts that are compared with recorded data.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stdout,
    clippy::exit,
    reason = "a skipped check says so; a child process ends"
)]
#![expect(clippy::maybe_infinite_iter, reason = "waiting for a process ends by patience")]

mod accuracy;
mod advice_laws;
mod asking;
mod asks;
mod bad_input;
mod bad_questions;
mod bad_uploads;
mod blocked_traces;
mod calibrate;
mod calibrated;
mod cancel;
mod crashes;
mod databases;
mod deployments;
mod devices;
mod documents;
mod duplication_pays;
mod duplication_search;
mod edge;
mod engine_recordings;
mod engines;
mod eplb_fixtures;
mod every_field;
mod examples;
mod faults;
mod field_cases;
mod fitted;
mod formats;
mod from_args;
mod groups;
mod guidelines;
mod hostile;
mod hostile_entry;
mod impossible_loads;
mod interval_search;
mod jobs;
mod keeping;
mod launches;
mod loose_recordings;
mod models;
mod names;
mod operations;
mod options;
mod outcomes;
mod overload;
mod paper_mode;
mod placement;
mod placement_best;
mod placement_laws;
mod placements_in_force;
mod plan_files;
mod predictors;
mod prices;
mod process;
mod questions;
mod races;
mod recommendations;
mod recording;
mod replicas;
mod reports;
mod reproduction;
mod revision;
mod schema;
mod service;
mod serving;
mod several_traces;
mod shared_database;
mod simulation;
mod snapshots_api;
mod speculative;
mod support;
mod sweeps;
mod terminal;
mod tokens;
mod traces;
mod verdicts;
mod web;
