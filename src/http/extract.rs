//! Reads bodies and queries, and refuses them in the service's own words.

use std::borrow::Cow;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::http::upload::kind;
use crate::wire::loose::{self, Loose};
use crate::wire::violation::Violation;

/// A JSON body: the value, and the bytes it was read from.
#[derive(Debug)]
pub struct JsonBody {
    /// What the body says.
    pub value: Value,
    /// The body.
    pub bytes: Bytes,
}

impl FromRequest<Service> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Failure> {
        if !is_sent_as(request.headers(), "application/json") {
            return Err(Failure::unsupported("the body must be sent as application/json"));
        }
        let bytes = whole(request, service).await?;
        Ok(Self { value: json(&bytes, Loose::InModel)?, bytes })
    }
}

/// A body of any media type, as it is sent.
#[derive(Debug)]
pub struct FileBody(pub Bytes);

impl FromRequest<Service> for FileBody {
    type Rejection = Failure;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Failure> {
        let bytes = whole(request, service).await?;
        if bytes.windows(3).any(|three| three == b"%00") {
            return Err(Failure::malformed(NUL));
        }
        Ok(Self(bytes))
    }
}

/// What a form of a page sends.
#[derive(Debug)]
pub struct FormBody(Bytes);

impl FormBody {
    /// Its fields, decoded.
    pub fn pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(&self.0)
    }

    /// What its first field of this name holds; nothing where there is none.
    pub fn field(&self, wanted: &str) -> String {
        let found = self.pairs().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    }
}

impl FromRequest<Service> for FormBody {
    type Rejection = Failure;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Failure> {
        if !is_sent_as(request.headers(), "application/x-www-form-urlencoded") {
            return Err(Failure::unsupported("the body must be a form, as the page sends it"));
        }
        whole(request, service).await.map(Self)
    }
}

/// A JSON or TOML body as one kind of value.
#[derive(Debug)]
pub struct DocumentBody(pub Value);

impl FromRequest<Service> for DocumentBody {
    type Rejection = Failure;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Failure> {
        let toml = is_sent_as(request.headers(), "application/toml");
        if !toml && !is_sent_as(request.headers(), "application/json") {
            let detail = "the body must be sent as application/json or application/toml";
            return Err(Failure::unsupported(detail));
        }
        let bytes = whole(request, service).await?;
        if !toml {
            return Ok(Self(json(&bytes, Loose::Everywhere)?));
        }
        let refuse = |error: &dyn std::fmt::Display| {
            Failure::malformed(format!("the body is not TOML: {error}"))
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| refuse(&error))?;
        let read = toml::from_str(text).map_err(|error: toml::de::Error| refuse(&error.message()));
        Ok(Self(without_nul(read?)?))
    }
}

fn json(bytes: &Bytes, loose: Loose) -> Result<Value, Failure> {
    let read = loose::parse(bytes, loose)
        .map_err(|error| Failure::malformed(format!("the body is not JSON: {error}")))?;
    // Nearly none has a NUL, and escaped it looks like this.
    if bytes.windows(6).any(|six| six == br"\u0000") { without_nul(read) } else { Ok(read) }
}

const NUL: &str = "a text in the body has the character NUL (\\u0000); leave it out";

/// A value of whose texts none has the character NUL, which `PostgreSQL` cannot keep.
fn without_nul(value: Value) -> Result<Value, Failure> {
    fn has_nul(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(has_nul),
            Value::Object(fields) => {
                fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value))
            }
            _ => false,
        }
    }
    if has_nul(&value) { Err(Failure::malformed(NUL)) } else { Ok(value) }
}

/// The whole body, unencoded, within the limits of size and time.
async fn whole(request: Request, service: &Service) -> Result<Bytes, Failure> {
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(Failure::unsupported("this body must be sent without Content-Encoding"));
    }
    let limit = service.limits.max_body_bytes;
    let declared = content_length(request.headers());
    if declared.is_some_and(|declared| limit < declared) {
        return Err(Failure::too_large(limit));
    }
    let slow = || Failure::slow_body(service.limits.body_timeout_s);
    let reading = read(request.into_body(), declared, limit, slow);
    tokio::time::timeout(service.body_timeout(), reading).await.map_err(|_| slow())?
}

async fn read(
    body: Body,
    declared: Option<u64>,
    limit: u64,
    slow: impl Fn() -> Failure,
) -> Result<Bytes, Failure> {
    let expected = declared.and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
    // A declared length is a claim; memory is taken as the body arrives.
    let mut bytes = Vec::with_capacity(expected.min(64 << 10));
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| match kind(&error) {
            // A pause of the whole time given is noticed below, at the same moment.
            std::io::ErrorKind::TimedOut => slow(),
            _ => Failure::malformed(format!("the body broke off: {error}")),
        })?;
        if limit < (bytes.len() + piece.len()) as u64 {
            return Err(Failure::too_large(limit));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

/// The length a request declares.
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a body is sent as this media type, whatever its parameters.
#[must_use]
pub fn is_sent_as(headers: &HeaderMap, media_type: &str) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(media_type)
}

/// The fields of a query or of a form, decoded.
pub fn pairs(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(text.as_bytes())
}

/// What is wrong with a query, in words for the one who wrote it.
fn of_query(text: &str) -> Violation {
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    let (pointer, what) = match text.split_once(": ") {
        Some((name, what)) if !name.contains(' ') => (format!("/{name}"), what),
        _ => (String::new(), text),
    };
    let what = match what {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "it must be a whole number"
        }
        "invalid float literal" => "it must be a number",
        "provided string was not `true` or `false`" => "it must be true or false",
        what => what,
    };
    Violation::new(pointer, "query", what)
}

/// A query string read into `T`; unknown names are refused.
#[derive(Debug)]
pub struct QueryOf<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Failure::invalid(vec![of_query(&rejection.body_text())])),
        }
    }
}
