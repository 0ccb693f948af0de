//! Looks now and then for what is to be kept no longer, beside the jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::context::App;
use crate::app::{ingest, retention};

/// Pause between two looks, and after a round that found something.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(20));

/// Deletes what is old until the service stops.
pub(super) async fn expire(app: Arc<App>) {
    let mut pause = PAUSE.1;
    // Half the grace time: what is unneeded goes between one and one and a half of it.
    let between = app.uploads.grace / 2;
    let mut swept = Instant::now();
    loop {
        tokio::select! {
            () = app.board.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let more = retention::round(&app).await.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "what is old could not be deleted");
            false
        });
        if between <= swept.elapsed() {
            match ingest::sweep(&app, app.uploads.grace).await {
                Ok(0) => {}
                Ok(n) => tracing::info!(n, "deleted objects that nothing names"),
                Err(error) => tracing::warn!(error = %error, "the object store was not swept"),
            }
            swept = Instant::now();
        }
        pause = if more { PAUSE.1 } else { PAUSE.0 };
    }
}
