//! Our planner: EPLB's start without duplicates, then climbing and a search over counts.
//!
//! Given any effort, never worse than the better of [`crate::placement::eplb`] and
//! [`crate::placement::paper_greedy`] (as a slot map) among duplicate-free plans, on any load. The search
//! is bounded by a budget of looked-at changes, never by time, so equal input gives equal
//! plans everywhere. Few experts, up to 64 in 128 slots, have a search of their own (`small_instance`).

mod climb;
mod counts;
mod nodes;
mod objective;
mod packing;
mod seed;
mod several;
mod single;
mod small_instance;

pub use objective::{Combine, DeviceCost, PlannedLoad, Tokens};

use crate::placement::balance::Balance;
use crate::placement::{Groups, PlacementError, Shape, SlotMap};

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
    /// Relative loss of value accepted for fewer moves; 0 keeps only what costs nothing.
    pub move_tolerance: f64,
    /// Search budget, 1 for a few ten microseconds a layer of 256 experts; 0 for EPLB's start
    /// without duplicates as it is, compared with nothing.
    pub effort: u32,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            groups: None,
            max_copies: None,
            allow_duplicates: false,
            current: None,
            move_tolerance: 0.0,
            effort: 1,
        }
    }
}

/// The best map found for one load.
///
/// # Example
/// ```
/// use moe_gps_core::placement::{Shape, balance::Balance, best};
/// let load = [600.0, 560.0, 120.0, 120.0, 20.0, 10.0, 10.0, 10.0];
/// let map = best::plan(&load, Shape::new(8, 8, 16)?, &best::Options::default())?;
/// assert!((Balance::of_map(&map, &load).max - 590.0 / 3.0).abs() < 1e-9);
/// # Ok::<(), moe_gps_core::placement::PlacementError>(())
/// ```
pub fn plan(load: &[f64], shape: Shape, options: &Options) -> Result<SlotMap, PlacementError> {
    if options.current.is_some() {
        let cases = [PlannedLoad { load, weight: 1.0 }];
        return plan_for(&cases, Combine::Worst, &Tokens, shape, options);
    }
    shape.check_load(load)?;
    single::plan(load, shape, options)
}

/// The best map found for several loads at once, or for a cost other than tokens.
///
/// Minimises, over the loads, the busiest device's cost in units of the cost of an evenly
/// spread device: the worst load's, or the weighted mean. Copies of an expert cost when its
/// piece of the cost has a fixed part (weights to read), so the slots of a plan for decode
/// fill with experts nobody asks for; the number of slots is the caller's to search.
pub fn plan_for(
    cases: &[PlannedLoad],
    combine: Combine,
    cost: &dyn DeviceCost,
    shape: Shape,
    options: &Options,
) -> Result<SlotMap, PlacementError> {
    if cases.is_empty() || cases.iter().any(|c| !(c.weight.is_finite() && c.weight > 0.0)) {
        return Err(PlacementError::NoLoad);
    }
    cases.iter().try_for_each(|case| shape.check_load(case.load))?;
    several::plan(objective::Objective { cases, combine, cost }, shape, options)
}

/// The best map with at most so many slots per device, from ⌈E/N⌉ on; ties go to fewer slots.
///
/// Because fewer slots are tried too, allowing more never worsens the plan.
pub fn plan_up_to(
    load: &[f64],
    n_experts: u32,
    n_devices: u32,
    max_slots_per_device: u32,
    options: &Options,
) -> Result<SlotMap, PlacementError> {
    let fewest = n_experts.div_ceil(n_devices.max(1)).max(1);
    let mut best: Option<(f64, SlotMap)> = None;
    for slots in fewest..=max_slots_per_device.max(fewest) {
        let shape = Shape::new(n_experts, n_devices, slots.saturating_mul(n_devices))?;
        let map = match plan(load, shape, options) {
            Ok(map) => map,
            // More slots than the copies allowed can fill: the fewer found stand.
            Err(_) if best.is_some() => break,
            Err(error) => return Err(error),
        };
        let max = Balance::of_map(&map, load).max;
        if best.as_ref().is_none_or(|(known, _)| max < *known) {
            best = Some((max, map));
        }
    }
    best.map(|(_, map)| map).ok_or(PlacementError::NoLoad)
}
