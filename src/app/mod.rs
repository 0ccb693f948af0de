//! The use cases, one function each; the only room where domain, formats and store meet.

pub mod advise;
pub mod catalog;
pub mod ingest;
