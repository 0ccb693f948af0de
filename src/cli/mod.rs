//! The subcommands, one file each; the only room that prints.

pub mod catalog;
pub mod trace;
