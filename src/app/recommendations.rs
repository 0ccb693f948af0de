//! Ask, fetch, list, cancel or delete a recommendation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::app::advise::catalog;
use crate::app::advisor::{AdviceError, CheckedQuestion};
use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::{question, references};
use crate::store::StoreError;
use crate::store::devices::Kind;
use crate::store::jobs::{Inserted, JobRecord, Lease};
use crate::store::keys::Key;
use crate::store::listing::Listed;
use crate::telemetry::metrics as names;
use crate::wire::answer::LaunchBody;
use crate::wire::job::Status;
use crate::wire::listing::{CheckedListQuery, RecommendationItem, RecommendationPage};
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::system::Preset;

/// A question as a client asks it.
#[derive(Debug)]
pub struct Asked {
    /// The body.
    pub request: Value,
    /// The client's own name for this request, with the digest of the body.
    pub key: Option<(String, [u8; 32])>,
    /// How long the client wants to wait for the result.
    pub wait: Option<Duration>,
}

/// Stores a question, or finds the equal one, and waits for its end if asked to.
pub async fn submit(app: &App, asked: Asked) -> Result<Arc<JobRecord>, AppError> {
    if let Some((key, body_digest)) = &asked.key
        && let Some(job) = replay(app, Key { key, body_digest }).await?
    {
        return wait_for_end(app, job, asked.wait).await;
    }
    let (question, inputs) = checked(app, asked.request).await?;
    // A question that is probably new is not looked for first: storing it tells.
    let mut known = None;
    if app.board.recent.seen(question.digest) {
        known = find_equal(app, &question.digest).await?;
    }
    let key = asked.key.as_ref().map(|(key, body_digest)| Key { key, body_digest });
    let (job, ended) = match known {
        Some(job) => (bind(app, key, job).await?, None),
        None => store_question(app, question, inputs, key, asked.wait.is_some()).await?,
    };
    match (ended, asked.wait) {
        (Some(ended), Some(wait)) => {
            let job = Arc::new(job);
            Ok(first_of(app, ended, wait).await.unwrap_or(job))
        }
        (_, wait) => wait_for_end(app, job, wait).await,
    }
}

/// Reads a question, looks up what it names, and checks it where threads may block; with what a
/// job keeps of what it names.
async fn checked(app: &App, request: Value) -> Result<(CheckedQuestion, Option<String>), AppError> {
    let question = question::read(request);
    let named = references::look_up(app, &question.asked).await?;
    let advisor = Arc::clone(&app.advisor);
    let turn = Arc::clone(&app.checks).acquire_owned().await;
    let check = move || {
        // Held to the end of the check, even where nobody waits for it any more.
        let _turn = turn;
        let references = named.open()?;
        Ok((advisor.check(question, &references)?, references.inputs()?))
    };
    let checked = tokio::task::spawn_blocking(check).await;
    checked
        .map_err(|error| AppError::Internal(format!("a check panicked: {error}")))?
        .map_err(refusal)
}

/// The live or finished job that answers an equal question.
async fn find_equal(app: &App, digest: &[u8]) -> Result<Option<JobRecord>, AppError> {
    let found = app.store.find_job_by_digest(digest).await?;
    if found.is_some() {
        metrics::counter!(names::QUESTIONS, "outcome" => "reused").increment(1);
    }
    Ok(found)
}

type Ended = tokio::sync::oneshot::Receiver<Arc<JobRecord>>;

/// Stores a new job: running at once where a worker is idle, else queued.
async fn store_question(
    app: &App,
    question: CheckedQuestion,
    inputs: Option<String>,
    key: Option<Key<'_>>,
    wants_end: bool,
) -> Result<(JobRecord, Option<Ended>), AppError> {
    let now = now_ms();
    let slot = app.board.try_slot();
    let lease =
        slot.is_some().then(|| Lease { owner: &app.instance, until_ms: now + app.queue.lease_ms });
    let trace_ids: BTreeSet<&String> = question.trace_ids.iter().collect();
    let job = JobRecord {
        id: Uuid::now_v7().to_string(),
        digest: question.digest.to_vec(),
        status: if lease.is_some() { Status::Running } else { Status::Queued },
        model: question.model,
        device: question.device,
        attempt: i64::from(lease.is_some()),
        progress: 0.0,
        phase: None,
        created_ms: now,
        started_ms: lease.map(|_| now),
        finished_ms: None,
        trace_ids: Value::from(trace_ids.into_iter().cloned().collect::<Vec<_>>()).to_string(),
        problem: None,
        request: question.request.to_string(),
        result: None,
        inputs,
    };
    let ended = wants_end.then(|| app.board.wait_for(&job.id));
    let inserted =
        app.store.insert_job(&job, &question.trace_ids, key, lease, app.queue.limit).await;
    match inserted {
        Ok(Inserted::New) => {
            metrics::counter!(names::QUESTIONS, "outcome" => "new").increment(1);
            match slot {
                Some(slot) => app.board.hand_over(slot, job.clone(), question.work),
                None => app.board.ring(),
            }
            return Ok((job, ended));
        }
        Ok(Inserted::Not | Inserted::TraceGone | Inserted::KeyUsed) | Err(_) => {
            drop(ended);
            app.board.forget_waiters(&job.id);
        }
    }
    // The same key came twice at once; the first one stands.
    if let (Ok(Inserted::KeyUsed), Some(key)) = (&inserted, key)
        && let Some(job) = replay(app, key).await?
    {
        return Ok((job, None));
    }
    // An equal question is there already; what is known is told even when nothing new
    // can be stored.
    if let Some(job) = find_equal(app, &job.digest).await? {
        return Ok((bind(app, key, job).await?, None));
    }
    if inserted? == Inserted::TraceGone {
        let detail = "a trace the question names was deleted while it was asked";
        return Err(AppError::Conflict(detail.to_owned()));
    }
    metrics::counter!(names::QUESTIONS, "outcome" => "queue_full").increment(1);
    Err(AppError::QueueFull { limit: app.queue.limit })
}

/// Waits for the end of a job that was there before, as long as asked.
async fn wait_for_end(
    app: &App,
    job: JobRecord,
    wait: Option<Duration>,
) -> Result<Arc<JobRecord>, AppError> {
    let Some(wait) = wait.filter(|_| !job.status.is_final()) else {
        return Ok(Arc::new(job));
    };
    let ended = app.board.wait_for(&job.id);
    // It may have ended between the look that found it and our asking to be told.
    let job = fetch(app, &job.id).await?;
    if job.status.is_final() {
        app.board.forget_waiters(&job.id);
        return Ok(Arc::new(job));
    }
    match first_of(app, ended, wait).await {
        Some(job) => Ok(job),
        None => Ok(Arc::new(fetch(app, &job.id).await?)),
    }
}

/// The ended job, unless the time is up or the service stops before.
async fn first_of(app: &App, ended: Ended, wait: Duration) -> Option<Arc<JobRecord>> {
    tokio::select! {
        job = ended => job.ok(),
        () = tokio::time::sleep(wait) => None,
        () = app.board.stopping.cancelled() => None,
    }
}

/// The job that a key leads to: this one, unless the key was used before.
async fn bind(app: &App, key: Option<Key<'_>>, job: JobRecord) -> Result<JobRecord, AppError> {
    if let Some(key) = key
        && !app.store.insert_key(key, &job.id, now_ms()).await?
        && let Some(earlier) = replay(app, key).await?
    {
        return Ok(earlier);
    }
    Ok(job)
}

/// The job that a key led to before, which it may do again for the same body.
async fn replay(app: &App, key: Key<'_>) -> Result<Option<JobRecord>, AppError> {
    let Some(used) = app.store.find_key(key.key).await? else {
        return Ok(None);
    };
    if used.body_digest != key.body_digest {
        let detail = format!("Idempotency-Key {} came before with another body", key.key);
        return Err(AppError::Refused(vec![Violation::new("", "idempotency_key", detail)]));
    }
    fetch(app, &used.recommendation_id).await.map(Some)
}

/// Digest of a body, to tell whether a key comes with the same one.
#[must_use]
pub fn body_digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// Why there is no advice, as a use case says it.
pub(super) fn refusal(error: AdviceError) -> AppError {
    match error {
        AdviceError::Refused(violations) => AppError::Refused(violations),
        AdviceError::Trace { id, source } => AppError::trace(id, source),
        other => AppError::Internal(other.to_string()),
    }
}

/// The recommendation with this id.
pub async fn fetch(app: &App, id: &str) -> Result<JobRecord, AppError> {
    let mut job = app.store.find_job(id).await?.ok_or_else(|| not_found(id))?;
    if job.status == Status::Running
        && let Some(live) = app.board.live(id)
    {
        let (progress, phase) = live.progress();
        job.progress = progress;
        job.phase = Some(phase.to_owned()).filter(|phase| !phase.is_empty());
    }
    Ok(job)
}

/// Past recommendations, newest first.
pub async fn list(app: &App, mut query: CheckedListQuery) -> Result<RecommendationPage, AppError> {
    let catalog = catalog().map_err(refusal)?;
    if let Some(entry) = query.model.as_deref().and_then(|name| catalog.model(name).ok()) {
        query.model = Some(entry.id.clone());
    }
    // A registered device goes before an alias.
    if let Some(entry) = query.device.as_deref().and_then(|name| catalog.device(name).ok())
        && app
            .store
            .find_registered(Kind::Device, query.device.as_deref().unwrap_or_default())
            .await?
            .is_none()
    {
        query.device = Some(entry.id.clone());
    }
    let mut listed = app.store.list_jobs(&query).await?;
    let more = (query.limit as usize) < listed.len();
    listed.truncate(query.limit as usize);
    let next_cursor = listed.last().filter(|_| more).map(|last| last.id.clone());
    let items = listed.into_iter().map(item).collect::<Result<_, _>>()?;
    Ok(RecommendationPage { items, next_cursor })
}

fn item(listed: Listed) -> Result<RecommendationItem, StoreError> {
    let raw =
        |text: String, what| RawValue::from_string(text).map_err(|_| StoreError::Corrupt { what });
    Ok(RecommendationItem {
        status: Status::from_stored(&listed.status),
        created_at: Moment(listed.created_ms),
        finished_at: listed.finished_ms.map(Moment),
        model: listed.model,
        device: listed.device,
        trace_ids: raw(listed.trace_ids, "trace ids of a recommendation")?,
        recommendation: listed
            .recommendation
            .map(|text| raw(text, "summary of a recommendation"))
            .transpose()?,
        id: listed.id,
    })
}

/// Cancels a job that is queued or running, which is returned, or deletes an ended one.
pub async fn cancel_or_delete(app: &App, id: &str) -> Result<Option<JobRecord>, AppError> {
    if app.store.cancel_job(id, now_ms()).await? {
        if let Some(live) = app.board.live(id) {
            live.cancel();
        }
        let job = fetch(app, id).await?;
        app.board.announce(&Arc::new(job.clone()));
        return Ok(Some(job));
    }
    if app.store.delete_job(id).await? { Ok(None) } else { Err(not_found(id)) }
}

/// The placement plan of a finished recommendation as a file of the named format, with its
/// media type.
pub async fn placement(
    app: &App,
    id: &str,
    format: &str,
) -> Result<(&'static str, String), AppError> {
    let format = moe_gps_core::formats::placement::by_id(format).map_err(|error| {
        AppError::Refused(vec![Violation::new("/format", "one_of", error.to_string())])
    })?;
    let plan = stored_plan(app, id).await?;
    Ok((format.media_type, crate::app::plan_file::written(&plan, format)?))
}

/// How to start an engine so that it follows a finished recommendation; without a name that of the
/// question.
pub async fn launch(
    app: &App,
    id: &str,
    engine: Option<&str>,
    path: &str,
) -> Result<LaunchBody, AppError> {
    let plan = stored_plan(app, id).await?;
    let url = format!("/v1/recommendations/{id}/placement");
    crate::app::plan_file::launch(&plan, engine, &url, path)
}

async fn stored_plan(app: &App, id: &str) -> Result<String, AppError> {
    match app.store.find_placement(id).await? {
        None => Err(not_found(id)),
        Some((Status::Succeeded, Some(plan))) => Ok(plan),
        Some((Status::Succeeded, None)) => {
            let asked = question::read(read_back(&fetch(app, id).await?.request)?).asked;
            let what = if asked.assumptions.preset == Some(Preset::Paper) {
                "placement plan, because the formulas of the paper preset place no experts, for"
            } else {
                "placement plan, because no strategy can be run, for"
            };
            Err(AppError::NotFound { what, id: id.to_owned() })
        }
        Some((status, _)) => Err(AppError::Conflict(format!(
            "recommendation {id} is {}; a plan exists once it has succeeded",
            status.as_str()
        ))),
    }
}

/// A question as it is stored.
pub(crate) fn read_back(request: &str) -> Result<Value, StoreError> {
    serde_json::from_str(request)
        .map_err(|_| StoreError::Corrupt { what: "request of a recommendation" })
}

fn not_found(id: &str) -> AppError {
    AppError::NotFound { what: "recommendation", id: id.to_owned() }
}
