//! What was measured after an answer: kept beside its forecast.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use uuid::Uuid;

use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::recommendations::fetch;
use crate::app::tokens::{Caller, LOCAL};
use crate::store::StoreError;
use crate::store::outcomes::OutcomeRecord;
use crate::wire::answer::{ServingBody, StepLatency};
use crate::wire::job::Status;
use crate::wire::outcome::{MeasuredOutcome, Outcome};
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::strategies::Strategy;

/// Outcomes that are kept of one recommendation.
const MOST: u32 = 1000;

/// What an answer says that an outcome is compared with.
#[derive(Deserialize)]
struct Said {
    strategies: Vec<SaidOfStrategy>,
}

#[derive(Deserialize)]
struct SaidOfStrategy {
    strategy: String,
    model_latency_s: Option<f64>,
    step_latency_s: Option<StepLatency>,
    serving: Option<ServingBody>,
}

/// Of the question, what a step yields.
#[derive(Deserialize)]
struct Asked {
    workload: Option<AskedWorkload>,
}

#[derive(Deserialize)]
struct AskedWorkload {
    phase: Option<String>,
}

/// Keeps what was measured.
pub async fn keep(
    app: &App,
    caller: &Caller,
    id: &str,
    outcome: Outcome,
) -> Result<MeasuredOutcome, AppError> {
    let job = fetch(app, id).await?;
    let Some(result) = job.result.as_deref().filter(|_| job.status == Status::Succeeded) else {
        return Err(AppError::Conflict(format!(
            "recommendation {id} is {}; an outcome has a forecast beside it once it has succeeded",
            job.status.as_str()
        )));
    };
    let corrupt = |what| move |_| StoreError::Corrupt { what };
    let said: Said = serde_json::from_str(result).map_err(corrupt("result of a recommendation"))?;
    let asked: Asked =
        serde_json::from_str(&job.request).map_err(corrupt("request of a recommendation"))?;
    let name = outcome.strategy.map(Strategy::id).unwrap_or_default();
    let Some(priced) = said.strategies.into_iter().find(|one| one.strategy == name) else {
        let detail = format!("strategy is {name}, of which recommendation {id} says nothing");
        return Err(AppError::Refused(vec![Violation::new("/strategy", "one_of", detail)]));
    };
    let phase = asked.workload.and_then(|workload| workload.phase).unwrap_or_default();
    let (quantity, measured_s, forecast_s) = match (outcome.step_s, outcome.tpot_s) {
        (Some(step_s), _) => ("step_s", step_s, priced.step_s(&phase)),
        (None, tpot_s) => ("tpot_s", tpot_s.unwrap_or_default(), priced.tpot_s(&phase)),
    };
    let record = OutcomeRecord {
        id: Uuid::now_v7().to_string(),
        recommendation_id: id.to_owned(),
        principal: caller.principal.to_string(),
        created_ms: now_ms(),
        strategy: name.to_owned(),
        quantity: quantity.to_owned(),
        measured_s,
        forecast_s,
        steps: outcome.steps.and_then(|steps| i64::try_from(steps).ok()),
        note: outcome.note,
    };
    if app.store.insert_outcome(&record, MOST).await? {
        app.has_outcomes.store(true, Ordering::Relaxed);
        return Ok(shown(record));
    }
    fetch(app, id).await?;
    Err(AppError::Conflict(format!(
        "recommendation {id} has {MOST} outcomes, which is all that are kept of one"
    )))
}

impl SaidOfStrategy {
    /// Time of a step; a server has several kinds of them.
    fn step_s(&self, phase: &str) -> Option<f64> {
        if phase.eq_ignore_ascii_case(SERVING) {
            return None;
        }
        self.step_latency_s.map(|replayed| replayed.mean).or(self.model_latency_s)
    }

    /// Time between two tokens: that of a server, or of a step of decode, which yields one.
    fn tpot_s(&self, phase: &str) -> Option<f64> {
        match &self.serving {
            Some(ServingBody::Server(server)) => server.tpot_s,
            _ if phase.eq_ignore_ascii_case("decode") => self.step_s(phase),
            _ => None,
        }
    }
}

/// The phase whose steps are of several kinds.
const SERVING: &str = "serving";

/// The outcomes of these recommendations, by their ids.
pub async fn of(
    app: &App,
    ids: &[&str],
) -> Result<BTreeMap<String, Vec<MeasuredOutcome>>, AppError> {
    let mut all: BTreeMap<String, Vec<MeasuredOutcome>> = BTreeMap::new();
    // Most services have none, and every answer is looked up here.
    if !app.has_outcomes.load(Ordering::Relaxed) {
        return Ok(all);
    }
    for record in app.store.find_outcomes(ids).await? {
        all.entry(record.recommendation_id.clone()).or_default().push(shown(record));
    }
    Ok(all)
}

fn shown(record: OutcomeRecord) -> MeasuredOutcome {
    let measured = |quantity| Some(record.measured_s).filter(|_| record.quantity == quantity);
    MeasuredOutcome {
        tpot_s: measured("tpot_s"),
        step_s: measured("step_s"),
        forecast_s: record.forecast_s,
        forecast_error: record.forecast_s.map(|forecast_s| forecast_s / record.measured_s - 1.0),
        steps: record.steps,
        created_at: Moment(record.created_ms),
        strategy: record.strategy.into(),
        note: record.note,
        principal: Some(record.principal).filter(|principal| principal != LOCAL),
    }
}
