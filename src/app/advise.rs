//! The use case the service exists for: a question in, a recommendation out.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::to_raw_value;
use sha2::{Digest, Sha256};

use crate::app::advisor::{Advice, AdviceError, CheckedQuestion, KnownTraces, Progress};
use crate::app::question::{self, Answerable, AskedRouting};
use crate::app::routing_evidence::{self, Loaded};
use crate::app::{answer, default_predictors, fit_predictors, interval, plan_file, replay};
use crate::wire::interval_search::IntervalSearch;
use crate::wire::question::Method;
use moe_gps_core::advice::{self, Advised, Stop};
use moe_gps_core::catalog::Catalog;
use moe_gps_core::system::Preset;

/// Reads and checks a question: fast, at the API boundary.
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
    let stopped = || progress.canceled();
    let mut loaded = routing_evidence::load(&asked, &stopped)?;
    progress.report(0.1, "pricing");
    let missing = std::mem::take(&mut loaded.missing);
    let mut advised =
        advice::advise(&asked.question, &loaded.known, missing, Stop::when(&stopped))?;
    if asked.method == Method::Simulated
        && let AskedRouting::Trace(used) = &asked.routing
    {
        let replayed =
            replay::replay(&asked.question, used, &fitted, &loaded, &mut advised, progress)?;
        return written(&asked, &loaded, &advised, &fitted, Some(&replayed), interval);
    }
    written(&asked, &loaded, &advised, &fitted, None, interval)
}

/// The answer and its placement as JSON.
fn written(
    asked: &Answerable,
    loaded: &Loaded,
    advised: &Advised,
    fitted: &fit_predictors::Fits,
    replayed: Option<&replay::Replayed>,
    interval: Option<IntervalSearch>,
) -> Result<Advice, AdviceError> {
    let mut result = answer::result(asked, &loaded.known, advised, catalog()?);
    result.interval_search = interval;
    fitted.write(&mut result);
    if let Some(replayed) = replayed {
        replay::write(replayed, &mut result);
    }
    let paper = asked.question.system.assumptions.preset == Preset::Paper;
    let placement = if paper { None } else { plan_file::placement(asked, advised, &loaded.places) };
    let strategy = result.recommendation.strategy.unwrap_or("none").to_owned();
    Ok(Advice {
        recommendation: to_raw_value(&result.recommendation)?,
        result: to_raw_value(&result)?,
        strategy,
        placement: placement.as_ref().map(to_raw_value).transpose()?,
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
