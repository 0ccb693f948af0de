//! A copy of a data directory while a service uses it, and back.
//!
//! The database is copied first, as of one moment; then the files of traces that it names, which
//! never change under their names. The list of all files with their checksums is written last: a
//! folder without it is no backup.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::app::clock::now_ms;
use crate::app::ingest::{TraceDirectory, hex};
use crate::app::references;
use crate::store::{DATABASE, DataDir, Store, StoreError};
use crate::wire::time::Moment;

/// Name of the list of files within a backup.
pub const MANIFEST: &str = "backup.json";
/// Version of that list.
const FORMAT: u32 = 1;
/// Folder of the files of traces, in a data directory and in a backup.
const TRACES: &str = "traces";
/// How often the database is copied anew because a trace in it was uploaded in another form
/// meanwhile.
const ATTEMPTS: u32 = 5;

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this list.
    pub format: u32,
    /// Version of the program that made it.
    pub version: String,
    /// When, RFC 3339.
    pub created_at: Moment,
    /// All files but this one.
    pub files: Vec<Entry>,
}

/// One file of a backup.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its path within the backup and within a data directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// Why there is no backup, or nothing was restored from it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("{} is not empty; name a folder that is, or that does not exist yet", .0.display())]
    NotEmpty(PathBuf),
    /// There is nothing to back up.
    #[error("there is no database in {}; name the data directory with --data-dir", .0.display())]
    NoDatabase(PathBuf),
    /// Traces were uploaded in another form each time the database had been copied.
    #[error("traces were declared anew while they were copied, {ATTEMPTS} times; try again")]
    Restless,
    /// The folder holds no list of files that can be read.
    #[error("{} is no complete backup: {why}", path.display())]
    NoBackup {
        /// The folder.
        path: PathBuf,
        /// What is wrong with its list.
        why: String,
    },
    /// A file is not what was backed up.
    #[error("{} is damaged: {why}; nothing was restored", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A file could not be read or written.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn at(path: &Path) -> impl Fn(io::Error) -> BackupError {
    move |source| BackupError::File { path: path.to_owned(), source }
}

/// Copies the data directory at `from`, which a service may use, into the folder `to`.
pub async fn back_up(from: &Path, to: &Path) -> Result<Manifest, BackupError> {
    let live = from.join(DATABASE);
    if !live.is_file() {
        return Err(BackupError::NoDatabase(from.to_owned()));
    }
    make_empty(to)?;
    let copy = to.join(DATABASE);
    let folder = to.join(TRACES);
    let mut attempts = 0;
    let kept = loop {
        let store = Store::open_as_it_is(&live).await?;
        store.copy_to(&copy).await?;
        store.close().await;
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let store = Store::open_as_it_is(&copy).await?;
        let kept = take_files(&store, &from.join(TRACES), &folder).await;
        store.close().await;
        attempts += 1;
        match kept? {
            Some(kept) => break kept,
            None if attempts == ATTEMPTS => return Err(BackupError::Restless),
            None => {
                fs::remove_dir_all(&folder).map_err(at(&folder))?;
                fs::remove_file(&copy).map_err(at(&copy))?;
            }
        }
    };
    let mut paths = vec![DATABASE.to_owned()];
    paths.extend(kept.into_iter().map(|name| format!("{TRACES}/{name}")));
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let file = to.join(&path);
        let (bytes, sha256) = pass(&file, &mut io::sink())?;
        File::open(&file).and_then(|file| file.sync_all()).map_err(at(&file))?;
        files.push(Entry { path, bytes, sha256 });
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { format: FORMAT, version, created_at: Moment(now_ms()), files };
    let path = to.join(MANIFEST);
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(to)?;
        serde_json::to_writer_pretty(&mut file, &manifest)?;
        writeln!(file)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        for folder in [&folder, to] {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(at(&path))?;
    Ok(manifest)
}

/// Links or copies the files that a copied database names; `None` where one has been replaced since
/// the database was copied. A trace that has been deleted since is taken out of the copy.
async fn take_files(
    store: &Store,
    from: &Path,
    to: &Path,
) -> Result<Option<Vec<String>>, BackupError> {
    let needed = references::needed_files(store).await?;
    let mut taken = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(from).into_iter().flatten() {
        let name = entry.map_err(at(from))?.file_name().to_string_lossy().into_owned();
        if needed.has(&name) {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        let (source, target) = (from.join(&name), to.join(&name));
        match fs::hard_link(&source, &target).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Err(error),
            // Another file system, or one without links.
            _ => fs::copy(&source, &target).map(drop),
        }) {
            Ok(()) => taken.push(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&source)(error)),
        }
    }
    let directory = TraceDirectory::open(to.parent().unwrap_or(to)).map_err(at(to))?;
    for id in &needed.traces {
        let Some(row) = store.find_trace(id).await? else { continue };
        match directory.open_trace(id) {
            Ok(trace) if i64::from(trace.header().experts) == row.experts => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                store.delete_trace(id).await?;
            }
            Err(error) => return Err(at(&to.join(id))(error)),
        }
    }
    Ok(Some(taken))
}

/// Fills an empty data directory from a backup, all of it or nothing.
pub fn restore(from: &Path, to: &Path) -> Result<Manifest, BackupError> {
    let manifest = read_manifest(from)?;
    make_empty(to)?;
    let dir = DataDir::take(to)?;
    let folder = to.join(TRACES);
    let fill = || -> Result<(), BackupError> {
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        // The database last: without it there is nothing that a service could start on.
        for entry in manifest.files.iter().rev() {
            let (source, target) = (from.join(&entry.path), to.join(&entry.path));
            let mut file = File::create_new(&target).map_err(at(&target))?;
            let (bytes, sha256) = pass(&source, &mut file)?;
            let damaged = |why| BackupError::Damaged { path: source.clone(), why };
            if bytes != entry.bytes {
                return Err(damaged(format!("it has {bytes} bytes instead of {}", entry.bytes)));
            }
            if sha256 != entry.sha256 {
                return Err(damaged(format!("its SHA-256 is {sha256}, not {}", entry.sha256)));
            }
            file.sync_all().map_err(at(&target))?;
        }
        for folder in [&folder, to] {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
        }
        Ok(())
    };
    let filled = fill();
    if filled.is_err() {
        // What is half there would stand in the way of the next attempt.
        let _ = fs::remove_dir_all(&folder);
        let _ = fs::remove_file(dir.database());
    }
    drop(dir);
    if filled.is_err() {
        let _ = fs::remove_file(to.join("lock"));
    }
    filled.map(|()| manifest)
}

/// The list of a backup's files, of which each lies where a data directory has such files.
fn read_manifest(folder: &Path) -> Result<Manifest, BackupError> {
    let no_backup = |why: String| BackupError::NoBackup { path: folder.to_owned(), why };
    let text = fs::read_to_string(folder.join(MANIFEST))
        .map_err(|error| no_backup(format!("its {MANIFEST} cannot be read: {error}")))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| no_backup(format!("{MANIFEST}: {error}")))?;
    if manifest.format != FORMAT {
        let why = format!(
            "its format is {}, of version {}; this program reads {FORMAT}",
            manifest.format, manifest.version
        );
        return Err(no_backup(why));
    }
    let fits = |path: &str| match path.strip_prefix("traces/") {
        Some(name) => {
            !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
        }
        None => path == DATABASE,
    };
    if let Some(entry) = manifest.files.iter().find(|entry| !fits(&entry.path)) {
        return Err(no_backup(format!("{:?} is no file of a data directory", entry.path)));
    }
    if manifest.files.first().is_none_or(|entry| entry.path != DATABASE) {
        return Err(no_backup(format!("{MANIFEST} does not begin with {DATABASE}")));
    }
    Ok(manifest)
}

/// Makes a folder where there is none, and sees to it that it is empty.
fn make_empty(folder: &Path) -> Result<(), BackupError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let mut entries = fs::read_dir(folder).map_err(at(folder))?;
    // A file system's own folder of what it has found.
    let something = entries.any(|entry| entry.is_ok_and(|one| one.file_name() != "lost+found"));
    if something { Err(BackupError::NotEmpty(folder.to_owned())) } else { Ok(()) }
}

/// Passes a file on; its size and SHA-256.
fn pass(path: &Path, to: &mut impl Write) -> Result<(u64, String), BackupError> {
    let mut file = BufReader::new(File::open(path).map_err(at(path))?);
    let mut digest = Sha256::new();
    let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
    loop {
        let n = file.read(&mut buffer).map_err(at(path))?;
        if n == 0 {
            return Ok((bytes, hex(&digest.finalize())));
        }
        digest.update(&buffer[..n]);
        to.write_all(&buffer[..n]).map_err(at(path))?;
        bytes += n as u64;
    }
}
