//! Which expert lies on which device: slot maps, the planners that make them, their
//! balance, and the moves between two of them.
//!
//! A plan is a [`SlotMap`] of one layer. [`eplb`] and [`paper_greedy`] are the published
//! planners; [`balance`] and [`split`] score a map, [`moves`] compares two.
//! Every planner is a pure function: equal input, equal map.

pub mod balance;
pub mod best;
pub mod cross_node;
pub mod eplb;
pub mod moves;
pub mod paper_greedy;
pub mod split;

mod error;
mod keys;
mod pack;
mod shape;
mod slot_map;

pub use error::PlacementError;
pub use shape::{Groups, Shape};
pub use slot_map::SlotMap;
