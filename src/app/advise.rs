//! The use case the service exists for: a question in, a recommendation out.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::to_raw_value;
use sha2::{Digest, Sha256};

use crate::app::advisor::{Advice, AdviceError, CheckedQuestion, KnownTraces, Progress};
use crate::app::question::{self, Answerable, AskedRouting};
use crate::app::replay::HeldOutSteps;
use crate::app::routing_evidence;
use crate::app::{answer, default_predictors, fit_predictors, interval, plan_file, replay};
use crate::wire::question::Method;
use moe_gps_core::advice;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::system::Preset;

/// Reads and checks a question: fast, at the door.
pub fn check(request: &Value, traces: &KnownTraces) -> Result<CheckedQuestion, AdviceError> {
    let catalog = catalog()?;
    let asked = question::answerable(request, catalog, traces)?;
    replay::enough_steps(&asked)?;
    let trace_ids = asked.trace_ids();
    Ok(CheckedQuestion {
        digest: digest(request, &trace_ids, traces, catalog),
        request: request.clone(),
        model: asked.model.clone(),
        device: asked.device.clone(),
        trace_ids,
        work: Box::new(move |progress| advise(asked, progress)),
    })
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
    let result = answer::result(&asked, &loaded.known, &advised, &fitted, interval, catalog()?);
    let paper = question.system.assumptions.preset == Preset::Paper;
    let plan = if paper { None } else { plan_file::placement(&asked, &advised, &loaded.places) };
    Ok(Advice {
        recommendation: to_raw_value(&result.recommendation)?,
        strategy: result.recommendation.strategy.unwrap_or("none").to_owned(),
        result: to_raw_value(&result)?,
        placement: plan.as_ref().map(to_raw_value).transpose()?,
    })
}

/// The shipped catalog.
pub(crate) fn catalog() -> Result<&'static Catalog, AdviceError> {
    Catalog::embedded().map_err(|error| AdviceError::Catalog(error.to_string()))
}

/// SHA-256 over version, catalog, the traces' content and the question with sorted keys.
fn digest(
    request: &Value,
    trace_ids: &[String],
    traces: &KnownTraces,
    catalog: &Catalog,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(catalog.digest());
    for trace in trace_ids.iter().filter_map(|id| traces.get(id)) {
        hash.update(trace.digest);
    }
    hash.update(sorted(request).to_string());
    hash.finalize().into()
}

/// A value with the keys of every object in order, so that equal questions are equal text.
pub(super) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<&String, Value> =
                fields.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().map(|(k, v)| (k.clone(), v)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
