//! The plan for one load: the busiest device takes as few tokens as possible.

use crate::placement::balance::Balance;
use crate::placement::best::climb::{Goal, climb};
use crate::placement::best::packing::Packing;
use crate::placement::best::{GroupRule, Groups, Options, counts, nodes, seed, small_instance};
use crate::placement::paper_greedy::GreedyPlan;
use crate::placement::{PlacementError, Shape, SlotMap, eplb, paper_greedy};

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

/// Slots up to which every number of copies is searched where there are groups.
const SMALL: u32 = 64;

/// Relative differences below this are rounding.
const ROUNDING: f64 = 1e-12;

/// Looked-at changes per unit of effort.
const BUDGET: usize = 12_000;

/// The best map found, with what it is compared against.
///
/// A search that may make more copies starts elsewhere, and can end worse. [`small_instance`] sees to it
/// that allowing more never hurts; with groups every smaller number of copies is searched,
/// too, where that costs little.
pub(super) fn plan(
    load: &[f64],
    shape: Shape,
    options: &Options,
) -> Result<SlotMap, PlacementError> {
    let mut best = plan_at(load, shape, options)?;
    let most = match cap(shape, options) {
        Ok(cap) if options.groups.is_some() && options.effort > 0 && shape.n_slots() <= SMALL => {
            cap
        }
        _ => return Ok(best),
    };
    let mean = load.iter().sum::<f64>() / f64::from(shape.n_devices());
    let mut reached = Balance::of_map(&best, load).max;
    for copies in (1..most).rev() {
        if reached <= mean * (1.0 + ROUNDING) {
            break;
        }
        let fewer = Options { max_copies: Some(copies), ..*options };
        // Fewer copies cannot fill the slots.
        let Ok(map) = plan_at(load, shape, &fewer) else { break };
        let max = Balance::of_map(&map, load).max;
        if max < reached {
            (best, reached) = (map, max);
        }
    }
    Ok(best)
}

/// The best map found with the most copies the options allow.
fn plan_at(load: &[f64], shape: Shape, options: &Options) -> Result<SlotMap, PlacementError> {
    let groups = options.groups.map(GroupRule::groups);
    let cap = match (cap(shape, options), options.allow_duplicates) {
        (Ok(cap), _) => cap,
        (Err(_), true) => return eplb::hierarchical(load, shape, groups.unwrap_or(Groups::FLAT)),
        (Err(error), false) => return Err(error),
    };
    let few = small_instance::fits(shape, options);
    if few && !options.allow_duplicates {
        return Ok(small_instance::plan(load, shape, options, cap));
    }
    let replicated = seed::replicate(load, shape.n_slots() as usize, cap);
    let bound = goal_of(load, shape, &replicated.1, (cap, 0.0, 0.0)).target;
    let mut best = if few {
        small_instance::plan(load, shape, options, cap)
    } else {
        search(load, shape, options, cap, replicated)
    };
    let mut reached = Balance::of_map(&best, load).max;
    let mut rivals: Vec<SlotMap> = Vec::new();
    if reached > bound * (1.0 + ROUNDING) && options.effort > 0 {
        if !few && greedy_may_reach(reached, load, shape, options) {
            let most = options.max_copies.unwrap_or(u32::MAX);
            rivals.extend(greedy_rival(load, shape, most, reached).map);
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
/// Devices below the value leave a least load for each, which one must still be able to
/// reach: experts it holds only get lighter, and a free slot adds one share at most.
/// A copy relieves a device only when it is of an expert the device holds. So devices above
/// the value that share no expert need copies of their own, each at least as many as it
/// takes when every one relieves it most; false where these exceed the free slots.
fn hopeful(plan: &GreedyPlan, load: &[f64], shape: Shape, value: f64) -> bool {
    let limit = value * (1.0 + ROUNDING);
    let mut free = plan.free_slots();
    let shares: Vec<f64> = (0..).zip(load).map(|(e, x)| x / f64::from(plan.copies(e))).collect();
    let n = f64::from(shape.n_devices());
    let least = (load.iter().sum::<f64>() - (n - 1.0) * limit) * (1.0 - ROUNDING);
    let added = |(e, x): (u32, &f64)| x / f64::from(plan.copies(e) + 1);
    let most_added = (0..).zip(load).map(added).fold(0.0, f64::max);
    let mut counted = vec![false; load.len()];
    let mut own: Vec<(f64, f64, u32)> = Vec::new();
    for device in 0..shape.n_devices() {
        let held = plan.device(device);
        let mut sum: f64 = held.iter().map(|&e| shares[e as usize]).sum();
        let open = shape.slots_per_device() as usize - held.len();
        if sum + open as f64 * most_added < least {
            return false;
        }
        if sum <= limit || held.iter().any(|&e| counted[e as usize]) {
            continue;
        }
        // What a further copy takes off, the load, and its copies so far.
        own.clear();
        for &e in held {
            counted[e as usize] = true;
            let copies = plan.copies(e);
            own.push((shares[e as usize] / f64::from(copies + 1), load[e as usize], copies));
        }
        while sum > limit {
            let most = own.iter_mut().max_by(|a, b| a.0.total_cmp(&b.0));
            let Some(most) = most.filter(|_| free > 0) else { return false };
            sum -= most.0;
            most.2 += 1;
            most.0 = most.1 / (f64::from(most.2) * f64::from(most.2 + 1));
            free -= 1;
        }
    }
    true
}

/// What Algorithm 1 makes of a load.
#[derive(Debug, Default)]
pub(super) struct Rival {
    /// Its map, unless it cannot get below the value asked for.
    pub(super) map: Option<SlotMap>,
    /// Whether an expert has all the copies allowed, so that with more it may go another way.
    pub(super) limited: bool,
}

/// Algorithm 1's map for these loads as whole tokens, unless it cannot get below `value`.
pub(super) fn greedy_rival(load: &[f64], shape: Shape, max_copies: u32, value: f64) -> Rival {
    let total: f64 = load.iter().sum();
    // Shares are not tokens: scale them up to a number rounding does not hurt.
    let scale = if total < SHARES_BELOW { SHARES_AS / total.max(f64::MIN_POSITIVE) } else { 1.0 };
    let tokens = paper_greedy::quotas(load, scale);
    let hopeful = |plan: &GreedyPlan| hopeful(plan, load, shape, value);
    let (plan, done) = paper_greedy::plan_copies(&tokens, shape, max_copies, &hopeful);
    let limited = (0..shape.n_experts()).any(|e| plan.copies(e) >= max_copies);
    Rival { map: done.then(|| plan.to_slot_map(load).ok()).flatten(), limited }
}

/// Good enough above the lower bound, relative: less with more effort.
pub(super) fn tolerance(options: &Options) -> f64 {
    TOLERANCE / f64::from(options.effort.max(1))
}

/// Who holds a replica, firsts before copies, and the replicas of every expert.
type Replicated = (Vec<u32>, Vec<u32>);

fn search(
    load: &[f64],
    shape: Shape,
    options: &Options,
    cap: u32,
    replicated: Replicated,
) -> SlotMap {
    let mut budget = BUDGET * options.effort as usize;
    let tolerance = tolerance(options);
    let slots = match options.groups {
        None => flat(load, shape, replicated, (cap, tolerance, 0.0), &mut budget).slots,
        Some(GroupRule::Hard(groups)) => {
            let node_of = nodes::node_of_groups(load, shape, groups);
            let mut budget = HARD * budget;
            let mut solve = |load: &[f64], part: Shape, floor| {
                let replicated = seed::replicate(load, part.n_slots() as usize, cap);
                flat(load, part, replicated, (cap, tolerance, floor), &mut budget)
            };
            nodes::hard(load, shape, groups, &node_of, &mut solve)
        }
        Some(GroupRule::Soft(groups)) => {
            let goal = goal_of(load, shape, &replicated.1, (cap, tolerance, 0.0));
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
    (held, replicas): Replicated,
    limits: (u32, f64, f64),
    budget: &mut usize,
) -> Packing {
    let goal = goal_of(load, shape, &replicas, limits);
    let (n, capacity) = (shape.n_devices() as usize, shape.slots_per_device() as usize);
    let slots = seed::pack(&held, load, &replicas, n, capacity);
    let mut packing = Packing::new(shape, slots, load);
    climb(&mut packing, goal, budget);
    if packing.max() > goal.target && *budget > 0 {
        counts::search(&mut packing, goal, budget);
    }
    packing
}
