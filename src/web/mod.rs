//! The pages: what is answered as JSON, for a person with a browser.
//!
//! Everything here turns values of [`wire`](crate::wire) into HTML; `http` reads the requests and
//! fetches the values. A page works without script, loads nothing from elsewhere, and needs no
//! style or script within itself, so that a browser can be told to run none.

pub mod answer;
pub mod assets;
mod layout;
pub mod list;
pub mod parts;
pub mod problem;
pub mod progress;

pub use layout::{Page, alone};
