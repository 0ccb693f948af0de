//! How far the comparison of two strategies can be trusted.
//!
//! Whatever a price rests on may be otherwise: what it rests on is changed, one thing after the
//! other, and the same plans are priced again on the same drawn steps. What is common to two
//! strategies cancels, and what is not may turn the sign.
//!
//! ```text
//! gain   = cost(other) / cost(one)
//! δ_d    = ln(gain in a case of doubt d) − ln(gain)
//! ln low = ln gain − sqrt(Σ_d (max over cases of −δ_d, 0)² + Σ own² + (ρ ln gain)²)
//! ln high = ln gain + sqrt(Σ_d (max over cases of δ_d, 0)² + Σ own² + (ρ ln gain)²)
//! ```
//!
//! Doubts are independent of each other, cases of one doubt exclude each other. Where a server makes
//! several kinds of steps, cost is their mean, and a case changes all of them together. *own*: what
//! every strategy errs by on its own. ρ: by what share of itself a gain is off besides ([`RESPONSE`]).
//! Worked number: a gain of 1.10 whose doubts give 1.06 and 1.20, and one that gives 1.08 in its
//! only case, with 2 % of its own and ρ = 0.3, is 1.10 with an interval of
//! 1.10 · exp(−sqrt(0.0370² + 0.0183² + 0.02² + (0.3 · 0.0953)²)) = 1.042 to
//! 1.10 · exp(sqrt(0.0870² + 0.02² + (0.3 · 0.0953)²)) = 1.208.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cancel::Cancel;
use crate::evaluate::mean;
use crate::evaluate::replay::Replayed;
use crate::evaluate::sampled_steps::SampledSteps;
use crate::pricing::candidates::{Care, Placement, Placements, placements};
use crate::pricing::entry::{Bands, Entry};
use crate::pricing::error::PricingError;
use crate::pricing::layer::LayerCosts;
use crate::pricing::planner::planners;
use crate::pricing::routing_evidence::OrderRange;
use crate::question::{PredictorSource, Question};
use crate::routing::sample::Draws;
use crate::routing::{LayerRouting, capped, normalised};
use crate::strategies::Strategy;
use crate::system::{Communication, Phase};
use crate::terms::{PerTerm, Terms};
use crate::units::Seconds;

/// What two strategies may differ by though no doubt says so.
///
/// Of 126 whole layers measured on two H200 the intervals of sampling held the speed-up in 10
/// cases, and in 85 (two thirds) once they were widened by two points.
pub const UNMODELLED: f64 = 0.02;

/// By what share of itself the logarithm of a gain is off besides: how a kernel answers to uneven
/// loads is known less well than how long it takes.
///
/// Of 34 gains of whole layers on two H200 (docs/accuracy-layer.md) 28 lie within two points of the
/// predicted one, all within this and two points; of 66 pairs of grouped products with known loads
/// 21 lie in the interval of the other doubts, 43 in that with this (docs/accuracy.md).
pub const RESPONSE: f64 = 0.3;

/// Gains up to this are none where formulas are taken at their word.
const EQUAL: f64 = 1e-9;

/// A ratio of costs with its interval: above 1, one strategy is faster than the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// The least it may be.
    pub low: f64,
    /// As priced.
    pub mid: f64,
    /// The most it may be.
    pub high: f64,
}

impl Gain {
    /// Whether even the least is a gain.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.low > 1.0
    }

    /// Whether neither strategy is known to be the faster.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.low <= 1.0 && 1.0 <= self.high
    }
}

/// One thing that prices rest on and that may be otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Doubt {
    id: &'static str,
    cases: Vec<Case>,
    /// Whether the opposite of its only case is as likely.
    mirrored: bool,
}

/// What becomes of the terms in one case of a doubt, as factors.
#[derive(Debug, Clone)]
enum Case {
    /// Of every strategy.
    All(PerTerm<f64>),
    /// Of every placement; strategies that replan every step keep the laws of the plan they keep.
    Laws(Vec<(usize, PerTerm<f64>)>),
    /// Of every placement that is kept.
    Loads(Vec<(usize, PerTerm<f64>)>),
}

impl Case {
    fn factors(&self, entry: &Entry) -> PerTerm<f64> {
        let of = |plans: &[(usize, PerTerm<f64>)]| {
            let found = plans.iter().find(|(placement, _)| Some(*placement) == entry.placement);
            found.map_or(SAME, |(_, factors)| *factors)
        };
        match self {
            Self::All(factors) => *factors,
            Self::Loads(_) if entry.strategy.forecasts_tokens() => SAME,
            Self::Laws(plans) | Self::Loads(plans) => of(plans),
        }
    }
}

const SAME: PerTerm<f64> = PerTerm::all(1.0);

/// What every price of a question may be otherwise by.
#[derive(Debug, Clone, Default)]
pub struct Uncertainty {
    /// Per doubt and case, ln of the cost over that as priced, of every entry.
    doubts: Vec<(&'static str, Vec<Vec<f64>>)>,
    /// What every entry errs by on its own.
    own: Vec<f64>,
    /// What any two differ by besides.
    unmodelled: f64,
    /// The share of itself that a gain is off by.
    response: f64,
}

impl Uncertainty {
    /// Formulas taken at their word.
    #[must_use]
    pub(crate) fn none() -> Self {
        Self { unmodelled: EQUAL, ..Self::default() }
    }

    /// The uncertainty of entries under the doubts of every kind of step, of which there is at least
    /// one; of replayed entries also that of the steps.
    pub(crate) fn new(entries: &[Entry], kinds: &[DoubtedKind], replayed: &[Replayed]) -> Self {
        let priced = |id: &'static str| (id, in_all_kinds(id, entries, kinds));
        let of_steps = |index: usize| {
            let found = replayed.iter().find(|found| found.entry == index);
            found.map_or(0.0, |Replayed { speedup_interval: [low, high], .. }| {
                (high / low).ln() / 2.0
            })
        };
        Self {
            doubts: ids(kinds).into_iter().map(priced).collect(),
            own: (0..entries.len()).map(of_steps).collect(),
            unmodelled: UNMODELLED,
            response: RESPONSE,
        }
    }

    /// The same with one more doubt: per case, ln of the cost over that as priced of every entry.
    pub(crate) fn with(mut self, id: &'static str, cases: Vec<Vec<f64>>) -> Self {
        self.doubts.push((id, cases));
        self
    }

    /// The same but for some doubts.
    pub(crate) fn without(&self, ids: &[&str]) -> Self {
        let mut rest = self.clone();
        rest.doubts.retain(|(doubt, _)| !ids.contains(doubt));
        rest
    }

    /// What one entry gains over another; `None` if either has no price.
    #[must_use]
    pub fn gain(&self, entries: &[Entry], one: usize, over: usize) -> Option<Gain> {
        let mid = entries[over].cost()? / entries[one].cost()?;
        let own = |index: usize| self.own.get(index).copied().unwrap_or(0.0).powi(2);
        if one == over {
            return Some(Gain { low: 1.0, mid: 1.0, high: 1.0 });
        }
        let response = self.response * mid.ln();
        let common = self.unmodelled.powi(2) + response.powi(2) + own(one) + own(over);
        let (mut down, mut up) = (common, common);
        for [least, most] in self.doubts.iter().map(|(_, cases)| extremes(cases, one, over)) {
            down += least.powi(2);
            up += most.powi(2);
        }
        Some(Gain { low: mid * (-down.sqrt()).exp(), mid, high: mid * up.sqrt().exp() })
    }

    /// What any one doubt makes of what one entry gains over another, those that change it most
    /// first.
    #[must_use]
    pub fn parts(&self, entries: &[Entry], one: usize, over: usize) -> Vec<(&'static str, Gain)> {
        let Some(Gain { mid, .. }) = self.gain(entries, one, over) else { return Vec::new() };
        let part = |(id, cases): &(&'static str, Vec<Vec<f64>>)| {
            let [least, most] = extremes(cases, one, over);
            (*id, Gain { low: mid * least.exp(), mid, high: mid * most.exp() })
        };
        let mut parts: Vec<(&'static str, Gain)> = self.doubts.iter().map(part).collect();
        let width = |(_, gain): &(&str, Gain)| gain.high / gain.low;
        parts.sort_by(|a, b| width(b).total_cmp(&width(a)));
        parts
    }
}

/// One kind of step with what its prices may be otherwise by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DoubtedKind<'a> {
    /// Its share of all steps.
    pub(crate) share: f64,
    pub(crate) costs: &'a LayerCosts,
    pub(crate) doubts: &'a [Doubt],
}

/// The doubts of all kinds of steps, each once.
fn ids(kinds: &[DoubtedKind]) -> Vec<&'static str> {
    let mut ids = Vec::new();
    for doubt in kinds.iter().flat_map(|kind| kind.doubts) {
        if !ids.contains(&doubt.id) {
            ids.push(doubt.id);
        }
    }
    ids
}

/// Per case of a doubt, ln of the cost over that as priced, of every entry: in a case all kinds of
/// steps that know it change together.
fn in_all_kinds(id: &str, entries: &[Entry], kinds: &[DoubtedKind]) -> Vec<Vec<f64>> {
    let shifts: Vec<Vec<Vec<f64>>> = kinds
        .iter()
        .enumerate()
        .map(|(index, kind)| {
            let found = kind.doubts.iter().find(|doubt| doubt.id == id);
            found.map_or_else(Vec::new, |doubt| shifts(doubt, entries, kind.costs, index))
        })
        .collect();
    if let [only] = &shifts[..] {
        return only.clone();
    }
    let n_cases = shifts.iter().map(Vec::len).max().unwrap_or(0);
    let of = |case: usize, at: usize| {
        let Some(before) = entries[at].latency() else { return 0.0 };
        let changed = |((kind, shifts), terms): ((&DoubtedKind, &Vec<Vec<f64>>), &Terms)| {
            let shift = shifts.get(case).map_or(0.0, |case| case[at]);
            terms.total() * (kind.share * shift.exp())
        };
        let after: Seconds = kinds.iter().zip(&shifts).zip(&entries[at].by_kind).map(changed).sum();
        (after / before).ln()
    };
    (0..n_cases).map(|case| (0..entries.len()).map(|at| of(case, at)).collect()).collect()
}

/// The same in one kind of step.
fn shifts(doubt: &Doubt, entries: &[Entry], costs: &LayerCosts, kind: usize) -> Vec<Vec<f64>> {
    let shift = |case: &Case| -> Vec<f64> {
        let of = |entry: &Entry| {
            let Some(terms) = entry.in_kind(kind) else { return 0.0 };
            (costs.rescaled(&terms, &case.factors(entry)).total() / terms.total()).ln()
        };
        entries.iter().map(of).collect()
    };
    let mut cases: Vec<Vec<f64>> = doubt.cases.iter().map(shift).collect();
    if doubt.mirrored {
        cases.extend(cases.clone().iter().map(|case| case.iter().map(|x| -x).collect()));
    }
    cases
}

/// The least and the most, below and above zero, that a doubt adds to ln of a gain.
fn extremes(cases: &[Vec<f64>], one: usize, over: usize) -> [f64; 2] {
    let shifts = || cases.iter().map(|case| case[over] - case[one]);
    [shifts().fold(0.0, f64::min), shifts().fold(0.0, f64::max)]
}

/// A question as priced, of which single things are made otherwise.
pub(crate) struct Ground<'a> {
    pub(crate) question: &'a Question,
    pub(crate) pattern: Communication,
    pub(crate) costs: &'a LayerCosts,
    pub(crate) layers: &'a [LayerRouting],
    pub(crate) placements: &'a Placements,
    /// The placements that are compared, each with its strategy: those behind the prices.
    pub(crate) taken: &'a [(Strategy, usize)],
    pub(crate) plans: &'a OrderPlans,
    pub(crate) stop: &'a Cancel,
}

/// Plans for other orders of the experts. They hold as long as the routing, and what plans depend on,
/// is the same.
#[derive(Debug, Default)]
pub(crate) struct OrderPlans(Mutex<Vec<(PlannedOrder, Arc<Placements>)>>);

/// The place of an order, and the number of slots and the phase that plans for it are made for.
type PlannedOrder = (usize, Option<u32>, Phase);

impl OrderPlans {
    /// The plans of an order, made if they are not known.
    fn of(
        &self,
        order: PlannedOrder,
        make: impl FnOnce() -> Result<Placements, PricingError>,
    ) -> Result<Arc<Placements>, PricingError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plans)) = known.iter().find(|(of, _)| *of == order) {
            return Ok(Arc::clone(plans));
        }
        let made = Arc::new(make()?);
        known.push((order, Arc::clone(&made)));
        Ok(made)
    }
}

/// On how many of the layers, and on how many steps of each, cases are priced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    layers: usize,
    steps: usize,
}

/// For an answer.
pub(crate) const WHOLE: Extent = Extent { layers: 12, steps: 24 };
/// For a value that is tried in passing.
pub(crate) const PASSING: Extent = Extent { layers: 4, steps: 4 };

/// The plans that are priced, on a part of the layers.
struct Part<'a> {
    ground: &'a Ground<'a>,
    draws: Vec<Draws>,
    layers: Vec<LayerRouting>,
    placements: Placements,
}

impl<'a> Ground<'a> {
    /// All that the prices may be otherwise by.
    pub(crate) fn doubts(
        &self,
        orders: Option<&OrderRange>,
        extent: Extent,
    ) -> Result<Vec<Doubt>, PricingError> {
        let part = self.part(extent);
        let drawn = part.drawn(&part.layers, &part.placements);
        let priced = part.priced(self.costs, &drawn, &part.placements);
        let mut doubts = self.of_laws(&part, &drawn, &priced);
        doubts.extend(self.of_loads(&part, &priced, orders)?);
        doubts.extend(of_terms(&self.costs.bands));
        Ok(doubts)
    }

    /// What the experts' law may be otherwise by: where memory gives way to arithmetic, and
    /// another kernel.
    fn of_laws(&self, part: &Part, drawn: &SampledSteps, priced: &[Terms]) -> Vec<Doubt> {
        let case = |costs: &LayerCosts| {
            let drawn = drawn.under_laws(costs, &part.placements);
            Case::Laws(self.factors(priced, &part.priced(costs, &drawn, &part.placements)))
        };
        let band = 1.0 + self.costs.bands.expert_ffn.relative;
        let experts = |id, memory, compute| Doubt {
            id,
            cases: vec![case(&self.costs.with_experts_slower(memory, compute))],
            mirrored: true,
        };
        let mut doubts = vec![
            experts("expert_memory_traffic", band, 1.0),
            experts("expert_arithmetic", 1.0, band),
        ];
        let others = LayerCosts::with_other_kernels(self.question, self.pattern);
        if !others.is_empty() {
            let cases = others.iter().map(case).collect();
            doubts.push(Doubt { id: "other_expert_kernel", cases, mirrored: false });
        }
        doubts
    }

    /// What the loads may be otherwise by: a forecast that errs as much again or not at all, and
    /// other orders of the experts where only a scalar is known.
    fn of_loads(
        &self,
        part: &Part,
        priced: &[Terms],
        orders: Option<&OrderRange>,
    ) -> Result<Vec<Doubt>, PricingError> {
        let moved = |further: f64| {
            let layers: Vec<LayerRouting> =
                part.layers.iter().map(|layer| self.moved(layer, further)).collect();
            let drawn = part.drawn(&layers, &part.placements);
            Case::Loads(self.factors(priced, &part.priced(self.costs, &drawn, &part.placements)))
        };
        let mut doubts = vec![Doubt {
            id: "forecast_error",
            cases: vec![moved(1.0), moved(-1.0)],
            mirrored: false,
        }];
        if let Some(orders) = orders {
            let of_order = |(order, layer)| self.ordered(order, layer, priced, part);
            let cases = orders.layers.iter().enumerate().map(of_order).collect::<Result<_, _>>()?;
            doubts.push(Doubt { id: ORDERS, cases, mirrored: false });
        }
        Ok(doubts)
    }

    /// The routing where the load has moved `further` times as far again from the forecast.
    fn moved(&self, layer: &LayerRouting, further: f64) -> LayerRouting {
        let from = layer.truth.iter().zip(&layer.forecast);
        let shares: Vec<f64> = from.map(|(p, q)| (p + further * (p - q)).max(0.0)).collect();
        let cap = 1.0 / f64::from(self.question.system.model.experts.top_k);
        LayerRouting { truth: capped(normalised(&shares), cap), forecast: layer.forecast.clone() }
    }

    /// The routing of another order of the experts, with plans of its own.
    fn ordered(
        &self,
        order: usize,
        layer: &LayerRouting,
        priced: &[Terms],
        part: &Part,
    ) -> Result<Case, PricingError> {
        let layers = std::slice::from_ref(layer);
        // Only the numbers of slots that are priced.
        let copied =
            self.taken.last().map(|(_, index)| self.placements.all[*index].slots_per_device);
        let phase = self.question.system.workload.phase;
        let made = self.plans.of((order, copied, phase), || {
            let mut question = self.question.clone();
            question.duplication.slots_per_device = copied;
            placements(&question, &planners(&question), layers, 1, Care::Quick, self.stop)
        })?;
        let like = |(strategy, index): &(Strategy, usize)| {
            let slots = self.placements.all[*index].slots_per_device;
            let fits =
                |one: &&Placement| one.strategy == *strategy && one.slots_per_device == slots;
            made.all.iter().find(fits).cloned()
        };
        let all: Option<Vec<Placement>> = self.taken.iter().map(like).collect();
        let Some(all) = all else { return Ok(Case::Loads(Vec::new())) };
        let placements = Placements::of_all(all);
        let drawn = part.drawn(layers, &placements);
        let changed = part.priced(self.costs, &drawn, &placements);
        Ok(Case::Loads(self.factors(priced, &changed)))
    }

    /// What becomes of every term of every placement.
    fn factors(&self, before: &[Terms], after: &[Terms]) -> Vec<(usize, PerTerm<f64>)> {
        let factor = |(((_, index), before), after): ((&(Strategy, usize), &Terms), &Terms)| {
            (*index, before.with(after, |x, y| if x.get() > 0.0 { y / x } else { 1.0 }))
        };
        self.taken.iter().zip(before).zip(after).map(factor).collect()
    }

    fn part(&'a self, extent: Extent) -> Part<'a> {
        let n_layers = self.layers.len();
        let n = n_layers.min(extent.layers).max(1);
        let per_layer = (extent.steps / n).max(2);
        let at: Vec<usize> = (0..n).map(|index| index * n_layers / n).collect();
        let n_experts = self.question.system.model.experts.routed as usize;
        let drawn =
            |index: &usize| Draws::new(self.question.seed, *index as u64, per_layer, n_experts);
        let placed = |(_, index): &(Strategy, usize)| {
            let whole = &self.placements.all[*index];
            Placement {
                layers: at.iter().map(|layer| whole.layers[*layer].clone()).collect(),
                ..*whole
            }
        };
        Part {
            ground: self,
            draws: at.iter().map(drawn).collect(),
            layers: at.iter().map(|layer| self.layers[*layer].clone()).collect(),
            placements: Placements::of_all(self.taken.iter().map(placed).collect()),
        }
    }
}

/// The doubt of the order of the experts.
pub(crate) const ORDERS: &str = "order_of_experts";

impl Part<'_> {
    /// The steps of layers under placements.
    fn drawn(&self, layers: &[LayerRouting], placements: &Placements) -> SampledSteps {
        let Ground { question, costs, .. } = self.ground;
        SampledSteps::new(question, &self.draws, layers, costs, placements)
    }

    /// A layer under every placement, without renewals.
    fn priced(
        &self,
        costs: &LayerCosts,
        drawn: &SampledSteps,
        placements: &Placements,
    ) -> Vec<Terms> {
        let terms = |plan: usize| {
            costs.terms(&mean(&mut drawn.under(placements), |step| costs.routed(&step.loads[plan])))
        };
        (0..self.ground.taken.len()).map(terms).collect()
    }
}

/// What every strategy's terms may be otherwise by, alike.
fn of_terms(bands: &Bands) -> Vec<Doubt> {
    let factor = |band: f64| 1.0 + band;
    let exchange = bands.dispatch.relative.max(bands.combine.relative);
    let rest = bands.attention.relative.max(bands.all_reduce.relative).max(bands.router.relative);
    let cases = [
        ("exchange", PerTerm { dispatch: factor(exchange), combine: factor(exchange), ..SAME }),
        (
            "attention_and_router",
            PerTerm {
                attention: factor(rest),
                all_reduce: factor(rest),
                router: factor(rest),
                ..SAME
            },
        ),
        ("predictor", PerTerm { predictor: factor(bands.predictor.relative), ..SAME }),
        ("renewals", PerTerm { rebalance: factor(bands.rebalance.relative), ..SAME }),
        ("launches", PerTerm { other: factor(bands.other.relative), ..SAME }),
    ];
    let doubt = |(id, case)| Doubt { id, cases: vec![Case::All(case)], mirrored: true };
    cases.into_iter().map(doubt).collect()
}

/// Whether a price rests on a predictor that nobody has measured.
pub(crate) fn is_assumed(entry: &Entry) -> bool {
    entry.predictor.as_ref().is_some_and(|one| one.source == PredictorSource::Assumed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::NONE;

    fn entry(microseconds: f64) -> Entry {
        Entry {
            strategy: NONE,
            predictor: None,
            placement: None,
            infeasible: None,
            terms: Some(Terms {
                expert_ffn: Seconds::new(microseconds * 1e-6),
                ..Terms::default()
            }),
            by_kind: Vec::new(),
            served: None,
        }
    }

    #[test]
    fn doubts_add_up_as_independent_and_cases_exclude_each_other() {
        let entries = [entry(110.0), entry(100.0)];
        // The gain of 1.10 is 1.06 or 1.20 in the cases of one doubt, 1.08 in that of another.
        let to = |gain: f64| vec![(gain / 1.1_f64).ln(), 0.0];
        let found = Uncertainty {
            doubts: vec![("a", vec![to(1.06), to(1.2)]), ("b", vec![to(1.08)])],
            own: vec![0.0, 0.0],
            unmodelled: 0.02,
            response: 0.3,
        };
        let gain = found.gain(&entries, 1, 0).unwrap();
        assert!((gain.mid - 1.1).abs() < 1e-12);
        assert!((gain.low - 1.0421).abs() < 5e-4, "{gain:?}");
        assert!((gain.high - 1.2081).abs() < 5e-4, "{gain:?}");
        let parts = found.parts(&entries, 1, 0);
        assert_eq!(parts.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["a", "b"]);
        assert!((parts[0].1.low - 1.06).abs() < 1e-12 && (parts[0].1.high - 1.2).abs() < 1e-12);
        assert_eq!(found.without(&["a"]).parts(&entries, 1, 0).len(), 1);
        let turned = found.gain(&entries, 0, 1).unwrap();
        assert!((turned.low * gain.high - 1.0).abs() < 1e-12);
        assert!((turned.high * gain.low - 1.0).abs() < 1e-12);
    }
}
