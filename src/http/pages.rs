//! The pages: what they are asked for, and the use cases behind them.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use crate::app::plan_file::MOUNT;
use crate::app::recommendations::{self as answers, Seen};
use crate::app::tokens::Caller;
use crate::http::etag::{etag, is_known};
use crate::http::export;
use crate::http::extract::{QueryOf, pairs};
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::web::answer::Answer;
use crate::web::list::List;
use crate::web::{assets, progress};
use crate::wire::answer::ResultBody;
use crate::wire::job::{JobView, Status};
use crate::wire::listing::ListQuery;
use crate::wire::question::ASKED_PHASES;
use crate::wire::time::Moment;
use moe_gps_core::advice::choose::Verdict;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::engines;
use moe_gps_core::strategies::Strategy;

/// Every page that has a path of its own.
pub(super) fn routes() -> Router<Service> {
    Router::new().route("/", get(list)).route("/assets/{name}", get(asset))
}

/// A page; a browser asks whether it is still the same.
pub(super) fn page(body: String, headers: &HeaderMap) -> Response {
    const ALWAYS: [(header::HeaderName, HeaderValue); 2] = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    let tag = etag(body.as_bytes());
    if let Some(tag) = tag.as_ref().filter(|tag| is_known(headers, tag)) {
        return (StatusCode::NOT_MODIFIED, ALWAYS, [(header::ETAG, tag)]).into_response();
    }
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    let mut response = (ALWAYS, kind, body).into_response();
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Style and scripts; another content has another name.
async fn asset(Path(name): Path<String>) -> Result<Response, Failure> {
    let asset = assets::find(&name)
        .ok_or_else(|| Failure::not_found(format!("no file of the pages is called {name}")))?;
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, asset.text.as_str()).into_response())
}

/// The list of answers.
async fn list(
    State(service): State<Service>,
    caller: Caller,
    QueryOf(query): QueryOf<ListQuery>,
    RawQuery(text): RawQuery,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    // A form sends its empty fields, too; the address that is kept has none of them.
    if let Some(text) =
        text.as_deref().filter(|text| pairs(text).any(|(_, value)| value.is_empty()))
    {
        let filled: Vec<&str> = text
            .split('&')
            .filter(|pair| pairs(pair).any(|(_, value)| !value.is_empty()))
            .collect();
        let query =
            if filled.is_empty() { String::new() } else { format!("?{}", filled.join("&")) };
        return Ok(Redirect::to(&format!("/{query}")).into_response());
    }
    let checked = query.clone().check().map_err(Failure::invalid)?;
    let found = answers::list(&service.app, &caller, checked).await?;
    let next = found.next_cursor.as_deref().map(|cursor| export::next(&uri, cursor));
    let names = names()?;
    let list = List { page: &found, query: &query, names: &names, next };
    Ok(page(list.html(), &headers))
}

/// What fields of forms may be filled with.
fn names() -> Result<BTreeMap<&'static str, Vec<String>>, Failure> {
    let catalog = Catalog::embedded().map_err(|error| Failure::internal(error.to_string()))?;
    let owned = |names: Vec<&str>| names.into_iter().map(ToOwned::to_owned).collect();
    let statuses =
        [Status::Queued, Status::Running, Status::Succeeded, Status::Failed, Status::Canceled];
    Ok([
        ("model", catalog.models().iter().map(|entry| entry.id.clone()).collect()),
        ("device", catalog.devices().iter().map(|entry| entry.id.clone()).collect()),
        ("engine", engines::LIST.iter().map(|engine| engine.id.to_owned()).collect()),
        ("phase", owned(ASKED_PHASES.0.iter().map(|(_, name)| *name).collect())),
        ("verdict", owned(Verdict::ALL.map(|(_, name)| name).to_vec())),
        ("strategy", owned(Strategy::ALL.map(|(_, name)| name).to_vec())),
        ("status", owned(statuses.map(Status::as_str).to_vec())),
    ]
    .into())
}

/// The page of a recommendation: its answer, how far it is, or why there is none.
pub(super) async fn recommendation(
    service: &Service,
    seen: &Seen,
    view: &JobView<'_>,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let Some(result) = view.result.filter(|_| view.status == Status::Succeeded) else {
        return Ok(page(progress::page(view), headers));
    };
    let stored = |error: serde_json::Error| {
        Failure::internal(format!("stored JSON of {}: {error}", view.id))
    };
    let result: ResultBody = serde_json::from_str(result.get()).map_err(stored)?;
    let request = serde_json::from_str(view.request.get()).map_err(stored)?;
    let plan = answers::plan(&service.app, &view.id).await?;
    let launches = match plan.as_deref() {
        Some(plan) => answers::launches(plan, &view.id, MOUNT)?,
        None => Vec::new(),
    };
    let labels = view.labels.map(|labels| serde_json::from_str(labels.get()));
    let answer = Answer {
        id: Some(&view.id),
        labels: labels.transpose().map_err(stored)?.unwrap_or_default(),
        asked: Some(Moment(seen.job.created_ms)),
        request: &request,
        result: &result,
        plan: plan.as_deref(),
        launches: &launches,
    };
    Ok(page(answer.html(), headers))
}
