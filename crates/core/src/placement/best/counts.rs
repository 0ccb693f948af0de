//! Tabu search over replica counts, where climbing on one map is stuck above its bound.
//!
//! A neighbour takes one replica from an expert and gives it to another; each is packed
//! anew. The best neighbour is taken even where it is worse, its reversal forbidden for a
//! while (Glover 1989), so that plateaus and shallow valleys are crossed.

use crate::placement::best::climb::{Goal, climb};
use crate::placement::best::packing::Packing;
use crate::placement::best::seed;
use std::collections::BTreeMap;
use std::iter::repeat_n;

/// Rounds during which a taken step may not be undone.
const TENURE: usize = 4;
/// Experts tried on either side of an exchange.
const WIDTH: usize = 12;

/// The best counts of a round that are not forbidden.
struct Neighbour {
    score: (f64, f64),
    /// Who gives a replica, who gets it.
    step: (usize, usize),
    counts: Vec<u32>,
}

/// Improves a packing by other replica counts until the target or the end of the budget.
pub(super) fn search(packing: &mut Packing, goal: Goal, budget: &mut usize) {
    let shape = packing.shape;
    let mut current = packing.replicas.clone();
    let mut forbidden: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut best = score(packing);
    let per_look = packing.slots.len() * 4;
    for round in 0.. {
        let mut next: Option<Neighbour> = None;
        for (from, to) in exchanges(&packing.load, &current, goal.max_copies) {
            if *budget < per_look {
                return;
            }
            *budget -= per_look;
            let mut counts = current.clone();
            counts[from] -= 1;
            counts[to] += 1;
            let held: Vec<u32> =
                (0..).zip(&counts).flat_map(|(e, &r)| repeat_n(e, r as usize)).collect();
            let (n, capacity) = (packing.device_load.len(), packing.per_device());
            let slots = seed::pack(&held, &packing.load, &counts, n, capacity);
            let mut found = Packing::new(shape, slots, &packing.load);
            climb(&mut found, goal, &mut per_look.min(*budget));
            let (value, counts) = (score(&found), found.replicas.clone());
            if value < best {
                best = value;
                *packing = found;
            } else if forbidden.get(&(from, to)).is_some_and(|&until| round < until) {
                continue;
            }
            if next.as_ref().is_none_or(|known| value < known.score) {
                next = Some(Neighbour { score: value, step: (from, to), counts });
            }
        }
        if best.0 <= goal.target {
            return;
        }
        let Some(Neighbour { step: (from, to), counts, .. }) = next else { return };
        current = counts;
        forbidden.insert((to, from), round + 1 + TENURE);
    }
}

/// The busiest load, then Σ L²: on a plateau of the first the second still points downhill.
fn score(packing: &Packing) -> (f64, f64) {
    (packing.max(), packing.device_load.iter().map(|x| x * x).sum())
}

/// Pairs (from, to) worth trying: copies whose loss raises the share least, experts whose
/// share is largest or whose copy is cheapest.
fn exchanges(load: &[f64], replicas: &[u32], max_copies: u32) -> Vec<(usize, usize)> {
    let share = |e: usize, r: u32| load[e] / f64::from(r);
    let mut from: Vec<usize> = (0..load.len()).filter(|&e| replicas[e] > 1).collect();
    from.sort_by(|&a, &b| share(a, replicas[a] - 1).total_cmp(&share(b, replicas[b] - 1)));
    from.truncate(WIDTH);
    let mut to: Vec<usize> = (0..load.len()).filter(|&e| replicas[e] < max_copies).collect();
    to.sort_by(|&a, &b| share(b, replicas[b]).total_cmp(&share(a, replicas[a])));
    if to.len() > WIDTH {
        let cheap = to.split_off(to.len() - WIDTH / 2);
        to.truncate(WIDTH / 2);
        to.extend(cheap);
    }
    from.iter().flat_map(|&x| to.iter().filter(move |&&y| y != x).map(move |&y| (x, y))).collect()
}
