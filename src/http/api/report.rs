//! The report of a trace: what can be said before any strategy.

#![expect(unused_qualifications, reason = "what utoipa writes for `params` is qualified")]

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::IntoParams;

use crate::app::report::{self as app, Asked};
use crate::http::accept;
use crate::http::extract::QueryOf;
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::wire::field::{OneOf, named};
use crate::wire::problem::Problem;
use crate::wire::question::{DEVICES, TOKENS};
use crate::wire::report::TraceReport;
use crate::wire::violation::Violation;

named! {
    /// Expert-parallel size (EP).
    AtDevices: DEVICES
}

named! {
    /// How many tokens a step has.
    TokensPerStep: TOKENS
}

/// Whether a page is wanted, by the name of the shape.
const SHAPES: [(bool, &str); 2] = [(false, "json"), (true, "html")];

named! {
    /// The shape of a report.
    Shape: OneOf(&SHAPES)
}

/// What is asked of a report.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ReportQuery {
    /// Expert-parallel size (EP), 1 to 4096.
    #[param(required = true, value_type = Option<AtDevices>, inline)]
    pub devices: Option<u32>,
    /// Tokens of a step, for a trace of routes; a 256th of the trace if left out.
    #[param(value_type = Option<TokensPerStep>, inline)]
    pub tokens_per_step: Option<u64>,
    /// `json` or `html`; left out, `Accept` decides.
    #[param(value_type = Option<Shape>, inline)]
    pub format: Option<String>,
}

/// Diagnoses a trace: imbalance on N devices, ceiling of balancing, what slots would buy, drift.
#[utoipa::path(get, path = "/v1/traces/{id}/report", tag = "traces",
    params(("id" = String, Path, description = "As the answer to the upload names it"),
        ReportQuery,
        ("Accept" = Option<String>, Header, description = "`text/html` for a page with charts")),
    responses(
        (status = 200, description = "The report", content(
            (TraceReport = "application/json"),
            (String = "text/html"),
        )),
        (status = 404, description = "There is no such trace", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Invalid parameter", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_report(
    State(service): State<Service>,
    Path(id): Path<String>,
    QueryOf(query): QueryOf<ReportQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let page = wants_page(&query, &headers)?;
    let Some(devices) = query.devices else {
        let detail = "`devices` is missing; state the expert-parallel size (EP)";
        return Err(Failure::invalid(vec![Violation::new("/devices", "required", detail)]));
    };
    let asked = Asked { devices, tokens_per_step: query.tokens_per_step };
    let report = app::report(&service.app, &id, asked).await?;
    let vary = [(header::VARY, "accept")];
    Ok(if page {
        // Its style stands within it, so that it can be kept as a file.
        let style = BASE64_STANDARD.encode(Sha256::digest(app::STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        (vary, [(header::CONTENT_SECURITY_POLICY, policy)], Html(app::html(&report)))
            .into_response()
    } else {
        (vary, Json(report)).into_response()
    })
}

fn wants_page(query: &ReportQuery, headers: &HeaderMap) -> Result<bool, Failure> {
    let Some(asked) = query.format.as_deref() else { return Ok(accept::wants_page(headers)) };
    let known = SHAPES.iter().find(|(_, name)| *name == asked);
    known.map(|(page, _)| *page).ok_or_else(|| {
        let [(_, json), (_, html)] = SHAPES;
        let detail = format!("format is {asked}; it must be {json} or {html}");
        Failure::invalid(vec![Violation::new("/format", "one_of", detail)])
    })
}
