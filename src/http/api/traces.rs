//! Traces: upload, fetch, list, delete, and the embedding beside one.

#![expect(unused_qualifications, reason = "what utoipa writes for `params` is qualified")]

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use multer::{Field, Multipart};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::traces as app;
use crate::app::uploads::{self, Kept, Labels};
use crate::http::extract::{QueryOf, content_length, is_sent_as};
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::http::upload::feed;
use crate::wire::field::{OneOf, named};
use crate::wire::listing::{PageQuery, TracePage};
use crate::wire::problem::Problem;
use crate::wire::trace::{Bytes, Counts, FileForm, TraceSummary};
use crate::wire::violation::Violation;
use moe_gps_core::formats::trace::Cut;
use moe_gps_core::formats::trace::readers::{self, READERS, Reader};
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

named! {
    /// The format of a recording, by the end of its file's name.
    RecordingFormat: OneOf(&formats())
}

/// Ends of file names with the format that each stands for.
fn formats() -> Vec<(&'static Reader, &'static str)> {
    let all = READERS.iter();
    all.flat_map(|reader| reader.extensions.iter().map(move |name| (reader, *name))).collect()
}

/// What may be said about a trace at its upload.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// Name for people.
    pub name: Option<String>,
    /// Catalog id of the model it was recorded from.
    pub model: Option<String>,
    /// The format, by the end of its file's name; it goes before `Content-Type`. Left out,
    /// `application/octet-stream` is told by its bytes, and a file of a form by its name.
    #[param(value_type = Option<RecordingFormat>, inline)]
    pub format: Option<String>,
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
///
/// A body that is gzip or zstd is recognized without `Content-Encoding`, too.
#[utoipa::path(post, path = "/v1/traces", tag = "traces",
    params(UploadQuery,
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
            (Bytes = "application/vnd.apache.parquet"),
            (String = "text/csv"),
        )),
    responses(
        (status = 201, description = "Kept; Location names it", body = TraceSummary,
         headers(("Location" = String, description = "Path of the trace"))),
        (status = 200, description = "Was kept before", body = TraceSummary,
         headers(("Location" = String, description = "Path of the trace"))),
        (status = 400, description = "Unreadable", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "Too large, as sent or inflated", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Unknown format or encoding", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Meaningless, with every violation", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "No room to keep it", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn upload_trace(
    State(service): State<Service>,
    QueryOf(query): QueryOf<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let kept = receive(&service, query, &headers, body, false).await?;
    let path = format!("/v1/traces/{}", kept.summary.id);
    super::kept(kept.created, &path, kept.summary)
}

/// Takes an upload in; one without a name has that of a form's file where `named_by_file`.
pub(in crate::http) async fn receive(
    service: &Service,
    query: UploadQuery,
    headers: &HeaderMap,
    body: Body,
    named_by_file: bool,
) -> Result<Kept, Failure> {
    refuse_large(service, headers)?;
    let stated = query.format.as_deref().map(named_format).transpose()?;
    let content_type = text(headers, header::CONTENT_TYPE).unwrap_or_default();
    let mut labels = Labels {
        content_type: content_type.clone(),
        content_encoding: text(headers, header::CONTENT_ENCODING),
        name: query.name,
        model: query.model,
        num_experts: query.num_experts,
        top_k: query.top_k,
        skip: query.skip,
        drop_repeats: query.drop_repeats,
    };
    let app = &service.app;
    let mut body = body.into_data_stream();
    let pace = service.pace();
    if let Ok(boundary) = multer::parse_boundary(&content_type) {
        let mut form = Multipart::new(body, boundary);
        let mut file = first_file(&mut form).await?;
        labels.content_type = stated.map_or_else(|| type_of(&file), ToOwned::to_owned);
        if named_by_file {
            labels.name = labels.name.or_else(|| file.file_name().map(ToOwned::to_owned));
        }
        Ok(feed(&mut file, pace, async |pieces| uploads::take_trace(app, labels, pieces).await)
            .await?)
    } else {
        labels.content_type = stated.map_or(content_type, ToOwned::to_owned);
        Ok(feed(&mut body, pace, async |pieces| uploads::take_trace(app, labels, pieces).await)
            .await?)
    }
}

/// The media type of the format with this name.
fn named_format(name: &str) -> Result<&'static str, Failure> {
    readers::by_extension(name).map(|reader| reader.media_type).ok_or_else(|| {
        let names: Vec<&str> = formats().into_iter().map(|(_, name)| name).collect();
        let detail = format!("format is {name}; it must be one of {}", names.join(", "));
        Failure::invalid(vec![Violation::new("/format", "one_of", detail)])
    })
}

/// The file of a form, which must be its first part: nothing else is read of a form.
async fn first_file<'a>(form: &mut Multipart<'a>) -> Result<Field<'a>, Failure> {
    let broken = |error: multer::Error| Failure::malformed(format!("the form: {error}"));
    let part = form.next_field().await.map_err(broken)?;
    let part = part.ok_or_else(|| Failure::malformed("the form holds no file"))?;
    if part.file_name().is_none() && part.name() != Some("file") {
        let name = part.name().unwrap_or_default();
        let detail = format!(
            "the form begins with {name:?}; a form holds one file, and all else goes into the query"
        );
        return Err(Failure::invalid(vec![Violation::new("", "form", detail)]));
    }
    Ok(part)
}

/// The media type of a form's file: by its name, else as the form says, else left to its bytes.
fn type_of(file: &Field<'_>) -> String {
    let name = file.file_name().unwrap_or_default().to_ascii_lowercase();
    let name = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let by_name = name.rsplit_once('.').and_then(|(_, end)| readers::by_extension(end));
    let stated = || readers::by_content_type(file.content_type()?.essence_str()).ok();
    let reader = by_name.or_else(stated);
    reader.map_or("application/octet-stream", |reader| reader.media_type).to_owned()
}

/// Uploads the token embedding of a trace, `[vocabulary, dim]` in float16 or float32.
#[utoipa::path(put, path = "/v1/traces/{id}/embedding", tag = "traces",
    params(("id" = String, Path, description = "As the answer to the upload names it")),
    request_body(content(
        (Bytes = "application/octet-stream"), (Bytes = "application/x-npy"))),
    responses(
        (status = 204, description = "Kept"),
        (status = 400, description = "Unreadable", body = Problem,
         content_type = "application/problem+json"),
        (status = 404, description = "There is no such trace", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Neither application/octet-stream nor application/x-npy", body = Problem,
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
    if !["application/x-npy", "application/octet-stream"]
        .iter()
        .any(|one| is_sent_as(&headers, one))
    {
        let detail = "an embedding must be sent as application/x-npy or application/octet-stream";
        return Err(Failure::unsupported(detail));
    }
    refuse_large(&service, &headers)?;
    let encoding = text(&headers, header::CONTENT_ENCODING);
    let app = &service.app;
    let mut body = body.into_data_stream();
    feed(&mut body, service.pace(), async |pieces| {
        uploads::take_embedding(app, id, encoding, pieces).await
    })
    .await?;
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
    let page = query.check().map_err(Failure::invalid)?;
    Ok(Json(app::list(&service.app, page.cursor.as_deref(), page.limit).await?))
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
