//! Why the database did not do what was asked.

use std::path::PathBuf;

use sqlx::postgres::PgDatabaseError;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory cannot be created or written.
    #[error("data directory {} cannot be used; choose a writable one with --data-dir", path.display())]
    Directory {
        /// The directory, or the file in it, that was tried.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another live service uses the data directory.
    #[error(
        "{} is in use by another moe-gps; stop it or choose another with --data-dir or --database",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The disk, or the room the database was given, is full.
    #[error(
        "the database has no room left to write; free space there or raise --max-database-bytes"
    )]
    Full(#[source] sqlx::Error),
    /// The disk is full, and what is left of it is for deletions.
    #[error(
        "the disk of the data directory is full; delete recommendations or traces, or make room on it"
    )]
    NoRoom,
    /// The disk failed to read or write.
    #[error(
        "the disk failed under the database; look at the system's log, the mount and quotas, and \
         check the file with `sqlite3 FILE 'pragma integrity_check'`"
    )]
    Io(#[source] sqlx::Error),
    /// The file is no database any more.
    #[error(
        "the database file is damaged; see which part with `sqlite3 FILE 'pragma integrity_check'`, \
         and go back to a backup"
    )]
    Damaged(#[source] sqlx::Error),
    /// A stored text is not what was written.
    #[error(
        "the stored {what} of {of} is damaged: its checksum does not fit; go back to a backup, or \
         delete it and ask again"
    )]
    Altered {
        /// The column.
        what: &'static str,
        /// The row.
        of: String,
    },
    /// The file is not where it was opened.
    #[error("the database file is gone from {}; what is written now is lost", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// The database is named in a way that cannot be read.
    #[error("--database is not the address of a PostgreSQL database, as postgres://user@host/name")]
    Named(#[source] sqlx::Error),
    /// The database is of no kind that is known.
    #[error(
        "--database begins with {0:?}; it must be sqlite:PATH or postgres://user:password@host/name"
    )]
    NamedOtherwise(String),
    /// Traces cannot be kept where they are to be.
    #[error("--traces is {address:?}: {why}")]
    Traces {
        /// Where.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The database server says nothing.
    #[error("the database server does not answer; see that it runs and can be reached from here")]
    Silent,
    /// The database server is away.
    #[error(
        "the database server cannot be reached; see that it runs and takes connections from here"
    )]
    Away(#[source] sqlx::Error),
    /// The database server lets nobody in.
    #[error(
        "the database server refuses the connection; check user, password and name in --database"
    )]
    Refused(#[source] sqlx::Error),
    /// The database may not be written.
    #[error("the database cannot be written; check its file's permissions and the mount")]
    ReadOnly(#[source] sqlx::Error),
    /// The database stayed locked or out of reach for longer than its timeout.
    #[error("the database did not answer in time")]
    Busy(#[source] sqlx::Error),
    /// The schema is newer than this program, or was edited.
    #[error("the database schema does not fit this program; use the version that wrote it")]
    Schema(#[source] sqlx::migrate::MigrateError),
    /// A row does not hold what this program writes.
    #[error("{what} in the database cannot be read")]
    Corrupt {
        /// The column that is wrong.
        what: &'static str,
    },
    /// Any other failure of the database.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether trying again later may succeed without a change to the program.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Full(_)
                | Self::NoRoom
                | Self::Io(_)
                | Self::Damaged(_)
                | Self::Altered { .. }
                | Self::Gone { .. }
                | Self::ReadOnly(_)
                | Self::Busy(_)
                | Self::Away(_)
                | Self::Silent
                | Self::Refused(_)
        )
    }

    /// A short name for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "directory",
            Self::InUse { .. } => "in_use",
            Self::Full(_) | Self::NoRoom => "full",
            Self::Io(_) => "io",
            Self::Damaged(_) | Self::Altered { .. } => "damaged",
            Self::Gone { .. } => "gone",
            Self::ReadOnly(_) => "read_only",
            Self::Busy(_) => "busy",
            Self::Away(_) | Self::Silent | Self::Refused(_) => "away",
            Self::Named(_) | Self::NamedOtherwise(_) | Self::Traces { .. } => "named",
            Self::Schema(_) => "schema",
            Self::Corrupt { .. } => "corrupt",
            Self::Database(_) => "other",
        }
    }
}

/// Primary result codes of SQLite, <https://www.sqlite.org/rescode.html>.
mod code {
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const READONLY: u32 = 8;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const NOTADB: u32 = 26;
}

/// What a result code of SQLite means.
fn of_code(code: &str) -> fn(sqlx::Error) -> StoreError {
    // The low byte is the primary code, the rest tells variants of it apart.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(code::READONLY | code::CANTOPEN) => StoreError::ReadOnly,
        Ok(code::BUSY | code::LOCKED) => StoreError::Busy,
        Ok(code::FULL) => StoreError::Full,
        Ok(code::IOERR) => StoreError::Io,
        Ok(code::CORRUPT | code::NOTADB) => StoreError::Damaged,
        _ => StoreError::Database,
    }
}

/// What an SQLSTATE of PostgreSQL means, <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn of_state(state: &str) -> fn(sqlx::Error) -> StoreError {
    match state {
        // Disk full.
        "53100" => StoreError::Full,
        // Read-only transaction, as on a standby; no privilege.
        "25006" | "42501" => StoreError::ReadOnly,
        // Serialization failure, deadlock, lock not available, canceled by a timeout.
        "40001" | "40P01" | "55P03" | "57014" => StoreError::Busy,
        // Data and index corrupted.
        "XX001" | "XX002" => StoreError::Damaged,
        // I/O error.
        "58030" => StoreError::Io,
        // No such database.
        "3D000" => StoreError::Refused,
        _ => match state.get(..2) {
            // Authorization.
            Some("28") => StoreError::Refused,
            // Connection exceptions; shutting down or starting up.
            Some("08" | "57") => StoreError::Away,
            // Too many connections, out of memory.
            Some("53") => StoreError::Busy,
            _ => StoreError::Database,
        },
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let error = match error {
            sqlx::Error::PoolTimedOut => return Self::Busy(error),
            // What `checksum::whole` says while a row is read.
            sqlx::Error::Decode(cause) => match cause.downcast::<Self>() {
                Ok(altered) => return *altered,
                Err(cause) => sqlx::Error::Decode(cause),
            },
            other => other,
        };
        let found = match error.as_database_error() {
            // A connection that broke, or none that could be had.
            None if matches!(error, sqlx::Error::Io(_)) => Self::Away,
            None => Self::Database,
            Some(told) => {
                let code = told.code().unwrap_or_default();
                match told.try_downcast_ref::<PgDatabaseError>() {
                    Some(_) => of_state(&code),
                    None => of_code(&code),
                }
            }
        };
        let error = found(error);
        metrics::counter!(crate::telemetry::metrics::STORE_ERRORS, "kind" => error.kind())
            .increment(1);
        error
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Schema(other),
        }
    }
}
