//! Looks now and then for what is to be kept no longer, beside the jobs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::{ingest, retention};

/// Pause between two looks, and after a round that found something.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(20));

async fn sweep(app: &App, unneeded: &mut BTreeSet<String>) -> Result<usize, AppError> {
    if ingest::is_own(app).await? { ingest::sweep(app, unneeded).await } else { Ok(0) }
}

/// Deletes what is old until the service stops.
pub(super) async fn expire(app: Arc<App>) {
    let mut pause = PAUSE.1;
    // Half the grace time: what is unneeded goes between one and a half and two of it.
    let between = app.uploads.grace / 2;
    let mut swept = Instant::now();
    let mut unneeded = BTreeSet::new();
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
            match sweep(&app, &mut unneeded).await {
                Ok(0) => {}
                Ok(n) => tracing::info!(n, "deleted objects that nothing names"),
                Err(error) => tracing::warn!(error = %error, "the object store was not swept"),
            }
            swept = Instant::now();
        }
        pause = if more { PAUSE.1 } else { PAUSE.0 };
    }
}
