//! Fetch, list or delete a stored trace.

use serde_json::value::RawValue;

use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::room;
use crate::store::traces::{TraceDeletion, TraceRecord};
use crate::store::{Shared, StoreError};
use crate::wire::listing::TracePage;

/// The trace with this id.
pub async fn fetch(app: &App, id: &str) -> Result<TraceRecord, AppError> {
    app.store.find_trace(id).await?.ok_or_else(|| not_found(id))
}

/// Stored traces by id, from just after `after`.
pub async fn list(app: &App, after: Option<&str>, limit: u32) -> Result<TracePage, AppError> {
    let mut records = app.store.list_traces(after, limit + 1).await?;
    let more = (limit as usize) < records.len();
    records.truncate(limit as usize);
    let next_cursor = records.last().filter(|_| more).map(|last| last.id.clone());
    let corrupt = |_| StoreError::Corrupt { what: "summary of a trace" };
    let summary = |record: TraceRecord| RawValue::from_string(record.summary).map_err(corrupt);
    let items = records.into_iter().map(summary).collect::<Result<_, _>>()?;
    Ok(TracePage { items, next_cursor })
}

/// Deletes a trace that no queued or running recommendation needs.
pub async fn delete(app: &App, id: &str) -> Result<(), AppError> {
    let _keeping = app.uploads.keeping.lock().await;
    let _turn = app.store.turn(Shared::Traces).await?;
    let mut deleted = app.store.delete_trace(id).await;
    if room::made(app, &deleted) {
        deleted = app.store.delete_trace(id).await;
    }
    match deleted? {
        TraceDeletion::Absent => Err(not_found(id)),
        TraceDeletion::Needed(n) => Err(AppError::Conflict(format!(
            "trace {id} is needed by {n} queued or running recommendation(s); \
             cancel them or wait for their end"
        ))),
        TraceDeletion::Done => {
            if let Err(error) = app.traces.remove(id) {
                // The row decides; a file that stays behind is replaced by the next upload.
                tracing::warn!(trace.id = id, %error, "file of a deleted trace stays behind");
            }
            Ok(())
        }
    }
}

fn not_found(id: &str) -> AppError {
    AppError::NotFound { what: "trace", id: id.to_owned() }
}
