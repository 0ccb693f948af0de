//! Tokens of every slot under a placement, and what they mean for the exchange.

use std::ops::Range;

use crate::comm::load::ExchangeLoad;
use crate::placement::SlotMap;
use crate::placement::split;
use crate::system::ReplicaSplit;

/// A placement with the share of its expert's tokens that each slot takes.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotShares {
    /// Which expert every slot holds.
    pub map: SlotMap,
    /// Different parts of experts' tokens that slots take where there are several replicas:
    /// most of an expert's take equal parts, which are priced once.
    portions: Vec<Portion>,
    /// What every slot takes, in the order of [`SlotShares::each_part`].
    slots: Vec<usize>,
    devices_per_node: usize,
}

/// A part of an expert's tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Portion {
    /// The expert.
    pub expert: usize,
    /// Share of its tokens.
    pub share: f64,
}

impl Portion {
    /// Its tokens when experts draw `counts`.
    #[must_use]
    pub fn tokens(&self, counts: &[f64]) -> f64 {
        counts[self.expert] * self.share
    }
}

impl SlotShares {
    /// Splits every expert's tokens over its replicas.
    ///
    /// The split of `optimal` depends on the load: it is made for `expected`.
    #[must_use]
    pub fn new(map: SlotMap, split: ReplicaSplit, devices_per_node: u32, expected: &[f64]) -> Self {
        let devices_per_node = devices_per_node.max(1) as usize;
        let shares = slot_shares(&map, expected, split, devices_per_node);
        Self::of_shares(map, shares, devices_per_node)
    }

    /// With the share of its expert's tokens that every slot takes.
    fn of_shares(map: SlotMap, shares: Vec<f64>, devices_per_node: usize) -> Self {
        let n_experts = map.shape().n_experts() as usize;
        let mut portions: Vec<Portion> = Vec::new();
        // Every expert's latest portion, and every portion's earlier one of the same expert.
        let mut latest: Vec<Option<usize>> = vec![None; n_experts];
        let mut earlier: Vec<Option<usize>> = Vec::new();
        let mut slots = Vec::with_capacity(shares.len());
        for (expert, share) in map.physical_to_logical().iter().zip(shares) {
            let expert = *expert as usize;
            if share >= 1.0 {
                slots.push(expert);
                continue;
            }
            let mut found = latest[expert];
            while let Some(at) = found
                && portions[at].share.to_bits() != share.to_bits()
            {
                found = earlier[at];
            }
            slots.push(
                n_experts
                    + found.unwrap_or_else(|| {
                        portions.push(Portion { expert, share });
                        earlier.push(latest[expert].replace(portions.len() - 1));
                        portions.len() - 1
                    }),
            );
        }
        Self { map, portions, slots, devices_per_node }
    }

    /// What `of` says of the tokens of every expert, then of every part of an expert that some
    /// slot takes: slots name these by their place.
    pub fn each_part<T>(&self, counts: &[f64], of: impl Fn(f64) -> T) -> impl Iterator<Item = T> {
        let whole = counts.iter().copied();
        let parts = self.portions.iter().map(|portion| portion.tokens(counts));
        whole.chain(parts).map(of)
    }

    /// The parts of experts that some slot takes.
    #[must_use]
    pub fn portions(&self) -> &[Portion] {
        &self.portions
    }

    /// For every device, what each of its slots takes, in the order of [`Self::each_part`].
    pub fn devices(&self) -> impl Iterator<Item = &[usize]> {
        self.slots.chunks(self.map.shape().slots_per_device() as usize)
    }

    /// The same placement, each expert's tokens split so that the busiest device takes as few of
    /// `counts` as can be.
    #[must_use]
    pub fn split_for(&self, counts: &[f64]) -> Self {
        let devices_per_node = u32::try_from(self.devices_per_node).unwrap_or(u32::MAX);
        Self::new(self.map.clone(), ReplicaSplit::Optimal, devices_per_node, counts)
    }

    /// The same placement, all tokens of every expert in one of its slots.
    #[must_use]
    pub fn routed_to(&self, slot_of_expert: &[usize]) -> Self {
        let experts = self.map.physical_to_logical().iter().enumerate();
        let share = |(slot, expert): (usize, &u32)| {
            if slot_of_expert[*expert as usize] == slot { 1.0 } else { 0.0 }
        };
        Self::of_shares(self.map.clone(), experts.map(share).collect(), self.devices_per_node)
    }

    /// The expert of every part of an expert that some slot takes, and the share of its tokens: in the
    /// order of [`Self::each_part`].
    #[must_use]
    pub fn each_share(&self, n_experts: usize) -> Vec<(usize, f64)> {
        let whole = (0..n_experts).map(|expert| (expert, 1.0));
        let parts = self.portions.iter().map(|portion| (portion.expert, portion.share));
        whole.chain(parts).collect()
    }

    /// Tokens of every device, in (token, expert) pairs.
    pub fn device_tokens(&self, counts: &[f64]) -> impl Iterator<Item = f64> {
        let tokens = |part: usize| match part.checked_sub(counts.len()) {
            Some(portion) => self.portions[portion].tokens(counts),
            None => counts[part],
        };
        self.devices().map(move |slots| slots.iter().map(|part| tokens(*part)).sum())
    }

    /// Tokens of the busiest device over the mean, in (token, expert) pairs.
    #[must_use]
    pub fn imbalance(&self, counts: &[f64]) -> f64 {
        let mut most: f64 = 0.0;
        let mut sum = 0.0;
        let mut n = 0.0;
        for load in self.device_tokens(counts) {
            most = most.max(load);
            sum += load;
            n += 1.0;
        }
        if sum > 0.0 { most * n / sum } else { 1.0 }
    }
}

/// The share of its expert's tokens that every slot takes.
///
/// `hashed`: one over the replicas. `nearest_first`: tokens come evenly from all devices,
/// and each device uses its own replica, else those of its node, else all. `optimal`: as
/// under the expected loads the busiest device is least.
fn slot_shares(
    map: &SlotMap,
    expected: &[f64],
    split: ReplicaSplit,
    devices_per_node: usize,
) -> Vec<f64> {
    let replicas = map.replicas();
    let even: Vec<f64> = map
        .physical_to_logical()
        .iter()
        .map(|e| 1.0 / f64::from(replicas[*e as usize].max(1)))
        .collect();
    match split {
        ReplicaSplit::Hashed => even,
        ReplicaSplit::NearestFirst => nearest_shares(map, &replicas, even, devices_per_node),
        ReplicaSplit::Optimal => split::optimal_shares(map, expected),
    }
}

/// Shares of slots when every device prefers its own replica, then its node's.
fn nearest_shares(
    map: &SlotMap,
    replicas: &[u32],
    mut shares: Vec<f64>,
    devices_per_node: usize,
) -> Vec<f64> {
    let slots = map.shape().slots_per_device() as usize;
    let n_devices = map.shape().n_devices() as usize;
    let mut places: Vec<Vec<usize>> = vec![Vec::new(); replicas.len()];
    for (slot, expert) in map.physical_to_logical().iter().enumerate() {
        places[*expert as usize].push(slot);
    }
    for places in places.iter().filter(|places| places.len() > 1) {
        // Places are in the order of devices, so that those of a device or node are neighbours.
        let held = |devices: Range<usize>| {
            let before = |device: usize| places.partition_point(|place| place / slots < device);
            before(devices.start)..before(devices.end)
        };
        for place in places {
            shares[*place] = 0.0;
        }
        for source in 0..n_devices {
            let first_of_node = source / devices_per_node * devices_per_node;
            let mut near = held(source..source + 1);
            if near.is_empty() {
                near = held(first_of_node..first_of_node + devices_per_node);
            }
            if near.is_empty() {
                near = 0..places.len();
            }
            let each = 1.0 / (n_devices * near.len()) as f64;
            for place in &places[near] {
                shares[*place] += each;
            }
        }
    }
    shares
}

/// Tokens of a step with at least one expert on each device, expected as in [`exchange_load`].
#[must_use]
pub fn visitors(placed: &SlotShares, counts: &[f64], tokens: f64) -> Vec<f64> {
    let misses: Vec<f64> = placed.each_part(counts, |n| (1.0 - n / tokens).max(0.0)).collect();
    let missed = |slots: &[usize]| slots.iter().map(|slot| misses[*slot]).product::<f64>();
    placed.devices().map(|slots| tokens * (1.0 - missed(slots))).collect()
}

/// What the busiest device receives from others, expected from the counts of a step.
///
/// A device holding experts that draw `n_1`, `n_2`, … of T tokens sees a distinct token with
/// chance 1 − Π (1 − `n_i/T`), its choices taken as independent; of those, (N−1)/N come from
/// other devices. The same over the experts of a node for what crosses nodes.
#[must_use]
pub fn exchange_load(placed: &SlotShares, counts: &[f64], tokens: f64, parts: f64) -> ExchangeLoad {
    let n_devices = f64::from(placed.map.shape().n_devices());
    let foreign = (n_devices - 1.0) / n_devices;
    let n_nodes = (n_devices / placed.devices_per_node as f64).max(1.0);
    let mut busiest = ExchangeLoad { tokens: 0.0, pairs: 0.0, node_tokens: 0.0 };
    let mut node_missed = 1.0;
    let parts_of: Vec<(f64, f64)> =
        placed.each_part(counts, |n| ((1.0 - n / tokens).max(0.0), n)).collect();
    for (device, slots) in placed.devices().enumerate() {
        let (mut missed, mut pairs) = (1.0, 0.0);
        for slot in slots {
            let (misses, n) = parts_of[*slot];
            missed *= misses;
            pairs += n;
        }
        node_missed *= missed;
        busiest.tokens = busiest.tokens.max(tokens * (1.0 - missed));
        busiest.pairs = busiest.pairs.max(pairs);
        if (device + 1) % placed.devices_per_node == 0 {
            busiest.node_tokens = busiest.node_tokens.max(tokens * (1.0 - node_missed));
            node_missed = 1.0;
        }
    }
    ExchangeLoad {
        tokens: busiest.tokens * foreign / parts,
        pairs: busiest.pairs * foreign / parts,
        node_tokens: busiest.node_tokens * (n_nodes - 1.0) / n_nodes / parts,
    }
}
