//! Deployments that are watched: named, versioned asks with their map in force, and the loads that
//! are posted to them.
//!
//! What a deployment was told is in the database, and so is what its judgements came to; the round
//! in [`judging`] takes it from one state to the next.

mod conditions;
pub mod judging;
mod maps;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, Notify, watch};
use uuid::Uuid;

use crate::app::ask;
use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::tokens::{Caller, LOCAL, Scope};
use crate::app::uploads::Kept;
use crate::app::withdraw::withdraw;
use crate::app::{question, room, traces};
use crate::store::deployments::{DeploymentRecord, WindowRecord};
use crate::store::{Shared, StoreError, Turn};
use crate::wire::deployment::{
    CheckedLoads, ConditionBody, CurrentBody, DeploymentBody, DeploymentItem, DeploymentList,
    DeploymentRequest, JudgementBody, JudgementPage, LONGEST_NAME, Policy, PolicyBody, SpecBody,
    WindowBody, is_name, phase_name, span,
};
use crate::wire::labels::Labels;
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::catalog::Catalog;

pub use conditions::{ADVICE_CURRENT, JUDGED, LOADS_FRESH};

/// The label by which the judgements of a deployment are found.
pub const LABEL: &str = "deployment";
/// Labels that a deployment may have beside it; an ask has at most one more.
const MOST_LABELS: usize = 31;
/// Judgements of a deployment that are kept, with their recommendations.
const JUDGEMENTS: u32 = 500;

/// What goes on with the deployments right now.
#[derive(Debug)]
pub struct Deployments {
    /// How many there may be.
    most: u32,
    /// Held while one of them changes.
    changing: Mutex<()>,
    /// Rung when there may be something to judge.
    bell: Notify,
    /// Counts changes, so that who waits for one is told.
    changes: watch::Sender<u64>,
}

impl Deployments {
    /// None so far, of at most so many.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let (changes, _) = watch::channel(0);
        Self { most, changing: Mutex::default(), bell: Notify::new(), changes }
    }

    /// Waits until there may be something to judge.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Says that one of them is another, or has other loads.
    pub fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
        self.bell.notify_one();
    }
}

/// A turn of changing a deployment: one at a time, of all processes that share the database.
async fn turn(app: &App) -> Result<(MutexGuard<'_, ()>, Turn), StoreError> {
    let here = app.deployments.changing.lock().await;
    Ok((here, app.store.turn(Shared::Deployments).await?))
}

/// What a deployment was told, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Spec {
    question: Value,
    labels: BTreeMap<String, String>,
    policy: PolicyBody,
}

impl Spec {
    fn policy(&self) -> Policy {
        let usual = Policy::default();
        let PolicyBody { min_gain, hold, every, keep_windows, stall_s } = &self.policy;
        Policy {
            min_gain: *min_gain,
            hold: span(hold).unwrap_or(usual.hold),
            every: span(every).unwrap_or(usual.every),
            keep_windows: *keep_windows,
            stall_s: *stall_s,
        }
    }
}

/// What the judgements of a deployment came to, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    conditions: Vec<ConditionBody>,
    /// Name of what is said of the map in force; null before the first judgement of it.
    said: Option<String>,
    otherwise_since_ms: Option<i64>,
    last: Option<JudgementBody>,
}

/// A deployment with what is stored of it read.
#[derive(Debug, Clone)]
struct Watched {
    record: DeploymentRecord,
    spec: Spec,
    current: Option<CurrentBody>,
    state: State,
}

impl Watched {
    fn read(record: DeploymentRecord) -> Result<Self, StoreError> {
        let corrupt = |what| move |_| StoreError::Corrupt { what };
        let current = record.current.as_deref().map(serde_json::from_str).transpose();
        Ok(Self {
            spec: serde_json::from_str(&record.spec).map_err(corrupt("spec of a deployment"))?,
            current: current.map_err(corrupt("map of a deployment"))?,
            state: serde_json::from_str(&record.state).map_err(corrupt("state of a deployment"))?,
            record,
        })
    }

    /// The record with what was changed beside it.
    fn written(mut self) -> Result<DeploymentRecord, AppError> {
        self.record.spec = text(&self.spec)?;
        self.record.current = self.current.as_ref().map(text).transpose()?;
        self.record.state = text(&self.state)?;
        Ok(self.record)
    }

    fn is_judged(&self) -> bool {
        conditions::is_true(&self.state, JUDGED)
    }

    /// Whether a judgement is to begin now.
    fn is_due(&self, newest_window: i64, now_ms: i64) -> bool {
        let has_news = self.record.judged_window < newest_window || self.record.is_due;
        let every_ms = i64::try_from(self.spec.policy().every.as_millis()).unwrap_or(i64::MAX);
        let last = self.record.judging_ms.unwrap_or(i64::MIN);
        0 < newest_window
            && has_news
            && (!self.is_judged() || every_ms <= now_ms.saturating_sub(last))
    }

    fn body(self, windows: Vec<WindowRecord>) -> DeploymentBody {
        let Spec { question, labels, policy } = self.spec;
        DeploymentBody {
            name: self.record.name,
            version: self.record.version,
            principal: Some(self.record.principal).filter(|principal| principal != LOCAL),
            created_at: Moment(self.record.created_ms),
            updated_at: Moment(self.record.updated_ms),
            spec: SpecBody { question, labels, policy, current: self.current },
            windows: windows.into_iter().map(window_body).collect(),
            judging: self.record.judging,
            last_judgement: self.state.last,
            conditions: self.state.conditions,
        }
    }
}

fn window_body(window: WindowRecord) -> WindowBody {
    WindowBody {
        trace_id: window.trace_id,
        phase: window.phase,
        from: window.from_ms.map(Moment),
        to: Moment(window.to_ms),
        posted_at: Moment(window.posted_ms),
    }
}

fn text(value: &impl Serialize) -> Result<String, AppError> {
    serde_json::to_string(value).map_err(|error| AppError::Internal(error.to_string()))
}

/// A deployment as it now is, and whether it is new.
#[derive(Debug)]
pub struct Told {
    /// The deployment.
    pub body: DeploymentBody,
    /// Whether there was none of this name.
    pub created: bool,
}

/// Tells what a deployment is; a new version each time.
pub async fn put(
    app: &App,
    caller: &Caller,
    name: &str,
    request: DeploymentRequest,
) -> Result<Told, AppError> {
    if !is_name(name) {
        let detail = format!(
            "{name:?} is no name; it must have 1 to {LONGEST_NAME} letters, digits and `._-`, the \
             first a letter or digit"
        );
        return Err(AppError::Refused(vec![Violation::new("/name", "name", detail)]));
    }
    let labels = request.labels.unwrap_or_default().0;
    if MOST_LABELS < labels.len() || labels.contains_key(LABEL) {
        let detail = format!(
            "there may be {MOST_LABELS} labels, and `{LABEL}` is set to the name of the deployment"
        );
        return Err(AppError::Refused(vec![Violation::new("/labels", "items", detail)]));
    }
    let _turn = turn(app).await?;
    let before = app.store.find_deployment(name).await?.map(Watched::read).transpose()?;
    if let Some(before) = &before {
        owned(caller, &before.record)?;
    }
    let stated = request.current.map(|current| CurrentBody {
        strategy: current.strategy.map(|strategy| strategy.id().into()),
        slots_per_device: current.slots_per_device,
        physical_to_logical: current.physical_to_logical,
    });
    let is_stated = stated.is_some();
    let current = stated.or_else(|| before.as_ref().and_then(|before| before.current.clone()));
    let question = Value::Object(request.question.unwrap_or_default().0);
    let spec = Spec { question, labels, policy: request.policy.into() };
    checked(app, &spec, current.as_ref(), !is_stated && current.is_some()).await?;
    room::taking(app)?;
    let now = now_ms();
    let mut watched = match before {
        Some(before) => Watched { spec, current, ..before },
        None => Watched {
            record: DeploymentRecord {
                name: name.to_owned(),
                principal: caller.principal.to_string(),
                version: 0,
                created_ms: now,
                updated_ms: now,
                is_due: true,
                judging: None,
                judging_in_order: None,
                judging_ms: None,
                judged_window: 0,
                spec: String::new(),
                current: None,
                state: String::new(),
                newest_window: 0,
                loads_until_ms: None,
            },
            spec,
            current,
            state: State {
                conditions: Vec::new(),
                said: None,
                otherwise_since_ms: None,
                last: None,
            },
        },
    };
    let created = watched.record.version == 0;
    watched.record.version += 1;
    changed(&mut watched, now, "what the deployment is has changed");
    keep(app, watched, created).await
}

/// Forgets what was found of another map or another question.
fn changed(watched: &mut Watched, now: i64, why: &str) {
    watched.record.updated_ms = now;
    watched.record.is_due = true;
    watched.record.judging = None;
    watched.record.judging_in_order = None;
    conditions::begin_anew(&mut watched.state, now, why);
}

/// Stores a deployment that somebody has changed, and shows it.
async fn keep(app: &App, watched: Watched, created: bool) -> Result<Told, AppError> {
    let record = watched.written()?;
    let name = record.name.clone();
    if !app.store.put_deployment(&record, app.deployments.most).await? {
        return Err(AppError::Conflict(format!(
            "there are {} deployments, which is all that are kept; delete one, or raise \
             --max-deployments",
            app.deployments.most
        )));
    }
    app.deployments.changed();
    Ok(Told { body: fetch(app, &name).await?, created })
}

/// Refuses what would change somebody else's deployment.
fn owned(caller: &Caller, record: &DeploymentRecord) -> Result<(), AppError> {
    if caller.scope == Scope::Admin || *caller.principal == *record.principal {
        return Ok(());
    }
    Err(AppError::Forbidden(format!(
        "deployment {} is somebody else's; changing it needs a token of scope `admin`",
        record.name
    )))
}

/// Checks a question before any loads are known, with its map in force.
async fn checked(
    app: &App,
    spec: &Spec,
    current: Option<&CurrentBody>,
    was_known: bool,
) -> Result<(), AppError> {
    // Of the routing only the loads will tell; this is one that every model allows.
    let routing = json!({"skewness": 1.0, "distribution_error": 0.0});
    let request = judging::request(spec, current, routing, None);
    let placed = |violation: Violation| match violation.pointer.strip_prefix("/current") {
        Some(_) if was_known => Violation::new(
            "/current",
            &violation.rule,
            format!("the map in force does not fit: {}; state `current`", violation.detail),
        ),
        Some(_) => violation,
        None => violation.under("/question"),
    };
    match ask::check(app, request).await {
        Err(AppError::Refused(found)) => {
            Err(AppError::Refused(found.into_iter().map(placed).collect()))
        }
        other => other,
    }
}

/// Tells which map is in force: a strategy with its map, as in a question, or a placement file of any
/// engine.
pub async fn put_current(
    app: &App,
    caller: &Caller,
    name: &str,
    body: &[u8],
) -> Result<DeploymentBody, AppError> {
    let _turn = turn(app).await?;
    let mut watched = find(app, name).await?;
    owned(caller, &watched.record)?;
    let current = maps::read(app, &watched.spec, body).await?;
    checked(app, &watched.spec, Some(&current), false).await?;
    let now = now_ms();
    if watched.current.as_ref() != Some(&current) {
        watched.current = Some(current);
        changed(&mut watched, now, "another map is in force");
    }
    Ok(keep(app, watched, false).await?.body)
}

async fn find(app: &App, name: &str) -> Result<Watched, AppError> {
    let found = app.store.find_deployment(name).await?;
    let record =
        found.ok_or_else(|| AppError::NotFound { what: "deployment", id: name.to_owned() })?;
    Ok(Watched::read(record)?)
}

/// The deployment of this name.
pub async fn fetch(app: &App, name: &str) -> Result<DeploymentBody, AppError> {
    let watched = find(app, name).await?;
    Ok(watched.body(app.store.list_windows(name).await?))
}

/// The question of a deployment with its map in force and its loads, as it is judged.
pub async fn question(app: &App, name: &str) -> Result<Value, AppError> {
    let watched = find(app, name).await?;
    let windows = app.store.list_windows(name).await?;
    let routing = judging::routing(&watched.spec, &windows);
    let routing = routing.unwrap_or(Value::Null);
    Ok(judging::request(&watched.spec, watched.current.as_ref(), routing, None))
}

/// How late a change is seen that nobody has told.
const SEEN_LATEST: Duration = Duration::from_secs(1);

/// The same, once nothing of it waits to be judged or is being judged, if that comes within the
/// wait; where the client knows a state already, once it is another one.
pub async fn follow(
    app: &App,
    name: &str,
    wait: Option<Duration>,
    is_known: impl Fn(&DeploymentBody) -> bool,
    knows_one: bool,
) -> Result<DeploymentBody, AppError> {
    let deadline = wait.map(|wait| tokio::time::Instant::now() + wait);
    let mut changes = app.deployments.changes.subscribe();
    loop {
        changes.borrow_and_update();
        let watched = find(app, name).await?;
        let windows = app.store.list_windows(name).await?;
        let newest = watched.record.newest_window;
        let is_settled = watched.record.judging.is_none() && !watched.is_due(newest, now_ms());
        let body = watched.body(windows);
        let is_news = if knows_one { !is_known(&body) } else { is_settled };
        let Some(deadline) = deadline.filter(|_| !is_news) else { return Ok(body) };
        tokio::select! {
            _ = changes.changed() => {}
            // Another replica may have changed it and not be heard.
            () = tokio::time::sleep(SEEN_LATEST), if app.store.is_shared() => {}
            () = tokio::time::sleep_until(deadline) => return Ok(body),
            () = app.board.stopping.cancelled() => return Ok(body),
        }
    }
}

/// The deployments of a caller, by name; with the scope `admin`, those of all.
pub async fn list(app: &App, caller: &Caller) -> Result<DeploymentList, AppError> {
    let principal = Some(&*caller.principal).filter(|_| caller.scope < Scope::Admin);
    let mut items = Vec::new();
    for record in app.store.list_deployments(principal).await? {
        let Watched { record, spec, state, .. } = Watched::read(record)?;
        items.push(DeploymentItem {
            name: record.name,
            version: record.version,
            principal: Some(record.principal).filter(|principal| principal != LOCAL),
            created_at: Moment(record.created_ms),
            updated_at: Moment(record.updated_ms),
            labels: spec.labels,
            last_judgement: state.last,
            conditions: state.conditions,
        });
    }
    Ok(DeploymentList { items })
}

/// What the metrics tell of a deployment.
#[derive(Debug)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Its conditions.
    pub conditions: Vec<ConditionBody>,
    /// What the last judgement advises over the map in force.
    pub gain_over_current: Option<f64>,
    /// Busiest device over the mean with the map in force.
    pub imbalance: Option<f64>,
    /// When its newest loads ended.
    pub last_loads_ms: Option<i64>,
}

/// What the metrics tell of every deployment.
pub async fn measured(app: &App) -> Result<Vec<Measured>, AppError> {
    let mut all = Vec::new();
    for record in app.store.list_deployments(None).await? {
        let Watched { record, state, .. } = Watched::read(record)?;
        let last = state.last;
        all.push(Measured {
            name: record.name,
            conditions: state.conditions,
            gain_over_current: last.as_ref().and_then(|last| last.gain).map(|gain| gain.mid),
            imbalance: last.and_then(|last| last.imbalance),
            last_loads_ms: record.loads_until_ms,
        });
    }
    Ok(all)
}

/// Judgements of a deployment, the newest first.
pub async fn judgements(
    app: &App,
    name: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<JudgementPage, AppError> {
    find(app, name).await?;
    let mut records = app.store.list_judgements(name, cursor, limit + 1).await?;
    let more = (limit as usize) < records.len();
    records.truncate(limit as usize);
    let next_cursor = records.last().filter(|_| more).map(|last| last.id.clone());
    let corrupt = |_| StoreError::Corrupt { what: "judgement of a deployment" };
    let items = records.iter().map(|record| serde_json::from_str(&record.body));
    Ok(JudgementPage { items: items.collect::<Result<_, _>>().map_err(corrupt)?, next_cursor })
}

/// Deletes a deployment with its windows and the traces that came with them.
pub async fn delete(app: &App, caller: &Caller, name: &str) -> Result<(), AppError> {
    let _turn = turn(app).await?;
    let watched = find(app, name).await?;
    owned(caller, &watched.record)?;
    let windows = app.store.list_windows(name).await?;
    let mut deleted = app.store.delete_deployment(name).await;
    if room::made(app, &deleted) {
        deleted = app.store.delete_deployment(name).await;
    }
    deleted?;
    let owner = Caller { principal: watched.record.principal.as_str().into(), scope: Scope::Ask };
    for id in watched.record.judging.iter().chain(&watched.record.judging_in_order) {
        // It may have ended, and somebody else may have asked for it.
        let _ = withdraw(app, &owner, id).await;
    }
    for window in windows {
        forget_trace(app, &window, 0).await?;
    }
    app.deployments.changed();
    Ok(())
}

/// Deletes the trace of a window, unless it was there before or more than so many windows have it; says
/// whether the window may go, which it may not while a judgement needs its trace.
async fn forget_trace(app: &App, window: &WindowRecord, others: i64) -> Result<bool, AppError> {
    if !window.is_own || others < app.store.count_windows_of(&window.trace_id).await? {
        return Ok(true);
    }
    match traces::delete(app, &window.trace_id).await {
        Ok(()) | Err(AppError::NotFound { .. }) => Ok(true),
        Err(AppError::Conflict(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The model that loads are read for, where the catalog has it, so that what a recording does not say
/// is known.
pub async fn model_of(app: &App, caller: &Caller, name: &str) -> Result<Option<String>, AppError> {
    let watched = find(app, name).await?;
    owned(caller, &watched.record)?;
    let Some(model) = watched.spec.question["model"].as_str() else { return Ok(None) };
    Ok(Catalog::embedded().model(model).is_ok().then(|| model.to_owned()))
}

/// Adds a recording that was taken in to the loads of a deployment.
pub async fn post_loads(
    app: &App,
    name: &str,
    loads: CheckedLoads,
    kept: Kept,
) -> Result<WindowBody, AppError> {
    let trace_id = kept.summary.id;
    let added = add_window(app, name, loads, &trace_id, kept.created).await;
    if added.is_err() && kept.created && app.store.count_windows_of(&trace_id).await? == 0 {
        // What nothing can be said of is not kept.
        let _ = traces::delete(app, &trace_id).await;
    }
    added
}

async fn add_window(
    app: &App,
    name: &str,
    loads: CheckedLoads,
    trace_id: &str,
    is_own: bool,
) -> Result<WindowBody, AppError> {
    let _turn = turn(app).await?;
    let watched = find(app, name).await?;
    let phase = phase_of_window(&watched.spec, loads)?;
    let routing = json!({"windows": [trace_id]});
    let request = judging::request(&watched.spec, watched.current.as_ref(), routing, None);
    let placed = |violation: Violation| match violation.pointer.strip_prefix("/routing") {
        Some(_) => Violation::new("", &violation.rule, violation.detail),
        None => violation.under("/question"),
    };
    ask::check(app, request).await.map_err(|error| match error {
        AppError::Refused(found) => AppError::Refused(found.into_iter().map(placed).collect()),
        other => other,
    })?;
    let now = now_ms();
    let window = WindowRecord {
        id: 0,
        deployment: name.to_owned(),
        trace_id: trace_id.to_owned(),
        is_own,
        phase: phase.map(ToOwned::to_owned),
        from_ms: loads.from.map(|from| from.0),
        to_ms: loads.to.map_or(now, |to| to.0),
        posted_ms: now,
    };
    if !app.store.insert_window(&window).await? {
        return Err(AppError::NotFound { what: "deployment", id: name.to_owned() });
    }
    judging::trim(app, &watched).await?;
    app.deployments.changed();
    Ok(window_body(window))
}

/// The phase that a window is kept under: none where the question is about that one alone.
fn phase_of_window(spec: &Spec, loads: CheckedLoads) -> Result<Option<&'static str>, AppError> {
    let Some(phase) = loads.phase.map(phase_name) else { return Ok(None) };
    let asked = spec.question["workload"]["phase"].as_str().unwrap_or_default();
    if asked.eq_ignore_ascii_case(phase) || asked.eq_ignore_ascii_case("serving") {
        return Ok(Some(phase));
    }
    let detail = format!("phase is {phase}, and the deployment's question is about {asked}");
    Err(AppError::Refused(vec![Violation::new("/phase", "choice", detail)]))
}

/// A label's text beside those of a deployment.
fn labels_of(spec: &Spec, name: &str) -> Labels {
    let mut labels = spec.labels.clone();
    labels.insert(LABEL.to_owned(), name.to_owned());
    Labels(labels)
}

/// A new id of a judgement.
fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// What the question of a deployment asks about.
fn asked(spec: &Spec) -> crate::wire::question::Question {
    question::read(spec.question.clone()).asked
}
