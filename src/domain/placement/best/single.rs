//! The plan for one load: the busiest device takes as few tokens as possible.

use super::climb::{Goal, climb};
use super::packing::Packing;
use super::{GroupRule, Groups, Options, counts, nodes, seed};
use crate::domain::placement::balance::Balance;
use crate::domain::placement::{PlacementError, Shape, SlotMap, eplb, paper_greedy};

/// Good enough above the lower bound: a ten-thousandth of the load is below every tile.
const TOLERANCE: f64 = 1e-4;

/// Largest shares tried as the start of a soft search, in mean device loads: low ones split
/// hot experts finely, high ones leave more copies for evening out nodes.
const CEILINGS: [f64; 3] = [0.8, 0.6, 0.4];

/// Budget factor of each soft start, whose climb must also even out the nodes.
const SOFT: usize = 4;

/// Loads that sum to less than this are shares, not tokens, to Algorithm 1, which then sees
/// them as this many tokens.
const SHARES_BELOW: f64 = 1024.0;
const SHARES_AS: f64 = 65_536.0;

/// Looked-at changes per unit of effort.
const BUDGET: usize = 30_000;

/// The best map found, with what it is compared against.
pub(super) fn plan(
    load: &[f64],
    shape: Shape,
    options: &Options,
) -> Result<SlotMap, PlacementError> {
    let groups = options.groups.map(GroupRule::groups);
    let cap = match (cap(shape, options), options.allow_duplicates) {
        (Ok(cap), _) => cap,
        (Err(_), true) => return eplb::hierarchical(load, shape, groups.unwrap_or(Groups::FLAT)),
        (Err(error), false) => return Err(error),
    };
    let mut best = search(load, shape, options, cap);
    let floor = goal(load, shape, cap, 0.0).target;
    let mut reached = Balance::of_map(&best, load).max;
    let mut rivals: Vec<SlotMap> = Vec::new();
    if reached > floor {
        rivals.extend(greedy_rival(load, shape, options));
        if groups.is_some() || options.allow_duplicates {
            rivals.push(eplb::hierarchical(load, shape, groups.unwrap_or(Groups::FLAT))?);
        }
    }
    for rival in rivals {
        let max = Balance::of_map(&rival, load).max;
        if max < reached && allowed(&rival, options, cap) {
            (best, reached) = (rival, max);
        }
    }
    Ok(best)
}

/// Replicas an expert may have, where that fills the slots without duplicates.
pub(super) fn cap(shape: Shape, options: &Options) -> Result<u32, PlacementError> {
    let nodes = match options.groups {
        Some(GroupRule::Hard(groups)) => groups.n_nodes(),
        _ => 1,
    };
    let devices = shape.n_devices() / nodes;
    let cap = options.max_copies.unwrap_or(u32::MAX).min(devices);
    if u64::from(shape.n_experts()) * u64::from(cap) >= u64::from(shape.n_slots()) {
        return Ok(cap);
    }
    let slots = shape.n_slots();
    Err(if cap < devices {
        PlacementError::TooFewCopies { slots, experts: shape.n_experts(), max_copies: cap }
    } else {
        let experts = shape.n_experts() / nodes;
        PlacementError::DuplicatesUnavoidable {
            slots_per_device: shape.slots_per_device(),
            experts,
        }
    })
}

/// Whether a map of another planner respects the options.
fn allowed(map: &SlotMap, options: &Options, cap: u32) -> bool {
    let groups_kept = match options.groups {
        None => true,
        Some(GroupRule::Hard(groups)) => map.cross_node_replicas(groups) == 0,
        Some(GroupRule::Soft(groups)) => nodes::keeps_homes(map, groups),
    };
    let copies_kept = options.max_copies.is_none() || map.replicas().iter().all(|&r| r <= cap);
    groups_kept && copies_kept && (options.allow_duplicates || map.same_device_duplicates() == 0)
}

/// Algorithm 1's map for these loads as whole tokens.
fn greedy_rival(load: &[f64], shape: Shape, options: &Options) -> Option<SlotMap> {
    let total: f64 = load.iter().sum();
    // Shares are not tokens: scale them up to a number rounding does not hurt.
    let scale = if total < SHARES_BELOW { SHARES_AS / total.max(f64::MIN_POSITIVE) } else { 1.0 };
    let tokens = paper_greedy::quotas(load, scale);
    let max_copies = options.max_copies.unwrap_or(u32::MAX);
    paper_greedy::plan_copies(&tokens, shape, max_copies).ok()?.to_slot_map(load).ok()
}

fn search(load: &[f64], shape: Shape, options: &Options, cap: u32) -> SlotMap {
    let mut budget = BUDGET * options.effort as usize;
    let slots = match options.groups {
        None => flat(load, shape, cap, 0.0, &mut budget).slots,
        Some(GroupRule::Hard(groups)) => {
            let node_of = nodes::node_of_groups(load, shape, groups);
            let mut solve = |load: &[f64], part, floor| flat(load, part, cap, floor, &mut budget);
            nodes::hard(load, shape, groups, &node_of, &mut solve)
        }
        Some(GroupRule::Soft(groups)) => {
            let goal = goal(load, shape, cap, 0.0);
            let node_of = nodes::node_of_groups(load, shape, groups);
            let mean = load.iter().sum::<f64>() / f64::from(shape.n_devices());
            let mut best: Option<Packing> = None;
            for ceiling in CEILINGS {
                let mut packing =
                    nodes::soft_start(load, shape, groups, goal, &node_of, ceiling * mean);
                climb(&mut packing, goal, &mut (SOFT * budget));
                if best.as_ref().is_none_or(|known| packing.max() < known.max()) {
                    best = Some(packing);
                }
                if best.as_ref().is_some_and(|known| known.max() <= goal.target) {
                    break;
                }
            }
            best.map(|packing| packing.slots).unwrap_or_default()
        }
    };
    SlotMap::trusted(shape, slots)
}

/// The target of a search: nothing gets below the mean or the largest share.
fn goal(load: &[f64], shape: Shape, cap: u32, floor: f64) -> Goal {
    let (_, replicas) = seed::replicate(load, shape.n_slots() as usize, cap);
    goal_of(load, shape, &replicas, cap, floor)
}

fn goal_of(load: &[f64], shape: Shape, replicas: &[u32], cap: u32, floor: f64) -> Goal {
    let mean = load.iter().sum::<f64>() / f64::from(shape.n_devices());
    let share = |(x, &r): (&f64, &u32)| x / f64::from(r);
    let largest = load.iter().zip(replicas).map(share).fold(0.0, f64::max);
    let bound = mean.max(largest);
    Goal { target: (bound * (1.0 + TOLERANCE)).max(floor), max_copies: cap }
}

/// The plan without groups; it need not get below `floor`.
fn flat(load: &[f64], shape: Shape, cap: u32, floor: f64, budget: &mut usize) -> Packing {
    let (held, replicas) = seed::replicate(load, shape.n_slots() as usize, cap);
    let goal = goal_of(load, shape, &replicas, cap, floor);
    let (n, capacity) = (shape.n_devices() as usize, shape.slots_per_device() as usize);
    let slots = seed::pack(&held, load, &replicas, n, capacity);
    let mut packing = Packing::new(shape, slots, load);
    climb(&mut packing, goal, budget);
    if packing.max() > goal.target {
        counts::search(&mut packing, goal, budget);
    }
    packing
}
