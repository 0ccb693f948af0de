//! Recommendations: ask, fetch, list, label, compare, cancel or delete, and what was measured.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;

use crate::app::ask::{Asked, body_digest, submit};
use crate::app::compare::compare;
use crate::app::recommendations::{self as app, Seen};
use crate::app::tokens::Caller;
use crate::app::{outcomes, withdraw};
use crate::http::accept::wants_page;
use crate::http::etag::{etag, is_known};
use crate::http::extract::{JsonBody, QueryOf};
use crate::http::prefer::{IdempotencyKey, PREFERENCE_APPLIED, Wait};
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::http::{export, pages};
use crate::wire::compare::{CompareQuery, Comparison};
use crate::wire::job::{JobView, Status};
use crate::wire::labels::Labels;
use crate::wire::listing::{ListQuery, RecommendationPage, Withdrawal};
use crate::wire::outcome::{MeasuredOutcome, Outcome};
use crate::wire::problem::Problem;
use crate::wire::time::Moment;
use crate::wire::violation::Violation;

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
    let digest = Some(body_digest(&body.bytes));
    let (wait, _turn) = wait.granted(&service.app.waits);
    let asked = Asked { caller, request: body.value, body: digest, key, wait: wait.duration() };
    let seen = submit(&service.app, asked).await?;
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
    super::location(&format!("/v1/recommendations/{id}"))
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
pub(super) const VARY: [(HeaderName, &str); 1] = [(header::VARY, "accept")];

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
    Ok(Json(withdraw::withdraw_listed(&service.app, &caller, query).await?))
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
        (status = 404, description = "There is no such recommendation", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "It has not succeeded (yet), or has as many as may be",
         body = Problem, content_type = "application/problem+json"),
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
    match withdraw::withdraw(&service.app, &caller, &id).await? {
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
        (status = 404, description = "There is none, or the caller did not ask for it",
         body = Problem, content_type = "application/problem+json"),
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
