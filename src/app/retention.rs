//! Deletes what is older, or more, than is to be kept, and gives the room back.

use crate::app::clock::now_ms;
use crate::app::context::{App, Keep};
use crate::app::error::AppError;
use crate::app::{room, traces};
use crate::store::Shared;
use crate::telemetry::metrics as names;

/// One round: some of what may go, then the room; says whether there is more.
pub async fn round(app: &App) -> Result<bool, AppError> {
    app.reserve.keep();
    let kept = &app.retention;
    let cutoff = |keep: Keep| keep.age_ms.map(|age_ms| now_ms().saturating_sub(age_ms));
    let count = |what: &'static str, n: u64| {
        if 0 < n {
            metrics::counter!(names::EXPIRED, "what" => what).increment(n);
            tracing::info!(what, n, "deleted by age or number");
        }
    };
    // Each of several replicas counts after the one before has deleted.
    let _turn = app.store.turn(Shared::Retention).await?;
    let keep = kept.recommendations;
    let mut gone = app.store.delete_old_recommendations(cutoff(keep), keep.most).await;
    if room::made(app, &gone) {
        gone = app.store.delete_old_recommendations(cutoff(keep), keep.most).await;
    }
    let recommendations = gone?;
    count("recommendation", recommendations);
    let mut gone = 0;
    for id in app.store.find_old_traces(cutoff(kept.traces), kept.traces.most).await? {
        match traces::delete(app, &id).await {
            Ok(()) => gone += 1,
            // Asked about, or deleted, since it was looked up.
            Err(AppError::Conflict(_) | AppError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    count("trace", gone);
    let keys = app.store.forget_old_keys(cutoff(kept.keys), kept.keys.most).await?;
    count("key", keys);
    app.store.give_back().await?;
    Ok(0 < recommendations + gone + keys)
}
