//! From a question to advice: price every strategy, choose, explain, and say where it flips.

mod curve;
pub mod entry;
pub mod paper;

pub use entry::{Entry, PricedPredictor};
