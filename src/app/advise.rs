//! The use case the service exists for: a question in, a recommendation out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::known;
use super::question::{self, Answerable, AskedRouting};
use super::{answer, assumed, fitted, plan_file, replay};
use crate::catalog::Catalog;
use crate::domain::advice::known::Known;
use crate::domain::advice::{self, Advised};
use crate::domain::system::Preset;
use crate::wire::question::Method;
use crate::wire::violation::Violation;

/// Follows a long computation, and may end it.
pub trait Progress: Sync {
    /// Told the share that is done (0 to 1) and the name of the phase, often.
    fn report(&self, done: f64, phase: &'static str);
    /// Asked often; after `true` the computation ends with [`AdviceError::Canceled`].
    fn canceled(&self) -> bool {
        false
    }
}

/// Nobody follows.
pub struct Unobserved;

impl Progress for Unobserved {
    fn report(&self, _done: f64, _phase: &'static str) {}
}

/// What is known of a stored trace without reading its routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceFacts {
    /// Names it in requests.
    pub id: String,
    /// SHA-256 of its content: equal content, equal digest.
    pub digest: [u8; 32],
    /// Layers with routed experts.
    pub layers: u64,
    /// Experts per layer.
    pub experts: u64,
    /// Experts a token is routed to; 0 where only counts are known.
    pub top_k: u64,
    /// Routed tokens.
    pub tokens: u64,
    /// Sequences the tokens stand in; 0 where only counts are known.
    pub sequences: u64,
    /// Steps in time.
    pub steps: u64,
    /// Whether it says which token was routed, not only where to.
    pub has_token_ids: bool,
    /// The stored form.
    pub path: PathBuf,
    /// The embedding table beside it, where one is kept.
    pub embedding: Option<PathBuf>,
}

/// A question that has been read and found answerable, with the digest of all that
/// decides its answer (question, traces, catalog, version).
#[derive(Debug, Clone)]
pub struct CheckedQuestion {
    /// SHA-256 over the normalised question, its traces, the catalog and the version.
    pub digest: [u8; 32],
    /// The question as it is stored and echoed.
    pub request: Value,
    /// Catalog id or name of the model, for listing.
    pub model: String,
    /// Catalog id or name of the device, for listing.
    pub device: String,
    /// Traces the answer needs.
    pub trace_ids: Vec<String>,
}

/// An answer: what is shown, and the placement plan beside it.
#[derive(Debug, Clone)]
pub struct Advice {
    /// The `result` of the wire format.
    pub result: Value,
    /// Id of the recommended strategy, for listing.
    pub strategy: String,
    /// The placement answer, where the strategy has a plan.
    pub placement: Option<Value>,
}

/// Reads and checks a question: fast, at the door.
pub fn check(
    request: &Value,
    traces: &BTreeMap<String, TraceFacts>,
) -> Result<CheckedQuestion, AdviceError> {
    let catalog = catalog()?;
    let asked = question::answerable(request, catalog, traces)?;
    replay::enough_steps(&asked)?;
    let trace_ids = asked.trace_ids();
    Ok(CheckedQuestion {
        digest: digest(request, &trace_ids, traces, catalog),
        request: request.clone(),
        model: asked.model,
        device: asked.device,
        trace_ids,
    })
}

/// Answers a checked question: seconds at worst, in a worker.
pub fn advise(
    question: &CheckedQuestion,
    traces: &BTreeMap<String, TraceFacts>,
    progress: &dyn Progress,
) -> Result<Advice, AdviceError> {
    let catalog = catalog()?;
    let mut asked = question::answerable(&question.request, catalog, traces)?;
    if asked.assume_predictors {
        asked.question.predictors = assumed::predictors(&asked.question);
    }
    let fitted = fitted::fit(&mut asked, progress)?;
    progress.report(0.05, "reading");
    let loaded = known::load(&asked)?;
    if progress.canceled() {
        return Err(AdviceError::Canceled);
    }
    progress.report(0.1, "pricing");
    let mut advised = advice::advise(&asked.question, &loaded.known, loaded.missing)?;
    if asked.method == Method::Simulated
        && let AskedRouting::Trace(used) = &asked.routing
    {
        let replayed =
            replay::replay(&asked.question, used, &fitted, &loaded.known, &mut advised, progress)?;
        return written(&asked, &loaded.known, &advised, &fitted, Some(&replayed), catalog);
    }
    written(&asked, &loaded.known, &advised, &fitted, None, catalog)
}

/// The answer and its placement as JSON.
fn written(
    asked: &Answerable,
    known: &Known,
    advised: &Advised,
    fitted: &fitted::Fits,
    replayed: Option<&replay::Replayed>,
    catalog: &Catalog,
) -> Result<Advice, AdviceError> {
    let mut result = answer::result(asked, known, advised, catalog);
    fitted.write(&mut result);
    if let Some(replayed) = replayed {
        replay::write(replayed, &mut result);
    }
    let paper = asked.question.system.assumptions.preset == Preset::Paper;
    let placement = if paper { None } else { plan_file::placement(asked, advised) };
    let strategy = result.recommendation.strategy.unwrap_or("none").to_owned();
    Ok(Advice {
        result: serde_json::to_value(&result)?,
        strategy,
        placement: placement.map(serde_json::to_value).transpose()?,
    })
}

fn catalog() -> Result<&'static Catalog, AdviceError> {
    Catalog::embedded().map_err(|error| AdviceError::Catalog(error.to_string()))
}

/// SHA-256 over version, catalog, the traces' content and the question with sorted keys.
fn digest(
    request: &Value,
    trace_ids: &[String],
    traces: &BTreeMap<String, TraceFacts>,
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
fn sorted(value: &Value) -> Value {
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

/// Why there is no advice.
#[derive(Debug, thiserror::Error)]
pub enum AdviceError {
    /// The question is well-formed JSON but cannot be answered.
    #[error("the question breaks {} rule(s)", .0.len())]
    Refused(Vec<Violation>),
    /// The caller asked to stop.
    #[error("the computation was canceled")]
    Canceled,
    /// The embedded catalog could not be read: our bug.
    #[error("the catalog is broken: {0}")]
    Catalog(String),
    /// A law could not be applied.
    #[error(transparent)]
    Pricing(#[from] advice::analytic::AnalyticError),
    /// The answer could not be written: our bug.
    #[error("the answer could not be written as JSON")]
    Written(#[from] serde_json::Error),
    /// A stored trace could not be read back.
    #[error("trace {id} could not be read")]
    Trace {
        /// Which trace.
        id: String,
        /// Why.
        source: std::io::Error,
    },
}
