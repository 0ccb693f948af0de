//! What stands behind the prices: plans and what they take, the search for slots, the ceiling.

use crate::evaluate::prices::{SampledKind, SampledPrices, Standing};
use crate::evaluate::slot_search::{SlotSearch, TriedSlots};
use crate::evaluate::{LayerStep, Steps, mean};
use crate::memory::MemoryBudget;
use crate::placement::SlotMap;
use crate::pricing::candidates::IN_USE;
use crate::pricing::entry::Entry;
use crate::rebalance::RebalanceCost;
use crate::routing::LayerRouting;
use crate::strategies::Strategy;
use crate::units::Seconds;

/// A strategy's plan over all layers, and what it takes.
#[derive(Debug, Clone)]
pub struct PlanSummary {
    /// The strategy.
    pub strategy: Strategy,
    /// Slots of every device and layer.
    pub slots_per_device: u32,
    /// The map of every priced layer.
    pub layers: Vec<SlotMap>,
    /// Memory of a device under the plan.
    pub memory: MemoryBudget,
    /// Experts that leave or enter devices when the plan first takes effect.
    pub first_moves: u64,
    /// What one renewal costs.
    pub renewal: RebalanceCost,
    /// Latency of one layer under the plan.
    pub latency: Seconds,
    /// Device imbalance (max/mean) of every layer: drawn, expected under the true
    /// shares, and as planned.
    pub imbalance: Vec<LayerImbalance>,
    /// The layer whose devices are expected to be the most uneven.
    pub busiest: usize,
    /// Share of the load that each expert is expected to take in that layer.
    pub busiest_shares: Vec<f64>,
}

/// Device imbalance of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerImbalance {
    /// Mean over drawn steps of max/mean.
    pub drawn: f64,
    /// max/mean of expected loads under the true shares.
    pub expected: f64,
    /// max/mean of expected loads under the forecast shares.
    pub planned: f64,
}

/// What pricing on sampled steps found.
#[derive(Debug, Clone)]
pub(crate) struct Analysis {
    /// Every strategy with its price.
    pub(crate) entries: Vec<Entry>,
    /// The plans behind the entries; a strategy that forecasts tokens loads that of another.
    pub(crate) plans: Vec<PlanSummary>,
    /// Layer latency no balancing can beat.
    pub(crate) ceiling: Seconds,
    /// The search for the number of slots, where it was left to us.
    pub(crate) search: Option<SlotSearch>,
}

/// The plan that a strategy loads.
pub(crate) fn plan_of(plans: &[PlanSummary], strategy: Strategy) -> Option<&PlanSummary> {
    plans.iter().find(|plan| plan.strategy == strategy.planned_by())
}

impl SampledPrices<'_> {
    /// Describes the plans behind prices, of what was [tried](Self::tried).
    ///
    /// The plan of a strategy is its smallest that is not surely slower than its fastest, which is the
    /// one priced. `band` is the margin up to which the first of two is not surely faster.
    pub(crate) fn analyse(
        &self,
        standing: &Standing,
        tried: &[TriedSlots],
        band: impl Fn(&TriedSlots, &TriedSlots) -> f64,
        (layers, loads): (&[LayerRouting], usize),
    ) -> Analysis {
        let entries = self.with_predictors(standing);
        let loaded = |(strategy, fastest): &(Strategy, usize)| {
            let of = tried.iter().filter(|one| one.strategy == *strategy).copied().collect();
            let search = SlotSearch::of(of, &band);
            search.map_or(*fastest, |search| search.tried[search.chosen].placement)
        };
        let stated = self.question.duplication.slots_per_device.is_some();
        Analysis {
            ceiling: self.ceiling(&entries, &standing.taken),
            plans: standing
                .taken
                .iter()
                .map(|taken| self.summary(loaded(taken), layers, loads))
                .collect(),
            search: if stated { None } else { SlotSearch::of(tried.to_vec(), &band) },
            entries,
        }
    }

    /// Every number of slots of every strategy: of several plans for one number the fastest.
    pub(crate) fn tried(&self) -> Vec<TriedSlots> {
        let mut tried: Vec<TriedSlots> = Vec::new();
        for index in IN_USE + 1..self.placements.all.len() {
            let placement = &self.placements.all[index];
            let one = TriedSlots {
                placement: index,
                strategy: placement.strategy,
                slots_per_device: placement.slots_per_device,
                terms: self.terms(index).mean,
                memory: self.memory(index),
                first_moves: placement.first_moves,
                renewal: self.renewal(index),
            };
            let same = |other: &&mut TriedSlots| {
                (other.strategy, other.slots_per_device) == (one.strategy, one.slots_per_device)
            };
            match tried.iter_mut().find(same) {
                Some(known) if one.terms.total() < known.terms.total() => *known = one,
                Some(_) => {}
                None => tried.push(one),
            }
        }
        tried
    }

    /// What was tried as entries, to be compared with each other.
    pub(crate) fn as_entries(&self, tried: &[TriedSlots]) -> Vec<Entry> {
        let entry = |one: &TriedSlots| Entry {
            infeasible: None,
            ..self.entry(one.placement, self.terms(one.placement))
        };
        tried.iter().map(entry).collect()
    }

    fn summary(&self, index: usize, layers: &[LayerRouting], loads: usize) -> PlanSummary {
        let placement = &self.placements.all[index];
        let n_layers = layers.len() / loads;
        let none = LayerImbalance { drawn: 0.0, expected: 0.0, planned: 0.0 };
        let mut imbalance = vec![none; n_layers];
        for (at, (placed, routing)) in placement.layers.iter().zip(layers).enumerate() {
            let mean = &mut imbalance[at % n_layers];
            mean.expected += placed.imbalance(&routing.truth) / loads as f64;
            mean.planned += placed.imbalance(&routing.forecast) / loads as f64;
        }
        for kind in &self.kinds {
            let per_layer = kind.drawn.n_steps() as f64 / n_layers as f64;
            let drawn = |step: &LayerStep| {
                (step.layer % n_layers, step.placed(index).imbalance(step.counts))
            };
            self.steps(kind).each(drawn, |_, layers| {
                for (layer, drawn) in layers.iter().flatten() {
                    imbalance[*layer].drawn += kind.share * drawn / per_layer;
                }
            });
        }
        let expected = |layer: &usize| imbalance[*layer].expected;
        let busiest = (0..n_layers).max_by(|a, b| expected(a).total_cmp(&expected(b)));
        let busiest = busiest.unwrap_or_default();
        let mut shares = vec![0.0; layers.first().map_or(0, |layer| layer.truth.len())];
        for routing in layers.iter().skip(busiest).step_by(n_layers.max(1)) {
            for (sum, share) in shares.iter_mut().zip(&routing.truth) {
                *sum += share / loads as f64;
            }
        }
        PlanSummary {
            busiest,
            busiest_shares: shares,
            strategy: placement.strategy,
            slots_per_device: placement.slots_per_device,
            layers: placement.layers[..n_layers].iter().map(|placed| placed.map.clone()).collect(),
            memory: self.memory(index),
            first_moves: placement.first_moves,
            renewal: self.renewal(index),
            latency: self.terms(index).mean.total(),
            imbalance,
        }
    }

    /// The fastest strategy's own formula with mean device time, balanced exchange, and
    /// predictor and moves at zero cost; never above any entry.
    fn ceiling(&self, entries: &[Entry], taken: &[(Strategy, usize)]) -> Seconds {
        let feasible = || entries.iter().filter_map(|e| Some((e.feasible_latency()?, e)));
        let fastest = feasible().min_by(|a, b| a.0.get().total_cmp(&b.0.get()));
        let assumptions = &self.question.system.assumptions;
        let skips = fastest.is_some_and(|(_, entry)| entry.strategy.skips_dispatch(assumptions));
        let of = |kind: &SampledKind| {
            let balanced = |index: usize| {
                mean(&mut self.steps(kind), |step| kind.costs.balanced(&step.loads[index]))
            };
            let mut routed = balanced(IN_USE);
            let others = taken.iter().filter(|(_, index)| *index != IN_USE);
            let ffn = others.map(|(_, index)| balanced(*index).ffn);
            routed.ffn = ffn.fold(routed.ffn, Seconds::min);
            if skips {
                routed.dispatch = Seconds::ZERO;
            }
            kind.costs.terms(&routed)
        };
        let balanced = self.priced(self.kinds.iter().map(of)).mean.total();
        feasible().map(|(latency, _)| latency).fold(balanced, Seconds::min)
    }
}
