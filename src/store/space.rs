//! Room: how much the database takes, how much is left, and how freed pages go back to the disk.

use std::path::Path;

use crate::store::engine::{Local, Pool};
use crate::store::{PAGE_BYTES, Store, StoreError};

/// Free pages that stay in the file for what comes next: 1 MiB.
const KEPT_PAGES: i64 = 256;
/// Pages given back in one statement, so that no other write waits long: 1 MiB.
const SLICE_PAGES: i64 = 256;
/// Statements in a row: 64 MiB.
const SLICES: u32 = 64;

/// How much room there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// The database with its log, bytes.
    pub database_bytes: u64,
    /// Freed inside it, and used again by what comes next, bytes.
    pub database_free_bytes: u64,
    /// Left to grow within `--max-database-bytes`, freed pages included, bytes.
    pub database_left_bytes: Option<u64>,
    /// The file system of the data directory, bytes.
    pub disk_bytes: u64,
    /// Free on it, bytes.
    pub disk_free_bytes: u64,
}

impl Store {
    /// How much room the database takes, and how much is left; of a server, how much it takes.
    pub async fn space(&self) -> Result<Space, StoreError> {
        let (disk_bytes, disk_free_bytes) = disk(&self.folder);
        let local = match &self.pool {
            Pool::Sqlite(local) => local,
            Pool::Postgres(pool) => {
                let size = "select pg_database_size(current_database())";
                let bytes: i64 = sqlx::query_scalar(size).fetch_one(pool).await?;
                let database_bytes = bytes.max(0).unsigned_abs();
                return Ok(Space {
                    database_bytes,
                    disk_bytes,
                    disk_free_bytes,
                    ..Space::default()
                });
            }
        };
        let (pages, free) = local.pages().await?;
        let file = &local.file.0;
        let mut wal = file.clone().into_os_string();
        wal.push("-wal");
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let of_pages = |pages: i64| pages.max(0).unsigned_abs() * PAGE_BYTES;
        Ok(Space {
            database_bytes: bytes(file) + bytes(Path::new(&wal)),
            database_free_bytes: of_pages(free),
            database_left_bytes: (local.max_pages != 0)
                .then(|| of_pages(local.max_pages.cast_signed() - pages + free)),
            disk_bytes,
            disk_free_bytes,
        })
    }

    /// Gives freed pages back to the disk, but for some that what comes next will need. A server does
    /// so by itself.
    pub async fn give_back(&self) -> Result<(), StoreError> {
        match &self.pool {
            Pool::Sqlite(local) => local.give_back().await,
            Pool::Postgres(_) => Ok(()),
        }
    }

    /// Rewrites a database of an earlier version so that it can give freed pages back; false where
    /// it is larger than `most_bytes`, and nothing was done.
    pub async fn allow_giving_back(&self, most_bytes: Option<u64>) -> Result<bool, StoreError> {
        match &self.pool {
            Pool::Sqlite(local) => local.allow_giving_back(most_bytes).await,
            Pool::Postgres(_) => Ok(true),
        }
    }
}

impl Local {
    async fn pages(&self) -> Result<(i64, i64), StoreError> {
        let pages: i64 = sqlx::query_scalar("pragma page_count").fetch_one(&self.readers).await?;
        let free: i64 =
            sqlx::query_scalar("pragma freelist_count").fetch_one(&self.readers).await?;
        Ok((pages, free))
    }

    async fn give_back(&self) -> Result<(), StoreError> {
        let (_, mut free) = self.pages().await?;
        let mut gave = false;
        for _ in 0..SLICES {
            if free < KEPT_PAGES + SLICE_PAGES {
                break;
            }
            let slice = format!("pragma incremental_vacuum({SLICE_PAGES})");
            sqlx::query(sqlx::AssertSqlSafe(slice)).fetch_all(&self.writer).await?;
            let (_, left) = self.pages().await?;
            if free <= left {
                break;
            }
            (free, gave) = (left, true);
        }
        if gave {
            // The file shrinks when the log is moved into it.
            sqlx::query("pragma wal_checkpoint(passive)").fetch_all(&self.writer).await?;
        }
        Ok(())
    }

    async fn allow_giving_back(&self, most_bytes: Option<u64>) -> Result<bool, StoreError> {
        let mode: i64 = sqlx::query_scalar("pragma auto_vacuum").fetch_one(&self.readers).await?;
        if mode != 0 {
            return Ok(true);
        }
        let (pages, _) = self.pages().await?;
        if most_bytes.is_some_and(|most| most < pages.max(0).unsigned_abs() * PAGE_BYTES) {
            return Ok(false);
        }
        // The connection was told the mode when it was opened; this makes the file follow.
        sqlx::query("vacuum").execute(&self.writer).await?;
        Ok(true)
    }
}

/// Size of the file system of a folder and what is free on it, bytes; none and any where nobody says.
pub(super) fn disk(folder: &Path) -> (u64, u64) {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    rustix::fs::statvfs(folder).map_or((0, u64::MAX), |disk| {
        (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize)
    })
}
