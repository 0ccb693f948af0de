//! What a plan for several loads, or for time instead of tokens, minimises.

use crate::placement::best::packing::Packing;
use crate::placement::{Shape, SlotMap};

/// The cost of one device from the tokens of each replica on it.
///
/// Separable: replicas add up in two sums (say arithmetic and bytes) which one law closes,
/// such as t0 + max(Σ arithmetic, Σ bytes). Neither function may fall when tokens rise.
pub trait DeviceCost {
    /// What a replica with these tokens adds to the two sums.
    fn piece(&self, tokens: f64) -> [f64; 2];
    /// The cost of a device with these sums.
    fn close(&self, sums: [f64; 2]) -> f64;
}

/// The cost is the number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens;

impl DeviceCost for Tokens {
    fn piece(&self, tokens: f64) -> [f64; 2] {
        [tokens, 0.0]
    }

    fn close(&self, sums: [f64; 2]) -> f64 {
        sums[0]
    }
}

/// One load a plan must carry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedLoad<'a> {
    /// Tokens per expert.
    pub load: &'a [f64],
    /// Its part in a weighted mean; positive.
    pub weight: f64,
}

/// How the values of several loads become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    /// The worst load counts.
    Worst,
    /// The weighted mean counts.
    Mean,
}

/// What is minimised: over the loads, the busiest device's cost over the cost of a device
/// when everything is spread evenly (for [`Tokens`]: the imbalance r).
#[derive(Clone, Copy)]
pub(super) struct Objective<'a> {
    pub(super) cases: &'a [PlannedLoad<'a>],
    pub(super) combine: Combine,
    pub(super) cost: &'a dyn DeviceCost,
}

impl Objective<'_> {
    /// The value of a map under even split.
    pub(super) fn value(&self, map: &SlotMap) -> f64 {
        let packing =
            Packing::new(map.shape(), map.physical_to_logical().to_vec(), self.cases[0].load);
        Board::new(*self, packing).value()
    }

    /// Cost of a device when every expert's work, once, is spread evenly over all.
    fn ideal(&self, case: &PlannedLoad, shape: Shape) -> f64 {
        let n = f64::from(shape.n_devices());
        let sums = case.load.iter().map(|&x| self.cost.piece(x)).fold([0.0; 2], plus);
        let ideal = self.cost.close(sums.map(|x| x / n));
        if ideal > 0.0 { ideal } else { 1.0 }
    }

    fn combined(&self, worst: impl Iterator<Item = f64>) -> f64 {
        match self.combine {
            Combine::Worst => worst.fold(0.0, f64::max),
            Combine::Mean => {
                let total: f64 = self.cases.iter().map(|case| case.weight).sum();
                let parts = worst.zip(self.cases).map(|(value, case)| value * case.weight);
                parts.sum::<f64>() / total
            }
        }
    }
}

pub(super) fn plus(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

pub(super) fn minus(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] - b[0], a[1] - b[1]]
}

/// A map with every device's cost under every load.
pub(super) struct Board<'a> {
    objective: Objective<'a>,
    /// The map; the loads of its devices are not kept.
    pub(super) packing: Packing,
    ideal: Vec<f64>,
    /// What a replica of every expert adds to its device, load after load.
    pieces: Vec<[f64; 2]>,
    /// The same with one replica more.
    thinner: Vec<[f64; 2]>,
    /// The pieces of every device, added up, load after load.
    sums: Vec<[f64; 2]>,
    /// Cost over ideal, load after load.
    costs: Vec<f64>,
    /// Costs and pieces before the changes since the last look began.
    before: Before,
}

/// What a look puts back.
#[derive(Default)]
struct Before {
    costs: Vec<(usize, f64, [f64; 2])>,
    pieces: Vec<(usize, [[f64; 2]; 2])>,
}

/// What sums of the same numbers in another order may differ by, relatively.
const ROUNDING: f64 = 1e-9;

/// A change of a board.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Two slots exchange their experts.
    Swap(usize, usize),
    /// A slot takes another expert.
    Retarget(usize, u32),
}

impl<'a> Board<'a> {
    pub(super) fn new(objective: Objective<'a>, packing: Packing) -> Self {
        let ideal =
            objective.cases.iter().map(|case| objective.ideal(case, packing.shape)).collect();
        let n_experts = packing.replicas.len();
        let mut board = Self {
            objective,
            ideal,
            pieces: vec![[0.0; 2]; n_experts * objective.cases.len()],
            thinner: vec![[0.0; 2]; n_experts * objective.cases.len()],
            sums: vec![[0.0; 2]; packing.device_load.len() * objective.cases.len()],
            costs: vec![0.0; packing.device_load.len() * objective.cases.len()],
            before: Before::default(),
            packing,
        };
        (0..n_experts).for_each(|expert| board.recut(expert));
        (0..board.n()).for_each(|device| board.refresh(device));
        board
    }

    fn n(&self) -> usize {
        self.packing.device_load.len()
    }

    /// The pieces of an expert as its replicas are now.
    fn recut(&mut self, expert: usize) {
        let n_experts = self.packing.replicas.len();
        for (s, case) in self.objective.cases.iter().enumerate() {
            let at = s * n_experts + expert;
            let replicas = self.packing.replicas[expert].max(1);
            let piece = |n: u32| self.objective.cost.piece(case.load[expert] / f64::from(n));
            self.before.pieces.push((at, [self.pieces[at], self.thinner[at]]));
            (self.pieces[at], self.thinner[at]) = (piece(replicas), piece(replicas + 1));
        }
    }

    /// The costs of a device from the pieces it holds.
    fn refresh(&mut self, device: usize) {
        let (n, n_experts) = (self.n(), self.packing.replicas.len());
        for (s, ideal) in self.ideal.iter().enumerate() {
            let pieces = &self.pieces[s * n_experts..][..n_experts];
            let held = self.packing.held(device).iter();
            let sums = held.fold([0.0; 2], |sums, &e| plus(sums, pieces[e as usize]));
            let at = s * n + device;
            self.before.costs.push((at, self.costs[at], self.sums[at]));
            (self.sums[at], self.costs[at]) = (sums, self.objective.cost.close(sums) / ideal);
        }
    }

    /// The value to minimise.
    pub(super) fn value(&self) -> f64 {
        let max = |costs: &[f64]| costs.iter().copied().fold(0.0, f64::max);
        self.objective.combined(self.costs.chunks_exact(self.n()).map(max))
    }

    /// The value, then Σ cost², which still falls on a plateau of the first.
    pub(super) fn score(&self) -> (f64, f64) {
        (self.value(), self.costs.iter().map(|x| x * x).sum())
    }

    /// The busiest device under every load that matters, without repetition.
    pub(super) fn hottest(&self) -> Vec<usize> {
        let value = self.value();
        let mut hottest: Vec<usize> = self
            .costs
            .chunks_exact(self.n())
            .map(|costs| (0..costs.len()).fold(0, |a, b| if costs[b] > costs[a] { b } else { a }))
            .enumerate()
            .filter(|&(s, device)| {
                self.objective.combine == Combine::Mean
                    || self.costs[s * self.n() + device] >= value
            })
            .map(|(_, device)| device)
            .collect();
        hottest.sort_unstable();
        hottest.dedup();
        hottest
    }

    /// The other devices, least cost (worst load) first.
    pub(super) fn coldest(&self) -> Vec<usize> {
        let worst =
            |d: usize| self.costs.iter().skip(d).step_by(self.n()).copied().fold(0.0, f64::max);
        let mut devices: Vec<(f64, usize)> = (0..self.n()).map(|d| (worst(d), d)).collect();
        devices.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        devices.into_iter().map(|(_, device)| device).collect()
    }

    /// The score after a change, which is undone again.
    pub(super) fn look(&mut self, change: Change) -> (f64, f64) {
        let undo = self.apply(change);
        let score = self.score();
        self.change(undo);
        for (at, cost, sums) in self.before.costs.drain(..).rev() {
            (self.costs[at], self.sums[at]) = (cost, sums);
        }
        for (at, [piece, thinner]) in self.before.pieces.drain(..).rev() {
            (self.pieces[at], self.thinner[at]) = (piece, thinner);
        }
        score
    }

    /// Whether a change surely leaves the worst load's value above `limit`: what most changes do, said
    /// without a look. It asks the devices that get another expert, and `hot` ones, whose replicas
    /// may get thinner.
    pub(super) fn exceeds(&self, change: Change, hot: &[usize], limit: f64) -> bool {
        if self.objective.combine != Combine::Worst {
            return false;
        }
        let (n, n_experts) = (self.n(), self.packing.replicas.len());
        let per_device = self.packing.per_device();
        self.ideal.iter().enumerate().any(|(s, ideal)| {
            let above = |device: usize, lost: [f64; 2], gained: [f64; 2]| {
                let sums = plus(minus(self.sums[s * n + device], lost), gained);
                self.objective.cost.close(sums) / ideal > limit * (1.0 + ROUNDING)
            };
            let piece = |expert: u32| self.pieces[s * n_experts + expert as usize];
            match change {
                Change::Swap(a, b) => {
                    let [x, y] = [a, b].map(|slot| piece(self.packing.slots[slot]));
                    above(a / per_device, x, y) || above(b / per_device, y, x)
                }
                Change::Retarget(slot, new) => {
                    let device = slot / per_device;
                    let thinner = self.thinner[s * n_experts + new as usize];
                    above(device, piece(self.packing.slots[slot]), thinner)
                        || hot.iter().filter(|&&hot| hot != device).any(|&hot| {
                            let held = self.packing.holds(hot, new);
                            held && above(hot, piece(new), thinner)
                        })
                }
            }
        })
    }

    /// Makes a change; the change that undoes it.
    pub(super) fn apply(&mut self, change: Change) -> Change {
        let experts = |packing: &Packing| match change {
            Change::Swap(..) => None,
            Change::Retarget(slot, new) => Some((packing.slots[slot], new)),
        };
        let touched = experts(&self.packing);
        self.before.costs.clear();
        self.before.pieces.clear();
        let undo = self.change(change);
        match (change, touched) {
            (Change::Swap(a, b), _) => {
                let per_device = self.packing.per_device();
                self.refresh(a / per_device);
                self.refresh(b / per_device);
            }
            (_, Some((old, new))) => {
                self.recut(old as usize);
                self.recut(new as usize);
                for device in 0..self.n() {
                    if self.packing.holds(device, old) || self.packing.holds(device, new) {
                        self.refresh(device);
                    }
                }
            }
            _ => {}
        }
        undo
    }

    fn change(&mut self, change: Change) -> Change {
        match change {
            Change::Swap(a, b) => {
                let (x, y) = (self.packing.slots[a], self.packing.slots[b]);
                self.packing.assign(a, y);
                self.packing.assign(b, x);
                change
            }
            Change::Retarget(slot, new) => {
                let old = self.packing.slots[slot];
                self.packing.assign(slot, new);
                Change::Retarget(slot, old)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_alone_give_the_imbalance() {
        let map = SlotMap::contiguous(4, 2).unwrap();
        let case = |load| PlannedLoad { load, weight: 1.0 };
        let cases = [case(&[3.0, 3.0, 1.0, 1.0][..]), case(&[1.0, 1.0, 1.0, 1.0][..])];
        let value = |combine| Objective { cases: &cases, combine, cost: &Tokens }.value(&map);
        assert_eq!((value(Combine::Worst), value(Combine::Mean)), (1.5, 1.25));
    }

    #[test]
    fn a_look_changes_nothing() {
        let shape = Shape::new(3, 2, 4).unwrap();
        let load = [4.0, 2.0, 1.0];
        let cases = [PlannedLoad { load: &load, weight: 1.0 }];
        let objective = Objective { cases: &cases, combine: Combine::Worst, cost: &Tokens };
        let mut board = Board::new(objective, Packing::new(shape, vec![0, 2, 1, 2], &load));
        let before = board.score();
        let looked = board.look(Change::Retarget(3, 0));
        assert_eq!(board.score(), before);
        assert_eq!(board.look(Change::Retarget(3, 0)), looked);
        board.apply(Change::Retarget(3, 0));
        assert_eq!(board.score(), looked);
        assert_eq!(Board::new(objective, board.packing).score(), looked);
    }
}
