//! The use case the service exists for: a question in, a recommendation out.

use serde_json::value::to_raw_value;

use crate::app::advisor::{Advice, AdviceError, Advisor, CheckedQuestion, Progress};
use crate::app::question::{Answerable, AskedRouting, ReadQuestion};
use crate::app::references::References;
use crate::app::replay::HeldOutSteps;
use crate::app::routing_evidence;
use crate::app::{answer, default_predictors, fit_predictors, interval, plan_file, replay};
use crate::wire::question::Method;
use moe_gps_core::advice;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::evaluate::BATCH;
use moe_gps_core::system::Preset;

/// The service's advisor: the cost model.
#[derive(Debug, Clone, Copy, Default)]
pub struct CostModel;

impl Advisor for CostModel {
    fn check(
        &self,
        question: ReadQuestion,
        references: &References,
    ) -> Result<CheckedQuestion, AdviceError> {
        check(question, references)
    }
}

/// Checks a question that has been read; walks traces, so it blocks.
pub fn check(
    question: ReadQuestion,
    references: &References,
) -> Result<CheckedQuestion, AdviceError> {
    let catalog = Catalog::embedded();
    let asked = question.answerable(catalog, references)?;
    replay::enough_steps(&asked)?;
    Ok(CheckedQuestion {
        digest: asked.digest(catalog),
        request: question.request,
        model: asked.model.clone(),
        device: asked.device.clone(),
        trace_ids: asked.trace_ids(),
        memory_bytes: memory_bytes(&asked),
        work: Box::new(move |progress| advise(asked, progress)),
    })
}

/// Matrices of layers × experts that are held at once beside recorded steps: forecasts, plans and
/// prices of every strategy.
const MATRICES: u64 = 64;

/// Memory that answering takes, at most and about: matrices of layers × experts for a batch of
/// recorded steps and for what is planned, and the routes that predictors are fitted and scored on.
fn memory_bytes(asked: &Answerable) -> u64 {
    let model = &asked.question.system.model;
    let traces = match &asked.routing {
        AskedRouting::Trace(used) => used.traces.len() as u64,
        _ => 0,
    };
    let cells = u64::from(model.moe_layers) * u64::from(model.experts.routed);
    let matrices = MATRICES + BATCH as u64 + 4 * traces;
    8 * cells * matrices + fit_predictors::memory_bytes(asked)
}

/// Answers a question: seconds at worst, in a worker.
fn advise(mut asked: Answerable, progress: &dyn Progress) -> Result<Advice, AdviceError> {
    if asked.assume_predictors {
        asked.question.predictors = default_predictors::predictors(&asked.question);
    }
    let fitted = fit_predictors::fit(&mut asked, progress)?;
    progress.report(0.05, "reading");
    let interval = interval::search(&mut asked, progress)?;
    let cancel = progress.cancel();
    let mut loaded = routing_evidence::load(&asked, cancel)?;
    if let Some(skewness) = loaded.known.mean_skewness() {
        asked.question.predict_at(skewness);
    }
    progress.report(0.1, "pricing");
    let missing = std::mem::take(&mut loaded.missing);
    let Answerable { question, method, routing, .. } = &asked;
    let mut recorded = match routing {
        AskedRouting::Trace(used) if *method == Method::Simulated => {
            Some(HeldOutSteps::new(question, used, &fitted, &loaded, progress)?)
        }
        _ => None,
    };
    let advised = advice::advise(question, &loaded.known, missing, recorded.as_mut(), cancel)?;
    drop(recorded);
    let result =
        answer::result(&asked, &loaded.known, &advised, &fitted, interval, Catalog::embedded());
    let paper = question.system.assumptions.preset == Preset::Paper;
    let plan = if paper { None } else { plan_file::placement(&asked, &advised, &loaded.places) };
    Ok(Advice {
        recommendation: to_raw_value(&result.recommendation)?,
        strategy: result.recommendation.strategy.as_deref().unwrap_or("none").to_owned(),
        result: to_raw_value(&result)?,
        placement: plan.as_ref().map(to_raw_value).transpose()?,
    })
}
