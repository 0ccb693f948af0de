//! The directory as a cache of an object store that replicas share.
//!
//! An object is sent before the row that names it, and deleted long after that row. What is here and
//! has not been used for a while goes when the cache is too large.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::versions::{embedding_name, trace_name, version_of};
use super::{TraceDirectory, is_id};
use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::ingest::remote::Remote;
use crate::app::references;
use crate::store::Shared;
use crate::store::traces::TraceRecord;

/// How long a file stays after it was last asked for, so that no computation loses one that it opens
/// anew.
const IN_USE: Duration = Duration::from_hours(1);

/// An object store, and how much of it lies here.
#[derive(Debug)]
pub(super) struct Cached {
    remote: Remote,
    most_bytes: u64,
}

impl TraceDirectory {
    /// The same as a cache of so many bytes.
    #[must_use]
    pub fn caching(self, remote: Remote, most_bytes: u64) -> Self {
        Self { cached: Some(Arc::new(Cached { remote, most_bytes })), ..self }
    }

    /// Sees to it that this version of a trace, and its embedding, are here; blocks.
    pub(super) fn bring(
        &self,
        id: &str,
        version: &str,
        embedding_digest: Option<&[u8]>,
    ) -> io::Result<()> {
        let Some(cached) = &self.cached else { return Ok(()) };
        let trace = trace_name(id, version);
        let put = embedding_digest.map(|digest| embedding_name(id, digest));
        let is_new = !self.path.join(&trace).exists();
        // What came inside the trace has no digest in its name, and comes with it or not at all. The
        // trace comes last: once it is here, all of it is.
        let inside = format!("{id}.embedding.npy");
        let wanted =
            put.into_iter().map(|name| (name, true)).chain([(inside, false), (trace, true)]);
        let mut came = false;
        for (name, is_needed) in wanted {
            let path = self.path.join(&name);
            // One that goes between two looks is brought again.
            if let Ok(file) = File::options().append(true).open(&path) {
                file.set_modified(SystemTime::now())?;
                continue;
            }
            if !is_needed && !is_new {
                continue;
            }
            let mut partial = self.partial()?;
            match cached.remote.fetch(&name, partial.as_file_mut()) {
                Ok(()) => self.keep(partial, &path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_needed => {}
                Err(error) => return Err(error),
            }
            came = true;
        }
        if came {
            self.evict(cached.most_bytes);
        }
        Ok(())
    }

    /// Sends the stored form in force, and what came inside it, to the object store, where there is
    /// one; says which form it is. Blocks.
    pub(super) fn share(&self, id: &str) -> io::Result<String> {
        if self.cached.is_none() {
            return Ok(version_of(self.open_trace(id)?.header()));
        }
        let (trace, _) = self.pin(id)?;
        let version = version_of(trace.header());
        let inside = self.kept_embedding(id).map(|_| format!("{id}.embedding.npy"));
        let names: Vec<String> = inside.into_iter().chain([trace_name(id, &version)]).collect();
        self.send(&names)?;
        Ok(version)
    }

    /// Sends files of a trace to the object store, where there is one; blocks.
    pub(super) fn send(&self, names: &[String]) -> io::Result<()> {
        let Some(cached) = &self.cached else { return Ok(()) };
        for name in names {
            cached.remote.send(name, &self.path.join(name))?;
        }
        self.evict(cached.most_bytes);
        Ok(())
    }

    /// Removes the traces that were not used for longest while all together are too large.
    fn evict(&self, most_bytes: u64) {
        if let Err(error) = self.try_evict(most_bytes) {
            tracing::warn!(%error, "the cache of traces stays larger than it should be");
        }
    }

    fn try_evict(&self, most_bytes: u64) -> io::Result<()> {
        let mut seen = BTreeSet::new();
        let mut traces: BTreeMap<String, (SystemTime, u64)> = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = name.split('.').next().filter(|id| is_id(id)) else { continue };
            // Another thread may have removed it.
            let Ok(about) = entry.metadata() else { continue };
            let (used, bytes) = traces.entry(id.to_owned()).or_insert((SystemTime::UNIX_EPOCH, 0));
            *used = about.modified()?.max(*used);
            // A second name of a file takes no room.
            *bytes += if seen.insert(about.ino()) { about.len() } else { 0 };
        }
        let mut all: u64 = traces.values().map(|(_, bytes)| bytes).sum();
        let mut oldest_first: Vec<_> = traces.into_iter().collect();
        oldest_first.sort_by_key(|(_, (used, _))| *used);
        for (id, (used, bytes)) in oldest_first {
            if all <= most_bytes || used.elapsed().unwrap_or_default() < IN_USE {
                break;
            }
            self.remove(&id)?;
            all = all.saturating_sub(bytes);
        }
        Ok(())
    }
}

/// Sees to it that the objects of a row that was just written are there: a sweep that began before may
/// have deleted them.
pub async fn confirm(app: &App, row: &TraceRecord) -> Result<(), AppError> {
    let Some(cached) = app.traces.cached.clone() else { return Ok(()) };
    let put = row.embedding_digest.as_deref().map(|digest| embedding_name(&row.id, digest));
    let trace = row.version.as_deref().map(|version| trace_name(&row.id, version));
    let inside = app.traces.kept_embedding(&row.id).map(|_| format!("{}.embedding.npy", row.id));
    let names: Vec<String> = put.into_iter().chain(inside).chain(trace).collect();
    // A sweep that is going on has ended when this begins; the next one sees the row.
    let turn = app.store.turn(Shared::Objects).await?;
    drop(turn);
    let failed = |source| AppError::Trace { id: row.id.clone(), source };
    let mut gone = Vec::new();
    for name in &names {
        if !cached.remote.has(name).await.map_err(failed)? {
            gone.push(name.clone());
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    let directory = app.traces.clone();
    let sent = tokio::task::spawn_blocking(move || directory.send(&gone)).await;
    sent.map_err(|error| AppError::Internal(error.to_string()))?.map_err(failed)
}

/// Says so where the object store belongs to another database, and whether it does not.
pub async fn is_own(app: &App) -> Result<bool, AppError> {
    let Some(cached) = &app.traces.cached else { return Ok(true) };
    let name = app.store.identity(&app.instance).await?;
    let owner = cached.remote.owner(&name).await.map_err(of_the_store)?;
    if owner != name {
        tracing::error!(
            "the object store holds the traces of another database: none is deleted there; give \
             every database a prefix of its own in --traces, or delete the object `owner` where the \
             other one is gone"
        );
    }
    Ok(owner == name)
}

fn of_the_store(source: io::Error) -> AppError {
    AppError::Trace { id: "of the object store".to_owned(), source }
}

/// Objects that are deleted in one turn, so that no upload waits long for it.
const BATCH: usize = 32;

/// Deletes the objects that no row and no job names, once they are older than the grace time and were
/// unneeded at the sweep before, which `unneeded` says; how many.
pub async fn sweep(app: &App, unneeded: &mut BTreeSet<String>) -> Result<usize, AppError> {
    let Some(cached) = &app.traces.cached else { return Ok(0) };
    let grace_ms = i64::try_from(app.uploads.grace.as_millis()).unwrap_or(i64::MAX);
    let before_ms = app.store.clock_ms(now_ms()).saturating_sub(grace_ms);
    let mut old = cached.remote.list().await.map_err(of_the_store)?;
    // What is none of ours stays.
    old.retain(|(name, sent_ms)| {
        *sent_ms < before_ms && is_id(name.split('.').next().unwrap_or_default())
    });
    let (mut deleted, mut still) = (0, BTreeSet::new());
    for names in old.chunks(BATCH) {
        let _here = app.uploads.keeping.lock().await;
        let _turn = app.store.turn(Shared::Objects).await?;
        let needed = references::needed_files(&app.store).await?;
        for (name, _) in names.iter().filter(|(name, _)| !needed.has(name)) {
            if unneeded.contains(name) {
                cached.remote.delete(name).await.map_err(of_the_store)?;
                deleted += 1;
            } else {
                still.insert(name.clone());
            }
        }
    }
    *unneeded = still;
    Ok(deleted)
}
