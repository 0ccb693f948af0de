//! Takes traces in, keeps them as files of the data directory, and opens them again.
//!
//! A trace is named by the SHA-256 of what was uploaded, so the same bytes are kept once.
//! A file appears under its name only when it is complete and on disk.

#[cfg(feature = "replicas")]
pub mod remote;
#[cfg(not(feature = "replicas"))]
#[path = "no_remote.rs"]
pub mod remote;
mod shared;
mod versions;

pub use shared::{confirm, is_own, sweep};
pub use versions::NeededFiles;

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::app::advisor::TraceFacts;
use crate::wire::loose::BYTE_ORDER_MARK;
use crate::wire::trace::{Skewness, TraceSummary};
use moe_gps_core::formats::trace::embedding_file::convert_embedding;
use moe_gps_core::formats::trace::inflate::{Encoding, copy_decoded};
use moe_gps_core::formats::trace::readers::{self, Reader};
use moe_gps_core::formats::trace::sniff;
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::formats::trace::{Declared, Input, Limits, TraceError};
use moe_gps_core::trace::checks::{Warning, examine, repeated_rows};
use moe_gps_core::trace::stats::{TraceStatistics, mean, skewness};
use moe_gps_core::trace::{TraceHeader, TraceKind};

/// Beginning of the names of files that are not complete.
const PARTIAL: &str = ".partial-";

/// What comes with an upload beside its bytes.
#[derive(Debug, Clone, Default)]
pub struct Upload {
    /// `Content-Type`.
    pub content_type: String,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// Name for people.
    pub name: Option<String>,
    /// Catalog id of the model.
    pub model: Option<String>,
    /// Experts of a layer and of a token: `num_experts`, or those of the model.
    pub declared: Declared,
}

/// A trace that is now kept.
#[derive(Debug, Clone)]
pub struct Ingested {
    /// What is said about it.
    pub summary: TraceSummary,
    /// Whether it was not kept before.
    pub created: bool,
    /// Bytes of the upload after decoding.
    pub decoded_bytes: u64,
    /// Bytes of the stored file.
    pub stored_bytes: u64,
    /// Which stored form it is.
    pub version: String,
}

/// The directory in which traces are kept.
#[derive(Debug, Clone)]
pub struct TraceDirectory {
    path: PathBuf,
    /// The object store of which it is a cache.
    cached: Option<Arc<shared::Cached>>,
}

impl TraceDirectory {
    /// The traces of a data directory.
    pub fn open(data_directory: &Path) -> io::Result<Self> {
        Self::at(data_directory.join("traces"))
    }

    /// The traces in a folder, which is made if need be; removes what uploads that never ended have
    /// left behind.
    pub fn at(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { path, cached: None })
    }

    /// Where the stored form of a trace lies; `None` if no trace can have this id.
    #[must_use]
    pub fn trace_path(&self, id: &str) -> Option<PathBuf> {
        is_id(id).then(|| self.path.join(format!("{id}.trace")))
    }

    /// Where the embedding of a trace lies; `None` if no trace can have this id.
    #[must_use]
    pub fn embedding_path(&self, id: &str) -> Option<PathBuf> {
        is_id(id).then(|| self.path.join(format!("{id}.embedding.npy")))
    }

    /// The embedding of a trace, if one is kept.
    #[must_use]
    pub fn kept_embedding(&self, id: &str) -> Option<PathBuf> {
        self.embedding_path(id).filter(|path| path.exists())
    }

    /// Opens a trace; an error of kind [`io::ErrorKind::NotFound`] if it is not kept.
    pub fn open_trace(&self, id: &str) -> io::Result<StoredTrace> {
        let path = self.trace_path(id).ok_or(io::ErrorKind::NotFound)?;
        StoredTrace::from_file(File::open(path)?)
    }

    /// What a question may know of a trace, by the header of its stored form; the digest is that
    /// of the embedding put beside it.
    pub fn facts(&self, id: &str, embedding_digest: Option<&[u8]>) -> io::Result<TraceFacts> {
        self.pinned(id, None, embedding_digest).map(|(facts, _)| facts)
    }

    /// Forgets a trace with all its versions and embeddings; fine if it is not kept.
    pub fn remove(&self, id: &str) -> io::Result<()> {
        self.remove_where(|name| name.starts_with(&format!("{id}.")))
    }

    /// Takes an upload in; blocks, and reads `body` to its end.
    ///
    /// The same bytes again give the same id; they are converted anew only if the number
    /// of experts is now declared differently, which the summary then warns of.
    pub fn ingest(
        &self,
        body: impl Read,
        upload: &Upload,
        limits: &Limits,
    ) -> Result<Ingested, TraceError> {
        let any = is_of_any_bytes(&upload.content_type);
        let stated = (!any).then(|| readers::by_content_type(&upload.content_type)).transpose()?;
        let (encoding, body) = opened(body, upload.content_encoding.as_deref())?;
        let mut raw = self.scratch().map_err(TraceError::storage)?;
        let (decoded_bytes, digest) = copy_decoded(body, encoding, limits, &mut raw)?;
        raw.rewind().map_err(TraceError::storage)?;
        if decoded_bytes == 0 {
            return Err(TraceError::Unreadable("the body is empty".to_owned()));
        }
        let reader = stated.map_or_else(|| sniff::format(&raw), Ok)?;
        readers::check_beginning(&raw, Some(reader))?;
        let digest = upload.declared.cut.name(digest);
        let id = hex(&digest);
        let before = self.open_trace(&id).ok().map(|trace| trace.header().clone());
        let fits = |header: &TraceHeader| {
            upload.declared.experts.is_none_or(|n| n == header.experts && !header.experts_inferred)
                && upload.declared.top_k.is_none_or(|k| header.top_k == Some(k))
        };
        if !before.as_ref().is_some_and(fits) {
            self.convert(reader, raw, &id, digest, upload.declared, limits)?;
        }
        let trace = self.open_trace(&id).map_err(TraceError::storage)?;
        let mut summary = self.summarize(&id, &trace, upload).map_err(TraceError::storage)?;
        if let Some(before) = before.as_ref().filter(|header| header.experts != summary.experts) {
            summary.warnings.push(format!(
                "this trace was kept with {} experts until now; it has {} from here on",
                before.experts, summary.experts
            ));
        }
        let path = self.trace_path(&id).unwrap_or_default();
        let stored_bytes = fs::metadata(path).map_err(TraceError::storage)?.len();
        let version = self.share(&id).map_err(TraceError::storage)?;
        let created = before.is_none();
        Ok(Ingested { summary, created, decoded_bytes, stored_bytes, version })
    }

    /// Takes in an embedding for a trace: a NumPy file of `[vocabulary, dimension]` floats.
    /// Returns the SHA-256 of the file.
    pub fn ingest_embedding(
        &self,
        id: &str,
        body: impl Read,
        content_encoding: Option<&str>,
        limits: &Limits,
    ) -> Result<[u8; 32], TraceError> {
        let (encoding, body) = opened(body, content_encoding)?;
        let mut raw = self.scratch().map_err(TraceError::storage)?;
        let (_, digest) = copy_decoded(body, encoding, limits, &mut raw)?;
        raw.rewind().map_err(TraceError::storage)?;
        let mut to = self.partial().map_err(TraceError::storage)?;
        convert_embedding(&mut BufReader::new(raw), to.as_file_mut(), limits)?;
        self.keep(to, &self.embedding_version(id, &digest)).map_err(TraceError::storage)?;
        self.send(&[versions::embedding_name(id, &digest)]).map_err(TraceError::storage)?;
        Ok(digest)
    }

    /// What is said about a kept trace.
    pub fn summarize(
        &self,
        id: &str,
        trace: &StoredTrace,
        upload: &Upload,
    ) -> io::Result<TraceSummary> {
        let statistics = trace.statistics()?;
        let has_embedding = self.kept_embedding(id).is_some();
        let mut summary = summary(trace.header(), &statistics, upload, has_embedding);
        if repeated_rows(trace.header()).is_some() {
            let without = mean(trace.count_without_repeats()?.layers().filter_map(skewness));
            summary.warnings.push(format!(
                "mean skewness is {:.3} with the repeated tokens, {:.3} without",
                summary.skewness.mean,
                without.unwrap_or(1.0)
            ));
        }
        Ok(summary)
    }

    fn convert(
        &self,
        reader: &Reader,
        raw: File,
        id: &str,
        digest: [u8; 32],
        declared: Declared,
        limits: &Limits,
    ) -> Result<(), TraceError> {
        let scratch = || self.scratch();
        let partial = self.partial().map_err(TraceError::storage)?;
        let to = partial.as_file().try_clone().map_err(TraceError::storage)?;
        let input = Input { raw, to, scratch: &scratch, declared, limits, digest };
        let embedding = (reader.convert)(input)?.embedding;
        if let Some(mut embedding) = embedding {
            let mut to = self.partial().map_err(TraceError::storage)?;
            io::copy(&mut embedding, to.as_file_mut()).map_err(TraceError::storage)?;
            let path = self.embedding_path(id).unwrap_or_default();
            self.keep(to, &path).map_err(TraceError::storage)?;
        }
        let path = self.trace_path(id).unwrap_or_default();
        self.keep(partial, &path).map_err(TraceError::storage)
    }

    /// A file that vanishes when it is closed.
    fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.path)
    }

    /// A file that vanishes unless it is kept.
    fn partial(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(PARTIAL).tempfile_in(&self.path)
    }

    /// Gives a complete file its name, durably.
    fn keep(&self, file: NamedTempFile, path: &Path) -> io::Result<()> {
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(&self.path)?.sync_all()
    }
}

/// Whether a content type leaves open what the body is; a type that is missing is refused.
fn is_of_any_bytes(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/octet-stream")
}

/// The encoding of a body: as it is declared, else as the body begins; and the whole body.
fn opened(
    mut body: impl Read,
    declared: Option<&str>,
) -> Result<(Encoding, impl Read), TraceError> {
    let mut encoding = Encoding::from_header(declared)?;
    let mut head = Vec::with_capacity(4);
    if encoding == Encoding::Identity {
        body.by_ref().take(4).read_to_end(&mut head).map_err(TraceError::Interrupted)?;
        encoding = sniff::encoding(&head);
        if head.starts_with(BYTE_ORDER_MARK) {
            head.drain(..BYTE_ORDER_MARK.len());
        }
    }
    Ok((encoding, io::Cursor::new(head).chain(body)))
}

/// What is said about a trace.
#[must_use]
pub fn summary(
    header: &TraceHeader,
    statistics: &TraceStatistics,
    upload: &Upload,
    has_embedding: bool,
) -> TraceSummary {
    let per_layer = statistics.skewness_per_layer();
    let routes = header.kind == TraceKind::Routes;
    TraceSummary {
        id: hex(&header.digest),
        name: upload.name.clone(),
        model: upload.model.clone(),
        tokens: if routes { Some(header.tokens) } else { counted_tokens(header, statistics) },
        sequences: routes.then_some(header.sequences),
        steps: (!routes).then_some(header.steps),
        layers: u32::try_from(header.n_layers()).unwrap_or(u32::MAX),
        experts: header.experts,
        top_k: header.top_k,
        has_token_ids: header.has_token_ids,
        has_embedding,
        skewness: Skewness {
            mean: mean(per_layer.iter().copied()).unwrap_or(1.0),
            max: per_layer.iter().copied().fold(1.0, f64::max),
            per_layer,
        },
        distribution_error: statistics.distribution_error(),
        warnings: examine(header, statistics).iter().map(Warning::to_string).collect(),
    }
}

/// Tokens behind counts: the mean over layers of the assignments, over k.
fn counted_tokens(header: &TraceHeader, statistics: &TraceStatistics) -> Option<u64> {
    let top_k = header.top_k?;
    let per_layer = mean(statistics.total.layers().map(|layer| layer.iter().sum()))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are not negative, and `as` saturates"
    )]
    let tokens = (per_layer / f64::from(top_k)).round() as u64;
    Some(tokens)
}

/// Whether the text is an id, and so safe in a path.
fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
