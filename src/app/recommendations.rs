//! Ask, fetch, list, cancel or delete a recommendation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::app::advise::catalog;
use crate::app::advisor::{AdviceError, CheckedQuestion};
use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::tokens::{Caller, LOCAL, Scope};
use crate::app::{outcomes, question, references, room};
use crate::store::StoreError;
use crate::store::asks::{ListedQuestion, NewAsk, Withdrawn};
use crate::store::devices::Kind;
use crate::store::jobs::{Inserted, JobRecord, Lease, NewJob};
use crate::store::keys::Key;
use crate::store::listing::Listed;
use crate::telemetry::metrics as names;
use crate::wire::answer::{GainBody, LaunchBody};
use crate::wire::job::Status;
use crate::wire::labels::Labels;
use crate::wire::listing::{CheckedListQuery, RecommendationItem, RecommendationPage, Withdrawal};
use crate::wire::outcome::MeasuredOutcome;
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::engines;
use moe_gps_core::system::Preset;

/// A question as a client asks it.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub caller: Caller,
    /// The body.
    pub request: Value,
    /// The client's own name for this request, with the digest of the body.
    pub key: Option<(String, [u8; 32])>,
    /// How long the client wants to wait for the result.
    pub wait: Option<Duration>,
}

/// A recommendation as one of those who asked for it sees it.
#[derive(Debug)]
pub struct Seen {
    /// The recommendation.
    pub job: Arc<JobRecord>,
    /// The labels of their own ask, JSON.
    pub labels: Option<String>,
    /// What was measured.
    pub outcomes: Vec<MeasuredOutcome>,
}

/// Stores a question, or finds the equal one, and waits for its end if asked to.
pub async fn submit(app: &Arc<App>, asked: Asked) -> Result<Seen, AppError> {
    let (caller, wait) = (asked.caller.clone(), asked.wait);
    // A task of its own: a job that is stored as running reaches its worker also where the client
    // goes away meanwhile.
    let placed = tokio::spawn(place(Arc::clone(app), asked)).await;
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

/// What a caller sees of a recommendation.
async fn see(app: &App, caller: &Caller, job: Arc<JobRecord>) -> Result<Seen, AppError> {
    let labels = app.store.find_labels(&caller.principal, &job.id).await?;
    let outcomes = outcomes::of(app, &[&job.id]).await?.remove(&job.id).unwrap_or_default();
    Ok(Seen { job, labels: labels.filter(|labels| labels != NO_LABELS), outcomes })
}

/// Labels of an ask that has none, as they are stored.
const NO_LABELS: &str = "{}";

/// Stores a question, or finds the equal one; with where the end of a new job will be told.
async fn place(app: Arc<App>, asked: Asked) -> Result<(JobRecord, Option<Ended>), AppError> {
    let app = &*app;
    let principal = &*asked.caller.principal;
    let key = asked.key.as_ref();
    let key = key.map(|(key, body_digest)| Key { principal, key, body_digest });
    if let Some(key) = key
        && let Some(job) = replay(app, key).await?
    {
        return Ok((job, None));
    }
    let (question, inputs, labels) = checked(app, asked.request).await?;
    let listed = listed(&question);
    let asks = Asks { principal, labels: labels.as_deref(), key, listed: &listed };
    // A question that is probably new is not looked for first: storing it tells.
    let mut known = None;
    if app.board.recent.seen(question.digest) {
        known = find_equal(app, &question.digest).await?;
    }
    match known {
        Some(job) => Ok((join(app, asks, job).await?, None)),
        None => store_question(app, question, inputs, asks, asked.wait.is_some()).await,
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

type Ended = tokio::sync::oneshot::Receiver<Arc<JobRecord>>;

/// Stores a new job: running at once where a worker is idle, else queued.
async fn store_question(
    app: &App,
    question: CheckedQuestion,
    inputs: Option<String>,
    asks: Asks<'_>,
    wants_end: bool,
) -> Result<(JobRecord, Option<Ended>), AppError> {
    if let Err(refused) = affordable(app, question.memory_bytes) {
        // What is known is told all the same.
        let Some(job) = find_equal(app, &question.digest).await? else { return Err(refused) };
        return Ok((join(app, asks, job).await?, None));
    }
    let slot = app.board.try_slot();
    // What will be refused does not stand in the line of those who write.
    let deadline = tokio::time::Instant::now() + ROOM_WAIT;
    let turn = loop {
        // The semaphore is never closed.
        let turn = app.board.inserts.acquire().await.ok();
        if slot.is_some() || app.store.count_waiting().await? < i64::from(app.queue.limit) {
            break turn;
        }
        drop(turn);
        if let Some(job) = find_equal(app, &question.digest).await? {
            return Ok((join(app, asks, job).await?, None));
        }
        if tokio::time::timeout_at(deadline, app.board.room()).await.is_err() {
            metrics::counter!(names::QUESTIONS, "outcome" => "queue_full").increment(1);
            return Err(AppError::QueueFull { limit: app.queue.limit });
        }
    };
    let now = now_ms();
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
        memory_bytes: i64::try_from(question.memory_bytes).unwrap_or(i64::MAX),
        alone: 0,
    };
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
    let limit = app.queue.principal_limit;
    if app.gate.is_closed() && i64::from(limit) <= app.store.count_queued(asks.principal).await? {
        metrics::counter!(names::QUESTIONS, "outcome" => "too_many").increment(1);
        return Err(AppError::TooManyQueued { limit });
    }
    metrics::counter!(names::QUESTIONS, "outcome" => "queue_full").increment(1);
    Err(AppError::QueueFull { limit: app.queue.limit })
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

/// The question of a recommendation, as it is stored.
pub async fn question(app: &App, id: &str) -> Result<Value, AppError> {
    Ok(read_back(&fetch(app, id).await?.request)?)
}

/// The recommendation with this id, after its end if that comes within the wait.
pub async fn follow(
    app: &App,
    caller: &Caller,
    id: &str,
    wait: Option<Duration>,
) -> Result<Seen, AppError> {
    let job = fetch(app, id).await?;
    let job = wait_for_end(app, job, wait).await?;
    see(app, caller, job).await
}

/// Replaces the labels of a caller's own ask.
pub async fn put_labels(
    app: &App,
    caller: &Caller,
    id: &str,
    labels: &Labels,
) -> Result<(), AppError> {
    if app.store.put_labels(&caller.principal, id, &labels.to_json()).await? {
        return Ok(());
    }
    fetch(app, id).await?;
    Err(AppError::NotFound { what: "ask of yours that leads to recommendation", id: id.to_owned() })
}

/// Asks that are looked at for one page; a page whose filter few pass may have fewer items.
const SCAN: u32 = 5_000;

/// Asks that are withdrawn in one transaction, so that no other write waits long.
const WITHDRAWN_AT_ONCE: usize = 100;
/// How long a request withdraws; it says when there is more.
const WITHDRAWAL_TIME: Duration = Duration::from_secs(20);

/// Withdraws the asks that a list with these filters shows and that are there now.
pub async fn withdraw_listed(
    app: &App,
    caller: &Caller,
    query: CheckedListQuery,
) -> Result<Withdrawal, AppError> {
    let began = Instant::now();
    let mut query = resolve(app, query).await?;
    // What is asked from now on has a later id.
    query.cursor = Some(Uuid::now_v7().to_string());
    let principal = Some(&*caller.principal).filter(|_| caller.scope < Scope::Admin);
    let mut done = Withdrawal::default();
    loop {
        let (asks, next) = app.store.find_asked(principal, &query, SCAN).await?;
        for some in asks.chunks(WITHDRAWN_AT_ONCE) {
            if WITHDRAWAL_TIME < began.elapsed() {
                done.more = true;
                return Ok(done);
            }
            let mut gone = app.store.withdraw_asks(some, now_ms()).await;
            if room::made(app, &gone) {
                gone = app.store.withdraw_asks(some, now_ms()).await;
            }
            for (id, withdrawn) in gone? {
                done.withdrawn += 1;
                if withdrawn == Withdrawn::Canceled {
                    done.canceled += 1;
                    match canceled(app, &id).await {
                        // Withdrawn once more, and gone.
                        Ok(_) | Err(AppError::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        match next {
            Some(next) => query.cursor = Some(next),
            None => return Ok(done),
        }
    }
}

/// Ends the computation of a job that has been canceled, and tells those who wait for it.
async fn canceled(app: &App, id: &str) -> Result<Arc<JobRecord>, AppError> {
    if let Some(live) = app.board.live(id) {
        live.cancel();
    }
    let job = Arc::new(fetch(app, id).await?);
    app.board.announce(&job);
    Ok(job)
}

/// What a caller has asked for, newest first; with the scope `admin`, what all have.
pub async fn list(
    app: &App,
    caller: &Caller,
    query: CheckedListQuery,
) -> Result<RecommendationPage, AppError> {
    let query = resolve(app, query).await?;
    let principal = Some(&*caller.principal).filter(|_| caller.scope < Scope::Admin);
    let page = app.store.list_asks(principal, &query, SCAN).await?;
    let ids: Vec<&str> = page.items.iter().map(|item| item.id.as_str()).collect();
    let mut outcomes = outcomes::of(app, &ids).await?;
    let items = page.items.into_iter().map(|listed| {
        let outcomes = outcomes.remove(&listed.id).unwrap_or_default();
        item(listed, outcomes)
    });
    Ok(RecommendationPage { items: items.collect::<Result<_, _>>()?, next_cursor: page.next })
}

/// Filters with the catalog's ids in place of aliases.
async fn resolve(app: &App, mut query: CheckedListQuery) -> Result<CheckedListQuery, AppError> {
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
    Ok(query)
}

fn item(listed: Listed, outcomes: Vec<MeasuredOutcome>) -> Result<RecommendationItem, StoreError> {
    #[derive(Default, Deserialize)]
    struct Told {
        verdict: Option<String>,
        gain: Option<GainBody>,
    }
    let raw =
        |text: String, what| RawValue::from_string(text).map_err(|_| StoreError::Corrupt { what });
    let told = listed.recommendation.as_deref().map(serde_json::from_str::<Told>);
    let Told { verdict, gain } = told.and_then(Result::ok).unwrap_or_default();
    Ok(RecommendationItem {
        status: Status::from_stored(&listed.status),
        principal: Some(listed.principal).filter(|principal| principal != LOCAL),
        labels: raw(listed.labels, "labels of an ask")?,
        created_at: Moment(listed.created_ms),
        finished_at: listed.finished_ms.map(Moment),
        model: listed.model,
        device: listed.device,
        devices: listed.devices,
        engine: listed.engine,
        workload: listed.workload.map(|text| raw(text, "workload of a question")).transpose()?,
        verdict,
        gain,
        trace_ids: raw(listed.trace_ids, "trace ids of a recommendation")?,
        recommendation: listed
            .recommendation
            .map(|text| raw(text, "summary of a recommendation"))
            .transpose()?,
        outcomes,
        id: listed.id,
    })
}

/// Withdraws a caller's own ask. With the last one a job that is queued or running is canceled,
/// and returned, and one that has ended goes.
pub async fn withdraw(app: &App, caller: &Caller, id: &str) -> Result<Option<Seen>, AppError> {
    let all = caller.scope == Scope::Admin;
    let mut withdrawn = app.store.withdraw(&caller.principal, id, all, now_ms()).await;
    if room::made(app, &withdrawn) {
        withdrawn = app.store.withdraw(&caller.principal, id, all, now_ms()).await;
    }
    match withdrawn? {
        Withdrawn::Absent => Err(not_found(id)),
        Withdrawn::NotAsked => Err(AppError::Forbidden(format!(
            "none of your asks leads to recommendation {id}; deleting what others asked for needs \
             a token of scope `admin`"
        ))),
        Withdrawn::Ask | Withdrawn::Recommendation => Ok(None),
        Withdrawn::Canceled => {
            let job = canceled(app, id).await?;
            see(app, caller, job).await.map(Some)
        }
    }
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
    crate::app::plan_file::launch(&plan, engine, &placement_url(id), path)
}

/// The placement plan of a recommendation as it is stored, where it has one.
pub async fn plan(app: &App, id: &str) -> Result<Option<String>, AppError> {
    Ok(app.store.find_placement(id).await?.and_then(|(_, plan)| plan))
}

/// How to start every engine so that it follows a plan of this recommendation.
pub fn launches(plan: &str, id: &str, path: &str) -> Result<Vec<LaunchBody>, AppError> {
    crate::app::plan_file::launches(plan, &placement_url(id), path)
}

/// Where the placement of a recommendation is answered.
fn placement_url(id: &str) -> String {
    format!("/v1/recommendations/{id}/placement")
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
