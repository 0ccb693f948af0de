//! Fetch, list or delete a stored trace.

use std::path::PathBuf;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::app::advisor::KnownTraces;
use crate::app::advisor::TraceFacts;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::store::StoreError;
use crate::store::traces::{TraceDeletion, TraceRecord};
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
    match app.store.delete_trace(id).await? {
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

/// What is known of those of the named traces that are stored.
pub async fn facts(
    app: &App,
    ids: impl IntoIterator<Item = &str>,
) -> Result<KnownTraces, AppError> {
    let mut known = KnownTraces::new();
    for id in ids {
        if let Some(record) = app.store.find_trace(id).await? {
            let path = app.traces.trace_path(id).unwrap_or_default();
            let embedding = app.traces.kept_embedding(id);
            known.insert(id.to_owned(), to_facts(record, path, embedding)?);
        }
    }
    Ok(known)
}

fn to_facts(
    record: TraceRecord,
    path: PathBuf,
    embedding: Option<PathBuf>,
) -> Result<TraceFacts, StoreError> {
    let count = |n: i64, what| u64::try_from(n).map_err(|_| StoreError::Corrupt { what });
    Ok(TraceFacts {
        digest: digest(&record),
        layers: count(record.layers, "layers of a trace")?,
        experts: count(record.experts, "experts of a trace")?,
        top_k: count(record.top_k, "top_k of a trace")?,
        tokens: count(record.tokens, "tokens of a trace")?,
        sequences: count(record.sequences, "sequences of a trace")?,
        steps: count(record.steps, "steps of a trace")?,
        has_token_ids: record.has_token_ids,
        id: record.id,
        path,
        embedding,
    })
}

/// Digest of all that the trace decides in an answer.
///
/// The same bytes mean another trace when the number of experts is declared differently,
/// and the embedding is an input of learned predictors.
fn digest(record: &TraceRecord) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(&record.digest);
    hash.update(record.experts.to_le_bytes());
    hash.update(record.top_k.to_le_bytes());
    hash.update(record.embedding_digest.as_deref().unwrap_or_default());
    hash.finalize().into()
}

fn not_found(id: &str) -> AppError {
    AppError::NotFound { what: "trace", id: id.to_owned() }
}
