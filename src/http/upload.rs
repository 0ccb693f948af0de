//! Passes an upload on as it arrives, without holding more than a few pieces of it.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tower_http::timeout::TimeoutError;

use crate::app::uploads::Pieces;

/// Pieces that may wait to be read; one is what the connection had at a time.
const PIECES_AHEAD: usize = 4;

/// How fast an upload must come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Bytes a second.
    pub(super) least_bytes_per_s: u64,
    /// Waited for it, after which it is looked at.
    pub(super) over: Duration,
}

/// Feeds `body` to `take`, which may end before it has read all.
pub(super) async fn feed<T, E: Error + Send + Sync + 'static>(
    body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    pace: Pace,
    take: impl AsyncFnOnce(Pieces) -> T,
) -> T {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let feeding = async move {
        let (mut waited, mut came) = (Duration::ZERO, 0);
        loop {
            let began = Instant::now();
            let Some(piece) = body.next().await else { break };
            waited += began.elapsed();
            let mut piece = piece.map_err(|error| io::Error::new(kind(&error), error));
            came += piece.as_ref().map_or(0, Bytes::len);
            if pace.over <= waited {
                if (came as f64) < pace.least_bytes_per_s as f64 * waited.as_secs_f64() {
                    piece = Err(io::ErrorKind::TimedOut.into());
                }
                (waited, came) = (Duration::ZERO, 0);
            }
            let broken = piece.is_err();
            if piece.as_ref().is_ok_and(Bytes::is_empty) {
                continue;
            }
            if sender.send(piece).await.is_err() || broken {
                return;
            }
        }
        // The end; nobody takes it who has refused the rest.
        let _ = sender.send(Ok(Bytes::new())).await;
    };
    // Feeding ends with the body, or because nobody takes any more.
    let ((), taken) = tokio::join!(feeding, take(pieces));
    taken
}

/// Whether a body broke off or only paused for too long.
pub(super) fn kind(error: &(dyn Error + 'static)) -> io::ErrorKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TimeoutError>() {
            return io::ErrorKind::TimedOut;
        }
        cause = error.source();
    }
    io::ErrorKind::ConnectionAborted
}
