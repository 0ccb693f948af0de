//! The public schema, version 1: requests, responses and stored payloads.
//!
//! Field names carry units. Nothing here computes; a request becomes checked domain
//! values by one conversion that reports every violation with its JSON pointer.

pub mod answer;
pub mod catalog;
pub mod compare;
pub mod deployment;
pub mod duplication_search;
pub mod field;
pub mod interval_search;
pub mod job;
pub mod json;
pub mod labels;
pub mod listing;
pub mod loose;
pub mod names;
pub mod outcome;
pub mod placed;
pub mod problem;
pub mod question;
pub mod read;
pub mod report;
pub mod sweep;
pub mod time;
pub mod trace;
pub mod transfer;
pub mod violation;
pub mod written;
