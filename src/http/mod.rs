//! The HTTP surface: what is asked becomes a use case, what comes back an answer.
//!
//! [`router`] is the whole list of paths; `api` holds the handlers, which extract, call
//! `app` and answer; [`problem`] is the only place where an error becomes a status;
//! [`layers`] holds what happens to every request, in order.

pub mod accept;
mod access;
pub mod api;
mod connection;
mod discard_body;
mod etag;
mod export;
pub mod extract;
pub mod layers;
pub mod openapi;
mod page;
mod pages;
pub mod prefer;
pub mod problem;
pub mod router;
pub mod serve;
pub mod state;
mod upload;
