//! Groups of experts on nodes: which group lives where, and the two ways copies may follow.

use crate::placement::best::climb::Goal;
use crate::placement::best::packing::Packing;
use crate::placement::best::seed;
use crate::placement::{Groups, Shape, SlotMap, pack};

/// The node of every group: EPLB's packing, then exchanges between the busiest node and
/// another while they lower the busier of the two.
pub(super) fn node_of_groups(load: &[f64], shape: Shape, groups: Groups) -> Vec<usize> {
    let n_nodes = groups.n_nodes() as usize;
    let group_size = (shape.n_experts() / groups.n_groups()) as usize;
    let group_load: Vec<f64> = load.chunks_exact(group_size).map(|g| g.iter().sum()).collect();
    #[expect(clippy::cast_possible_truncation, reason = "EPLB's packing works in f32")]
    let rounded: Vec<f32> = group_load.iter().map(|&x| x as f32).collect();
    let mut node_of: Vec<usize> =
        pack::balanced(&rounded, n_nodes).into_iter().map(|(node, _)| node).collect();
    loop {
        let mut node_load = vec![0.0_f64; n_nodes];
        for (&node, &x) in node_of.iter().zip(&group_load) {
            node_load[node] += x;
        }
        let hot = (0..n_nodes).fold(0, |h, n| if node_load[n] > node_load[h] { n } else { h });
        let mut best = (node_load[hot] * (1.0 - 1e-9), None);
        for a in (0..node_of.len()).filter(|&a| node_of[a] == hot) {
            for b in (0..node_of.len()).filter(|&b| node_of[b] != hot) {
                let delta = group_load[a] - group_load[b];
                let left = (node_load[hot] - delta).max(node_load[node_of[b]] + delta);
                if left < best.0 {
                    best = (left, Some((a, b)));
                }
            }
        }
        let Some((a, b)) = best.1 else { return node_of };
        node_of.swap(a, b);
    }
}

/// The experts of every node, ascending.
fn experts_of_nodes(node_of: &[usize], n_nodes: usize, group_size: u32) -> Vec<Vec<u32>> {
    let mut experts = vec![Vec::new(); n_nodes];
    for (group, &node) in (0..).zip(node_of) {
        experts[node].extend(group * group_size..(group + 1) * group_size);
    }
    experts
}

/// A soft start: every expert once on its home node, then copies for two needs.
///
/// While some replica carries more than `ceiling`, its expert gets a copy on the lightest
/// node with room. Every further slot takes the copy, of an expert the heaviest node holds,
/// that leaves the smallest Σ (node load)²: a copy elsewhere carries load off the node.
pub(super) fn soft_start(
    load: &[f64],
    shape: Shape,
    groups: Groups,
    goal: Goal,
    node_of: &[usize],
    ceiling: f64,
) -> Packing {
    let devices = (shape.n_devices() / groups.n_nodes()) as usize;
    let capacity = shape.slots_per_device() as usize;
    let group_size = shape.n_experts() / groups.n_groups();
    let homes: Vec<u32> = (0..shape.n_experts())
        .map(|e| u32::try_from(node_of[(e / group_size) as usize]).unwrap_or(0))
        .collect();
    let mut spread = Spread::new(load, &homes, groups.n_nodes() as usize, goal.max_copies);
    spread.devices = devices;
    spread.room.fill(devices * capacity - load.len() / groups.n_nodes() as usize);
    while spread.cut_largest(ceiling) || spread.carry_off() {}
    let on_node = spread.on_node();
    let slots = on_node
        .iter()
        .flat_map(|held| seed::pack(held, load, &spread.replicas, devices, capacity))
        .collect();
    Packing::new(shape, slots, load).with_homes(homes, devices, false)
}

/// Replicas of experts on nodes.
struct Spread<'a> {
    load: &'a [f64],
    n_nodes: usize,
    devices: usize,
    max_copies: u32,
    /// Replicas of every expert, and of every expert on every node (expert after expert).
    replicas: Vec<u32>,
    on: Vec<u32>,
    node_load: Vec<f64>,
    room: Vec<usize>,
}

impl<'a> Spread<'a> {
    fn new(load: &'a [f64], homes: &[u32], n_nodes: usize, max_copies: u32) -> Self {
        let mut on = vec![0; load.len() * n_nodes];
        let mut node_load = vec![0.0; n_nodes];
        for (e, (&x, &home)) in load.iter().zip(homes).enumerate() {
            on[e * n_nodes + home as usize] = 1;
            node_load[home as usize] += x;
        }
        let (replicas, room) = (vec![1; load.len()], vec![0; n_nodes]);
        Self { load, n_nodes, devices: 0, max_copies, replicas, on, node_load, room }
    }

    fn share(&self, e: usize) -> f64 {
        self.load[e] / f64::from(self.replicas[e])
    }

    fn open(&self, e: usize, node: usize) -> bool {
        self.room[node] > 0
            && self.replicas[e] < self.max_copies
            && (self.on[e * self.n_nodes + node] as usize) < self.devices
    }

    /// One more replica of the expert with the largest share, where that exceeds `ceiling`.
    fn cut_largest(&mut self, ceiling: f64) -> bool {
        let largest =
            (0..self.load.len()).fold(0, |a, b| if self.share(b) > self.share(a) { b } else { a });
        if self.share(largest) <= ceiling {
            return false;
        }
        let lightest = (0..self.n_nodes)
            .filter(|&node| self.open(largest, node))
            .min_by(|&a, &b| self.node_load[a].total_cmp(&self.node_load[b]));
        lightest.is_some_and(|node| self.add(largest, node))
    }

    /// The copy of an expert of the heaviest node that evens the nodes most; of any expert
    /// where that node's own cannot be copied.
    fn carry_off(&mut self) -> bool {
        let load = &self.node_load;
        let heavy = (0..self.n_nodes).fold(0, |a, b| if load[b] > load[a] { b } else { a });
        let of_heavy = |e: &usize| self.on[e * self.n_nodes + heavy] > 0;
        let found = self
            .best_copy((0..self.load.len()).filter(of_heavy))
            .or_else(|| self.best_copy(0..self.load.len()));
        found.is_some_and(|(e, node)| self.add(e, node))
    }

    fn best_copy(&self, experts: impl Iterator<Item = usize>) -> Option<(usize, usize)> {
        let mut best = (f64::INFINITY, None);
        for e in experts {
            let change = self.load[e] / f64::from(self.replicas[e] + 1) - self.share(e);
            let on = &self.on[e * self.n_nodes..(e + 1) * self.n_nodes];
            let moved = |node: usize| self.node_load[node] + change * f64::from(on[node]);
            let all: f64 = (0..self.n_nodes).map(|node| moved(node) * moved(node)).sum();
            let taken = self.share(e) + change;
            for node in (0..self.n_nodes).filter(|&node| self.open(e, node)) {
                // (moved + taken)² replaces moved²
                let squares = all + taken * (2.0 * moved(node) + taken);
                if squares < best.0 {
                    best = (squares, Some((e, node)));
                }
            }
        }
        best.1
    }

    fn add(&mut self, e: usize, node: usize) -> bool {
        let before = self.share(e);
        self.replicas[e] += 1;
        let change = self.share(e) - before;
        for (load, &on) in self.node_load.iter_mut().zip(&self.on[e * self.n_nodes..]) {
            *load += change * f64::from(on);
        }
        self.on[e * self.n_nodes + node] += 1;
        self.node_load[node] += self.share(e);
        self.room[node] -= 1;
        true
    }

    /// The experts of every node, once per replica.
    fn on_node(&self) -> Vec<Vec<u32>> {
        let mut held = vec![Vec::new(); self.n_nodes];
        for (e, row) in (0..).zip(self.on.chunks_exact(self.n_nodes)) {
            for (held, &replicas) in held.iter_mut().zip(row) {
                held.extend(std::iter::repeat_n(e, replicas as usize));
            }
        }
        held
    }
}

/// The hard case: every node is a problem of its own, the busiest node first; the others
/// need not get below what it reaches.
pub(super) fn hard(
    load: &[f64],
    shape: Shape,
    groups: Groups,
    node_of: &[usize],
    solve: &mut dyn FnMut(&[f64], Shape, f64) -> Packing,
) -> Vec<u32> {
    let n_nodes = groups.n_nodes() as usize;
    let group_size = shape.n_experts() / groups.n_groups();
    let experts = experts_of_nodes(node_of, n_nodes, group_size);
    let loads: Vec<Vec<f64>> =
        experts.iter().map(|on| on.iter().map(|&e| load[e as usize]).collect()).collect();
    let total = |node: usize| loads[node].iter().sum::<f64>();
    let mut order: Vec<usize> = (0..n_nodes).collect();
    order.sort_by(|&a, &b| total(b).total_cmp(&total(a)));
    let mut slots = vec![0; shape.n_slots() as usize];
    let node_slots = slots.len() / n_nodes;
    let mut floor = 0.0_f64;
    for node in order {
        let Ok(part) = Shape::new(
            shape.n_experts() / groups.n_nodes(),
            shape.n_devices() / groups.n_nodes(),
            shape.n_slots() / groups.n_nodes(),
        ) else {
            break;
        };
        let solved = solve(&loads[node], part, floor);
        floor = floor.max(solved.max());
        let first = node * node_slots;
        for (slot, &local) in slots[first..].iter_mut().zip(&solved.slots) {
            *slot = experts[node][local as usize];
        }
    }
    slots
}

/// The node of every expert's group in a map that has one for each, G/M groups a node; a
/// node has a group when it holds a replica of all its experts.
///
/// Homes are given to the groups in order, each the lowest node with room that has it.
pub(super) fn homes_of(map: &SlotMap, groups: Groups) -> Option<Vec<u32>> {
    let shape = map.shape();
    let n_nodes = groups.n_nodes() as usize;
    let group_size = (shape.n_experts() / groups.n_groups()) as usize;
    let node_slots = shape.n_slots() as usize / n_nodes;
    let mut held = vec![false; shape.n_experts() as usize * n_nodes];
    for (slot, &e) in map.physical_to_logical().iter().enumerate() {
        held[e as usize * n_nodes + slot / node_slots] = true;
    }
    let mut room = vec![groups.n_groups() as usize / n_nodes; n_nodes];
    let mut homes = Vec::with_capacity(shape.n_experts() as usize);
    for group in held.chunks_exact(group_size * n_nodes) {
        let whole = |node: &u32| group.chunks_exact(n_nodes).all(|row| row[*node as usize]);
        let home = (0..groups.n_nodes()).filter(|&node| room[node as usize] > 0).find(whole)?;
        room[home as usize] -= 1;
        homes.extend(std::iter::repeat_n(home, group_size));
    }
    Some(homes)
}
