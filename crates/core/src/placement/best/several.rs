//! Plans for several loads, for a cost other than tokens, or near a current map.
//!
//! Many starts, among them EPLB's and Algorithm 1's map of the loads' sum, our plans for
//! the sum and for each load, and the current map; the most promising are climbed. Among
//! equally good results the one with the fewest moves wins, then the one that activates the
//! fewest experts on a device.

use crate::placement::best::objective::{Board, Change, Objective};
use crate::placement::best::packing::Packing;
use crate::placement::best::{GroupRule, Groups, Options, nodes, single, small_instance};
use crate::placement::moves::{Moves, relabelled};
use crate::placement::{PlacementError, Shape, SlotMap, eplb};

/// Steps smaller than this share of the value are rounding, not progress.
const STEP: f64 = 1e-9;
/// Looked-at changes per unit of effort and start.
const LOOKS: usize = 4_000;
/// Devices tried as partners of a hot one before a round gives up on exchanges.
const PARTNERS: usize = 8;
/// Starts that are climbed, besides the current map.
const CLIMBED: usize = 3;

pub(super) fn plan(
    objective: Objective,
    shape: Shape,
    options: &Options,
) -> Result<SlotMap, PlacementError> {
    let start_loads = loads_to_start_from(objective, shape);
    let cap = match single::cap(shape, options) {
        Ok(cap) => cap,
        // Only duplicates fill the slots: EPLB's map of the sum, where that is allowed.
        Err(_) if options.allow_duplicates => {
            return single::plan(&start_loads[0], shape, &Options { current: None, ..*options });
        }
        Err(error) => return Err(error),
    };
    if let ([case], None) = (objective.cases, options.current)
        && small_instance::fits(shape, options)
        && !options.allow_duplicates
    {
        return Ok(small_instance::plan_for(case.load, shape, options, cap, objective.cost));
    }
    let mut starts = Vec::new();
    for load in start_loads {
        starts.push(single::plan(&load, shape, &Options { current: None, ..*options })?);
        let most = options.max_copies.unwrap_or(u32::MAX);
        starts.extend(single::greedy_rival(&load, shape, most, f64::INFINITY).map);
        let groups = options.groups.map_or(Groups::FLAT, GroupRule::groups);
        starts.push(eplb::hierarchical(&load, shape, groups)?);
    }
    starts.retain(|map| single::allowed(map, options, cap));
    let valued = |map: SlotMap| (objective.value(&map), map);
    let mut found: Vec<(f64, SlotMap)> = starts.into_iter().map(valued).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.dedup_by(|a, b| a.1 == b.1);
    let current = options.current.filter(|map| map.shape() == shape);
    let near = current.filter(|map| single::allowed(map, options, cap));
    let starts: Vec<SlotMap> =
        found.iter().take(CLIMBED).map(|(_, map)| map).chain(near).cloned().collect();
    for start in starts {
        let climbed = climb(objective, start, options, cap);
        found.push(valued(climbed));
    }
    found.extend(near.cloned().map(valued));
    let least = found.iter().map(|(value, _)| *value).fold(f64::INFINITY, f64::min);
    let limit = least * (1.0 + options.move_tolerance.max(0.0) + STEP);
    let n_nodes = options.groups.map_or(1, |rule| rule.groups().n_nodes());
    found.retain(|(value, _)| *value <= limit);
    let settled = found.into_iter().map(|(_, map)| match current {
        None => (0, map),
        Some(current) => {
            let named = relabelled(current, &map, n_nodes);
            let kept = put_back(objective, &named, current, options, limit);
            (Moves::between(current, &kept).total(), kept)
        }
    });
    let best = settled.min_by_key(|(moves, map)| (*moves, activated(objective, map)));
    best.map(|(_, map)| map).ok_or(PlacementError::NoLoad)
}

/// The sum of the loads, each as shares of its own, by weight; then each load.
fn loads_to_start_from(objective: Objective, shape: Shape) -> Vec<Vec<f64>> {
    let mut sum = vec![0.0; shape.n_experts() as usize];
    for case in objective.cases {
        let total: f64 = case.load.iter().sum();
        let scale = if total > 0.0 { case.weight / total } else { 0.0 };
        for (sum, x) in sum.iter_mut().zip(case.load) {
            *sum += x * scale;
        }
    }
    match objective.cases {
        [only] => vec![only.load.to_vec()],
        cases => std::iter::once(sum).chain(cases.iter().map(|c| c.load.to_vec())).collect(),
    }
}

/// The most experts with any load on one device, over loads and devices.
fn activated(objective: Objective, map: &SlotMap) -> usize {
    let on = |held: &[u32]| {
        let active = |load: &[f64]| held.iter().filter(|&&e| load[e as usize] > 0.0).count();
        objective.cases.iter().map(|case| active(case.load)).max().unwrap_or(0)
    };
    map.devices().map(on).max().unwrap_or(0)
}

/// A duplicate-free map ready for changes that keep the options.
fn packing(objective: Objective, map: &SlotMap, options: &Options) -> Packing {
    let shape = map.shape();
    let packing = Packing::new(shape, map.physical_to_logical().to_vec(), objective.cases[0].load);
    let homes = options.groups.and_then(|rule| {
        let per_node = (shape.n_devices() / rule.groups().n_nodes()) as usize;
        Some((nodes::homes_of(map, rule.groups())?, per_node, matches!(rule, GroupRule::Hard(_))))
    });
    match homes {
        Some((node, per_node, hard)) => packing.with_homes(node, per_node, hard),
        None => packing,
    }
}

/// Climbs from a map on the busiest devices of every load.
fn climb(objective: Objective, start: SlotMap, options: &Options, cap: u32) -> SlotMap {
    if start.same_device_duplicates() > 0 {
        return start;
    }
    let shape = start.shape();
    let mut board = Board::new(objective, packing(objective, &start, options));
    let mut looks = LOOKS * options.effort as usize;
    let mut score = board.score();
    while looks > 0 {
        let mut best = ((score.0 * (1.0 - STEP), f64::INFINITY), None);
        let plateau = score.1 * (1.0 - STEP);
        let hot = board.hottest();
        for change in changes(&board, cap) {
            if looks == 0 {
                break;
            }
            looks -= 1;
            let limit = if best.1.is_some() { best.0.0 } else { score.0 };
            if board.exceeds(change, &hot, limit) {
                continue;
            }
            let after = board.look(change);
            let better = after.0 < best.0.0
                || best.1.is_none() && after.0 <= score.0 && after.1 < plateau
                || best.1.is_some() && after.0 <= best.0.0 && after.1 < best.0.1;
            if better {
                best = (after, Some(change));
            }
        }
        let Some(change) = best.1 else { break };
        board.apply(change);
        score = board.score();
    }
    SlotMap::trusted(shape, board.packing.slots)
}

/// Exchanges of the hot devices with cold ones, then copies given to other experts.
fn changes(board: &Board, cap: u32) -> Vec<Change> {
    let packing = &board.packing;
    let per_device = packing.per_device();
    let slots_of = |device: usize| device * per_device..(device + 1) * per_device;
    let cold = board.coldest();
    let every: Vec<u32> = (0..packing.shape.n_experts()).collect();
    let mut changes = Vec::new();
    for hot in board.hottest() {
        for &other in cold.iter().filter(|&&d| d != hot).take(PARTNERS) {
            for a in slots_of(hot) {
                for b in slots_of(other) {
                    let (x, y) = (packing.slots[a], packing.slots[b]);
                    if packing.may_move(x, hot, other) && packing.may_move(y, other, hot) {
                        changes.push(Change::Swap(a, b));
                    }
                }
            }
        }
        for slot in 0..packing.slots.len() {
            let device = slot / per_device;
            if !packing.may_leave(packing.slots[slot], device, None) {
                continue;
            }
            let taken = if device == hot { &every[..] } else { packing.held(hot) };
            let fits =
                |&&e: &&u32| packing.replicas[e as usize] < cap && packing.may_take(e, device);
            changes.extend(taken.iter().filter(fits).map(|&e| Change::Retarget(slot, e)));
        }
    }
    changes
}

/// Brings experts back to the devices that hold them now, by exchanges that keep the value
/// within the limit and save moves.
fn put_back(
    objective: Objective,
    map: &SlotMap,
    current: &SlotMap,
    options: &Options,
    limit: f64,
) -> SlotMap {
    if map.same_device_duplicates() > 0 {
        return map.clone();
    }
    let shape = map.shape();
    let mut board = Board::new(objective, packing(objective, map, options));
    let per_device = board.packing.per_device();
    let was_on = |expert: u32, slot: usize| {
        let device = u32::try_from(slot / per_device).unwrap_or(u32::MAX);
        current.device(device).contains(&expert)
    };
    for a in 0..board.packing.slots.len() {
        for b in 0..board.packing.slots.len() {
            let (x, y) = (board.packing.slots[a], board.packing.slots[b]);
            let (here, there) = (a / per_device, b / per_device);
            // x is new here; y belongs here and is new there.
            let saves = here != there && !was_on(x, a) && was_on(y, a) && !was_on(y, b);
            if saves
                && board.packing.may_move(x, here, there)
                && board.packing.may_move(y, there, here)
                && board.look(Change::Swap(a, b)).0 <= limit
            {
                board.apply(Change::Swap(a, b));
            }
        }
    }
    let kept = SlotMap::trusted(shape, board.packing.slots);
    relabelled(current, &kept, options.groups.map_or(1, |rule| rule.groups().n_nodes()))
}
