//! The plan for one load: the busiest device takes as few tokens as possible.

use super::climb::{Goal, climb};
use super::packing::Packing;
use super::{GroupRule, Groups, Options, counts, nodes, seed};
use crate::domain::placement::balance::Balance;
use crate::domain::placement::paper_greedy::GreedyPlan;
use crate::domain::placement::{PlacementError, Shape, SlotMap, eplb, paper_greedy};

/// Good enough above the lower bound at effort 1, less with more effort: below a thousandth
/// no step gets measurably faster.
const TOLERANCE: f64 = 5e-4;

/// Largest shares tried as the start of a soft search, in mean device loads: low ones split
/// hot experts finely, high ones leave more copies for evening out nodes.
const CEILINGS: [f64; 3] = [0.8, 0.6, 0.4];

/// Budget factor of hard groups, where the busiest node decides and is hard to even out.
const HARD: usize = 4;

/// Budget factor of each soft start, whose climb must also even out the nodes.
const SOFT: usize = 4;

/// Loads that sum to less than this are shares, not tokens, to Algorithm 1, which then sees
/// them as this many tokens.
const SHARES_BELOW: f64 = 1024.0;
const SHARES_AS: f64 = 65_536.0;

/// Relative differences below this are rounding.
const ROUNDING: f64 = 1e-12;

/// Looked-at changes per unit of effort.
const BUDGET: usize = 12_000;

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
    let bound = goal(load, shape, cap, 0.0, 0.0).target;
    let mut reached = Balance::of_map(&best, load).max;
    let mut rivals: Vec<SlotMap> = Vec::new();
    if reached > bound * (1.0 + ROUNDING) {
        if greedy_may_reach(reached, load, shape, options) {
            rivals.extend(greedy_rival(load, shape, options, reached));
        }
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
pub(super) fn allowed(map: &SlotMap, options: &Options, cap: u32) -> bool {
    let groups_kept = match options.groups {
        None => true,
        Some(GroupRule::Hard(groups)) => map.cross_node_replicas(groups) == 0,
        Some(GroupRule::Soft(groups)) => nodes::homes_of(map, groups).is_some(),
    };
    let copies_kept = options.max_copies.is_none() || map.replicas().iter().all(|&r| r <= cap);
    groups_kept && copies_kept && (options.allow_duplicates || map.same_device_duplicates() == 0)
}

/// Whether Algorithm 1's map can keep hard groups and get below `value`: no expert leaves the
/// node it starts on, so no node may carry more than its devices.
fn greedy_may_reach(value: f64, load: &[f64], shape: Shape, options: &Options) -> bool {
    let Some(GroupRule::Hard(groups)) = options.groups else { return true };
    let nodes = groups.n_nodes();
    let limit = value * f64::from(shape.n_devices() / nodes) * (1.0 + ROUNDING);
    let per_node = (shape.n_experts() / nodes) as usize;
    load.chunks_exact(per_node).all(|node| node.iter().sum::<f64>() <= limit)
}

/// Whether a plan in the making can still get every device below `value`.
///
/// A copy relieves a device only when it is of an expert the device holds. So devices above
/// the value that share no expert need copies of their own, each at least as many as it
/// takes when every one relieves it most; false where these exceed the free slots.
fn hopeful(plan: &GreedyPlan, load: &[f64], shape: Shape, value: f64) -> bool {
    let limit = value * (1.0 + ROUNDING);
    let mut free = plan.free_slots();
    let mut counted = vec![false; load.len()];
    for device in 0..shape.n_devices() {
        let held = plan.device(device);
        let share = |&e: &u32| load[e as usize] / f64::from(plan.copies(e));
        let mut sum: f64 = held.iter().map(share).sum();
        if sum <= limit || held.iter().any(|&e| counted[e as usize]) {
            continue;
        }
        for &e in held {
            counted[e as usize] = true;
        }
        let mut own: Vec<(f64, u32)> =
            held.iter().map(|&e| (load[e as usize], plan.copies(e))).collect();
        while sum > limit {
            let relief = |&(x, r): &(f64, u32)| x / f64::from(r) - x / f64::from(r + 1);
            let most = own.iter_mut().max_by(|a, b| relief(a).total_cmp(&relief(b)));
            let Some(most) = most.filter(|_| free > 0) else { return false };
            sum -= relief(most);
            most.1 += 1;
            free -= 1;
        }
    }
    true
}

/// Algorithm 1's map for these loads as whole tokens, unless it cannot get below `value`.
pub(super) fn greedy_rival(
    load: &[f64],
    shape: Shape,
    options: &Options,
    value: f64,
) -> Option<SlotMap> {
    let total: f64 = load.iter().sum();
    // Shares are not tokens: scale them up to a number rounding does not hurt.
    let scale = if total < SHARES_BELOW { SHARES_AS / total.max(f64::MIN_POSITIVE) } else { 1.0 };
    let tokens = paper_greedy::quotas(load, scale);
    let max_copies = options.max_copies.unwrap_or(u32::MAX);
    let hopeful = |plan: &GreedyPlan| hopeful(plan, load, shape, value);
    paper_greedy::plan_copies(&tokens, shape, max_copies, &hopeful)?.to_slot_map(load).ok()
}

fn search(load: &[f64], shape: Shape, options: &Options, cap: u32) -> SlotMap {
    let mut budget = BUDGET * options.effort as usize;
    let tolerance = TOLERANCE / f64::from(options.effort.max(1));
    let slots = match options.groups {
        None => flat(load, shape, (cap, tolerance, 0.0), &mut budget).slots,
        Some(GroupRule::Hard(groups)) => {
            let node_of = nodes::node_of_groups(load, shape, groups);
            let mut budget = HARD * budget;
            let mut solve =
                |load: &[f64], part, floor| flat(load, part, (cap, tolerance, floor), &mut budget);
            nodes::hard(load, shape, groups, &node_of, &mut solve)
        }
        Some(GroupRule::Soft(groups)) => {
            let goal = goal(load, shape, cap, tolerance, 0.0);
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
fn goal(load: &[f64], shape: Shape, cap: u32, tolerance: f64, floor: f64) -> Goal {
    let (_, replicas) = seed::replicate(load, shape.n_slots() as usize, cap);
    goal_of(load, shape, &replicas, (cap, tolerance, floor))
}

fn goal_of(
    load: &[f64],
    shape: Shape,
    replicas: &[u32],
    (cap, tolerance, floor): (u32, f64, f64),
) -> Goal {
    let mean = load.iter().sum::<f64>() / f64::from(shape.n_devices());
    let share = |(x, &r): (&f64, &u32)| x / f64::from(r);
    let largest = load.iter().zip(replicas).map(share).fold(0.0, f64::max);
    let bound = mean.max(largest);
    Goal { target: (bound * (1.0 + tolerance)).max(floor), max_copies: cap }
}

/// The plan without groups; it need not get below `floor`, the last of the limits.
fn flat(
    load: &[f64],
    shape: Shape,
    limits @ (cap, ..): (u32, f64, f64),
    budget: &mut usize,
) -> Packing {
    let (held, replicas) = seed::replicate(load, shape.n_slots() as usize, cap);
    let goal = goal_of(load, shape, &replicas, limits);
    let (n, capacity) = (shape.n_devices() as usize, shape.slots_per_device() as usize);
    let slots = seed::pack(&held, load, &replicas, n, capacity);
    let mut packing = Packing::new(shape, slots, load);
    climb(&mut packing, goal, budget);
    if packing.max() > goal.target {
        counts::search(&mut packing, goal, budget);
    }
    packing
}
