//! Rows become records field by field.

/// Reads every named field from the column of the same name.
///
/// What `sqlx::FromRow` derives; deriving it would build the library, with SQLite, a second
/// time for the compiler.
macro_rules! record_from_row {
    ($record:ident { $($field:ident),+ $(,)? }) => {
        impl sqlx::FromRow<'_, sqlx::sqlite::SqliteRow> for $record {
            fn from_row(row: &sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: sqlx::Row::try_get(row, stringify!($field))?),+ })
            }
        }
    };
}

pub(super) use record_from_row;
