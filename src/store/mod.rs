//! The database: methods named after the question.
//!
//! SQL keeps to what both engines understand: `$1` parameters, integer milliseconds, no engine
//! functions. What they spell differently stands beside the statement, what only one of them has
//! in `engine`, `clock`, `events`, `space` and here. Nothing here decides policy or knows HTTP.

pub mod asks;
mod checksum;
mod clock;
pub mod deployments;
pub mod devices;
mod directory;
mod engine;
mod error;
mod events;
pub mod jobs;
pub mod keys;
mod leases;
pub mod listing;
mod migrations;
pub mod outcomes;
mod reserve;
mod retention;
mod row;
mod space;
pub mod tokens;
pub mod traces;

pub use directory::{ADDRESS, DATABASE, DataDir};
pub use engine::Shared;
pub use error::StoreError;
pub use events::{Event, Events, Turn};
pub use leases::{GiveUp, Recovered};
pub use reserve::Reserve;
pub use space::Space;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};

use crate::config::{Storage, Synchronous};
use crate::store::clock::Clock;
use crate::store::engine::{Local, Pool, writing};

/// Connections that only read; reads are short, so a few serve many clients.
const READERS: u32 = 4;
/// How long a statement waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The page size SQLite uses for new databases, bytes.
const PAGE_BYTES: u64 = 4096;
/// Pages the write-ahead log gathers before they are moved into the database: 16 MiB, so
/// that the flush to disk that goes with it is rare.
const CHECKPOINT_PAGES: u32 = 4096;
/// Size to which the write-ahead log is cut back after use, bytes.
const JOURNAL_BYTES: u32 = 32 << 20;

/// A database, of this data directory or shared with others.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Pool,
    clock: Arc<Clock>,
    /// The folder of its file; of a server's, the data directory of this process.
    folder: PathBuf,
}

impl Store {
    /// Opens the database that the settings name, creating and migrating it where needed.
    pub async fn open(storage: &Storage) -> Result<Self, StoreError> {
        let named = &storage.database;
        if named.starts_with("postgres://") || named.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(named).map_err(StoreError::Named)?;
            let pool = engine::connect(options).await?;
            migrations::postgres().run(&pool).await?;
            let store = Self::of(Pool::Postgres(pool), &storage.data_dir);
            store.look_at_clock().await?;
            return Ok(store);
        }
        let file = match named.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() && !path.starts_with(':') => PathBuf::from(path),
            None if named.is_empty() => storage.data_dir.join(DATABASE),
            // Without what follows, which may be a password.
            _ => {
                let scheme = named.split_inclusive(':').next().unwrap_or_default();
                return Err(StoreError::NamedOtherwise(scheme.to_owned()));
            }
        };
        Self::open_file(&file, storage).await
    }

    fn of(pool: Pool, folder: &Path) -> Self {
        Self { pool, clock: Arc::default(), folder: folder.to_owned() }
    }

    async fn open_file(file: &Path, storage: &Storage) -> Result<Self, StoreError> {
        let common = SqliteConnectOptions::new()
            .filename(file)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match storage.synchronous {
                Synchronous::Normal => SqliteSynchronous::Normal,
                Synchronous::Full => SqliteSynchronous::Full,
            })
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
            .pragma("journal_size_limit", JOURNAL_BYTES.to_string());
        let mut writing = common.clone().create_if_missing(true);
        let max_pages = match storage.max_database_bytes {
            0 => 0,
            bytes => (bytes / PAGE_BYTES).max(1),
        };
        if max_pages != 0 {
            writing = writing.pragma("max_page_count", max_pages.to_string());
        }
        // On a full disk SQLite ends a transaction by itself, of which the connection is not told: it
        // would take itself for within one ever after.
        let writer = pool(1).before_acquire(|connection, _| {
            Box::pin(std::future::ready(Ok(!connection.is_in_transaction())))
        });
        let writer = writer.connect_with(writing).await?;
        migrations::sqlite().run(&writer).await?;
        let readers = pool(READERS).connect_with(common.pragma("query_only", "on")).await?;
        let inode = inode(file).unwrap_or_default();
        let local = Local { writer, readers, file: (file.to_owned(), inode), max_pages };
        Ok(Self::of(Pool::Sqlite(local), file.parent().unwrap_or(file)))
    }

    /// Opens a database that exists as it is, whatever its schema; both for reading and writing.
    pub async fn open_as_it_is(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(BUSY_TIMEOUT);
        let writer = pool(1).connect_with(options).await?;
        let opened = (file.to_owned(), inode(file).unwrap_or_default());
        let local = Local { readers: writer.clone(), writer, file: opened, max_pages: 0 };
        Ok(Self::of(Pool::Sqlite(local), file.parent().unwrap_or(file)))
    }

    /// Copies the database as of one moment into a new file, while others write; only a file can be.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let file = file.to_string_lossy().into_owned();
        writing!(self, db => {
            sqlx::query("vacuum into $1").bind(file).execute(db).await?;
        });
        Ok(())
    }

    /// Writes one row, to learn whether writing works, into a file that others will find.
    pub async fn probe_write(&self, now_ms: i64) -> Result<(), StoreError> {
        if let Pool::Sqlite(Local { file: (path, opened), .. }) = &self.pool
            && inode(path) != Some(*opened)
        {
            return Err(StoreError::Gone { path: path.clone() });
        }
        let write = "insert into probe (id, written_ms) values (1, $1)
             on conflict (id) do update set written_ms = excluded.written_ms";
        writing!(self, db => {
            sqlx::query(write).bind(now_ms).execute(db).await?;
        });
        Ok(())
    }

    /// Closes all connections after what they are doing.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(local) => {
                local.readers.close().await;
                local.writer.close().await;
            }
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

/// What a file is to the operating system.
fn inode(file: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).ok().map(|file| file.ino())
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        // A file does not hang up, and connections keep their prepared statements.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(dir: &Path, max_database_bytes: u64) -> Storage {
        Storage {
            data_dir: dir.to_owned(),
            database: String::new(),
            traces: String::new(),
            trace_cache_bytes: 0,
            trace_grace_s: 0.0,
            synchronous: Synchronous::Normal,
            max_database_bytes,
        }
    }

    #[tokio::test]
    async fn a_bound_on_the_database_is_told_as_full() {
        let dir = tempfile::tempdir().unwrap();
        let result = Store::open(&storage(dir.path(), 8 * PAGE_BYTES)).await;
        assert!(matches!(result, Err(StoreError::Full(_))), "{result:?}");
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&storage(dir.path(), 0)).await.unwrap();
        let Pool::Sqlite(local) = &store.pool else { panic!("a file") };
        let refused = sqlx::query("delete from probe").execute(&local.readers).await.unwrap_err();
        assert!(matches!(StoreError::from(refused), StoreError::ReadOnly(_)));
    }
}
