//! Questions put to the cost model itself, without the service around it.

use std::io::Cursor;
use std::path::Path;

use moe_gps::app::advise;
use moe_gps::app::advisor::KnownTraces;
use moe_gps::app::advisor::{AdviceError, CheckedQuestion, TraceFacts, Unobserved};
use moe_gps::app::ingest::{TraceDirectory, Upload};
use moe_gps::app::question;
use moe_gps::app::references::References;
use moe_gps::wire::answer::{PlacementBody, ResultBody};
use moe_gps::wire::violation::Violation;
use moe_gps_core::formats::trace::Limits;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An answer, read back.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) result: Value,
    pub(crate) placement: Option<Value>,
}

/// A question about these traces, checked.
pub(crate) fn check(
    question: &Value,
    traces: &KnownTraces,
) -> Result<CheckedQuestion, AdviceError> {
    let references = References { traces: traces.clone(), ..References::default() };
    advise::check(question::read(question.clone()), &references)
}

/// The answer to a question about these traces.
pub(crate) fn advise(question: &Value, traces: &KnownTraces) -> Result<Answered, AdviceError> {
    let advice = (check(question, traces)?.work)(&Unobserved)?;
    Ok(Answered {
        result: read_back::<ResultBody>(advice.result.get()),
        placement: advice.placement.map(|plan| read_back::<PlacementBody>(plan.get())),
    })
}

/// What is written; read as its type and written again it is the same to the last letter.
#[track_caller]
pub(crate) fn read_back<T: Serialize + DeserializeOwned>(written: &str) -> Value {
    let typed: T = serde_json::from_str(written).unwrap();
    assert_eq!(serde_json::to_string(&typed).unwrap(), written);
    serde_json::from_str(written).unwrap()
}

/// The `result` of a question about these traces.
#[track_caller]
pub(crate) fn result_of(question: &Value, traces: &KnownTraces) -> Value {
    advise(question, traces).unwrap_or_else(|error| panic!("{question}: {error:?}")).result
}

/// The `result` of a question that needs no trace.
#[track_caller]
pub(crate) fn result(question: &Value) -> Value {
    result_of(question, &KnownTraces::new())
}

/// What a question is refused for.
#[track_caller]
pub(crate) fn violations(question: &Value, traces: &KnownTraces) -> Vec<Violation> {
    match advise(question, traces) {
        Err(AdviceError::Refused(violations)) => violations,
        other => panic!("not refused: {other:?}"),
    }
}

/// All entries of a strategy.
pub(crate) fn entries<'a>(result: &'a Value, strategy: &str) -> Vec<&'a Value> {
    let all = result["strategies"].as_array().unwrap();
    all.iter().filter(|entry| entry["strategy"] == strategy).collect()
}

/// The first entry of a strategy.
#[track_caller]
pub(crate) fn entry<'a>(result: &'a Value, strategy: &str) -> &'a Value {
    entries(result, strategy)[0]
}

/// The layer latency of a strategy's first entry.
#[track_caller]
pub(crate) fn latency(result: &Value, strategy: &str) -> f64 {
    let entry = entry(result, strategy);
    entry["layer_latency_s"].as_f64().unwrap_or_else(|| panic!("{entry}"))
}

/// An answer with its floats to six digits, so that a snapshot holds on every machine.
pub(crate) fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let text = format!("{:.5e}", number.as_f64().unwrap());
            json!(text.parse::<f64>().unwrap())
        }
        Value::Array(items) => items.iter().map(rounded).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), rounded(value))).collect())
        }
        other => other.clone(),
    }
}

/// Takes a trace in under `directory`, as an upload does.
pub(crate) fn keep(directory: &Path, content_type: &str, bytes: &[u8]) -> TraceFacts {
    let kept = TraceDirectory::open(directory).unwrap();
    let upload = Upload { content_type: content_type.to_owned(), ..Upload::default() };
    let ingested = kept.ingest(Cursor::new(bytes), &upload, &Limits::default()).unwrap();
    kept.facts(&ingested.summary.id, None).unwrap()
}

/// Traces by id.
pub(crate) fn known(traces: &[&TraceFacts]) -> KnownTraces {
    traces.iter().map(|facts| (facts.id.clone(), (*facts).clone())).collect()
}
