//! Take a trace or an embedding in while it arrives.

use std::io::{self, Read};
use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::ingest::{Ingested, Upload, confirm};
use crate::app::room;
use crate::store::traces::TraceRecord;
use crate::store::{Shared, StoreError};
use crate::telemetry::metrics as names;
use crate::wire::trace::TraceSummary;
use crate::wire::violation::Violation;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::trace::{Cut, Declared, TraceError};
use moe_gps_core::trace::MAX_TOP_K;

/// The body of an upload, as it arrives; an empty piece is its end, and without one it broke off.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// What comes with an upload beside its bytes.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// `Content-Type`, of which `application/octet-stream` leaves it to the bytes.
    pub content_type: String,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// Name for people.
    pub name: Option<String>,
    /// Catalog id of the model.
    pub model: Option<String>,
    /// Experts of a layer.
    pub num_experts: Option<u32>,
    /// Experts of a token.
    pub top_k: Option<u32>,
    /// Rows from the beginning that are not to be kept.
    pub skip: i64,
    /// Whether rows that repeat the one before are not to be kept.
    pub drop_repeats: bool,
}

/// A trace that is now kept.
#[derive(Debug)]
pub struct Kept {
    /// What is said about it.
    pub summary: TraceSummary,
    /// Whether it was not kept before.
    pub created: bool,
}

/// Takes a trace in.
pub async fn take_trace(app: &Arc<App>, labels: Labels, pieces: Pieces) -> Result<Kept, AppError> {
    finishing(keep_trace(Arc::clone(app), labels, pieces)).await
}

/// Does work to its end also where the client goes away, so that a file has its row.
async fn finishing<T: Send + 'static>(
    work: impl Future<Output = Result<T, AppError>> + Send + 'static,
) -> Result<T, AppError> {
    let done = tokio::spawn(work.in_current_span()).await;
    done.map_err(|error| AppError::Internal(format!("an upload panicked: {error}")))?
}

async fn keep_trace(app: Arc<App>, labels: Labels, pieces: Pieces) -> Result<Kept, AppError> {
    let app = &app;
    room::taking(app)?;
    let upload = Upload {
        declared: declared(&labels)?,
        content_type: labels.content_type,
        content_encoding: labels.content_encoding,
        name: labels.name,
        model: labels.model,
    };
    let (mut ingested, upload) = {
        let app = Arc::clone(app);
        blocking(Arc::clone(&app), move || {
            let ingested =
                app.traces.ingest(Arriving::new(pieces), &upload, &app.uploads.limits)?;
            Ok((ingested, upload))
        })
        .await?
    };
    let _keeping = app.uploads.keeping.lock().await;
    let _turn = app.store.turn(Shared::Traces).await?;
    let id = &ingested.summary.id;
    let conflict = |what| {
        let detail = format!("trace {id} was {what} while it was uploaded; upload it again");
        Err(AppError::Conflict(detail))
    };
    // The row that is written last is that of the stored form in force.
    match app.traces.open_trace(id) {
        Ok(trace)
            if (trace.header().experts, trace.header().top_k)
                == (ingested.summary.experts, ingested.summary.top_k) => {}
        Ok(_) => return conflict("declared with another number of experts"),
        Err(_) => return conflict("deleted"),
    }
    let before = app.store.find_trace(id).await?;
    let created = before.is_none();
    if let Some(row) = before.clone()
        && upload.declared.experts.is_none()
        && upload.declared.top_k.is_none()
        && row.version.as_ref().is_some_and(|version| *version != ingested.version)
    {
        // Another replica was told how many experts there are, and nobody says otherwise now.
        let app = Arc::clone(app);
        ingested = blocking(Arc::clone(&app), move || {
            let trace = app.traces.open_row(&row).map_err(TraceError::storage)?;
            let summary = app.traces.summarize(&row.id, &trace, &upload);
            ingested.summary = summary.map_err(TraceError::storage)?;
            ingested.version = row.version.unwrap_or(ingested.version);
            Ok(ingested)
        })
        .await?;
    }
    let record = record(ingested, before)?;
    app.store.put_trace(&record.1).await?;
    confirm(app, &record.1).await?;
    Ok(Kept { summary: record.0, created })
}

/// Takes in the embedding of a trace.
pub async fn take_embedding(
    app: &Arc<App>,
    id: String,
    content_encoding: Option<String>,
    pieces: Pieces,
) -> Result<(), AppError> {
    finishing(keep_embedding(Arc::clone(app), id, content_encoding, pieces)).await
}

async fn keep_embedding(
    app: Arc<App>,
    id: String,
    content_encoding: Option<String>,
    pieces: Pieces,
) -> Result<(), AppError> {
    let app = &app;
    room::taking(app)?;
    crate::app::traces::fetch(app, &id).await?;
    let digest = {
        let (app, id) = (Arc::clone(app), id.clone());
        blocking(Arc::clone(&app), move || {
            let encoding = content_encoding.as_deref();
            let body = Arriving::new(pieces);
            app.traces.ingest_embedding(&id, body, encoding, &app.uploads.limits)
        })
        .await?
    };
    let _keeping = app.uploads.keeping.lock().await;
    let _turn = app.store.turn(Shared::Traces).await?;
    let mut record = crate::app::traces::fetch(app, &id).await?;
    let mut summary: TraceSummary = serde_json::from_str(&record.summary)
        .map_err(|_| StoreError::Corrupt { what: "summary of a trace" })?;
    summary.has_embedding = true;
    record.summary = text(&summary)?;
    record.embedding_digest = Some(digest.to_vec());
    app.store.put_trace(&record).await?;
    confirm(app, &record).await
}

/// Runs `work` off the async threads, with a bound on how many do at once.
async fn blocking<T: Send + 'static>(
    app: Arc<App>,
    work: impl FnOnce() -> Result<T, TraceError> + Send + 'static,
) -> Result<T, AppError> {
    let _place = app.uploads.at_once.acquire().await;
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| AppError::Internal(format!("an upload panicked: {error}")))??)
}

fn declared(labels: &Labels) -> Result<Declared, AppError> {
    if labels.num_experts == Some(0) {
        let detail = "num_experts is 0; it must be at least 1";
        return Err(AppError::Refused(vec![Violation::new("/num_experts", "range", detail)]));
    }
    if let Some(top_k) = labels.top_k.filter(|k| !(1..=MAX_TOP_K).contains(&(*k as usize))) {
        let detail = format!("top_k is {top_k}; it must be from 1 to {MAX_TOP_K}");
        return Err(AppError::Refused(vec![Violation::new("/top_k", "range", detail)]));
    }
    let skip = u64::try_from(labels.skip).ok().filter(|skip| *skip <= Cut::MOST_SKIPPED);
    let Some(skip) = skip else {
        let detail = format!("skip is {}; it must be from 0 to {}", labels.skip, Cut::MOST_SKIPPED);
        return Err(AppError::Refused(vec![Violation::new("/skip", "range", detail)]));
    };
    let cut = Cut { skip, drop_repeats: labels.drop_repeats };
    let Some(model) = &labels.model else {
        let (experts, top_k) = (labels.num_experts, labels.top_k);
        return Ok(Declared { experts, top_k, cut });
    };
    let catalog = Catalog::embedded();
    let entry = catalog.model(model).map_err(|unknown| {
        AppError::Refused(vec![Violation::new("/model", "catalog_id", unknown.to_string())])
    })?;
    let experts = &entry.value.model.experts;
    if labels.num_experts.is_some_and(|n| n != experts.routed) {
        let detail = format!("num_experts differs from the {} of {model}", experts.routed);
        return Err(AppError::Refused(vec![Violation::new("/num_experts", "model", detail)]));
    }
    if labels.top_k.is_some_and(|k| k != experts.top_k) {
        let detail = format!("top_k differs from the {} of {model}", experts.top_k);
        return Err(AppError::Refused(vec![Violation::new("/top_k", "model", detail)]));
    }
    Ok(Declared { experts: Some(experts.routed), top_k: Some(experts.top_k), cut })
}

/// What is shown and what is stored of a trace; labels given before stay unless replaced.
fn record(
    ingested: Ingested,
    before: Option<TraceRecord>,
) -> Result<(TraceSummary, TraceRecord), AppError> {
    let mut summary = ingested.summary;
    let stored = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut record = TraceRecord {
        digest: from_hex(&summary.id),
        id: summary.id.clone(),
        name: None,
        model: None,
        tokens: stored(summary.tokens.unwrap_or_default()),
        sequences: stored(summary.sequences.unwrap_or_default()),
        steps: stored(summary.steps.unwrap_or_default()),
        layers: summary.layers.into(),
        experts: summary.experts.into(),
        top_k: summary.top_k.unwrap_or_default().into(),
        has_token_ids: summary.has_token_ids,
        embedding_digest: None,
        version: Some(ingested.version),
        stored_bytes: stored(ingested.stored_bytes),
        created_ms: now_ms(),
        summary: String::new(),
    };
    if let Some(before) = before {
        summary.name = summary.name.or(before.name);
        summary.model = summary.model.or(before.model);
        summary.has_embedding |= before.embedding_digest.is_some();
        record.embedding_digest = before.embedding_digest;
        record.created_ms = before.created_ms;
    }
    record.name.clone_from(&summary.name);
    record.model.clone_from(&summary.model);
    record.summary = text(&summary)?;
    Ok((summary, record))
}

fn text(summary: &TraceSummary) -> Result<String, AppError> {
    serde_json::to_string(summary)
        .map_err(|error| AppError::Internal(format!("summary of a trace: {error}")))
}

fn from_hex(text: &str) -> Vec<u8> {
    let nibble = |c: u8| char::from(c).to_digit(16).unwrap_or_default();
    let byte = |pair: &[u8]| pair.iter().fold(0_u32, |byte, c| byte << 4 | nibble(*c));
    text.as_bytes().chunks(2).map(|pair| byte(pair).to_le_bytes()[0]).collect()
}

/// An upload that a blocking reader reads while it arrives.
struct Arriving {
    pieces: Pieces,
    piece: Bytes,
    ended: bool,
}

impl Arriving {
    fn new(pieces: Pieces) -> Self {
        Self { pieces, piece: Bytes::new(), ended: false }
    }
}

impl Read for Arriving {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if self.ended {
                return Ok(0);
            }
            let gone = || Err(io::Error::from(io::ErrorKind::ConnectionAborted));
            self.piece = self.pieces.blocking_recv().unwrap_or_else(gone)?;
            self.ended = self.piece.is_empty();
        }
        let n = to.len().min(self.piece.len());
        to[..n].copy_from_slice(&self.piece.split_to(n));
        metrics::counter!(names::TRACE_UPLOAD_BYTES).increment(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_back() {
        assert_eq!(from_hex("00ff1a"), [0, 255, 26]);
    }

    #[test]
    fn an_arriving_body_is_read_across_its_pieces() {
        let (sender, pieces) = mpsc::channel(4);
        for piece in ["ab", "cde", ""] {
            sender.blocking_send(Ok(Bytes::from(piece))).unwrap();
        }
        drop(sender);
        let mut text = String::new();
        Arriving::new(pieces).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
    }

    #[test]
    fn a_body_whose_sender_goes_away_has_no_end() {
        let (sender, pieces) = mpsc::channel(4);
        sender.blocking_send(Ok(Bytes::from("ab"))).unwrap();
        drop(sender);
        let error = Arriving::new(pieces).read_to_string(&mut String::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
