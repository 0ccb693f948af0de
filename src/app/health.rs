//! Whether the service can do its work.

use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::room;
use crate::wire::job::Status;

/// The runner shows a sign of life every second; without one for so long it is gone,
/// milliseconds.
const RUNNER_SILENCE_MS: i64 = 10_000;

/// What keeps the service from taking questions, if anything does.
pub async fn obstacle(app: &App) -> Option<String> {
    if app.board.draining.is_cancelled() {
        return Some("the service is stopping".to_owned());
    }
    let now = now_ms();
    if app.board.last_beat_ms() + RUNNER_SILENCE_MS < now {
        return Some("the workers show no sign of life".to_owned());
    }
    // A full disk is also why nothing can be written, and says what to do.
    let shortage = room::shortage(app).await;
    if let Ok(Some(shortage)) = shortage {
        return Some(shortage);
    }
    match app.store.probe_write(now).await {
        Err(error) => Some(error.to_string()),
        Ok(()) => shortage.err().map(|error| error.to_string()),
    }
}

/// How many recommendations there are of each status, none left out.
pub async fn job_counts(app: &App) -> Result<Vec<(Status, i64)>, AppError> {
    let counted = app.store.count_jobs().await?;
    let all =
        [Status::Queued, Status::Running, Status::Succeeded, Status::Failed, Status::Canceled];
    let count = |status| counted.iter().find(|(s, _)| *s == status).map_or(0, |(_, n)| *n);
    Ok(all.into_iter().map(|status| (status, count(status))).collect())
}
