//! Fetch, follow, label and list recommendations, and read their plans.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::app::advisor::AdviceError;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::tokens::{Caller, LOCAL, Scope};
use crate::app::{outcomes, question};
use crate::store::StoreError;
use crate::store::devices::Kind;
use crate::store::jobs::JobRecord;
use crate::store::listing::Listed;
use crate::wire::answer::{GainBody, LaunchBody};
use crate::wire::job::Status;
use crate::wire::labels::Labels;
use crate::wire::listing::{CheckedListQuery, RecommendationItem, RecommendationPage};
use crate::wire::outcome::MeasuredOutcome;
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::system::Preset;

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

/// What a caller sees of a recommendation.
pub(super) async fn see(app: &App, caller: &Caller, job: Arc<JobRecord>) -> Result<Seen, AppError> {
    let labels = app.store.find_labels(&caller.principal, &job.id).await?;
    let outcomes = outcomes::of(app, &[&job.id]).await?.remove(&job.id).unwrap_or_default();
    Ok(Seen { job, labels: labels.filter(|labels| labels != NO_LABELS), outcomes })
}

/// Labels of an ask that has none, as they are stored.
const NO_LABELS: &str = "{}";

/// Where the end of a job will be told.
pub(super) type Ended = tokio::sync::oneshot::Receiver<Arc<JobRecord>>;

/// Waits for the end of a job that was there before, as long as asked.
pub(super) async fn wait_for_end(
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
pub(super) async fn first_of(app: &App, ended: Ended, wait: Duration) -> Option<Arc<JobRecord>> {
    tokio::select! {
        job = ended => job.ok(),
        () = tokio::time::sleep(wait) => None,
        () = app.board.stopping.cancelled() => None,
    }
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
pub(super) const SCAN: u32 = 5_000;

/// What a caller has asked for, newest first; with the scope `admin`, what all have.
pub async fn list(
    app: &App,
    caller: &Caller,
    query: CheckedListQuery,
) -> Result<RecommendationPage, AppError> {
    let query = resolve(app, query).await?;
    let principal = own(caller);
    let page = app.store.list_asks(principal, &query, SCAN).await?;
    let ids: Vec<&str> = page.items.iter().map(|item| item.id.as_str()).collect();
    let mut outcomes = outcomes::of(app, &ids).await?;
    let items = page.items.into_iter().map(|listed| {
        let outcomes = outcomes.remove(&listed.id).unwrap_or_default();
        item(listed, outcomes)
    });
    Ok(RecommendationPage { items: items.collect::<Result<_, _>>()?, next_cursor: page.next })
}

/// Whose asks a caller sees in lists: those of all with the scope `admin`.
pub(super) fn own(caller: &Caller) -> Option<&str> {
    Some(&*caller.principal).filter(|_| caller.scope < Scope::Admin)
}

/// Filters with the catalog's ids in place of aliases.
pub(super) async fn resolve(
    app: &App,
    mut query: CheckedListQuery,
) -> Result<CheckedListQuery, AppError> {
    let catalog = Catalog::embedded();
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

pub(super) fn not_found(id: &str) -> AppError {
    AppError::NotFound { what: "recommendation", id: id.to_owned() }
}
