//! The only place where an error becomes a status.
//!
//! A handler ends with a [`Failure`]; it travels in the response's extensions to the
//! outermost layer, which adds the path and the request id, writes the body and, where
//! it is our fault, the log.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::error::AppError;
use crate::store::StoreError;
use crate::wire::problem::Problem;
use crate::wire::violation::Violation;
use moe_gps_core::formats::trace::TraceError;

/// Media type of every error.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// How a token may be presented (RFC 6750, RFC 7617).
const CHALLENGES: [HeaderValue; 2] = [
    HeaderValue::from_static("Bearer"),
    HeaderValue::from_static("Basic realm=\"moe-gps\", charset=\"UTF-8\""),
];

/// What remains true while nothing can be written.
const KEPT: &str = "; nothing that was accepted is lost";
/// Whether what failed is the object store of the traces, and not the disk.
fn is_away(source: &std::io::Error) -> bool {
    source.kind() == std::io::ErrorKind::HostUnreachable
}

fn away() -> String {
    format!(
        "the object store that --traces names cannot be used; see that it runs and lets this \
             service in{KEPT}"
    )
}

/// Title of every 413.
const TOO_LARGE: &str = "Body too large";
/// How soon a client may try again after the queue was full, seconds.
const RETRY_QUEUE_S: u32 = 1;
/// How soon a client may try again after the database failed to write, seconds.
const RETRY_STORE_S: u32 = 10;
/// How soon a client may try again while the service starts or stops, seconds.
const RETRY_READY_S: u32 = 5;

/// Marks an error whose page says by itself what is wrong.
#[derive(Debug, Clone, Copy)]
pub struct PageOfRefusal;

/// An error on its way to the client.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What the client is told.
    pub problem: Box<Problem>,
    /// Seconds after which trying again makes sense.
    pub retry_after_s: Option<u32>,
    /// What only the log is told.
    pub cause: Option<String>,
}

impl Failure {
    /// A failure of the kind `slug`.
    pub fn new(slug: &str, title: &str, status: StatusCode, detail: impl Into<String>) -> Self {
        let problem = Problem::new(slug, title, status.as_u16(), detail);
        Self { problem: Box::new(problem), retry_after_s: None, cause: None }
    }

    /// The body is not well-formed.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new("malformed", "Malformed body", StatusCode::BAD_REQUEST, detail)
    }

    /// The body is larger than it may be.
    #[must_use]
    pub fn too_large(limit_bytes: u64) -> Self {
        let detail = format!("the body is larger than {limit_bytes} bytes");
        Self::new("too-large", TOO_LARGE, StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// The body has a format or encoding that is not understood here.
    pub fn unsupported(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new("unsupported-format", "Unsupported format", status, detail)
    }

    /// The body did not arrive in time.
    #[must_use]
    pub fn slow_body(seconds: f64) -> Self {
        let detail = format!("the body did not arrive within {seconds} s");
        Self::new("slow-body", "Body too slow", StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// Nothing has this id or path.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new("not-found", "Not found", StatusCode::NOT_FOUND, detail)
    }

    /// The request has no token that counts.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNAUTHORIZED;
        Self::new("unauthenticated", "Token needed", status, detail)
    }

    /// The caller may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new("forbidden", "Forbidden", StatusCode::FORBIDDEN, detail)
    }

    /// The database or the disk cannot be written right now.
    fn storage(detail: String, cause: &dyn std::error::Error) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let failure = Self::new("storage-unavailable", "Storage unavailable", status, detail);
        Self { retry_after_s: Some(RETRY_STORE_S), cause: Some(chain(cause)), ..failure }
    }

    /// The request is well-formed and breaks rules.
    #[must_use]
    pub fn invalid(violations: Vec<Violation>) -> Self {
        Self::broken(violations, 0)
    }

    /// The same, with so many more violations that are not listed.
    fn broken(listed: Vec<Violation>, unlisted: u64) -> Self {
        let rules = |n: u64| format!("the request breaks {n} rules; see violations");
        let detail = match (&*listed, unlisted) {
            ([only], 0) => only.detail.clone(),
            (all, 0) => rules(all.len() as u64),
            (first, more) => {
                let n = first.len();
                rules(n as u64 + more) + &format!(", which has the kinds of the first {n}")
            }
        };
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let mut failure = Self::new("invalid-question", "Invalid question", status, detail);
        failure.problem.violations = told(listed, unlisted);
        failure
    }

    /// A device profile breaks rules.
    #[must_use]
    pub fn invalid_device(violations: Vec<Violation>) -> Self {
        Self::invalid(violations)
            .about("urn:moe-gps:problem:invalid-device", "Invalid device profile")
    }

    /// A model breaks rules.
    #[must_use]
    pub fn invalid_model(violations: Vec<Violation>) -> Self {
        Self::invalid(violations).about("urn:moe-gps:problem:invalid-model", "Invalid model")
    }

    /// The same said of a thing that is not a question.
    fn about(mut self, kind: &str, title: &str) -> Self {
        kind.clone_into(&mut self.problem.kind);
        title.clone_into(&mut self.problem.title);
        self
    }

    /// The service cannot take requests right now.
    pub fn not_ready(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let failure = Self::new("not-ready", "Service not ready", status, detail);
        Self { retry_after_s: Some(RETRY_READY_S), ..failure }
    }

    /// A bug of ours, with the cause for the log.
    pub fn internal(cause: impl Into<String>) -> Self {
        let detail = "the service failed; the log tells more under the request id";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let failure = Self::new("internal", "Internal error", status, detail);
        Self { cause: Some(cause.into()), ..failure }
    }

    /// What a bare status means that no handler has explained.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => {
                Self::not_found("there is nothing at this path; /docs lists what there is")
            }
            StatusCode::METHOD_NOT_ALLOWED => Self::new(
                "method-not-allowed",
                "Method not allowed",
                status,
                "this path does not answer this method; the Allow header lists those it does",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new("too-large", TOO_LARGE, status, "the body is larger than any may be")
            }
            StatusCode::BAD_REQUEST => {
                Self::malformed("the request is not HTTP as RFC 9112 has it")
            }
            StatusCode::URI_TOO_LONG => Self::new(
                "refused",
                "URI too long",
                status,
                "the path with its query is longer than 65,534 bytes; send long text in a body",
            ),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Self::new(
                "refused",
                "Head too large",
                status,
                "the request has more than 100 header fields, or they are too long; send fewer",
            ),
            StatusCode::SERVICE_UNAVAILABLE => {
                Self::not_ready("the request took too long and was given up; try again later")
            }
            status if status.is_server_error() => Self::internal(status.to_string()),
            status => {
                let title = status.canonical_reason().unwrap_or("Request refused");
                Self::new("refused", title, status, "the request was refused")
            }
        }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let detail = error.to_string();
        match error {
            AppError::NotFound { .. } | AppError::Unknown(_) => Self::not_found(detail),
            AppError::Conflict(detail) => {
                Self::new("conflict", "Conflict", StatusCode::CONFLICT, detail)
            }
            AppError::Refused(violations) => Self::invalid(violations),
            AppError::QueueFull { .. } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let failure = Self::new("queue-full", "Queue full", status, detail);
                Self { retry_after_s: Some(RETRY_QUEUE_S), ..failure }
            }
            AppError::TooManyQueued { .. } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                let failure = Self::new("too-many-queued", "Too many queued", status, detail);
                Self { retry_after_s: Some(RETRY_QUEUE_S), ..failure }
            }
            AppError::Forbidden(detail) => Self::forbidden(detail),
            AppError::Store(error @ (StoreError::Damaged(_) | StoreError::Altered { .. })) => {
                Self::storage(detail, &error)
            }
            AppError::Store(error) if error.is_passing() => Self::storage(detail + KEPT, &error),
            AppError::Trace { source, .. } if is_away(&source) => Self::storage(away(), &source),
            AppError::Upload(error) => error.into(),
            other => Self::internal(chain(&other)),
        }
    }
}

/// Violations of a kind that are listed one by one.
const SINGLY: u64 = 3;

/// Violations as they are listed: many that differ in numbers alone are one, with how many there are.
/// So many more are not among them.
fn told(violations: Vec<Violation>, unlisted: u64) -> Vec<Violation> {
    let mut kinds = Violation::kinds(&violations);
    // What is not listed is most likely more of the only kind there is.
    if let [(_, more)] = &mut kinds[..] {
        *more += unlisted;
    }
    if kinds.iter().all(|(_, more)| *more < SINGLY) {
        return violations;
    }
    let one = |(first, more): (&Violation, u64)| match more {
        0 => first.clone(),
        more => Violation {
            detail: format!("{}; and {more} more like it", first.detail),
            ..first.clone()
        },
    };
    kinds.into_iter().map(one).collect()
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        AppError::Store(error).into()
    }
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        let detail = error.to_string();
        match error {
            TraceError::UnknownFormat(_)
            | TraceError::Unrecognized
            | TraceError::UnknownEncoding(_) => Self::unsupported(detail),
            TraceError::Unreadable(_) => {
                Self::new("unreadable-trace", "Unreadable trace", StatusCode::BAD_REQUEST, detail)
            }
            TraceError::Interrupted(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                let status = StatusCode::REQUEST_TIMEOUT;
                let detail = "the upload paused for too long, or came too slowly; send it again";
                Self::new("slow-body", "Body too slow", status, detail)
            }
            TraceError::Interrupted(_) => Self::malformed(detail),
            TraceError::TooLarge { .. } | TraceError::Bomb { .. } => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                Self::new("too-large", TOO_LARGE, status, detail)
            }
            TraceError::Invalid { listed, unlisted } => Self::broken(listed, unlisted)
                .about("urn:moe-gps:problem:invalid-trace", "Invalid trace"),
            TraceError::Storage(ref source) if is_away(source) => Self::storage(away(), source),
            TraceError::StorageFull(ref source) | TraceError::Storage(ref source) => {
                Self::storage(detail.clone() + KEPT, source)
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if status == StatusCode::UNAUTHORIZED {
            for challenge in CHALLENGES {
                response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
            }
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// An error and all its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_violations_of_a_kind_are_one() {
        let foreign =
            |at: usize| Violation::new(format!("/rows/{at}/x"), "unknown", "no such field");
        let few: Vec<_> = (0..3).map(foreign).collect();
        assert_eq!(Failure::invalid(few.clone()).problem.violations, few, "each has its place");
        let mut many: Vec<_> = (0..99).map(foreign).collect();
        let only = Failure::broken(many.clone(), 901).problem;
        assert_eq!(only.violations.len(), 1);
        assert_eq!(only.violations[0].detail, "no such field; and 999 more like it");
        assert!(only.detail.starts_with("the request breaks 1000 rules"), "{}", only.detail);
        let other = "/devices".to_owned();
        many.push(Violation::new(other, "range", "0 is too small"));
        let both = Failure::invalid(many).problem.violations;
        assert_eq!(both[0].detail, "no such field; and 98 more like it");
        assert_eq!(both[1].detail, "0 is too small");
    }

    #[test]
    fn what_passes_is_503_with_retry_after_and_what_does_not_is_500() {
        let full = Failure::from(AppError::Store(StoreError::Full(sqlx::Error::PoolClosed)));
        assert_eq!((full.problem.status, full.retry_after_s), (503, Some(RETRY_STORE_S)));
        let corrupt = Failure::from(AppError::Store(StoreError::Corrupt { what: "a row" }));
        assert_eq!(corrupt.problem.status, 500);
        assert!(!corrupt.problem.detail.contains("row"), "causes are for the log");
        assert!(corrupt.cause.unwrap().contains("a row"));
    }
}
