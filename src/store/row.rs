//! Rows of either engine become records field by field.

/// Reads a record from a row, whose columns have the same names and types in both engines.
macro_rules! from_row {
    ($record:ident, $row:ident => $read:block) => {
        impl sqlx::FromRow<'_, sqlx::sqlite::SqliteRow> for $record {
            fn from_row($row: &sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
                use sqlx::Row as _;
                $read
            }
        }
        impl sqlx::FromRow<'_, sqlx::postgres::PgRow> for $record {
            fn from_row($row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
                use sqlx::Row as _;
                $read
            }
        }
    };
}

/// Reads every named field from the column of the same name.
///
/// What `sqlx::FromRow` derives; deriving it would build the library, with SQLite, a second
/// time for the compiler.
macro_rules! record_from_row {
    ($record:ident { $($field:ident),+ $(,)? }) => {
        $crate::store::row::from_row!($record, row => {
            Ok(Self { $($field: row.try_get(stringify!($field))?),+ })
        });
    };
}

pub(super) use {from_row, record_from_row};
