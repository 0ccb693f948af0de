//! Simulated answers: stored traces replayed step by step, in bounded memory.

use crate::app::advisor::{AdviceError, Progress};
use crate::app::fit_predictors::Fits;
use crate::app::question::{Answerable, AskedRouting, TraceUse};
use crate::app::routing_evidence::{ENOUGH_STEPS, Loaded};
use crate::app::trace_steps::{Part, Recorded, held_out};
use crate::wire::answer as wire;
use crate::wire::question::Method;
use crate::wire::violation::Violation;
use moe_gps_core::advice::{self, Advised};
use moe_gps_core::evaluate::transfer_replay::Held;
use moe_gps_core::evaluate::{self, BATCH, Simulator, StepStatistics};
use moe_gps_core::question::Question;

/// What only a replay knows.
pub(super) struct Replayed {
    entries: Vec<evaluate::Replayed>,
}

/// Refuses a simulation of fewer than two steps, saying how many there are.
pub(super) fn enough_steps(asked: &Answerable) -> Result<(), AdviceError> {
    let (Method::Simulated, AskedRouting::Trace(used)) = (asked.method, &asked.routing) else {
        return Ok(());
    };
    let workload = &asked.question.system.workload;
    let parts = held_out(used, workload)?;
    let violation = |part: &Part| {
        Violation::new(
            "/workload",
            "steps",
            format!(
                "the scoring part of trace {} gives {} steps of {} tokens; a simulation needs two \
                 or more: ask for fewer tokens per step, a longer trace, or `method: analytic`",
                part.id(),
                part.n_steps,
                workload.tokens_per_step
            ),
        )
    };
    let short: Vec<Violation> =
        parts.iter().filter(|part| part.n_steps < 2).map(violation).collect();
    if short.is_empty() { Ok(()) } else { Err(AdviceError::Refused(short)) }
}

/// Replays the scoring part of every trace and puts what it finds into the advice.
pub(super) fn replay(
    question: &Question,
    used: &TraceUse,
    fits: &Fits,
    loaded: &Loaded,
    advised: &mut Advised,
    progress: &dyn Progress,
) -> Result<Replayed, AdviceError> {
    let parts = held_out(used, &question.system.workload)?;
    let n_steps = parts.iter().map(|part| part.n_steps).sum::<u64>().max(1) as f64;
    let pattern = advised.communication.0;
    let Some(mut simulator) =
        Simulator::new(question, pattern, &advised.entries, &advised.plans, &loaded.planned)
            .map_err(advice::analytic::AnalyticError::from)?
    else {
        return Err(advice::analytic::AnalyticError::NoProfile.into());
    };
    let experts = question.system.model.experts.routed as usize;
    let mut recorded = Recorded::new(&parts, &loaded.layers, question);
    progress.report(0.2, "replaying");
    loop {
        let mut foreseen = fits.foreseen();
        let batch = recorded.batch(BATCH, progress.cancel(), |steps| {
            if !fits.is_empty() {
                fits.foresee(&steps.places(), &loaded.layers, experts, &mut foreseen);
            }
        })?;
        if batch.is_empty() {
            break;
        }
        simulator.replay(&batch, &foreseen);
        let done = simulator.steps() as f64 / n_steps;
        progress.report(0.2 + 0.7 * done.min(1.0), "replaying");
    }
    let entries = simulator.finish().unwrap_or_default();
    let mut missing: Vec<String> = parts
        .iter()
        .filter(|part| part.n_steps < ENOUGH_STEPS)
        .map(|part| {
            format!(
                "a longer trace than {}: only {} steps were held out, {ENOUGH_STEPS} are needed",
                part.id(),
                part.n_steps
            )
        })
        .collect();
    if recorded.scaled {
        missing.push(format!(
            "steps of this size: the recorded steps do not have {} tokens and were scaled, which \
             hides how finite batches scatter",
            question.system.workload.tokens_per_step
        ));
    }
    advice::replayed(question, &loaded.known, advised, &entries, missing, progress.cancel())?;
    transfer(question, &parts, loaded, advised, progress)?;
    Ok(Replayed { entries })
}

/// Scores the transfer matrix, where there is one, on the recorded steps.
fn transfer(
    question: &Question,
    parts: &[Part],
    loaded: &Loaded,
    advised: &mut Advised,
    progress: &dyn Progress,
) -> Result<(), AdviceError> {
    let Some(transfer) = &mut advised.transfer else { return Ok(()) };
    let Some(mut held) = Held::new(question, advised.communication.0, transfer) else {
        return Err(advice::analytic::AnalyticError::NoProfile.into());
    };
    progress.report(0.9, "replaying");
    let mut recorded = Recorded::new(parts, &loaded.layers, question);
    loop {
        let batch = recorded.batch(BATCH, progress.cancel(), |_| ())?;
        if batch.is_empty() {
            break;
        }
        held.replay(transfer, &batch);
    }
    held.finish(transfer);
    Ok(())
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
