//! The use cases, one function each; the only room where domain, formats and store meet.

pub mod advise;
mod answer;
mod assumed;
pub mod catalog;
pub mod ingest;
mod known;
pub mod question;
mod replay;
