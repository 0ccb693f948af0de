//! A page of past recommendations as JSON, JSON Lines or a table, as `Accept` asks.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::http::accept::preferred;
use crate::http::problem::Failure;
use crate::wire::listing::{RecommendationItem, RecommendationPage};

/// Media type of JSON Lines.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// Media type of a table.
pub(super) const CSV: &str = "text/csv";

/// A page in the shape that `Accept` rather names, else as JSON; `Link` names the next one.
pub(super) fn page(
    page: RecommendationPage,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Response, Failure> {
    let next = page.next_cursor.as_deref().and_then(|cursor| {
        HeaderValue::try_from(format!("<{}>; rel=\"next\"", next(uri, cursor))).ok()
    });
    let mut response = match shape(headers) {
        Some(NDJSON) => (kind(NDJSON), lines(&page.items)?).into_response(),
        Some(CSV) => (kind("text/csv; charset=utf-8"), table(&page.items)?).into_response(),
        _ => Json(page).into_response(),
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

const fn kind(media_type: &'static str) -> [(header::HeaderName, &'static str); 1] {
    [(header::CONTENT_TYPE, media_type)]
}

fn shape(headers: &HeaderMap) -> Option<&'static str> {
    preferred(headers, |range| match range {
        NDJSON | "application/ndjson" | "application/jsonl" => Some(NDJSON),
        CSV | "text/*" => Some(CSV),
        "application/json" | "application/*" | "*/*" => Some("application/json"),
        _ => None,
    })
}

/// The address of the next page.
pub(super) fn next(uri: &Uri, cursor: &str) -> String {
    let others = uri.query().unwrap_or_default().split('&');
    let others = others.filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let mut query: Vec<&str> = others.collect();
    let cursor = format!("cursor={cursor}");
    query.push(&cursor);
    format!("{}?{}", uri.path(), query.join("&"))
}

fn lines(items: &[RecommendationItem]) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    for item in items {
        serde_json::to_writer(&mut text, item).map_err(|error| failed(&error))?;
        text.push(b'\n');
    }
    Ok(text)
}

/// The columns of a table.
const COLUMNS: [&str; 18] = [
    "id",
    "status",
    "created_at",
    "finished_at",
    "model",
    "device",
    "devices",
    "engine",
    "phase",
    "strategy",
    "verdict",
    "gain_low",
    "gain_mid",
    "gain_high",
    "trace_ids",
    "labels",
    "principal",
    "outcomes",
];

fn table(items: &[RecommendationItem]) -> Result<Vec<u8>, Failure> {
    #[derive(Default, Deserialize)]
    struct Workload {
        phase: Option<String>,
    }
    #[derive(Default, Deserialize)]
    struct Advised {
        strategy: Option<String>,
    }
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(COLUMNS).map_err(|error| failed(&error))?;
    for item in items {
        let workload: Option<Workload> =
            item.workload.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok());
        let advised: Option<Advised> =
            item.recommendation.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok());
        let gain = |number: fn(&crate::wire::answer::GainBody) -> f64| {
            item.gain.as_ref().map(|gain| number(gain).to_string()).unwrap_or_default()
        };
        let row: [String; COLUMNS.len()] = [
            item.id.clone(),
            item.status.as_str().to_owned(),
            item.created_at.to_string(),
            item.finished_at.map(|time| time.to_string()).unwrap_or_default(),
            item.model.clone(),
            item.device.clone(),
            item.devices.map(|devices| devices.to_string()).unwrap_or_default(),
            item.engine.clone().unwrap_or_default(),
            workload.unwrap_or_default().phase.unwrap_or_default(),
            advised.unwrap_or_default().strategy.unwrap_or_default(),
            item.verdict.clone().unwrap_or_default(),
            gain(|gain| gain.low),
            gain(|gain| gain.mid),
            gain(|gain| gain.high),
            item.trace_ids.get().to_owned(),
            item.labels.get().to_owned(),
            item.principal.clone().unwrap_or_default(),
            match item.outcomes.as_slice() {
                [] => String::new(),
                some => serde_json::to_string(some).map_err(|error| failed(&error))?,
            },
        ];
        table.write_record(row).map_err(|error| failed(&error))?;
    }
    table.into_inner().map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::internal(format!("a page could not be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_type_of_the_greatest_weight_decides_and_of_equal_ones_the_first() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(text));
            shape(&headers)
        };
        assert_eq!(of("text/csv"), Some(CSV));
        assert_eq!(of("text/html, application/ndjson;q=0.9, */*;q=0.8"), Some(NDJSON));
        assert_eq!(of("text/csv;q=0.5, application/x-ndjson"), Some(NDJSON));
        assert_eq!(of("text/csv;q=0, */*;q=0.1"), Some("application/json"));
        assert_eq!(of("*/*, text/csv"), Some("application/json"));
        assert_eq!(of("text/html"), None);
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let uri: Uri = "/v1/recommendations?limit=2&cursor=a&model=x".parse().unwrap();
        assert_eq!(next(&uri, "b"), "/v1/recommendations?limit=2&model=x&cursor=b");
    }
}
