//! The two database engines, and how one statement reaches the one in use.
//!
//! `SQLite` in write-ahead mode has a single writer; here it is one connection, so that writers queue
//! in the process, in order, and never meet the busy timeout. `PostgreSQL` has a pool, and where
//! two replicas could meet, a lock on the row or on a name.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::sqlite::SqlitePool;
use sqlx::{Connection, Postgres, Sqlite};

use crate::store::{Store, StoreError};

/// Connections of a process to `PostgreSQL`, of which one listens.
const CONNECTIONS: u32 = 16;
/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle time after which a connection is asked whether it still lives before it is used.
const SURELY_ALIVE: Duration = Duration::from_secs(1);
/// Longest statement, as `PostgreSQL` reads it; none here reads more than some hundred rows.
const STATEMENT_TIMEOUT: &str = "20s";

/// The connections to the database.
#[derive(Debug, Clone)]
pub(super) enum Pool {
    /// A file of this machine.
    Sqlite(Local),
    /// A server that replicas share.
    Postgres(PgPool),
}

/// A database file.
#[derive(Debug, Clone)]
pub(super) struct Local {
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
    /// The file, and what it is to the operating system, however it may be called by now.
    pub(super) file: (PathBuf, u64),
    /// Pages the database may have; 0 is without a bound.
    pub(super) max_pages: u64,
}

/// A transaction that writes.
#[derive(Debug)]
pub(super) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// A statement that the engines spell differently.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelled {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

/// Two spellings that differ in one place: `spelled!(before, [sqlite | postgres], after)`.
macro_rules! spelled {
    ($before:expr, [$sqlite:literal | $postgres:literal], $after:expr) => {
        $crate::store::engine::Spelled {
            sqlite: concat!($before, $sqlite, $after),
            postgres: concat!($before, $postgres, $after),
        }
    };
}

/// Does something on a connection that only reads, of either engine.
macro_rules! reading {
    ($store:expr, $db:ident => $done:expr) => {
        match &$store.pool {
            $crate::store::engine::Pool::Sqlite(local) => {
                let $db = &local.readers;
                $done
            }
            $crate::store::engine::Pool::Postgres(pool) => {
                let $db = pool;
                $done
            }
        }
    };
}

/// Does something on a connection that writes, of either engine.
macro_rules! writing {
    ($store:expr, $db:ident => $done:expr) => {
        match &$store.pool {
            $crate::store::engine::Pool::Sqlite(local) => {
                let $db = &local.writer;
                $done
            }
            $crate::store::engine::Pool::Postgres(pool) => {
                let $db = pool;
                $done
            }
        }
    };
}

/// Does something within a transaction of either engine.
macro_rules! within {
    ($transaction:expr, $db:ident => $done:expr) => {
        match $transaction {
            $crate::store::engine::Transaction::Sqlite(one) => {
                let $db = &mut **one;
                $done
            }
            $crate::store::engine::Transaction::Postgres(one) => {
                let $db = &mut **one;
                $done
            }
        }
    };
}

pub(super) use {reading, spelled, within, writing};

/// What processes that share the database do one at a time; the numbers name its locks.
#[derive(Debug, Clone, Copy)]
#[repr(i64)]
pub enum Shared {
    /// Registering devices and models, whose number is bounded.
    Registered = 0x6d67_7073_0001,
    /// Changing a deployment.
    Deployments = 0x6d67_7073_0002,
    /// Joining the counts of jobs.
    Counts = 0x6d67_7073_0003,
    /// Freeing the jobs of the dead.
    Leases = 0x6d67_7073_0005,
    /// Changing the row of a trace.
    Traces = 0x6d67_7073_0006,
    /// Deleting what is old.
    Retention = 0x6d67_7073_0007,
    /// Deleting objects of an object store.
    Objects = 0x6d67_7073_0004,
}

/// Connects to `PostgreSQL`.
pub(super) async fn connect(options: PgConnectOptions) -> Result<PgPool, sqlx::Error> {
    let options = options
        .application_name("moe-gps")
        .options([("statement_timeout", STATEMENT_TIMEOUT), ("client_min_messages", "warning")]);
    // A pool would wait and say nothing of why.
    PgConnection::connect_with(&options).await?.close().await?;
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(
                async move { Ok(about.idle_for < SURELY_ALIVE || connection.ping().await.is_ok()) },
            )
        })
        .connect_with(options)
        .await
}

impl Store {
    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(match &self.pool {
            Pool::Sqlite(local) => {
                Transaction::Sqlite(local.writer.begin_with("begin immediate").await?)
            }
            Pool::Postgres(pool) => Transaction::Postgres(pool.begin().await?),
        })
    }

    /// The spelling that this engine reads.
    pub(super) fn spell(&self, statement: Spelled) -> &'static str {
        match &self.pool {
            Pool::Sqlite(_) => statement.sqlite,
            Pool::Postgres(_) => statement.postgres,
        }
    }

    /// Whether other processes may use the database, too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.pool, Pool::Postgres(_))
    }
}

impl Transaction {
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(one) => one.commit().await,
            Self::Postgres(one) => one.commit().await,
        }
    }

    pub(super) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(one) => one.rollback().await,
            Self::Postgres(one) => one.rollback().await,
        }
    }

    /// The spelling that this engine reads.
    pub(super) fn spell(&self, statement: Spelled) -> &'static str {
        match self {
            Self::Sqlite(_) => statement.sqlite,
            Self::Postgres(_) => statement.postgres,
        }
    }

    /// Keeps everybody else from changing a row, and from naming it, until the end. What is read of
    /// it is read afterwards: a statement that waits sees other rows as they were before it waited.
    /// `SQLite` has one writer, which this is.
    pub(super) async fn lock(&mut self, row: Row, id: &str) -> Result<(), sqlx::Error> {
        if let Self::Postgres(one) = self {
            sqlx::query(row.locking()).bind(id).execute(&mut **one).await?;
        }
        Ok(())
    }

    /// The same for everybody who does something with this text.
    pub(super) async fn alone_with(&mut self, text: &str) -> Result<(), sqlx::Error> {
        if let Self::Postgres(one) = self {
            let lock = "select pg_advisory_xact_lock(hashtextextended($1, 0))";
            sqlx::query(lock).bind(text).execute(&mut **one).await?;
        }
        Ok(())
    }

    /// Waits for everybody else who does the same, and keeps them waiting until the end.
    pub(super) async fn alone(&mut self, what: Shared) -> Result<(), sqlx::Error> {
        if let Self::Postgres(one) = self {
            let lock = sqlx::query("select pg_advisory_xact_lock($1)").bind(what as i64);
            lock.execute(&mut **one).await?;
        }
        Ok(())
    }
}

/// A row that can be locked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row {
    Recommendation,
    Trace,
}

impl Row {
    fn locking(self) -> &'static str {
        match self {
            Self::Recommendation => "select 1 from recommendation where id = $1 for update",
            Self::Trace => "select 1 from trace where id = $1 for update",
        }
    }
}
