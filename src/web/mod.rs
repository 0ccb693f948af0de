//! The pages: what is answered as JSON, for a person with a browser.
//!
//! Everything here turns values of [`wire`](crate::wire) into HTML; `http` reads the requests and
//! fetches the values. A page works without script, loads nothing from elsewhere, and needs no
//! style or script within itself, so that a browser can be told to run none.

pub mod answer;
pub mod ask;
pub mod assets;
pub mod catalog;
pub mod compare;
pub mod deployments;
mod layout;
pub mod list;
pub mod map;
pub mod parts;
pub mod predictors;
pub mod problem;
pub mod progress;
pub mod traces;

pub use layout::{Page, alone};
