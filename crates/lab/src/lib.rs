//! The workbench of the cost model: how far its laws are from measured operators, constants fitted
//! to measurements, and the figures of the MoE-GPS paper, and what to switch on today.
//!
//! The service answers no question with it; the subcommands `validate`, `calibrate`, `reproduce`
//! and `guidelines` run it.

pub mod beyond;
pub mod calibrate;
pub mod drawings;
pub mod duplication_pays;
pub mod guidelines;
pub mod measurements;
mod proposed;
pub mod reproduce;
pub mod synthetic;
pub mod validate;
