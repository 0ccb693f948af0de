//! Simulated answers: the stored trace replayed step by step, in bounded memory.

use super::advisor::{AdviceError, Progress};
use super::fitted::Fits;
use super::known::{self, ENOUGH_STEPS};
use super::question::{Answerable, AskedRouting, TraceUse};
use crate::domain::advice::{self, Advised};
use crate::domain::question::Question;
use crate::domain::simulate::{self, BATCH, Simulator, StepStatistics};
use crate::domain::trace::counts::ExpertCounts;
use crate::wire::answer as wire;
use crate::wire::question::Method;
use crate::wire::violation::Violation;

/// Relative difference of step sizes above which recorded steps are scaled.
const SAME_SIZE: f64 = 0.01;

/// What only a replay knows.
pub(super) struct Replayed {
    entries: Vec<simulate::Replayed>,
}

/// Refuses a simulation of fewer than two steps, saying how many there are.
pub(super) fn enough_steps(asked: &Answerable) -> Result<(), AdviceError> {
    let (Method::Simulated, AskedRouting::Trace(used)) = (asked.method, &asked.routing) else {
        return Ok(());
    };
    let Some(facts) = known::scoring_trace(used) else { return Ok(()) };
    let trace = known::open(facts)?;
    let fail = |source| AdviceError::Trace { id: facts.id.clone(), source };
    let workload = &asked.question.system.workload;
    let plan = known::scoring_plan(used, &trace, workload).map_err(fail)?;
    let steps = trace.n_steps(&plan).map_err(fail)?;
    if steps >= 2 {
        return Ok(());
    }
    Err(AdviceError::Refused(vec![Violation::new(
        "/workload",
        "steps",
        format!(
            "the scoring part of the trace gives {steps} steps of {} tokens; a simulation needs \
             two or more: ask for fewer tokens per step, a longer trace, or `method: analytic`",
            workload.tokens_per_step
        ),
    )]))
}

/// Replays the scoring part of the trace and puts what it finds into the advice.
pub(super) fn replay(
    question: &Question,
    used: &TraceUse,
    fits: &Fits,
    known: &advice::known::Known,
    advised: &mut Advised,
    progress: &dyn Progress,
) -> Result<Replayed, AdviceError> {
    let Some(facts) = known::scoring_trace(used) else {
        return Ok(Replayed { entries: Vec::new() });
    };
    let trace = known::open(facts)?;
    let fail = |source| AdviceError::Trace { id: facts.id.clone(), source };
    let plan = known::scoring_plan(used, &trace, &question.system.workload).map_err(fail)?;
    let n_steps = trace.n_steps(&plan).map_err(fail)?;
    let planned = planning_counts(used, question)?;
    let pattern = advised.communication.0;
    let Some(mut simulator) =
        Simulator::new(question, pattern, &advised.entries, &advised.plans, &planned)
            .map_err(advice::analytic::AnalyticError::from)?
    else {
        return Err(advice::analytic::AnalyticError::NoProfile.into());
    };
    let experts = question.system.model.experts.routed as usize;
    let assignments = question.system.workload.tokens_per_step as f64
        * f64::from(question.system.model.experts.top_k);
    let mut scaled = false;
    let mut steps = trace.steps(&plan);
    let mut batch: Vec<ExpertCounts> = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        let mut foreseen = fits.foreseen();
        while batch.len() < BATCH
            && let Some(step) = steps.next_step().map_err(fail)?
        {
            let (counts, rescaled) = fitted(&step.counts, experts, assignments);
            scaled |= rescaled;
            batch.push(counts);
            if !fits.is_empty() {
                fits.foresee(&steps.places(), experts, &mut foreseen);
            }
        }
        if batch.is_empty() {
            break;
        }
        simulator.replay(&batch, &foreseen);
        if progress.canceled() {
            return Err(AdviceError::Canceled);
        }
        let done = simulator.steps() as f64 / n_steps.max(1) as f64;
        progress.report(0.2 + 0.75 * done.min(1.0), "replaying");
    }
    let replayed_steps = simulator.steps();
    let entries = simulator.finish().unwrap_or_default();
    let mut missing = Vec::new();
    if replayed_steps < ENOUGH_STEPS {
        missing.push(format!(
            "a longer trace: only {replayed_steps} steps were held out, {ENOUGH_STEPS} are needed"
        ));
    }
    if scaled {
        missing.push(format!(
            "steps of this size: the recorded steps do not have {} tokens and were scaled, which \
             hides how finite batches scatter",
            question.system.workload.tokens_per_step
        ));
    }
    advice::replayed(question, known, advised, &entries, missing)?;
    Ok(Replayed { entries })
}

/// Counts of the planning part, layer by layer, for the layers that are priced.
fn planning_counts(used: &TraceUse, question: &Question) -> Result<Vec<Vec<f64>>, AdviceError> {
    let mut planned = Vec::new();
    let experts = question.system.model.experts.routed as usize;
    if let Some(facts) = used.traces.first() {
        let trace = known::open(facts)?;
        let fail = |source| AdviceError::Trace { id: facts.id.clone(), source };
        let end = known::planning_end(used, &trace).map_err(fail)?;
        for layer in trace.count(0..end).map_err(fail)?.layers() {
            let mut counts = layer.to_vec();
            counts.resize(experts, 0.0);
            planned.push(counts);
        }
    }
    Ok(planned)
}

/// A step's counts over all experts of the model, scaled to the step size asked for.
pub(super) fn fitted(
    counts: &ExpertCounts,
    experts: usize,
    assignments: f64,
) -> (ExpertCounts, bool) {
    let mut fitted = ExpertCounts::zeros(counts.n_layers(), experts);
    let mut rescaled = false;
    for (index, layer) in counts.layers().enumerate() {
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

/// Adds to the answer what only the replay knows.
pub(super) fn write(replayed: &Replayed, result: &mut wire::ResultBody) {
    let before = replayed.entries.iter().find(|found| found.entry == 0);
    for found in &replayed.entries {
        let Some(body) = result.strategies.get_mut(found.entry) else { continue };
        let StepStatistics { mean, p50, p95, p99 } = found.steps;
        body.step_latency_s = Some(wire::StepLatency { mean, p50, p95, p99 });
        body.speedup_interval_95 = Some(found.speedup_interval);
        body.imbalance_before = before.map(|none| none.imbalance.clone());
        body.imbalance_after = Some(found.imbalance.clone());
        body.moved_bytes = Some(body.moved_bytes.unwrap_or(0.0) + found.moved.get());
    }
    let chosen = result.recommendation.strategy;
    let after = result.strategies.iter().find(|body| Some(body.strategy) == chosen);
    let after = after.and_then(|body| body.imbalance_after.clone()).and_then(wire::Summary::of);
    let before = before.and_then(|none| wire::Summary::of(none.imbalance.clone()));
    if let (Some(imbalance), Some(before)) = (&mut result.routing.device_imbalance, before) {
        let expected = imbalance.after.as_ref().map_or(1.0, |after| after.mean);
        if let (Some(residual), Some(after)) = (&mut imbalance.residual, &after) {
            residual.drift = after.mean - expected;
        }
        imbalance.balancedness_before = 1.0 / before.mean;
        imbalance.before = before;
        if after.is_some() {
            imbalance.balancedness_after = after.as_ref().map(|after| 1.0 / after.mean);
            imbalance.after = after;
        }
    }
}
