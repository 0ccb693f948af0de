//! Stored forms and embeddings under names that say what is in them, so that whatever is uploaded
//! later changes nothing for a question that was accepted before.
//!
//! `ID.trace` is the stored form in force, which another number of experts replaces. What a
//! question sees of it is a second name of the same file, `ID.VERSION.trace`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{PARTIAL, TraceDirectory, hex};
use crate::app::advisor::TraceFacts;
use crate::store::traces::TraceRecord;
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::trace::TraceHeader;

/// Bytes of a digest that tell the stored forms of one trace apart.
const VERSION_BYTES: usize = 16;

/// The files of traces that rows and jobs name.
#[derive(Debug, Default)]
pub struct NeededFiles {
    /// Traces with a row; their plain names are needed.
    pub traces: BTreeSet<String>,
    /// Trace, and version or digest of an embedding.
    pub versions: BTreeSet<(String, String)>,
}

impl NeededFiles {
    /// Whether a file of this name is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match name.split('.').collect::<Vec<_>>()[..] {
            [id, "trace"] | [id, "embedding", "npy"] => self.traces.contains(id),
            [id, version, "trace"] | [id, version, "embedding", "npy"] => {
                self.traces.contains(id)
                    && self.versions.contains(&(id.to_owned(), version.to_owned()))
            }
            _ => false,
        }
    }
}

impl TraceDirectory {
    /// What a question may know of a trace, in files that never change: of this version of its
    /// stored form, else of the one in force. The version is said.
    pub fn pinned(
        &self,
        id: &str,
        version: Option<&str>,
        embedding_digest: Option<&[u8]>,
    ) -> io::Result<(TraceFacts, String)> {
        if let Some(version) = version {
            self.bring(id, version, embedding_digest)?;
        }
        let pinned = version.map(|version| self.version_path(id, version));
        let is_there = pinned.filter(|path| path.exists());
        let asked = version.filter(|_| is_there.is_some()).map(ToOwned::to_owned);
        let (trace, path) = match is_there {
            Some(path) => (StoredTrace::from_file(File::open(&path)?)?, path),
            None => self.pin(id)?,
        };
        // One that came inside the trace, or was put there by an earlier version, has the plain
        // name.
        let put = embedding_digest.map(|digest| self.embedding_version(id, digest));
        let embedding = put.filter(|path| path.exists()).or_else(|| self.kept_embedding(id));
        let version = asked.unwrap_or_else(|| version_of(trace.header()));
        let facts = TraceFacts::new(id, trace.header(), path, embedding, embedding_digest);
        Ok((facts, version))
    }

    /// Opens the stored form of a row; that in force where the row does not say which.
    pub fn open_row(&self, row: &TraceRecord) -> io::Result<StoredTrace> {
        let (facts, _) = self.pinned(&row.id, row.version.as_deref(), None)?;
        StoredTrace::from_file(File::open(&facts.path)?)
    }

    /// Gives the stored form in force its second name.
    pub(super) fn pin(&self, id: &str) -> io::Result<(StoredTrace, PathBuf)> {
        let current = self.trace_path(id).ok_or(io::ErrorKind::NotFound)?;
        let trace = self.open_trace(id)?;
        let path = self.version_path(id, &version_of(trace.header()));
        if path.exists() {
            return Ok((trace, path));
        }
        // It may be replaced at any time, so what is linked is looked at before it is named.
        let link = |to: &std::path::Path| {
            fs::hard_link(&current, to).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => Err(error),
                // File systems without links.
                _ => fs::copy(&current, to).map(drop),
            })
        };
        let linked = tempfile::Builder::new().prefix(PARTIAL).make_in(&self.path, link)?;
        let trace = StoredTrace::from_file(File::open(linked.path())?)?;
        let path = self.version_path(id, &version_of(trace.header()));
        fs::rename(linked.path(), &path)?;
        File::open(&self.path)?.sync_all()?;
        Ok((trace, path))
    }

    pub(super) fn version_path(&self, id: &str, version: &str) -> PathBuf {
        self.path.join(trace_name(id, version))
    }

    /// Where the embedding with this digest lies that was put beside a trace.
    pub(super) fn embedding_version(&self, id: &str, digest: &[u8]) -> PathBuf {
        self.path.join(embedding_name(id, digest))
    }

    /// Removes the files of traces, of their versions and embeddings that are none of these.
    pub fn forget_others(&self, needed: &NeededFiles) -> io::Result<()> {
        self.remove_where(|name| {
            super::is_id(name.split('.').next().unwrap_or_default()) && !needed.has(name)
        })
    }

    /// Removes the files whose names are unwanted.
    pub(super) fn remove_where(&self, unwanted: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if unwanted(&entry.file_name().to_string_lossy()) {
                match fs::remove_file(entry.path()) {
                    // Another thread was there first.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Name of a stored form.
pub(super) fn trace_name(id: &str, version: &str) -> String {
    format!("{id}.{version}.trace")
}

/// Name of an embedding that was put beside a trace.
pub(super) fn embedding_name(id: &str, digest: &[u8]) -> String {
    format!("{id}.{}.embedding.npy", hex(digest))
}

/// Tells the stored forms of one trace apart.
pub(super) fn version_of(header: &TraceHeader) -> String {
    // `Debug` prints every field.
    hex(&Sha256::digest(format!("{header:?}"))[..VERSION_BYTES])
}
