//! Recommendations: ask, fetch, list, cancel or delete, and the placement plan.

#![expect(unused_qualifications, reason = "what utoipa writes for `params` is qualified")]

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::IntoParams;

use crate::app::compare::compare;
use crate::app::error::AppError;
use crate::app::outcomes;
use crate::app::plan_file::MOUNT;
use crate::app::recommendations::{self as app, Asked, Seen};
use crate::app::step_times::{Grid, step_times};
use crate::app::tokens::Caller;
use crate::http::accept::wants_page;
use crate::http::etag::{etag, is_known};
use crate::http::extract::{JsonBody, QueryOf};
use crate::http::prefer::{IdempotencyKey, PREFERENCE_APPLIED, Wait};
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::http::{export, pages};
use crate::wire::answer::{LaunchBody, PlacementFile};
use crate::wire::compare::{CompareQuery, Comparison};
use crate::wire::field::{OneOf, named};
use crate::wire::job::{JobView, Status};
use crate::wire::labels::Labels;
use crate::wire::listing::{ListQuery, RecommendationPage, Withdrawal};
use crate::wire::names::EngineName;
use crate::wire::outcome::{MeasuredOutcome, Outcome};
use crate::wire::problem::Problem;
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::engines;
use moe_gps_core::formats::placement::FORMATS;

/// Asks for a recommendation.
///
/// Equal questions share one job. The answer is 200 with the result where there is one, or it
/// is ready within `Prefer: wait=SECONDS` (at most 60), else 202 with the job to follow.
#[utoipa::path(post, path = "/v1/recommendations", tag = "recommendations",
    params(
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`, at most 60"),
        ("Idempotency-Key" = Option<String>, Header,
         description = "The client's name for this request; sent again it leads to the same job"),
    ),
    request_body(content = crate::wire::question::Question, content_type = "application/json"),
    responses(
        (status = 200, description = "Finished, before or within the wait", body = JobView,
         headers(
            ("Location" = String, description = "Path of the recommendation"),
            ("Preference-Applied" = String, description = "The wait that was granted"))),
        (status = 202, description = "Accepted; follow Location", body = JobView,
         headers(
            ("Location" = String, description = "Path of the recommendation"),
            ("Preference-Applied" = String, description = "The wait that was granted"))),
        (status = 400, description = "Not JSON", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Not sent as application/json", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Meaningless, with every violation", body = Problem,
         content_type = "application/problem+json"),
        (status = 429, description = "As many questions of the token's holder wait as may",
         body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The queue is full or the database cannot be written", body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn ask_recommendation(
    State(service): State<Service>,
    caller: Caller,
    wait: Wait,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBody,
) -> Result<Response, Failure> {
    let key = key.map(|key| (key, app::body_digest(&body.bytes)));
    let (wait, _turn) = wait.granted(&service.app.waits);
    let asked = Asked { caller, request: body.value, key, wait: wait.duration() };
    let seen = app::submit(&service.app, asked).await?;
    let status = if seen.job.status.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, json(view(&seen)?)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location(&seen.job.id)?);
    if let Some(applied) = wait.applied() {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

fn location(id: &str) -> Result<HeaderValue, Failure> {
    let location = HeaderValue::try_from(format!("/v1/recommendations/{id}"));
    location.map_err(|error| Failure::internal(error.to_string()))
}

/// Fetches a recommendation: the job and, when it has finished, the result.
///
/// The result of a finished one never changes; the whole has a strong `ETag`. With `Prefer: wait=SECONDS` (at most
/// 60) the answer to a job that goes on comes at its end, or when the time is up.
#[utoipa::path(get, path = "/v1/recommendations/{id}", tag = "recommendations",
    params(
        ("id" = String, Path, description = "As the answer to the question names it"),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag` seen before"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`, at most 60"),
        ("Accept" = Option<String>, Header, description = "`text/html` for a page with charts"),
    ),
    responses(
        (status = 200, description = "The recommendation",
         content((JobView = "application/json"), (String = "text/html")),
         headers(
            ("ETag" = String, description = "Of a finished one"),
            ("Preference-Applied" = String, description = "The wait that was granted"))),
        (status = 304, description = "As the client knows it",
         headers(("ETag" = String, description = "Of a finished one"))),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_recommendation(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<String>,
    wait: Wait,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (wait, _turn) = wait.granted(&service.app.waits);
    let seen = app::follow(&service.app, &caller, &id, wait.duration()).await?;
    let mut response = if wants_page(&headers) {
        pages::recommendation(&service, &seen, &job_view(&seen)?, &headers).await?
    } else {
        show(&seen, &headers)?
    };
    if let Some(applied) = wait.applied() {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// A job with, once it has ended, its tag; nothing but the tag where the client has it.
fn show(seen: &Seen, headers: &HeaderMap) -> Result<Response, Failure> {
    let body = view(seen)?;
    if !seen.job.status.is_final() {
        return Ok((VARY, json(body)).into_response());
    }
    let tag = etag(&body).ok_or_else(|| Failure::internal("an entity tag is no header value"))?;
    if is_known(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    Ok(([(header::ETAG, tag)], VARY, json(body)).into_response())
}

/// The same path answers a page, too.
const VARY: [(HeaderName, &str); 1] = [(header::VARY, "accept")];

/// Lists past recommendations, newest first.
#[utoipa::path(get, path = "/v1/recommendations", tag = "recommendations", params(ListQuery),
    responses(
        (status = 200, description = "One page; as JSON Lines or a table where `Accept` asks for \
         it",
         content((RecommendationPage = "application/json"), (String = "application/x-ndjson"),
                 (String = "text/csv")),
         headers(("Link" = String, description = "The next page, `rel=\"next\"`"))),
        (status = 422, description = "Invalid filter", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn list_recommendations(
    State(service): State<Service>,
    caller: Caller,
    QueryOf(query): QueryOf<ListQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let query = query.check().map_err(Failure::invalid)?;
    export::page(app::list(&service.app, &caller, query).await?, &headers, &uri)
}

/// Withdraws all of the caller's own asks that a list with the same filters shows; with the scope
/// `admin`, those of everybody.
///
/// At least one filter must be named. With the last ask a recommendation that has ended is deleted,
/// and one that is queued or running is canceled.
#[utoipa::path(delete, path = "/v1/recommendations", tag = "recommendations", params(ListQuery),
    responses(
        (status = 200, description = "How many", body = Withdrawal),
        (status = 422, description = "No filter, or an invalid one", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be written", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn delete_recommendations(
    State(service): State<Service>,
    caller: Caller,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<Withdrawal>, Failure> {
    let query = query.check_deletion().map_err(Failure::invalid)?;
    Ok(Json(app::withdraw_listed(&service.app, &caller, query).await?))
}

/// Says what was measured after the advice was followed, or not.
///
/// It is shown beside the forecast of its strategy wherever the recommendation is.
#[utoipa::path(post, path = "/v1/recommendations/{id}/outcomes", tag = "recommendations",
    params(("id" = String, Path, description = "As the answer to the question names it")),
    request_body(content = Outcome, content_type = "application/json"),
    responses(
        (status = 201, description = "Kept, beside the forecast", body = MeasuredOutcome,
         headers(("Location" = String, description = "Path of the recommendation"))),
        (status = 400, description = "Not JSON", body = Problem,
         content_type = "application/problem+json"),
        (status = 404, description = "There is no such recommendation", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "It has not succeeded (yet), or has as many as may be",
         body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Not sent as application/json", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Meaningless, with every violation", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be written", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn report_outcome(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody,
) -> Result<Response, Failure> {
    let outcome = Outcome::read_body(&body.value).map_err(Failure::invalid)?;
    let kept = outcomes::keep(&service.app, &caller, &id, outcome).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location(&id)?)], Json(kept)).into_response())
}

/// Compares two recommendations: what differs in the question, the terms and the choice.
#[utoipa::path(get, path = "/v1/recommendations/compare", tag = "recommendations",
    params(CompareQuery),
    responses(
        (status = 200, description = "Side by side", body = Comparison),
        (status = 404, description = "There is no such recommendation", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "One of them has not succeeded (yet)", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "One of the two is not named", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn compare_recommendations(
    State(service): State<Service>,
    QueryOf(query): QueryOf<CompareQuery>,
) -> Result<Json<Comparison>, Failure> {
    let missing = |name: &str| {
        let detail = format!("{name} is missing; name a recommendation by its id");
        Violation::new(format!("/{name}"), "required", detail)
    };
    match (query.a, query.b) {
        (Some(a), Some(b)) => Ok(Json(compare(&service.app, &a, &b).await?)),
        (a, b) => {
            let absent = [("a", a.is_none()), ("b", b.is_none())];
            let absent = absent.into_iter().filter(|(_, absent)| *absent);
            Err(Failure::invalid(absent.map(|(name, _)| missing(name)).collect()))
        }
    }
}

/// Withdraws the caller's own ask: with the last one a queued or running recommendation is
/// canceled, and a finished one deleted.
///
/// Others who asked for the same keep it. A token of scope `admin` that did not ask for it deletes
/// it for all.
#[utoipa::path(delete, path = "/v1/recommendations/{id}", tag = "recommendations",
    params(("id" = String, Path, description = "As the answer to the question names it")),
    responses(
        (status = 200, description = "Canceled", body = JobView),
        (status = 204, description = "Withdrawn, and deleted if nobody else asked for it"),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn delete_recommendation(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    match app::withdraw(&service.app, &caller, &id).await? {
        Some(canceled) => Ok(json(view(&canceled)?).into_response()),
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Replaces the labels of the caller's own ask.
#[utoipa::path(put, path = "/v1/recommendations/{id}/labels", tag = "recommendations",
    params(("id" = String, Path, description = "As the answer to the question names it")),
    request_body(content = Labels, content_type = "application/json"),
    responses(
        (status = 200, description = "The labels in force", body = Labels),
        (status = 400, description = "Not JSON", body = Problem,
         content_type = "application/problem+json"),
        (status = 404, description = "There is none, or the caller did not ask for it",
         body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Not sent as application/json", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Labels that cannot be, with every violation", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be written", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn put_labels(
    State(service): State<Service>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody,
) -> Result<Response, Failure> {
    let labels = Labels::read_body(&body.value).map_err(Failure::invalid)?;
    app::put_labels(&service.app, &caller, &id, &labels).await?;
    Ok(json(labels.to_json().into_bytes()).into_response())
}

/// The batches whose step times are wanted: every number of `sequences` with every one of `tokens`
/// that it divides (prefill), and with every one of `kv` (decode).
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StepTimesQuery {
    /// Sequences of a step, numbers with commas between them.
    #[param(required = true)]
    pub sequences: Option<String>,
    /// New tokens of a step in prefill, likewise.
    pub tokens: Option<String>,
    /// Tokens in the cache of a sequence in decode, likewise.
    pub kv: Option<String>,
}

/// Prices the steps of every strategy over a grid of batches, for serving simulators.
///
/// The question of the recommendation with other workloads, at most 256 of them; a row per batch and
/// strategy that can be run: phase, tokens, sequences, cache length, strategy, predictor, seconds.
#[utoipa::path(get, path = "/v1/recommendations/{id}/step-times", tag = "recommendations",
    params(("id" = String, Path, description = "As the answer to the question names it"),
           StepTimesQuery),
    responses(
        (status = 200, description = "The table", body = String, content_type = "text/csv"),
        (status = 404, description = "There is no such recommendation", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "A trace of the question is gone", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "No grid, or a batch that cannot be", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "It took longer than a request may", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_step_times(
    State(service): State<Service>,
    Path(id): Path<String>,
    QueryOf(query): QueryOf<StepTimesQuery>,
) -> Result<Response, Failure> {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let (tokens, sequences, kv) = (of(&query.tokens), of(&query.sequences), of(&query.kv));
    let grid = Grid::read(&tokens, &sequences, &kv).map_err(Failure::invalid)?;
    let table = step_times(&service.app, &id, grid).await?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], table).into_response())
}

named! {
    /// The format of a plan.
    PlanFormat: OneOf(&FORMATS.map(|format| ((), format.id)))
}

/// The shape in which a plan is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PlacementQuery {
    /// `json` (the default), or the file an engine loads: `sglang`, `trtllm`, `vllm_ascend`.
    #[param(value_type = Option<PlanFormat>, inline)]
    pub format: Option<String>,
}

/// Fetches the placement plan of a finished recommendation.
#[utoipa::path(get, path = "/v1/recommendations/{id}/placement", tag = "recommendations",
    params(("id" = String, Path, description = "As the answer to the question names it"),
           PlacementQuery),
    responses(
        (status = 200, description = "The plan, per layer", content(
            (PlacementFile = "application/json"), (String = "application/yaml"))),
        (status = 404, description = "There is no such recommendation, or it has no plan",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not succeeded (yet), or its plan cannot be \
         written in this format", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Unknown format", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_placement(
    State(service): State<Service>,
    Path(id): Path<String>,
    QueryOf(query): QueryOf<PlacementQuery>,
) -> Result<Response, Failure> {
    let format = query.format.as_deref().unwrap_or("json");
    let (media_type, plan) = app::placement(&service.app, &id, format).await?;
    Ok(([(header::CONTENT_TYPE, media_type)], plan).into_response())
}

/// How a launch is written.
#[derive(Debug, Clone, Copy)]
enum Written {
    /// JSON with the arguments one by one, and all beside them.
    Argv,
    /// One quoted line.
    Shell,
    /// YAML.
    Yaml,
}

const SHAPES: [(Written, &str); 3] =
    [(Written::Argv, "argv"), (Written::Shell, "shell"), (Written::Yaml, "yaml")];

named! {
    /// How a launch is written.
    LaunchShape: OneOf(&SHAPES)
}

/// What a launch is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LaunchQuery {
    /// `vllm`, `sglang`, `tensorrt-llm` or `vllm-ascend`; the question's own if left out.
    #[param(value_type = Option<EngineName>, inline)]
    pub engine: Option<String>,
    /// `argv` (JSON with everything, the default), `shell` (one quoted line) or `yaml` (the fragment
    /// of an engine that is configured so).
    #[param(value_type = Option<LaunchShape>, inline)]
    pub format: Option<String>,
    /// Where the engine finds its placement file; `/etc/moe-gps/placement` if left out.
    pub path: Option<String>,
}

/// Says how to start an engine so that it follows a finished recommendation.
///
/// Only what concerns the balance of experts: arguments to add to those the engine has. Where the
/// advice is `none` they switch its balancer off; where the map in force is kept they load it, and
/// change nothing else.
#[utoipa::path(get, path = "/v1/recommendations/{id}/launch", tag = "recommendations",
    params(("id" = String, Path, description = "As the answer to the question names it"),
           LaunchQuery),
    responses(
        (status = 200, description = "The arguments", content(
            (LaunchBody = "application/json"), (String = "text/plain"),
            (String = "application/yaml"))),
        (status = 404, description = "There is no such recommendation, or it has no plan",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not succeeded (yet), or the engine has no YAML \
         configuration", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Unknown engine, or none named by the question either",
         body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn get_launch(
    State(service): State<Service>,
    Path(id): Path<String>,
    QueryOf(query): QueryOf<LaunchQuery>,
) -> Result<Response, Failure> {
    let asked = query.format.as_deref().unwrap_or("argv");
    let Some((written, _)) = SHAPES.iter().find(|(_, name)| *name == asked) else {
        let detail = format!("format is {asked}; it must be argv, shell or yaml");
        return Err(Failure::invalid(vec![Violation::new("/format", "one_of", detail)]));
    };
    if let Some(engine) = query.engine.as_deref()
        && engines::by_framework(engine).is_none()
    {
        let names: Vec<&str> = engines::names().into_iter().map(|(_, name)| name).collect();
        let detail = format!("engine is {engine}; it must be one of {}", names.join(", "));
        return Err(Failure::invalid(vec![Violation::new("/engine", "one_of", detail)]));
    }
    let path = query.path.as_deref().unwrap_or(MOUNT);
    let launch = app::launch(&service.app, &id, query.engine.as_deref(), path).await?;
    Ok(match written {
        Written::Argv => Json(launch).into_response(),
        Written::Shell => (TEXT, launch.shell + "\n").into_response(),
        Written::Yaml => {
            let yaml = launch.yaml.ok_or_else(|| {
                AppError::Conflict(format!(
                    "{} takes no YAML for this; ask with format=argv or format=shell",
                    launch.engine
                ))
            })?;
            ([(header::CONTENT_TYPE, "application/yaml")], yaml).into_response()
        }
    })
}

const TEXT: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];

fn json(body: Vec<u8>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], body)
}

/// The body that shows a job.
fn view(seen: &Seen) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(&job_view(seen)?).map_err(|error| Failure::internal(error.to_string()))
}

fn job_view(Seen { job, labels, outcomes }: &Seen) -> Result<JobView<'_>, Failure> {
    let raw = |text| serde_json::from_str::<&RawValue>(text);
    let running = job.status == Status::Running;
    let view = (|| {
        Ok(JobView {
            id: job.id.as_str().into(),
            status: job.status,
            labels: labels.as_deref().map(raw).transpose()?,
            created_at: Moment(job.created_ms),
            started_at: job.started_ms.map(Moment),
            finished_at: job.finished_ms.map(Moment),
            progress: running.then_some(job.progress),
            phase: job.phase.as_deref().filter(|_| running).map(Into::into),
            request: raw(&job.request)?,
            result: job.result.as_deref().map(raw).transpose()?,
            error: job.problem.as_deref().map(raw).transpose()?,
            outcomes: outcomes.clone(),
        })
    })();
    view.map_err(|error: serde_json::Error| {
        Failure::internal(format!("stored JSON of {}: {error}", job.id))
    })
}
