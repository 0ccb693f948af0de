//! Traces: upload, fetch, list, delete, and the embedding beside one.

#![expect(unused_qualifications, reason = "what utoipa writes for `params` is qualified")]

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::traces as app;
use crate::app::uploads::{self, Labels};
use crate::http::extract::{QueryOf, content_length};
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::http::upload::feed;
use crate::wire::field::named;
use crate::wire::listing::{PageQuery, TracePage};
use crate::wire::problem::Problem;
use crate::wire::trace::TraceSummary;
use moe_gps_core::formats::trace::Cut;
use moe_gps_core::trace::{MAX_EXPERTS, MAX_TOP_K};

named! {
    /// How many experts a layer has.
    Experts: 1..=MAX_EXPERTS
}

named! {
    /// How many rows are left out.
    Skip: 0..=Cut::MOST_SKIPPED
}

named! {
    /// How many experts a token has.
    TopK: 1..=MAX_TOP_K as u64
}

/// What may be said about a trace at its upload.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// Name for people.
    pub name: Option<String>,
    /// Catalog id of the model it was recorded from.
    pub model: Option<String>,
    /// Experts of a layer; without it and a model, 1 + the largest id.
    #[param(value_type = Option<Experts>, inline)]
    pub num_experts: Option<u32>,
    /// Experts of a token, where the recording does not say and no model is named: counts that no
    /// router of so many gives are refused, and router logits become routes.
    #[param(value_type = Option<TopK>, inline)]
    pub top_k: Option<u32>,
    /// Leaves out so many rows from the beginning: tokens of routes, steps of counts. What is kept
    /// has an id of its own.
    #[serde(default)]
    #[param(value_type = Option<Skip>, inline)]
    pub skip: i64,
    /// Leaves out every row that repeats the one before in all layers, as warm-up batches do.
    #[serde(default)]
    pub drop_repeats: bool,
}

/// Uploads a routing trace; the same bytes again are the same trace.
#[utoipa::path(post, path = "/v1/traces", tag = "traces",
    params(UploadQuery,
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`")),
    request_body(
        description = "The file; its media type names the format",
        content(
            (Vec<u8> = "application/x-npz"),
            (String = "application/x-ndjson"),
            (serde_json::Value = "application/json"),
            (Vec<u8> = "application/x-npy"),
            (Vec<u8> = "application/x-pytorch"),
            (Vec<u8> = "application/x-tar"),
            (Vec<u8> = "application/zip"),
            (Vec<u8> = "application/x-safetensors"),
            (String = "text/csv"),
        )),
    responses(
        (status = 201, description = "Kept; Location names it", body = TraceSummary),
        (status = 200, description = "Was kept before", body = TraceSummary),
        (status = 400, description = "Unreadable", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "Too large, as sent or inflated", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Unknown format or encoding", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Meaningless, with every violation", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "No room to keep it, with Retry-After", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn upload_trace(
    State(service): State<Service>,
    QueryOf(query): QueryOf<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    refuse_large(&service, &headers)?;
    let labels = Labels {
        content_type: text(&headers, header::CONTENT_TYPE).unwrap_or_default(),
        content_encoding: text(&headers, header::CONTENT_ENCODING),
        name: query.name,
        model: query.model,
        num_experts: query.num_experts,
        top_k: query.top_k,
        skip: query.skip,
        drop_repeats: query.drop_repeats,
    };
    let app = &service.app;
    let kept = feed(body, async |pieces| uploads::take_trace(app, labels, pieces).await).await?;
    let status = if kept.created { StatusCode::CREATED } else { StatusCode::OK };
    let location = HeaderValue::try_from(format!("/v1/traces/{}", kept.summary.id))
        .map_err(|error| Failure::internal(error.to_string()))?;
    Ok((status, [(header::LOCATION, location)], Json(kept.summary)).into_response())
}

/// Uploads the token embedding of a trace, `[vocabulary, dim]` in float16 or float32.
#[utoipa::path(put, path = "/v1/traces/{id}/embedding", tag = "traces",
    params(("id" = String, Path, description = "As the answer to the upload names it")),
    request_body(content = Vec<u8>, content_type = "application/x-npy"),
    responses(
        (status = 204, description = "Kept"),
        (status = 400, description = "Unreadable", body = Problem,
         content_type = "application/problem+json"),
        (status = 404, description = "There is no such trace", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Not sent as application/x-npy", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Meaningless", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn put_embedding(
    State(service): State<Service>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Failure> {
    if text(&headers, header::CONTENT_TYPE).as_deref() != Some("application/x-npy") {
        return Err(Failure::unsupported("an embedding must be sent as application/x-npy"));
    }
    refuse_large(&service, &headers)?;
    let encoding = text(&headers, header::CONTENT_ENCODING);
    let app = &service.app;
    feed(body, async |pieces| uploads::take_embedding(app, id, encoding, pieces).await).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fetches the summary of a trace.
#[utoipa::path(get, path = "/v1/traces/{id}", tag = "traces",
    params(("id" = String, Path, description = "As the answer to the upload names it")),
    responses(
        (status = 200, description = "The summary", body = TraceSummary),
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
        (status = 422, description = "Invalid parameter", body = Problem,
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

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn refuse_large(service: &Service, headers: &HeaderMap) -> Result<(), Failure> {
    let limit = service.limits.max_upload_bytes;
    match content_length(headers) {
        Some(declared) if limit < declared => Err(Failure::too_large(limit)),
        _ => Ok(()),
    }
}
