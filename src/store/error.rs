//! Why the database did not do what was asked.

use std::path::PathBuf;

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
        "data directory {} is in use by another moe-gps; stop it or choose another with --data-dir",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The disk, or the room the database was given, is full.
    #[error("the database has no room left to write; free space or raise --max-database-bytes")]
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
        let extended = error.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
        // The low byte is the primary code, the rest tells variants of it apart.
        let found = match extended.map(|code| code & 0xff) {
            Some(code::READONLY | code::CANTOPEN) => Self::ReadOnly,
            Some(code::BUSY | code::LOCKED) => Self::Busy,
            Some(code::FULL) => Self::Full,
            Some(code::IOERR) => Self::Io,
            Some(code::CORRUPT | code::NOTADB) => Self::Damaged,
            _ => Self::Database,
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
