//! Simulated answers: stored traces replayed step by step, in bounded memory.

use crate::app::advisor::{AdviceError, Progress};
use crate::app::fit_predictors::Fits;
use crate::app::question::{Answerable, AskedRouting, TraceUse};
use crate::app::routing_evidence::LoadedRouting;
use crate::app::trace_steps::{Part, Recorded, held_out};
use crate::wire::question::Method;
use crate::wire::violation::Violation;
use moe_gps_core::advice;
use moe_gps_core::evaluate::replay::Foreseen;
use moe_gps_core::evaluate::{BATCH, Step};
use moe_gps_core::question::Question;

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

/// The scoring part of every trace of a question, as recorded steps.
pub(super) struct HeldOutSteps<'a> {
    question: &'a Question,
    parts: Vec<Part<'a>>,
    fits: &'a Fits,
    loaded: &'a LoadedRouting,
    progress: &'a dyn Progress,
    /// How often the steps were served.
    served: u32,
    /// Whether some step was scaled to the size that is asked about.
    scaled: bool,
}

impl<'a> HeldOutSteps<'a> {
    pub(super) fn new(
        question: &'a Question,
        used: &'a TraceUse,
        fits: &'a Fits,
        loaded: &'a LoadedRouting,
        progress: &'a dyn Progress,
    ) -> Result<Self, AdviceError> {
        let parts = held_out(used, &question.system.workload)?;
        Ok(Self { question, parts, fits, loaded, progress, served: 0, scaled: false })
    }
}

impl advice::Recorded for HeldOutSteps<'_> {
    type Error = AdviceError;

    fn planned(&self) -> &[Vec<Vec<f64>>] {
        &self.loaded.planned
    }

    fn serve(&mut self, see: &mut dyn FnMut(&[Step], &[Foreseen])) -> Result<(), AdviceError> {
        let Self { question, parts, fits, loaded, progress, .. } = &*self;
        let n_steps = parts.iter().map(|part| part.n_steps).sum::<u64>().max(1) as f64;
        let experts = question.system.model.experts.routed as usize;
        let mut recorded = Recorded::new(parts, &loaded.layers, question);
        // The first time is nearly all of the work; plans that are kept are scored fast.
        let (from, share) = if self.served == 0 { (0.2, 0.7) } else { (0.9, 0.0) };
        progress.report(from, "replaying");
        let mut done = 0.0;
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
            see(&batch, &foreseen);
            done += batch.len() as f64;
            progress.report(from + share * (done / n_steps).min(1.0), "replaying");
        }
        let scaled = recorded.scaled;
        self.scaled |= scaled;
        self.served += 1;
        Ok(())
    }

    fn missing_evidence(&self) -> Vec<String> {
        let scaled = || {
            format!(
                "steps of this size: the recorded steps do not have {} tokens and were scaled, \
                 which hides how finite batches scatter",
                self.question.system.workload.tokens_per_step
            )
        };
        self.scaled.then(scaled).into_iter().collect()
    }
}
