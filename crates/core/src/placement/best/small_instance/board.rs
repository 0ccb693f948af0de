//! A duplicate-free map of few slots: filled largest first, then evened by exchanges.

use crate::placement::best::objective::{DeviceCost, minus, plus};

/// Steps smaller than this share of the busiest device are rounding, not progress.
const STEP: f64 = 1e-9;

/// The busiest device's cost, then Σ cost²: on a plateau of the first the second still
/// points downhill.
pub(super) type Score = (f64, f64);

/// Who is where, and what every device costs.
#[derive(Debug, Clone)]
pub(super) struct Board {
    /// Replicas of every expert.
    pub(super) replicas: Vec<u32>,
    pub(super) score: Score,
    /// One replica of every expert.
    piece: Vec<Piece>,
    devices: Vec<Device>,
}

/// What a replica costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// What it adds to a device.
    pub(super) sums: [f64; 2],
    /// The cost of a device with nothing else.
    pub(super) alone: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Device {
    /// Bit e: it holds expert e.
    held: u64,
    room: u32,
    sums: [f64; 2],
    cost: f64,
}

impl Device {
    const fn holds(&self, expert: u32) -> bool {
        self.held >> expert & 1 == 1
    }

    fn change(&mut self, held: u64, sums: [f64; 2], cost: &(impl DeviceCost + ?Sized)) {
        (self.held, self.sums, self.cost) = (held, sums, cost.close(sums));
    }
}

/// The experts of a device, ascending.
fn experts(mut held: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let expert = held.trailing_zeros();
        held &= held.wrapping_sub(1);
        (expert < u64::BITS).then_some(expert)
    })
}

impl Board {
    /// A board without a map, worse than every other.
    pub(super) fn empty(n_devices: usize) -> Self {
        Self {
            replicas: Vec::new(),
            score: (f64::INFINITY, f64::INFINITY),
            piece: Vec::new(),
            devices: vec![Device::default(); n_devices],
        }
    }

    /// The expert of every slot.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.devices.iter().flat_map(|device| experts(device.held)).collect()
    }

    /// Takes over a duplicate-free map; `piece` says what a replica of an expert with so many
    /// adds.
    pub(super) fn take(
        &mut self,
        slots: &[u32],
        n_experts: usize,
        piece: impl Fn(usize, u32) -> Piece,
        cost: &(impl DeviceCost + ?Sized),
    ) {
        self.replicas.clear();
        self.replicas.resize(n_experts, 0);
        for &e in slots {
            self.replicas[e as usize] += 1;
        }
        self.price(piece);
        let per_device = slots.len() / self.devices.len();
        for (device, held) in self.devices.iter_mut().zip(slots.chunks_exact(per_device)) {
            let sums =
                held.iter().fold([0.0; 2], |sums, &e| plus(sums, self.piece[e as usize].sums));
            device.change(held.iter().fold(0, |set, &e| set | 1 << e), sums, cost);
        }
        self.even(cost);
    }

    fn price(&mut self, piece: impl Fn(usize, u32) -> Piece) {
        self.piece.clear();
        self.piece.extend(self.replicas.iter().enumerate().map(|(e, &r)| piece(e, r)));
    }

    /// Packs the board's replicas anew, dearest first, each on the cheapest device with room
    /// that lacks the expert; false where they do not fit.
    ///
    /// `order` is any order of the experts; it comes back as the one used, so that the next
    /// packing finds it nearly sorted.
    pub(super) fn pack(
        &mut self,
        capacity: u32,
        order: &mut [u32],
        piece: impl Fn(usize, u32) -> Piece,
        cost: &(impl DeviceCost + ?Sized),
    ) -> bool {
        self.price(piece);
        let alone = |e: u32| self.piece[e as usize].alone;
        for at in 1..order.len() {
            let (expert, dear) = (order[at], alone(order[at]));
            let mut to = at;
            while to > 0 {
                let before = order[to - 1];
                let known = alone(before);
                if dear.total_cmp(&known).then(before.cmp(&expert)).is_le() {
                    break;
                }
                order[to] = before;
                to -= 1;
            }
            order[to] = expert;
        }
        self.devices.fill(Device { room: capacity, ..Device::default() });
        for &expert in &*order {
            let piece = self.piece[expert as usize].sums;
            for _ in 0..self.replicas[expert as usize] {
                let mut found: Option<(f64, usize)> = None;
                for (at, device) in self.devices.iter().enumerate() {
                    let open = device.room > 0 && !device.holds(expert);
                    if open && found.is_none_or(|(least, _)| device.cost < least) {
                        found = Some((device.cost, at));
                    }
                }
                let to = found.map(|(_, at)| at).or_else(|| self.make_room(expert, cost));
                let Some(to) = to else { return false };
                let device = &mut self.devices[to];
                device.room -= 1;
                device.change(device.held | 1 << expert, plus(device.sums, piece), cost);
            }
        }
        self.even(cost);
        true
    }

    /// Every device with room has the expert: a full device without it hands over an expert
    /// that a device with room lacks, its cheapest.
    fn make_room(&mut self, expert: u32, cost: &(impl DeviceCost + ?Sized)) -> Option<usize> {
        let open = self.devices.iter().position(|device| device.room > 0)?;
        let held = self.devices[open].held;
        let (full, _) = (self.devices.iter().enumerate())
            .filter(|(_, device)| !device.holds(expert) && device.held & !held != 0)
            .min_by(|a, b| a.1.cost.total_cmp(&b.1.cost))?;
        let alone = |e: &u32| self.piece[*e as usize].alone;
        let given = experts(self.devices[full].held & !held)
            .min_by(|a, b| alone(a).total_cmp(&alone(b)))?;
        let piece = self.piece[given as usize].sums;
        let [from, to] = self.devices.get_disjoint_mut([full, open]).ok()?;
        from.change(from.held & !(1 << given), minus(from.sums, piece), cost);
        to.change(to.held | 1 << given, plus(to.sums, piece), cost);
        (from.room, to.room) = (from.room + 1, to.room - 1);
        Some(full)
    }

    /// Exchanges replicas of the busiest device and another while that lowers the dearer.
    fn even(&mut self, cost: &(impl DeviceCost + ?Sized)) {
        loop {
            let (mut hot, mut top) = (0, 0.0);
            for (at, device) in self.devices.iter().enumerate() {
                if device.cost > top {
                    (hot, top) = (at, device.cost);
                }
            }
            let busiest = self.devices[hot];
            let mut best = (top * (1.0 - STEP), None);
            for (cold, other) in self.devices.iter().enumerate() {
                if other.cost >= best.0 {
                    continue;
                }
                for a in experts(busiest.held & !other.held) {
                    let piece = self.piece[a as usize].sums;
                    let (left, joined) = (minus(busiest.sums, piece), plus(other.sums, piece));
                    for b in experts(other.held & !busiest.held) {
                        let piece = self.piece[b as usize].sums;
                        let sums = [plus(left, piece), minus(joined, piece)];
                        let dearer = cost.close(sums[0]).max(cost.close(sums[1]));
                        if dearer < best.0 {
                            best = (dearer, Some((cold, 1 << a | 1 << b, sums)));
                        }
                    }
                }
            }
            let Some((cold, exchanged, sums)) = best.1 else { break };
            for (at, sums) in [hot, cold].into_iter().zip(sums) {
                let device = &mut self.devices[at];
                device.change(device.held ^ exchanged, sums, cost);
            }
        }
        let costs = self.devices.iter().map(|device| device.cost);
        self.score = (costs.clone().fold(0.0, f64::max), costs.map(|x| x * x).sum());
    }
}
