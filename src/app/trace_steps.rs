//! Recorded steps of a question's traces, one of each trace in turn.

use std::ops::Range;

use crate::app::advisor::{AdviceError, TraceFacts};
use crate::app::question::TraceUse;
use crate::app::routing_evidence;
use moe_gps_core::cancel::Cancel;
use moe_gps_core::evaluate::{BATCH, Step};
use moe_gps_core::formats::trace::stored::{StoredSteps, StoredTrace};
use moe_gps_core::question::Question;
use moe_gps_core::system::Workload;
use moe_gps_core::trace::counts::ExpertCounts;
use moe_gps_core::trace::steps::StepPlan;

/// Relative difference of step sizes above which recorded steps are scaled.
const SAME_SIZE: f64 = 0.01;

/// A part of a trace, as steps.
#[derive(Debug)]
pub(super) struct Part<'a> {
    facts: &'a TraceFacts,
    trace: StoredTrace,
    plan: StepPlan,
    /// Steps in it.
    pub(super) n_steps: u64,
}

impl<'a> Part<'a> {
    /// The steps of a workload in a range of a trace.
    pub(super) fn new(
        facts: &'a TraceFacts,
        trace: StoredTrace,
        range: Range<u64>,
        workload: &Workload,
    ) -> Result<Self, AdviceError> {
        let order = routing_evidence::step_order(&trace, workload);
        let plan = StepPlan { order, range, with_routes: false };
        let n_steps = trace.n_steps(&plan).map_err(|source| facts.unread(source))?;
        Ok(Self { facts, trace, plan, n_steps })
    }

    /// Id of the trace.
    pub(super) fn id(&self) -> &str {
        &self.facts.id
    }

    /// Counts another range of the trace.
    pub(super) fn count(
        &self,
        range: Range<u64>,
        cancel: &Cancel,
    ) -> Result<ExpertCounts, AdviceError> {
        routing_evidence::count(&self.trace, self.facts, range, cancel)
    }
}

/// The parts that score: of the hold-out trace, or of every trace its own second part.
pub(super) fn held_out<'a>(
    used: &'a TraceUse,
    workload: &Workload,
) -> Result<Vec<Part<'a>>, AdviceError> {
    let part = |facts: &'a TraceFacts| {
        let trace = routing_evidence::open(facts)?;
        let range =
            routing_evidence::scoring_range(used, &trace).map_err(|source| facts.unread(source))?;
        Part::new(facts, trace, range, workload)
    };
    routing_evidence::scoring_traces(used).iter().map(part).collect()
}

/// Hands out the steps of several parts, one of each in turn; a part that ends leaves the
/// turns to the others.
pub(super) struct Recorded<'a> {
    readers: Vec<(usize, &'a TraceFacts, StoredSteps<'a>)>,
    next: usize,
    /// The layers that are priced, of those recorded.
    layers: &'a [usize],
    n_experts: usize,
    /// (token, expert) pairs of a step.
    assignments: f64,
    /// Whether some step was scaled to the size that is asked about.
    pub(super) scaled: bool,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(parts: &'a [Part<'a>], layers: &'a [usize], question: &Question) -> Self {
        let system = &question.system;
        let reader =
            |(load, part): (usize, &'a Part<'a>)| (load, part.facts, part.trace.steps(&part.plan));
        Self {
            readers: parts.iter().enumerate().map(reader).collect(),
            next: 0,
            layers,
            n_experts: system.model.experts.routed as usize,
            assignments: system.workload.tokens_per_step as f64
                * f64::from(system.model.experts.top_k),
            scaled: false,
        }
    }

    /// The next steps, so many at most; none after the last. `seen` is shown where each step
    /// was read.
    pub(super) fn batch(
        &mut self,
        most: usize,
        cancel: &Cancel,
        mut seen: impl FnMut(&StoredSteps),
    ) -> Result<Vec<Step>, AdviceError> {
        let mut batch = Vec::with_capacity(most.min(BATCH));
        while batch.len() < most.min(BATCH) && !self.readers.is_empty() {
            cancel.check()?;
            self.next %= self.readers.len();
            let (load, facts, steps) = &mut self.readers[self.next];
            let Some(step) = steps.next_step().map_err(|source| facts.unread(source))? else {
                self.readers.remove(self.next);
                continue;
            };
            let (counts, scaled) =
                fitted(&step.counts, self.layers, self.n_experts, self.assignments);
            self.scaled |= scaled;
            batch.push(Step { load: *load, counts });
            seen(steps);
            self.next += 1;
        }
        Ok(batch)
    }
}

/// A step's counts of these layers over all experts of the model, scaled to the step size
/// asked for, and whether they were.
fn fitted(
    counts: &ExpertCounts,
    layers: &[usize],
    experts: usize,
    assignments: f64,
) -> (ExpertCounts, bool) {
    let mut fitted = ExpertCounts::zeros(layers.len(), experts);
    let mut rescaled = false;
    for (index, layer) in layers.iter().enumerate() {
        let layer = counts.layer(*layer);
        let sum: f64 = layer.iter().sum();
        let off = sum > 0.0 && (sum / assignments - 1.0).abs() > SAME_SIZE;
        let factor = if off { assignments / sum } else { 1.0 };
        rescaled |= off;
        for (into, count) in fitted.layer_mut(index).iter_mut().zip(layer) {
            *into = count * factor;
        }
    }
    (fitted, rescaled)
}
