//! Ask: store a question, or find the equal one, and wait for its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::Instrument;
use uuid::Uuid;

use crate::app::advisor::CheckedQuestion;
use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::live_jobs::Place;
use crate::app::recommendations::{Ended, Seen, fetch, first_of, refusal, see, wait_for_end};
use crate::app::tokens::Caller;
use crate::app::{question, references, room};
use crate::store::asks::{ListedQuestion, NewAsk};
use crate::store::jobs::{Inserted, JobRecord, Lease, NewJob};
use crate::store::keys::Key;
use crate::telemetry::{metrics as names, spans};
use crate::wire::job::Status;
use crate::wire::violation::Violation;
use moe_gps_core::engines;

/// A question as a client asks it.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub caller: Caller,
    /// The body.
    pub request: Value,
    /// Digest of the body as it was sent, where it was.
    pub body: Option<[u8; 32]>,
    /// The client's own name for this request.
    pub key: Option<String>,
    /// How long the client wants to wait for the result.
    pub wait: Option<Duration>,
}

/// Stores a question, or finds the equal one, and waits for its end if asked to.
pub async fn submit(app: &Arc<App>, asked: Asked) -> Result<Seen, AppError> {
    let (caller, wait) = (asked.caller.clone(), asked.wait);
    // A task of its own: a job that is stored as running reaches its worker also where the client
    // goes away meanwhile.
    let placed = tokio::spawn(place(Arc::clone(app), asked).in_current_span()).await;
    let (job, ended) =
        placed.map_err(|error| AppError::Internal(format!("an ask panicked: {error}")))??;
    let job = match (ended, wait) {
        (Some(ended), Some(wait)) => {
            let job = Arc::new(job);
            first_of(app, ended, wait).await.unwrap_or(job)
        }
        (_, wait) => wait_for_end(app, job, wait).await?,
    };
    see(app, &caller, job).await
}

/// Stores a question, or finds the equal one; with where the end of a new job will be told.
async fn place(app: Arc<App>, asked: Asked) -> Result<(JobRecord, Option<Ended>), AppError> {
    let app = &*app;
    let principal = &*asked.caller.principal;
    let key = asked.key.as_deref().zip(asked.body.as_ref());
    let key = key.map(|(key, body_digest)| Key { principal, key, body_digest });
    if let Some(key) = key
        && let Some(job) = replay(app, key).await?
    {
        return Ok((job, None));
    }
    let room = Room { until: tokio::time::Instant::now() + ROOM_WAIT, place: None };
    let room = room.before_check(app, asked.body.as_ref()).await?;
    let (question, inputs, labels) = checked(app, asked.request).await?;
    let listed = listed(&question);
    let asks = Asks { principal, labels: labels.as_deref(), key, listed: &listed };
    // A question that is probably new is not looked for first: storing it tells.
    let mut known = None;
    if app.board.recent.seen(question.digest) {
        known = find_equal(app, &question.digest).await?;
    }
    let placed = match known {
        Some(job) => (join(app, asks, job).await?, None),
        None => store_question(app, question, inputs, asks, asked.wait.is_some(), room).await?,
    };
    if let Some(body) = asked.body {
        app.board.bodies.seen(body);
    }
    Ok(placed)
}

/// Room in the queue, and how long a question waits for it.
struct Room<'a> {
    until: tokio::time::Instant,
    /// What has become free for it.
    place: Option<Place<'a>>,
}

impl<'a> Room<'a> {
    /// Waits while the queue is full, before a question is even looked at: what is refused then must
    /// cost next to nothing, or those who try again take the time of those who are answered. What led
    /// to an answer lately may do so again, and needs no room.
    async fn before_check(self, app: &'a App, body: Option<&[u8; 32]>) -> Result<Self, AppError> {
        match body {
            Some(body) if app.board.is_full() && !app.board.bodies.has(body) => {
                self.wait(app).await
            }
            _ => Ok(self),
        }
    }

    /// Notes that nobody else needs to look for room.
    fn filled(&mut self) {
        if let Some(place) = self.place.take() {
            place.filled();
        }
    }

    async fn wait(mut self, app: &'a App) -> Result<Self, AppError> {
        self.place = tokio::time::timeout_at(self.until, app.board.room()).await.ok();
        if self.place.is_some() { Ok(self) } else { Err(queue_full(app)) }
    }
}

/// Who asks, and what belongs to the ask.
#[derive(Debug, Clone, Copy)]
struct Asks<'a> {
    principal: &'a str,
    labels: Option<&'a str>,
    key: Option<Key<'a>>,
    listed: &'a ListedQuestion,
}

/// Says whether a question would be accepted.
pub(super) async fn check(app: &App, request: Value) -> Result<(), AppError> {
    checked(app, request).await.map(|_| ())
}

/// Reads a question, looks up what it names, and checks it where threads may block; with what a
/// job keeps of what it names, and the labels that came beside it.
async fn checked(
    app: &App,
    request: Value,
) -> Result<(CheckedQuestion, Option<String>, Option<String>), AppError> {
    let mut question = question::read(request);
    let labels = question.asked.labels.take().map(|labels| labels.to_json());
    if let Some(fields) = question.request.as_object_mut() {
        fields.shift_remove("labels");
    }
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
    let (question, inputs) = checked
        .map_err(|error| AppError::Internal(format!("a check panicked: {error}")))?
        .map_err(refusal)?;
    Ok((question, inputs, labels))
}

/// The live or finished job that answers an equal question.
async fn find_equal(app: &App, digest: &[u8]) -> Result<Option<JobRecord>, AppError> {
    let found = app.store.find_job_by_digest(digest).await?;
    if found.is_some() {
        metrics::counter!(names::QUESTIONS, "outcome" => "reused").increment(1);
    }
    Ok(found)
}

/// How long a question waits for room in a full queue before it is refused: clients that try again at
/// once would cost as much as those that are served.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Stores a new job: running at once where a worker is idle, else queued.
async fn store_question(
    app: &App,
    question: CheckedQuestion,
    inputs: Option<String>,
    asks: Asks<'_>,
    wants_end: bool,
    mut room: Room<'_>,
) -> Result<(JobRecord, Option<Ended>), AppError> {
    if let Err(refused) = affordable(app, question.memory_bytes) {
        // What is known is told all the same.
        let Some(job) = find_equal(app, &question.digest).await? else { return Err(refused) };
        return Ok((join(app, asks, job).await?, None));
    }
    let slot = app.board.try_slot();
    // What will be refused does not stand in the line of those who write.
    let turn = loop {
        // The semaphore is never closed.
        let turn = app.board.inserts.acquire().await.ok();
        if slot.is_some() {
            app.board.note_waiting(0, app.queue.limit);
            break turn;
        }
        let waiting = app.store.count_waiting().await?;
        let has_room = waiting < i64::from(app.queue.limit);
        // With this one, if it is stored.
        let more = app.board.note_waiting(waiting + i64::from(has_room), app.queue.limit);
        if !more {
            room.filled();
        }
        if has_room {
            break turn;
        }
        drop(turn);
        if let Some(job) = find_equal(app, &question.digest).await? {
            return Ok((join(app, asks, job).await?, None));
        }
        room = room.wait(app).await?;
    };
    let now = now_ms();
    let lease = slot.is_some().then(|| Lease {
        owner: &app.instance,
        until_ms: app.store.clock_ms(now) + app.queue.lease_ms,
    });
    let job = new_job(&question, inputs, lease.is_some(), now);
    let ended = wants_end.then(|| app.board.wait_for(&job.id));
    let inserted = app
        .store
        .insert_job(NewJob {
            job: &job,
            ask: NewAsk {
                id: &job.id,
                principal: asks.principal,
                labels: asks.labels,
                created_ms: now,
                listed: asks.listed,
            },
            trace_ids: &question.trace_ids,
            key: asks.key,
            lease,
            revision: app.queue.revision,
            queue_limit: app.queue.limit,
            // Without tokens there is nobody to share with.
            principal_limit: Some(app.queue.principal_limit).filter(|_| app.gate.is_closed()),
        })
        .await;
    drop(turn);
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
    if let (Ok(Inserted::KeyUsed), Some(key)) = (&inserted, asks.key)
        && let Some(job) = replay(app, key).await?
    {
        return Ok((job, None));
    }
    // An equal question is there already; what is known is told even when nothing new
    // can be stored.
    if let Some(job) = find_equal(app, &job.digest).await? {
        return Ok((join(app, asks, job).await?, None));
    }
    if inserted? == Inserted::TraceGone {
        let detail = "a trace the question names was deleted while it was asked";
        return Err(AppError::Conflict(detail.to_owned()));
    }
    Err(no_room(app, asks.principal).await?)
}

/// The row of a question, running or queued.
fn new_job(question: &CheckedQuestion, inputs: Option<String>, runs: bool, now: i64) -> JobRecord {
    let trace_ids: BTreeSet<&String> = question.trace_ids.iter().collect();
    JobRecord {
        id: Uuid::now_v7().to_string(),
        digest: question.digest.to_vec(),
        status: if runs { Status::Running } else { Status::Queued },
        model: question.model.clone(),
        device: question.device.clone(),
        attempt: i64::from(runs),
        progress: 0.0,
        phase: None,
        created_ms: now,
        started_ms: runs.then_some(now),
        finished_ms: None,
        trace_ids: Value::from(trace_ids.into_iter().cloned().collect::<Vec<_>>()).to_string(),
        problem: None,
        request: question.request.to_string(),
        result: None,
        inputs,
        traceparent: spans::current(),
        memory_bytes: i64::try_from(question.memory_bytes).unwrap_or(i64::MAX),
        alone: 0,
    }
}

/// Why a question was not stored: too many of all wait, or too many of its principal.
async fn no_room(app: &App, principal: &str) -> Result<AppError, AppError> {
    let limit = app.queue.principal_limit;
    if app.gate.is_closed() && i64::from(limit) <= app.store.count_queued(principal).await? {
        metrics::counter!(names::QUESTIONS, "outcome" => "too_many").increment(1);
        return Ok(AppError::TooManyQueued { limit });
    }
    Ok(queue_full(app))
}

fn queue_full(app: &App) -> AppError {
    metrics::counter!(names::QUESTIONS, "outcome" => "queue_full").increment(1);
    AppError::QueueFull { limit: app.queue.limit }
}

/// Refuses a computation that takes more memory than all together may, or whose answer would take the
/// room that is left for deletions.
fn affordable(app: &App, memory_bytes: u64) -> Result<(), AppError> {
    room::taking(app)?;
    let budget = app.memory.bytes();
    if memory_bytes <= budget {
        return Ok(());
    }
    let detail = format!(
        "the computation would take about {memory_bytes} bytes of memory, and --memory-budget-bytes \
         leaves {budget}: fit fewer predictors, or ask about a shorter trace"
    );
    Err(AppError::Refused(vec![Violation::new("", "memory", detail)]))
}

/// What lists show of a question that has been checked.
fn listed(question: &CheckedQuestion) -> ListedQuestion {
    let request = &question.request;
    let engine = request["engine"]["name"].as_str().and_then(engines::by_framework);
    let devices = &request["cluster"]["devices"];
    #[expect(clippy::cast_possible_truncation, reason = "a checked number of devices is small")]
    let whole = || devices.as_f64().map(|devices| devices as i64);
    ListedQuestion {
        model: question.model.clone(),
        device: question.device.clone(),
        engine: engine.map(|engine| engine.id.to_owned()),
        devices: devices.as_i64().or_else(whole),
        phase: request["workload"]["phase"].as_str().map(str::to_ascii_lowercase),
        workload: request.get("workload").map(Value::to_string),
    }
}

/// The job that an ask leads to, which is this one unless its key was used before.
async fn join(app: &App, asks: Asks<'_>, job: JobRecord) -> Result<JobRecord, AppError> {
    let now = now_ms();
    // Who asks again and says nothing new writes nothing.
    let noted = app.store.find_labels(asks.principal, &job.id).await?;
    if noted.is_none() || asks.labels.is_some_and(|labels| noted.as_deref() != Some(labels)) {
        let id = Uuid::now_v7().to_string();
        let Asks { principal, labels, listed, .. } = asks;
        let ask = NewAsk { id: &id, principal, labels, created_ms: now, listed };
        if !app.store.join_ask(&job.id, ask).await? {
            let detail = "the recommendation was deleted while it was asked for; ask again";
            return Err(AppError::Conflict(detail.to_owned()));
        }
    }
    if let Some(key) = asks.key
        && !app.store.insert_key(key, &job.id, now).await?
        && let Some(earlier) = replay(app, key).await?
    {
        return Ok(earlier);
    }
    Ok(job)
}

/// The job that a key led to before, which it may do again for the same body.
async fn replay(app: &App, key: Key<'_>) -> Result<Option<JobRecord>, AppError> {
    let Some(used) = app.store.find_key(key).await? else {
        return Ok(None);
    };
    if used.body_digest != key.body_digest {
        let detail = format!("Idempotency-Key {} came before with another body", key.key);
        return Err(AppError::Refused(vec![Violation::new("", "idempotency_key", detail)]));
    }
    match fetch(app, &used.recommendation_id).await {
        Ok(job) => Ok(Some(job)),
        // It has been deleted; the same body is asked anew.
        Err(AppError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Digest of a body, to tell whether a key comes with the same one.
#[must_use]
pub fn body_digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}
