//! Reads the rest of a refused body, so that the client gets to see the refusal.
//!
//! Many clients send their whole body before they look for an answer. If the connection
//! were closed with the body half read, they would see a broken pipe in place of the
//! problem that tells them what is wrong.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;

use crate::http::extract::content_length;

/// A rest above this is not worth reading, bytes.
const MAX_REST_BYTES: u64 = 256 << 20;
/// How long reading the rest may take.
const MAX_REST_TIME: Duration = Duration::from_secs(10);

/// A body that a handler reads and that stays here when it stops reading.
struct Lent(Arc<Mutex<Body>>);

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// Answers, and after a refusal reads what the client is still sending.
pub(super) async fn drain_refused(request: Request, next: Next) -> Response {
    // Such a client waits for leave to send its body, and will not send it.
    if request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let too_long = content_length(request.headers()).is_some_and(|n| MAX_REST_BYTES < n);
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body));
    let lent = Body::new(Lent(Arc::clone(&body)));
    let response = next.run(Request::from_parts(parts, lent)).await;
    // Who sent too slowly before will not hurry now, and is told at once.
    let slow = response.status() == StatusCode::REQUEST_TIMEOUT;
    if response.status().as_u16() < 400 || too_long || slow {
        return response;
    }
    let rest = std::mem::take(&mut *body.lock().unwrap_or_else(PoisonError::into_inner));
    let reading = async {
        let mut n_bytes = 0;
        let mut stream = rest.into_data_stream();
        while let Some(Ok(piece)) = stream.next().await {
            n_bytes += piece.len() as u64;
            if MAX_REST_BYTES < n_bytes {
                break;
            }
        }
    };
    // Time up: the client sees a closed connection, as it would have without us.
    let _ = tokio::time::timeout(MAX_REST_TIME, reading).await;
    response
}
