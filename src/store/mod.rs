//! The database: one writer, several readers, methods named after the question.
//!
//! SQLite in write-ahead mode has a single writer; here it is one connection, so that
//! writers queue in the process, in order, and never meet the busy timeout. SQL keeps to
//! what PostgreSQL also understands: `$1` parameters, integer milliseconds, no engine
//! functions; pragmas stand in `space` and here. Nothing here decides policy or knows HTTP.

pub mod asks;
mod checksum;
pub mod deployments;
pub mod devices;
mod directory;
mod error;
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
pub use error::StoreError;
pub use leases::{GiveUp, Recovered};
pub use reserve::Reserve;
pub use space::Space;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

use crate::config::{Storage, Synchronous};

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

/// The database of one data directory.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    /// The file, and what it is to the operating system, however it may be called by now.
    file: (PathBuf, u64),
    /// Pages the database may have; 0 is without a bound.
    max_pages: u64,
}

impl Store {
    /// Opens the database file, creating and migrating it where needed.
    pub async fn open(file: &Path, storage: &Storage) -> Result<Self, StoreError> {
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
        migrations::migrator().run(&writer).await?;
        let readers = pool(READERS).connect_with(common.pragma("query_only", "on")).await?;
        let inode = inode(file).unwrap_or_default();
        Ok(Self { writer, readers, file: (file.to_owned(), inode), max_pages })
    }

    /// Opens a database that exists as it is, whatever its schema; both for reading and writing.
    pub async fn open_as_it_is(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(BUSY_TIMEOUT);
        let writer = pool(1).connect_with(options).await?;
        let inode = inode(file).unwrap_or_default();
        Ok(Self { readers: writer.clone(), writer, file: (file.to_owned(), inode), max_pages: 0 })
    }

    /// Copies the database as of one moment into a new file, while others write.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let file = file.to_string_lossy().into_owned();
        sqlx::query("vacuum into $1").bind(file).execute(&self.writer).await?;
        Ok(())
    }

    /// Writes one row, to learn whether writing works, into a file that others will find.
    pub async fn probe_write(&self, now_ms: i64) -> Result<(), StoreError> {
        let (path, opened) = &self.file;
        if inode(path) != Some(*opened) {
            return Err(StoreError::Gone { path: path.clone() });
        }
        sqlx::query(
            "insert into probe (id, written_ms) values (1, $1)
             on conflict (id) do update set written_ms = excluded.written_ms",
        )
        .bind(now_ms)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Closes all connections after what they are doing.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
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
        Storage { data_dir: dir.to_owned(), synchronous: Synchronous::Normal, max_database_bytes }
    }

    #[tokio::test]
    async fn a_bound_on_the_database_is_told_as_full() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("moe-gps.db");
        let result = Store::open(&file, &storage(dir.path(), 8 * PAGE_BYTES)).await;
        assert!(matches!(result, Err(StoreError::Full(_))), "{result:?}");
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("moe-gps.db");
        let store = Store::open(&file, &storage(dir.path(), 0)).await.unwrap();
        let refused = sqlx::query("delete from probe").execute(&store.readers).await.unwrap_err();
        assert!(matches!(StoreError::from(refused), StoreError::ReadOnly(_)));
    }
}
