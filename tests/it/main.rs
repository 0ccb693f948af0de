//! The one integration test binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod communication_silicon;
mod eplb_fixtures;
mod placement;
mod placement_best;
mod placement_laws;
