//! How far the laws are from measured operators.
//!
//! A measurement ([`measured::Measured`]) is priced by the very laws that answer
//! questions ([`price::price`]) with the constants of the profile that fits its device
//! and stack best ([`profiles`]); the relative errors are summed up group by group
//! ([`errors`]). Nothing here is a law of its own.

pub mod collectives;
pub mod compare;
pub mod compute;
pub mod draws;
pub mod errors;
pub mod exchange;
pub mod experts;
pub mod layers;
pub mod line;
pub mod measured;
pub mod pairs;
pub mod price;
pub mod profiles;
pub mod report;
pub mod series;
pub mod server;
