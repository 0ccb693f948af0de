//! What a client asks for beside the question: `Prefer` and `Idempotency-Key`.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::http::problem::Failure;
use crate::wire::violation::Violation;

/// Answer header that names the preference that was followed (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Longest time a client is kept waiting, seconds.
const MAX_WAIT_S: u64 = 60;
/// Longest idempotency key, characters.
const MAX_KEY_CHARS: usize = 255;

/// How long the client would wait for a result, from `Prefer: wait=SECONDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(Option<u64>);

impl Wait {
    /// The time, at most what is granted.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        self.0.map(Duration::from_secs)
    }

    /// The same while a turn of waiting is left, which is held as long as the second value.
    #[must_use]
    pub fn granted(self, turns: &Semaphore) -> (Self, Option<SemaphorePermit<'_>>) {
        match self.0 {
            None | Some(0) => (self, None),
            Some(_) => match turns.try_acquire() {
                Ok(turn) => (self, Some(turn)),
                Err(_) => (Self(Some(0)), None),
            },
        }
    }

    /// The value of `Preference-Applied`.
    #[must_use]
    pub fn applied(self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("wait={}", self.0?)).ok()
    }
}

impl<S: Sync> FromRequestParts<S> for Wait {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(wait_s(&parts.headers)))
    }
}

/// A preference that cannot be read is ignored, as RFC 7240 section 2 has it.
fn wait_s(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, value) = preference.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let seconds: u64 = value.trim().trim_matches('"').parse().ok()?;
        Some(seconds.min(MAX_WAIT_S))
    })
}

/// The client's own name for this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self(None));
        };
        let key = value.to_str().unwrap_or_default();
        // The header is a structured-field string, so it may come in quotes.
        let key = key.strip_prefix('"').and_then(|k| k.strip_suffix('"')).unwrap_or(key);
        if key.is_empty() || MAX_KEY_CHARS < key.len() {
            let detail =
                format!("Idempotency-Key must have 1 to {MAX_KEY_CHARS} printable characters");
            return Err(Failure::invalid(vec![Violation::new("", "idempotency_key", detail)]));
        }
        Ok(Self(Some(key.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(text: &'static str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", HeaderValue::from_static(text));
        wait_s(&headers)
    }

    #[test]
    fn waits_are_read_bounded_or_ignored() {
        assert_eq!(wait_of("wait=5"), Some(5));
        assert_eq!(wait_of("respond-async, Wait = \"10\"; x=y"), Some(10));
        assert_eq!(wait_of("wait=3600"), Some(60));
        assert_eq!(wait_of("wait=soon"), None);
        assert_eq!(wait_of("handling=lenient"), None);
    }
}
