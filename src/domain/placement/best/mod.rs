//! Our planner: EPLB's start without duplicates, then climbing and a search over counts.
//!
//! Never worse than the better of [`super::eplb`] and [`super::paper_greedy`] (as a slot
//! map) among duplicate-free plans, on any load. The search is bounded by a budget of
//! looked-at changes, never by time, so equal input gives equal plans everywhere.

mod climb;
mod counts;
mod nodes;
mod packing;
mod seed;
mod single;

use super::{Groups, PlacementError, Shape, SlotMap};

/// How far copies may be from their group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupRule {
    /// Every replica of a group stays on the group's node.
    Hard(Groups),
    /// Every expert keeps a replica on its group's node, further copies may leave it.
    Soft(Groups),
}

impl GroupRule {
    /// The groups and nodes of the rule.
    #[must_use]
    pub const fn groups(self) -> Groups {
        match self {
            Self::Hard(groups) | Self::Soft(groups) => groups,
        }
    }
}

/// What a plan must respect and how hard to search.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Groups of experts on nodes, where the routing has them.
    pub groups: Option<GroupRule>,
    /// Most replicas of an expert, the first included.
    pub max_copies: Option<u32>,
    /// Whether a device may hold two replicas of an expert.
    pub allow_duplicates: bool,
    /// The map in force: experts stay where they are as far as balance allows.
    pub current: Option<&'a SlotMap>,
    /// Search budget, 1 for a few ten microseconds a layer of 256 experts; 0 for none.
    pub effort: u32,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { groups: None, max_copies: None, allow_duplicates: false, current: None, effort: 1 }
    }
}

/// The best map found for one load.
///
/// # Example
/// ```
/// use moe_gps::domain::placement::{Shape, balance::Balance, best};
/// let load = [600.0, 560.0, 120.0, 120.0, 20.0, 10.0, 10.0, 10.0];
/// let map = best::plan(&load, Shape::new(8, 8, 16)?, &best::Options::default())?;
/// assert!((Balance::of_map(&map, &load).max - 590.0 / 3.0).abs() < 1e-9);
/// # Ok::<(), moe_gps::domain::placement::PlacementError>(())
/// ```
pub fn plan(load: &[f64], shape: Shape, options: &Options) -> Result<SlotMap, PlacementError> {
    shape.check_load(load)?;
    single::plan(load, shape, options)
}
