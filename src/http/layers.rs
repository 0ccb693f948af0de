//! What happens to every request, outermost first.
//!
//! 1. request id: taken from `X-Request-Id` or made, and echoed
//! 2. log: one event per request, in a span that carries the id
//! 3. headers for browsers: types are not guessed, pages load nothing from elsewhere
//! 4. compression, where the client asks for it
//! 5. problem: errors get their body, their path and the id
//! 6. metrics: count, time, in flight, by route template
//! 7. refused bodies are read to their end
//! 8. token and scope; on loopback the names that may be asked for
//! 9. panic guard
//! 10. body limit and pause limit, for uploads too; time limit, except for uploads

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower::{Service as TowerService, ServiceBuilder};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{
    MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::config::Limits;
use crate::http::accept::wants_page;
use crate::http::access::admit;
use crate::http::discard_body::drain_refused;
use crate::http::etag::compressed_tag;
use crate::http::problem::{Failure, PROBLEM_JSON, PageOfRefusal};
use crate::http::state::Service;
use crate::telemetry::{metrics as names, spans};
use crate::web;
use crate::wire::violation::Violation;

/// Request and answer header with the id under which the log tells more.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a client's is replaced, because it goes into every log line.
const MAX_ID_BYTES: usize = 128;

/// The routes with the time limit that uploads are free of.
pub(super) fn limit_time(routes: Router<Service>, limits: &Limits) -> Router<Service> {
    let time = Duration::from_secs_f64(limits.request_timeout_s.max(0.001));
    routes.layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, time))
}

/// The routes with all that happens to every request.
pub(super) fn wrap(routes: Router<Service>, service: &Service) -> Router<Service> {
    let limits = &service.limits;
    let pause = Duration::from_secs_f64(limits.body_timeout_s.max(0.001));
    // A little above what uploads check themselves, so that their own words are heard.
    let upload = limits.max_upload_bytes.saturating_add(1 << 16);
    let upload = usize::try_from(upload).unwrap_or(usize::MAX);
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request<Body>| {
            let span = tracing::info_span!(
                "request",
                http.id = request_id(request).unwrap_or_default(),
                http.method = request.method().as_str(),
                http.path = request.uri().path(),
            );
            if let Some(parent) = request.headers().get("traceparent") {
                spans::follow(&span, parent.to_str().unwrap_or_default());
            }
            span
        })
        .on_request(())
        .on_failure(())
        .on_response(|response: &Response, latency: Duration, _: &Span| {
            tracing::info!(
                http.status = response.status().as_u16(),
                http.latency_s = latency.as_secs_f64(),
                "answered"
            );
        });
    routes.layer(
        ServiceBuilder::new()
            .layer(middleware::from_fn(drop_unfit_id))
            .layer(SetRequestIdLayer::new(X_REQUEST_ID, MakeRequestUuid))
            .layer(PropagateRequestIdLayer::new(X_REQUEST_ID))
            .layer(trace)
            .layer(middleware::from_fn(mind_browsers))
            .layer(middleware::from_fn(tag_compressed))
            .layer(
                CompressionLayer::new()
                    .quality(CompressionLevel::Fastest)
                    .compress_when(DefaultPredicate::new().and(SizeAbove::new(LEAST_COMPRESSED))),
            )
            .layer(middleware::from_fn(write_problem))
            .layer(middleware::from_fn(measure))
            .layer(middleware::from_fn(drain_refused))
            .layer(middleware::from_fn(refuse_nul))
            .layer(middleware::from_fn_with_state(service.clone(), admit))
            .layer(CatchPanicLayer::custom(|panic: Box<dyn std::any::Any + Send>| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Failure::internal(format!("panic: {}", text.unwrap_or("?"))).into_response()
            }))
            .layer(RequestBodyLimitLayer::new(upload))
            .layer(RequestBodyTimeoutLayer::new(pause))
            .map_request(|request: Request<_>| request.map(Body::new)),
    )
}

/// The service that takes a path with a slash at its end for the one without; the page at `/docs`
/// alone is a folder.
pub(super) fn without_slash(
    routes: Router,
) -> impl TowerService<Request, Response = Response, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync {
    ServiceBuilder::new()
        .map_request(|mut request: Request| {
            let uri = request.uri();
            let path = uri.path().trim_end_matches('/');
            if path.len() < uri.path().len() && !path.is_empty() && !path.starts_with("/docs") {
                let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                let mut parts = uri.clone().into_parts();
                parts.path_and_query = format!("{path}{query}").parse().ok();
                if let Ok(uri) = Uri::from_parts(parts) {
                    *request.uri_mut() = uri;
                }
            }
            request
        })
        .service(routes)
}

/// Below this, compression saves no packet: what one holds on Ethernet, bytes.
const LEAST_COMPRESSED: u64 = 1400;

/// Another form of a body has another tag (RFC 9110 section 8.8.3).
async fn tag_compressed(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if response.headers().contains_key(header::CONTENT_ENCODING)
        && let Some(tag) = response.headers().get(header::ETAG)
        && let Some(tag) = compressed_tag(tag)
    {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// What a page may load: what the service answers.
const CONTENT_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// The same for the API page, which writes styles into itself and has pictures inside.
const CONTENT_POLICY_OF_DOCS: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

async fn mind_browsers(request: Request, next: Next) -> Response {
    let of_docs = request.uri().path().starts_with("/docs");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("text/html")) {
        let policy = if of_docs { CONTENT_POLICY_OF_DOCS } else { CONTENT_POLICY };
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    }
    response
}

fn request_id<B>(request: &Request<B>) -> Option<&str> {
    request.extensions().get::<RequestId>()?.header_value().to_str().ok()
}

async fn drop_unfit_id(mut request: Request, next: Next) -> Response {
    let fits = |id: &str| !id.is_empty() && id.len() <= MAX_ID_BYTES;
    let id = request.headers().get(X_REQUEST_ID);
    if id.is_some_and(|id| !id.to_str().is_ok_and(fits)) {
        request.headers_mut().remove(X_REQUEST_ID);
    }
    next.run(request).await
}

/// No text that is kept has the character NUL, which PostgreSQL cannot keep.
async fn refuse_nul(request: Request, next: Next) -> Response {
    let uri = request.uri();
    if uri.path().contains("%00") {
        return Failure::of_status(StatusCode::NOT_FOUND).into_response();
    }
    if uri.query().is_some_and(|query| query.contains("%00")) {
        let detail = "the query has the character NUL (%00); leave it out";
        let violation = Violation::new("", "text", detail);
        return Failure::invalid(vec![violation]).into_response();
    }
    next.run(request).await
}

async fn write_problem(request: Request, next: Next) -> Response {
    let id = request_id(&request).map(str::to_owned);
    let as_page = wants_page(request.headers());
    let uri = request.uri().clone();
    let mut response = next.run(request).await;
    let status = response.status();
    if status.as_u16() < 400 || response.extensions().get::<PageOfRefusal>().is_some() {
        return response;
    }
    let failure = response.extensions_mut().remove::<Failure>();
    let Failure { mut problem, cause, retry_after_s } =
        failure.unwrap_or_else(|| Failure::of_status(status));
    if let Some(cause) = cause {
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(cause, "the service failed");
        } else {
            tracing::warn!(cause, "a request was turned away");
        }
    }
    problem.instance = Some(uri.path().to_owned());
    problem.request_id = id;
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.append(header::VARY, HeaderValue::from_static("accept"));
    if let Some(seconds) = retry_after_s {
        parts.headers.insert(header::RETRY_AFTER, seconds.into());
    }
    let (kind, body) = if as_page {
        (HTML, web::problem::page(&problem).into_bytes())
    } else {
        (PROBLEM_JSON, serde_json::to_vec(&problem).unwrap_or_default())
    };
    parts.headers.insert(header::CONTENT_TYPE, kind);
    Response::from_parts(parts, Body::from(body))
}

async fn measure(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let matched = request.extensions().get::<MatchedPath>();
    // The template, never the path: a label must not grow with what clients ask for.
    let route = matched.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = method_name(request.method());
    let in_flight = InFlight::new();
    let response = next.run(request).await;
    drop(in_flight);
    let status = response.status().as_u16().to_string();
    metrics::histogram!(names::HTTP_SECONDS, "method" => method, "route" => route.clone())
        .record(began.elapsed());
    metrics::counter!(
        names::HTTP_REQUESTS, "method" => method, "route" => route, "status" => status
    )
    .increment(1);
    response
}

/// A request that is being answered, also where its client goes away and nobody polls any more.
struct InFlight;

impl InFlight {
    fn new() -> Self {
        metrics::gauge!(names::HTTP_IN_FLIGHT).increment(1.0);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!(names::HTTP_IN_FLIGHT).decrement(1.0);
    }
}

fn method_name(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
