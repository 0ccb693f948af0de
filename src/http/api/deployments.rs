//! Deployments that are watched: tell, post loads, fetch, list and delete.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::deployments::{self as app, Told};
use crate::app::tokens::Caller;
use crate::http::accept::wants_page;
use crate::http::api::recommendations::VARY;
use crate::http::api::traces::{UploadQuery, receive};
use crate::http::etag::{etag, is_known};
use crate::http::extract::{FileBody, JsonBody, QueryOf};
use crate::http::pages;
use crate::http::prefer::{PREFERENCE_APPLIED, Wait};
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::wire::deployment::{
    DeploymentBody, DeploymentList, DeploymentRequest, JudgementPage, LoadsQuery, WindowBody,
};
use crate::wire::listing::JudgementQuery;
use crate::wire::problem::Problem;
use crate::wire::question::Current;
use crate::wire::trace::{Bytes, Counts, FileForm};

/// Tells what a deployment is: a question without its routing, the map in force, and when a change is
/// to be said.
///
/// A new version each time. The map in force stays where `current` is left out.
#[utoipa::path(put, path = "/v1/deployments/{name}", tag = "deployments",
    params(("name" = String, Path, description = "1 to 63 letters, digits and `._-`")),
    request_body(content = DeploymentRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "Changed", body = DeploymentBody,
         headers(("ETag" = String, description = "Of the deployment as it now is"))),
        (status = 201, description = "New; Location names it", body = DeploymentBody,
         headers(
            ("ETag" = String, description = "Of the deployment as it now is"),
            ("Location" = String, description = "Path of the deployment"))),
        (status = 400, description = "Not JSON", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "As many are kept as may be", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Not sent as application/json", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Meaningless, with every violation", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be written", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn put_deployment(
    State(service): State<Service>,
    caller: Caller,
    Path(name): Path<String>,
    body: JsonBody,
) -> Result<Response, Failure> {
    let request = DeploymentRequest::read_body(&body.value).map_err(Failure::invalid)?;
    let Told { body, created } = app::put(&service.app, &caller, &name, request).await?;
    let mut response = shown(&body)?;
    if created {
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().insert(header::LOCATION, location(&name)?);
    }
    Ok(response)
}

fn location(name: &str) -> Result<HeaderValue, Failure> {
    super::location(&format!("/v1/deployments/{name}"))
}

fn written(body: &DeploymentBody) -> Result<(Vec<u8>, HeaderValue), Failure> {
    let written = serde_json::to_vec(body).map_err(|error| Failure::internal(error.to_string()))?;
    let tag =
        etag(&written).ok_or_else(|| Failure::internal("an entity tag is no header value"))?;
    Ok((written, tag))
}

/// A deployment with its tag.
fn shown(body: &DeploymentBody) -> Result<Response, Failure> {
    let (written, tag) = written(body)?;
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok(([(header::ETAG, tag)], VARY, headers, written).into_response())
}

/// Fetches a deployment: what it was told to be, its loads, the last judgement, and its conditions.
///
/// With `Prefer: wait=SECONDS` (at most 60) the answer comes once nothing of it waits to be judged;
/// with `If-None-Match`, once it is another than the client knows.
#[utoipa::path(get, path = "/v1/deployments/{name}", tag = "deployments",
    params(
        ("name" = String, Path, description = "As it was told"),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag` seen before"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`, at most 60"),
        ("Accept" = Option<String>, Header, description = "`text/html` for a page"),
    ),
    responses(
        (status = 200, description = "The deployment",
         content((DeploymentBody = "application/json"), (String = "text/html")),
         headers(
            ("ETag" = String, description = "Of the deployment as it is"),
            ("Preference-Applied" = String, description = "The wait that was granted"))),
        (status = 304, description = "As the client knows it",
         headers(("ETag" = String, description = "Of the deployment as it is"))),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_deployment(
    State(service): State<Service>,
    Path(name): Path<String>,
    wait: Wait,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (wait, _turn) = wait.granted(&service.app.waits);
    let is_seen =
        |body: &DeploymentBody| written(body).is_ok_and(|(_, tag)| is_known(&headers, &tag));
    let knows_one = headers.contains_key(header::IF_NONE_MATCH);
    let wanted = wait.duration().filter(|wait| *wait != Duration::ZERO);
    let body = app::follow(&service.app, &name, wanted, is_seen, knows_one).await?;
    let mut response = if wants_page(&headers) {
        pages::deployment(&service, &body, &headers).await?
    } else if is_seen(&body) {
        (StatusCode::NOT_MODIFIED, [(header::ETAG, written(&body)?.1)]).into_response()
    } else {
        shown(&body)?
    };
    if let Some(applied) = wait.applied() {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// Lists the deployments by name: the caller's own; with the scope `admin`, those of all.
#[utoipa::path(get, path = "/v1/deployments", tag = "deployments",
    responses((status = 200, description = "All of them", body = DeploymentList)))]
pub async fn list_deployments(
    State(service): State<Service>,
    caller: Caller,
) -> Result<Json<DeploymentList>, Failure> {
    Ok(Json(app::list(&service.app, &caller).await?))
}

/// Deletes a deployment with its windows of loads; what was recommended stays.
#[utoipa::path(delete, path = "/v1/deployments/{name}", tag = "deployments",
    params(("name" = String, Path, description = "As it was told")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be written", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn delete_deployment(
    State(service): State<Service>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    app::delete(&service.app, &caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Posts the loads of a window of time, a recording in any format of traces.
///
/// They are judged at most once per `every` of the policy, and at once while `Judged` is not true. The
/// newest windows are kept and joined: the older ones plan, the newest scores.
#[utoipa::path(post, path = "/v1/deployments/{name}/loads", tag = "deployments",
    params(
        ("name" = String, Path, description = "As it was told"),
        LoadsQuery,
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`")),
    request_body(
        description = "The file; its media type, or `format`, names the format",
        content(
            (Bytes = "application/octet-stream"),
            (FileForm = "multipart/form-data"),
            (Bytes = "application/x-npz"),
            (String = "application/x-ndjson"),
            (Counts = "application/json"),
            (Bytes = "application/x-npy"),
            (Bytes = "application/x-pytorch"),
            (Bytes = "application/x-tar"),
            (Bytes = "application/zip"),
            (Bytes = "application/x-safetensors"),
            (String = "text/csv"),
        )),
    responses(
        (status = 202, description = "Kept, to be judged; Location names the deployment",
         body = WindowBody,
         headers(("Location" = String, description = "Path of the deployment"))),
        (status = 400, description = "Unreadable", body = Problem,
         content_type = "application/problem+json"),
        (status = 404, description = "There is no such deployment", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "Too large, as sent or inflated", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Unknown format or encoding", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Not of the deployment's model, or meaningless, with every \
         violation", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No room to keep it", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn post_loads(
    State(service): State<Service>,
    caller: Caller,
    Path(name): Path<String>,
    QueryOf(query): QueryOf<LoadsQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let loads = query.check().map_err(Failure::invalid)?;
    let model = app::model_of(&service.app, &caller, &name).await?;
    let upload = UploadQuery { model, format: query.format, ..UploadQuery::default() };
    let kept = receive(&service, upload, &headers, body, false).await?;
    let window = app::post_loads(&service.app, &name, loads, kept).await?;
    let headers = [(header::LOCATION, location(&name)?)];
    Ok((StatusCode::ACCEPTED, headers, Json(window)).into_response())
}

/// Tells which map is in force: a strategy with its map as in a question, or a placement file of any
/// engine as this service writes it.
///
/// Another map than the one that was known is judged at once.
#[utoipa::path(put, path = "/v1/deployments/{name}/current", tag = "deployments",
    params(("name" = String, Path, description = "As it was told")),
    request_body(content((Current = "application/json"), (Bytes = "application/octet-stream"))),
    responses(
        (status = 200, description = "In force", body = DeploymentBody,
         headers(("ETag" = String, description = "Of the deployment as it now is"))),
        (status = 404, description = "There is no such deployment", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "No map of the deployment's model and devices, with every \
         violation", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be written", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn put_current(
    State(service): State<Service>,
    caller: Caller,
    Path(name): Path<String>,
    FileBody(bytes): FileBody,
) -> Result<Response, Failure> {
    shown(&app::put_current(&service.app, &caller, &name, &bytes).await?)
}

/// Lists the judgements of a deployment, newest first: what ordinary recommendations say of the map in
/// force.
#[utoipa::path(get, path = "/v1/deployments/{name}/judgements", tag = "deployments",
    params(("name" = String, Path, description = "As it was told"), JudgementQuery),
    responses(
        (status = 200, description = "One page", body = JudgementPage),
        (status = 404, description = "There is no such deployment", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Invalid parameter", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn list_judgements(
    State(service): State<Service>,
    Path(name): Path<String>,
    QueryOf(query): QueryOf<JudgementQuery>,
) -> Result<Json<JudgementPage>, Failure> {
    let page = query.check().map_err(Failure::invalid)?;
    let cursor = page.cursor.as_deref();
    Ok(Json(app::judgements(&service.app, &name, cursor, page.limit).await?))
}
