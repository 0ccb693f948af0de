//! The workbench of the cost model: how far its laws are from measured operators, constants fitted
//! to measurements, and the figures of the MoE-GPS paper.
//!
//! The service answers no question with it; the subcommands `validate`, `calibrate` and
//! `reproduce` run it.

pub mod calibrate;
pub mod drawings;
pub mod duplication_pays;
pub mod measurements;
pub mod reproduce;
pub mod synthetic;
pub mod validate;
