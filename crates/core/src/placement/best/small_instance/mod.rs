//! The plan for few experts: a tabu search over replica counts, each packed anew.
//!
//! The copies allowed grow by one at a time, and the search goes on from what it found with
//! fewer. So a plan with more copies allowed is a continuation of the plan with fewer: it is
//! never worse, and no number of copies is searched twice.
//!
//! A step takes a replica from one expert and gives it to another. The best step is taken
//! even where it is worse, its reversal forbidden for a while (Glover 1989), so that
//! plateaus and shallow valleys are crossed.

mod board;

use crate::placement::best::objective::{DeviceCost, plus};
use crate::placement::best::single::{self, Rival};
use crate::placement::best::{Options, Tokens, seed};
use crate::placement::{Shape, SlotMap};
use board::{Board, Piece, Score};

/// Experts and slots up to which this search is used: a device's experts are bits of a word.
const EXPERTS: u32 = u64::BITS;
const SLOTS: u32 = 128;

/// Packed slots per unit of effort and number of copies allowed: a few ten microseconds. Three
/// times as many bring a plan of 8 or 16 experts nearer to even by 0.1 to 0.4 % (60 random loads).
const PACKED: usize = 640;

/// Least packings, whatever the slots.
const FEWEST: usize = 6;

/// Relative differences below this are rounding.
const ROUNDING: f64 = 1e-12;

/// Rounds during which a taken step may not be undone.
const TENURE: usize = 4;

/// Whether a plan is searched this way.
pub(super) fn fits(shape: Shape, options: &Options) -> bool {
    shape.n_experts() <= EXPERTS
        && shape.n_slots() <= SLOTS
        && options.groups.is_none()
        && options.effort > 0
}

/// The best map found for tokens, with at most `cap` replicas of an expert.
pub(super) fn plan(load: &[f64], shape: Shape, options: &Options, cap: u32) -> SlotMap {
    let mut search = Search::new(load, shape, options, &Tokens);
    search.run(cap, &mut |most, value| single::greedy_rival(load, shape, most, value));
    SlotMap::trusted(shape, search.best.slots())
}

/// The best map found for another cost; never dearer than the best for tokens.
pub(super) fn plan_for(
    load: &[f64],
    shape: Shape,
    options: &Options,
    cap: u32,
    cost: &dyn DeviceCost,
) -> SlotMap {
    let mut search = Search::new(load, shape, options, cost);
    search.run(cap, &mut |_, _| Rival::default());
    search.know(cap);
    let greedy = single::greedy_rival(load, shape, cap, f64::INFINITY).map;
    for map in greedy.into_iter().chain([plan(load, shape, options, cap)]) {
        let within = map.replicas().iter().all(|&r| r <= cap);
        if within && search.start(map.physical_to_logical()) {
            search.walk(cap, 0.0, true);
        }
    }
    SlotMap::trusted(shape, search.best.slots())
}

struct Search<'a, C: ?Sized> {
    load: &'a [f64],
    shape: Shape,
    options: &'a Options<'a>,
    cost: &'a C,
    /// What a replica costs, of every expert with one replica, then with two, and so on.
    pieces: Vec<Piece>,
    /// All experts, in the order they were packed last.
    order: Vec<u32>,
    best: Board,
    tried: Board,
}

impl<'a, C: DeviceCost + ?Sized> Search<'a, C> {
    fn new(load: &'a [f64], shape: Shape, options: &'a Options<'a>, cost: &'a C) -> Self {
        let board = Board::empty(shape.n_devices() as usize);
        Self {
            load,
            shape,
            options,
            cost,
            pieces: Vec::new(),
            order: (0..shape.n_experts()).collect(),
            best: board.clone(),
            tried: board,
        }
    }

    /// Searches with as few replicas per expert as fill the slots, then with one more at a
    /// time, up to `cap`.
    fn run(&mut self, cap: u32, rival: &mut dyn FnMut(u32, f64) -> Rival) {
        let fewest = self.shape.n_slots().div_ceil(self.shape.n_experts());
        let tolerance = single::tolerance(self.options);
        let mut copies: Vec<u32> = Vec::new();
        let mut cheapest: Vec<u32> = Vec::new();
        let mut greedy = Rival { map: None, limited: true };
        for most in 1..=cap {
            self.know(most);
            if most < fewest {
                continue;
            }
            // Where no expert was at its limit, a higher one deals the same.
            let limited = |counts: &[u32]| counts.iter().any(|&r| r + 1 >= most);
            let mut fresh = false;
            if copies.is_empty() || limited(&copies) {
                fresh |= self.replicate(most, &mut copies);
            }
            if cheapest.is_empty() || limited(&cheapest) {
                fresh |= self.replicate_cheaply(most, &copies, &mut cheapest);
            }
            let (share, mean) = self.bounds(&copies);
            let bound = share.max(mean);
            self.walk(most, bound * (1.0 + tolerance), fresh);
            if self.best.score.0 > bound * (1.0 + ROUNDING) && greedy.limited {
                greedy = rival(most, self.best.score.0);
                if let Some(map) = greedy.map.take() {
                    // The filling of its free slots knows no limit.
                    let within = map.replicas().iter().all(|&r| r <= most);
                    greedy.limited |= !within;
                    if within {
                        self.start(map.physical_to_logical());
                    }
                }
            }
            // More copies lower only the largest share, and only what was limited.
            let copied_freely = copies.iter().all(|&r| r < most);
            let slack = if copied_freely && !greedy.limited { tolerance } else { ROUNDING };
            let least = copied_freely || share <= mean;
            if self.shape.redundant() == 0 || least && self.best.score.0 <= bound * (1.0 + slack) {
                break;
            }
        }
    }

    /// Extends the pieces to so many replicas of an expert.
    fn know(&mut self, replicas: u32) {
        while self.pieces.len() < replicas as usize * self.load.len() {
            let r = (self.pieces.len() / self.load.len() + 1) as f64;
            self.pieces.extend(self.load.iter().map(|x| {
                let sums = self.cost.piece(x / r);
                Piece { sums, alone: self.cost.close(sums) }
            }));
        }
    }

    /// Tries a map; whether it is the best so far.
    fn start(&mut self, slots: &[u32]) -> bool {
        let (pieces, n) = (&self.pieces, self.load.len());
        self.tried.take(slots, n, |e, r| pieces[(r as usize - 1) * n + e], self.cost);
        self.keep()
    }

    /// Packs replicas and tries the map; whether it is the best so far, or none where they
    /// do not fit.
    fn pack(&mut self) -> Option<bool> {
        let (pieces, n) = (&self.pieces, self.load.len());
        let piece = |e: usize, r: u32| pieces[(r as usize - 1) * n + e];
        let capacity = self.shape.slots_per_device();
        self.tried.pack(capacity, &mut self.order, piece, self.cost).then(|| self.keep())
    }

    fn keep(&mut self) -> bool {
        let better = self.tried.score < self.best.score;
        if better {
            self.best.clone_from(&self.tried);
        }
        better
    }

    /// Starts from EPLB's counts.
    fn replicate(&mut self, most: u32, copies: &mut Vec<u32>) -> bool {
        let (n, capacity) = (self.shape.n_devices() as usize, self.shape.slots_per_device());
        let (held, replicas) = seed::replicate(self.load, self.shape.n_slots() as usize, most);
        let slots = seed::pack(&held, self.load, &replicas, n, capacity as usize);
        *copies = replicas;
        self.start(&slots)
    }

    /// What all replicas cost, were each alone on a device.
    fn total(&self, replicas: &[u32]) -> f64 {
        let of = |(e, &r): (usize, &u32)| f64::from(r) * self.alone(e, r);
        replicas.iter().enumerate().map(of).sum()
    }

    fn alone(&self, expert: usize, replicas: u32) -> f64 {
        self.pieces[(replicas as usize - 1) * self.load.len() + expert].alone
    }

    /// Starts from the counts whose further replicas add least, where these are cheaper than
    /// EPLB's: a copy of an expert that is read anyway may cost its whole weights.
    fn replicate_cheaply(&mut self, most: u32, copies: &[u32], cheapest: &mut Vec<u32>) -> bool {
        let mut replicas = vec![1_u32; self.load.len()];
        if self.total(copies) <= self.total(&replicas) * (1.0 + ROUNDING) {
            return false;
        }
        for _ in 0..self.shape.redundant() {
            let added = |e: &usize| {
                let r = replicas[*e];
                f64::from(r + 1) * self.alone(*e, r + 1) - f64::from(r) * self.alone(*e, r)
            };
            let open = (0..replicas.len()).filter(|&e| replicas[e] < most);
            let Some(e) = open.min_by(|a, b| added(a).total_cmp(&added(b))) else { break };
            replicas[e] += 1;
        }
        let cheaper = self.total(&replicas) < self.total(copies) * (1.0 - ROUNDING);
        self.tried.replicas.clone_from(&replicas);
        *cheapest = replicas;
        cheaper && self.pack() == Some(true)
    }

    /// What the busiest device costs at least: the largest share alone, and the mean.
    fn bounds(&self, copies: &[u32]) -> (f64, f64) {
        let shares = self.load.iter().zip(copies).map(|(x, &r)| x / f64::from(r));
        let share = self.cost.close(self.cost.piece(shares.fold(0.0, f64::max)));
        let once =
            self.pieces[..self.load.len()].iter().fold([0.0; 2], |sums, p| plus(sums, p.sums));
        (share, self.cost.close(once.map(|x| x / f64::from(self.shape.n_devices()))))
    }

    /// The tabu search from the best counts with at most `most` replicas of an expert.
    ///
    /// Unless the start is `fresh`, the first round tries only what fewer replicas forbade.
    fn walk(&mut self, most: u32, target: f64, fresh: bool) {
        let n = self.load.len();
        let per_effort = (PACKED / self.shape.n_slots() as usize).max(FEWEST);
        let mut looks = per_effort * self.options.effort as usize;
        let mut current = self.best.replicas.clone();
        let mut steps: Vec<(usize, usize)> = Vec::new();
        loop {
            let mut next: Option<(Score, usize, usize)> = None;
            for (from, to) in (0..n).flat_map(|from| (0..n).map(move |to| (from, to))) {
                let (given, taken) = (current[from], current[to]);
                let new = fresh || !steps.is_empty() || taken + 1 == most;
                if from == to || given < 2 || taken >= most || !new {
                    continue;
                }
                // What cannot be the best of the round is not packed.
                let limit = next.map_or(f64::INFINITY, |(known, ..)| known.0);
                if self.alone(from, given - 1) >= limit.min(self.best.score.0) {
                    continue;
                }
                if looks == 0 || self.best.score.0 <= target {
                    return;
                }
                looks -= 1;
                self.tried.replicas.clone_from(&current);
                self.tried.replicas[from] -= 1;
                self.tried.replicas[to] += 1;
                let Some(better) = self.pack() else { continue };
                let score = self.tried.score;
                let open =
                    better || !steps.iter().rev().take(TENURE).any(|&step| step == (to, from));
                if open && next.is_none_or(|(known, ..)| score < known) {
                    next = Some((score, from, to));
                }
            }
            let Some((_, from, to)) = next else { return };
            current[from] -= 1;
            current[to] += 1;
            steps.push((from, to));
        }
    }
}
