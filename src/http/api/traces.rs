//! Traces: fetch, list, delete.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::traces as app;
use crate::http::extract::QueryOf;
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::wire::listing::{PageQuery, TracePage};
use crate::wire::problem::Problem;

/// Fetches the summary of a trace.
#[utoipa::path(get, path = "/v1/traces/{id}", tag = "traces",
    params(("id" = String, Path, description = "As the answer to the upload names it")),
    responses(
        (status = 200, description = "The summary", body = serde_json::Value),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_trace(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let trace = app::fetch(&service.app, &id).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], trace.summary).into_response())
}

/// Lists stored traces.
#[utoipa::path(get, path = "/v1/traces", tag = "traces", params(PageQuery),
    responses(
        (status = 200, description = "One page", body = TracePage),
        (status = 422, description = "A parameter means nothing", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn list_traces(
    State(service): State<Service>,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<TracePage>, Failure> {
    let limit = query.limit().map_err(Failure::invalid)?;
    Ok(Json(app::list(&service.app, query.cursor.as_deref(), limit).await?))
}

/// Deletes a trace that no queued or running recommendation needs.
#[utoipa::path(delete, path = "/v1/traces/{id}", tag = "traces",
    params(("id" = String, Path, description = "As the answer to the upload names it")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "A queued or running recommendation needs it",
         body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn delete_trace(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    app::delete(&service.app, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
