//! Passes an upload on as it arrives, without holding more than a few pieces of it.

use std::error::Error;
use std::io;

use axum::body::Body;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tower_http::timeout::TimeoutError;

use crate::app::uploads::Pieces;

/// Pieces that may wait to be read; one is what the connection had at a time.
const PIECES_AHEAD: usize = 4;

/// Feeds `body` to `take`, which may end before it has read all.
pub(super) async fn feed<T>(body: Body, take: impl AsyncFnOnce(Pieces) -> T) -> T {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let feeding = async move {
        let mut stream = body.into_data_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| io::Error::new(kind(&error), error));
            let broken = piece.is_err();
            if sender.send(piece).await.is_err() || broken {
                break;
            }
        }
    };
    // Feeding ends with the body, or because nobody takes any more.
    let ((), taken) = tokio::join!(feeding, take(pieces));
    taken
}

/// Whether a body broke off or only paused for too long.
pub(super) fn kind(error: &axum::Error) -> io::ErrorKind {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<TimeoutError>() {
            return io::ErrorKind::TimedOut;
        }
        cause = error.source();
    }
    io::ErrorKind::ConnectionAborted
}
