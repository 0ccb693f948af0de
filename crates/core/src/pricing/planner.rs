//! Plans of one layer: which expert stands in which slot.

use crate::engines;
use crate::memory::expert_bytes;
use crate::placement::balance::Balance;
use crate::placement::best::{Combine, DeviceCost, GroupRule, PlannedLoad, Tokens};
use crate::placement::moves::relabelled;
use crate::placement::{Groups, PlacementError, Shape, SlotMap, best, eplb, paper_greedy};
use crate::pricing::candidates::Care;
use crate::pricing::kinds::served_steps;
use crate::pricing::slot_shares::SlotShares;
use crate::question::{Algorithm, Grouping, Question};
use crate::routing::{by_share, in_order};
use crate::system::{Phase, ReplicaSplit, System};

/// Makes the plans of one question.
#[derive(Debug, Clone)]
pub struct Planner {
    n_experts: u32,
    n_devices: u32,
    /// Devices of a node within the expert-parallel group.
    devices_per_node: u32,
    /// The number of groups, and whether copies may leave their nodes.
    groups: Option<(u32, Grouping)>,
    max_copies: u32,
    algorithm: Algorithm,
    allow_duplicates: bool,
    split: ReplicaSplit,
    /// Slots a device needs for one copy of everything.
    pub base_slots: u32,
    /// (token, expert) pairs of a step.
    assignments: f64,
    /// In decode, what a device's time depends on.
    reads: Option<Reads>,
}

/// What a device reads in a decode step, in experts; `best` minimises it instead of tokens.
///
/// ```text
/// reads = Σ over slots of (1 − e^(−n)) + n · row bytes / expert bytes
/// ```
///
/// A slot that draws n tokens on average is active with chance 1 − e^(−n) (tokens choose
/// independently), and an active expert is read once whatever its tokens: at small batches
/// the busiest device is the one with the most active experts. Rows of tokens count little,
/// and decide where all experts are active. No rate of the device is in it, so a plan does
/// not change with them. Source: `cost-model` §11. Worked number: slots of 0.1 and 5
/// tokens read 0.095 and 0.993 experts.
#[derive(Debug, Clone, Copy)]
struct Reads {
    /// Bytes of a token's rows over bytes of an expert.
    row_share: f64,
}

impl Reads {
    fn new(system: &System) -> Self {
        let hidden = f64::from(system.model.expert_width());
        let inner = f64::from(system.model.experts.intermediate)
            / f64::from(system.parallelism.expert_tensor);
        let up = if system.model.experts.gated { 2.0 * inner } else { inner };
        let rows = (2.0 * hidden + up + inner) * system.workload.dtypes.stream.bytes();
        Self { row_share: rows / expert_bytes(system).get() }
    }

    fn of(self, tokens: f64) -> f64 {
        -(-tokens).exp_m1() + tokens * self.row_share
    }
}

impl DeviceCost for Reads {
    fn piece(&self, tokens: f64) -> [f64; 2] {
        [self.of(tokens), 0.0]
    }

    fn close(&self, sums: [f64; 2]) -> f64 {
        sums[0]
    }
}

/// The planners of a question: of a running server one for every kind of step, as the plan that is
/// best in prefill need not be in decode.
pub(crate) fn planners(question: &Question) -> Vec<Planner> {
    let mut made = vec![Planner::new(question)];
    for (_, step) in served_steps(question) {
        if step.workload.phase != question.system.workload.phase {
            let mut other = question.clone();
            other.system.workload = step.workload;
            made.push(Planner::new(&other));
        }
    }
    made
}

impl Planner {
    /// The planner of a question.
    #[must_use]
    pub fn new(question: &Question) -> Self {
        let System { model, cluster, parallelism, workload, assumptions, .. } = &question.system;
        let n_devices = parallelism.expert_parallel;
        let devices_per_node = (cluster.devices_per_node / parallelism.expert_tensor).max(1);
        // DeepSeek: hierarchical for prefill, global for decode.
        let rule = question.duplication.groups.unwrap_or(match workload.phase {
            Phase::Prefill => Grouping::Hard,
            Phase::Decode => Grouping::None,
        });
        let groups = model
            .experts
            .groups
            .map(|groups| (groups.groups, rule))
            .filter(|_| rule != Grouping::None && n_devices > devices_per_node);
        Self {
            n_experts: model.experts.routed,
            n_devices,
            devices_per_node: devices_per_node.min(n_devices),
            groups,
            max_copies: question.duplication.max_copies.unwrap_or(n_devices),
            algorithm: question.duplication.algorithm,
            allow_duplicates: question.duplication.allow_duplicates,
            split: assumptions
                .replica_split
                .unwrap_or_else(|| question.system.engine_kind().replica_split),
            base_slots: model.experts.routed.div_ceil(n_devices),
            assignments: workload.tokens_per_step as f64 * f64::from(model.experts.top_k),
            reads: (workload.phase == Phase::Decode).then(|| Reads::new(&question.system)),
        }
    }

    /// The placement without any plan: expert after expert, spare slots filled from the
    /// first expert on, as engines start.
    pub fn trivial(&self) -> Result<SlotMap, PlacementError> {
        let shape = self.shape(self.base_slots)?;
        let slots = (0..shape.n_slots()).map(|slot| slot % self.n_experts).collect();
        SlotMap::new(shape, slots)
    }

    /// A map the user states, if it is one of whole devices that places every expert.
    #[must_use]
    pub fn current(&self, physical_to_logical: &[u32]) -> Option<SlotMap> {
        let slots = u32::try_from(physical_to_logical.len()).ok()?;
        let shape = Shape::new(self.n_experts, self.n_devices, slots).ok()?;
        SlotMap::new(shape, physical_to_logical.to_vec()).ok()
    }

    /// A plan for the expected `shares` with that many slots on every device.
    pub fn plan(&self, shares: &[f64], slots_per_device: u32) -> Result<SlotMap, PlacementError> {
        self.plan_with(shares, slots_per_device, best::Options::default().effort)
    }

    /// The same, near the map in force: devices are renamed so that experts stay where they
    /// are, and a map that is as good already is kept.
    pub fn plan_near(
        &self,
        current: &SlotMap,
        shares: &[f64],
        slots_per_device: u32,
    ) -> Result<SlotMap, PlacementError> {
        let found = self.plan(shares, slots_per_device)?;
        Ok(self.near(current, &found, &[shares]))
    }

    /// The plan near the map in force whose busiest device is least busy under the worst of
    /// several loads. Planners that take one load take the mean.
    pub fn plan_for_worst(
        &self,
        current: &SlotMap,
        loads: &[&[f64]],
        slots_per_device: u32,
    ) -> Result<SlotMap, PlacementError> {
        if let [only] = loads {
            return self.plan_near(current, only, slots_per_device);
        }
        let scaled: Vec<Vec<f64>> = loads.iter().map(|load| self.tokens(load)).collect();
        let loads: Vec<&[f64]> = scaled.iter().map(Vec::as_slice).collect();
        let found = if self.algorithm == Algorithm::Best {
            let shape = self.shape(slots_per_device)?;
            let options = self.options(shape, best::Options::default().effort);
            let cases: Vec<PlannedLoad> =
                loads.iter().map(|load| PlannedLoad { load, weight: 1.0 }).collect();
            let cost: &dyn DeviceCost = self.reads.as_ref().map_or(&Tokens, |reads| reads);
            best::plan_for(&cases, Combine::Worst, cost, shape, &options)?
        } else {
            self.plan(&mean(&loads), slots_per_device)?
        };
        Ok(self.near(current, &found, &loads))
    }

    /// `found` with devices named so that experts stay where they are, or the map in force
    /// where that is as good.
    fn near(&self, current: &SlotMap, found: &SlotMap, loads: &[&[f64]]) -> SlotMap {
        let worst = |map: &SlotMap| {
            loads.iter().map(|shares| self.busiest(map, shares)).fold(0.0, f64::max)
        };
        let same = current.shape() == found.shape()
            && self.keeps_rules(current)
            && worst(current) <= worst(found);
        let n_nodes = self.n_devices / self.devices_per_node;
        if same { current.clone() } else { relabelled(current, found, n_nodes) }
    }

    /// Shares as (token, expert) pairs of a step.
    fn tokens(&self, shares: &[f64]) -> Vec<f64> {
        let scale = self.assignments / shares.iter().sum::<f64>();
        shares.iter().map(|share| share * scale).collect()
    }

    /// What a plan minimises: tokens of the busiest device, or in decode its reads.
    fn busiest(&self, map: &SlotMap, shares: &[f64]) -> f64 {
        let Some(reads) = &self.reads else { return Balance::of_map(map, shares).max };
        let tokens = self.tokens(shares);
        let replicas = map.replicas();
        let piece = |e: &u32| {
            let e = *e as usize;
            reads.of(tokens[e] / f64::from(replicas[e]))
        };
        map.devices().map(|held| held.iter().map(piece).sum()).fold(0.0, f64::max)
    }

    /// Whether a map obeys what the question asks of plans.
    fn keeps_rules(&self, map: &SlotMap) -> bool {
        self.groups.is_none()
            && (self.allow_duplicates || map.same_device_duplicates() == 0)
            && map.replicas().iter().all(|copies| *copies <= self.max_copies)
    }

    /// A plan made without a search, as there is no time for one between two layers, and
    /// balanced by tokens.
    pub fn quick_plan(
        &self,
        shares: &[f64],
        slots_per_device: u32,
    ) -> Result<SlotMap, PlacementError> {
        self.plan_with(shares, slots_per_device, 0)
    }

    /// The same for several loads, by their mean.
    pub fn quick_plan_for(
        &self,
        loads: &[&[f64]],
        slots_per_device: u32,
    ) -> Result<SlotMap, PlacementError> {
        match loads {
            [only] => self.quick_plan(only, slots_per_device),
            several => self.quick_plan(&mean(several), slots_per_device),
        }
    }

    /// What `best` must respect.
    fn options(&self, shape: Shape, effort: u32) -> best::Options<'static> {
        best::Options {
            allow_duplicates: self.allow_duplicates,
            max_copies: Some(self.max_copies),
            groups: self.rule(shape),
            effort,
            ..best::Options::default()
        }
    }

    fn plan_with(
        &self,
        shares: &[f64],
        slots_per_device: u32,
        effort: u32,
    ) -> Result<SlotMap, PlacementError> {
        let shape = self.shape(slots_per_device)?;
        match self.algorithm {
            Algorithm::Best => {
                let options = self.options(shape, effort);
                if options.groups.is_some() {
                    return best::plan(shares, shape, &options);
                }
                // Hottest first, so that ties do not depend on what experts are called.
                let order = by_share(shares);
                let ranked = in_order(shares, &order);
                let map = match &self.reads {
                    Some(reads) if effort > 0 => {
                        let cases = [PlannedLoad { load: &self.tokens(&ranked), weight: 1.0 }];
                        best::plan_for(&cases, Combine::Worst, reads, shape, &options)?
                    }
                    _ => best::plan(&ranked, shape, &options)?,
                };
                let renamed = map.physical_to_logical().iter().map(|rank| order[*rank as usize]);
                let ids = renamed.filter_map(|expert| u32::try_from(expert).ok());
                SlotMap::new(shape, ids.collect())
            }
            Algorithm::Eplb => match self.rule(shape) {
                Some(rule) => eplb::hierarchical(shares, shape, rule.groups()),
                None => eplb::flat(shares, shape),
            },
            Algorithm::PaperGreedy => {
                let quotas = paper_greedy::quotas(shares, self.assignments);
                paper_greedy::plan(&quotas, shape, self.max_copies)?.to_slot_map(shares)
            }
        }
    }

    /// Whether plans made with that care differ by the number of tokens, not only by their
    /// shares, from those that searched plans give way to.
    #[must_use]
    pub(crate) const fn counts_tokens(&self, care: Care) -> bool {
        match self.algorithm {
            // Quick plans balance tokens by shares.
            Algorithm::Best => self.reads.is_some() && !matches!(care, Care::Quick),
            Algorithm::PaperGreedy => true,
            Algorithm::Eplb => false,
        }
    }

    /// A map with every expert's tokens split over its replicas as the engine does.
    #[must_use]
    pub fn placed(&self, map: SlotMap, expected: &[f64]) -> SlotShares {
        SlotShares::new(map, self.split, self.devices_per_node, expected)
    }

    /// Slots per device worth trying for duplication: what the question says, else 1, 2,
    /// 3, 4, 6, 8, 12, 16, … more than needed, up to twice the base; never more slots than
    /// the allowed copies can fill.
    #[must_use]
    pub fn slot_choices(&self, question: &Question) -> Vec<u32> {
        if let Some(slots) = question.duplication.slots_per_device {
            let slots = slots.max(self.base_slots);
            return if self.fillable(slots) { vec![slots] } else { Vec::new() };
        }
        let mut choices = Vec::new();
        let steps = (0..).flat_map(|power| [2_u32 << power, 3 << power]);
        for extra in std::iter::once(1).chain(steps) {
            let slots = self.base_slots + extra;
            if extra > self.base_slots.max(1) || slots > self.n_experts {
                break;
            }
            let obstacles =
                engines::support::slot_obstacles(&question.system, slots * self.n_devices);
            if obstacles.is_empty() && self.fillable(slots) {
                choices.push(slots);
            }
        }
        choices
    }

    /// Whether the allowed copies fill so many slots on every device.
    fn fillable(&self, slots_per_device: u32) -> bool {
        let slots = u64::from(slots_per_device) * u64::from(self.n_devices);
        slots <= u64::from(self.n_experts) * u64::from(self.max_copies)
    }

    fn shape(&self, slots_per_device: u32) -> Result<Shape, PlacementError> {
        Shape::new(self.n_experts, self.n_devices, slots_per_device * self.n_devices)
    }

    /// The rule that keeps groups on nodes, where there is one that so many slots can obey.
    fn rule(&self, shape: Shape) -> Option<GroupRule> {
        let n_nodes = self.n_devices / self.devices_per_node;
        let (groups, rule) = self.groups?;
        let groups = Groups::new(shape, groups, n_nodes).ok()?;
        Some(match rule {
            Grouping::Soft => GroupRule::Soft(groups),
            Grouping::Hard | Grouping::None => GroupRule::Hard(groups),
        })
    }

    /// How plans with so many slots on every device keep groups on nodes.
    pub(crate) fn grouping(&self, slots_per_device: u32) -> Grouping {
        let shape = self.shape(slots_per_device).ok();
        match shape.and_then(|shape| self.rule(shape)) {
            _ if self.algorithm == Algorithm::PaperGreedy => Grouping::None,
            Some(GroupRule::Hard(_)) => Grouping::Hard,
            Some(GroupRule::Soft(_)) => Grouping::Soft,
            None => Grouping::None,
        }
    }
}

/// The mean of loads in shares.
fn mean(loads: &[&[f64]]) -> Vec<f64> {
    let n_experts = loads.first().map_or(0, |load| load.len());
    let of = |expert| loads.iter().map(|load: &&[f64]| load[expert]).sum::<f64>();
    (0..n_experts).map(|expert| of(expert) / loads.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::system;

    #[test]
    fn a_slot_reads_an_expert_once_if_any_token_comes() {
        let reads = Reads::new(&system(4, 4, 512));
        let rows = (2.0 * 4096.0 + 3.0 * 14336.0) * 2.0 / (3.0 * 4096.0 * 14336.0 * 2.0);
        assert!((reads.row_share - rows).abs() < 1e-15);
        assert!((reads.of(0.1) - 0.0951 - 0.1 * rows).abs() < 1e-4);
        assert!((reads.of(5.0) - 0.9933 - 5.0 * rows).abs() < 1e-4);
    }
}
