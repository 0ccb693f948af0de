//! Reads a Parquet [`table`] of counts, as data frames are written.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::table::{self, Columns};
use crate::formats::trace::{Input, shorten};
use crate::trace::MAX_EXPERTS;

/// Most columns; beside those of experts a table may have others.
const MAX_COLUMNS: usize = MAX_EXPERTS as usize + 64;

/// Converts a table to a stored trace.
pub(super) fn convert(input: Input<'_>) -> Result<File, TraceError> {
    let raw = input.raw.try_clone().map_err(TraceError::storage)?;
    let limits = input.limits;
    let read = || {
        let sent = raw.metadata().map_err(TraceError::storage)?.len();
        let reader = raw.try_clone().map_err(TraceError::storage)?;
        let reader = SerializedFileReader::new(reader).map_err(TraceError::unreadable)?;
        let groups = reader.metadata().row_groups().iter();
        let sizes = groups.map(|group| group.total_byte_size().max(0).unsigned_abs());
        limits.allow_inflated("the table", sent, sizes.fold(0, u64::saturating_add))?;
        let fields = reader.metadata().file_metadata().schema().get_fields();
        let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        let known = Columns::named(&names).filter(|_| names.len() <= MAX_COLUMNS);
        let Some(columns) = known else {
            let named = shorten(&names.join(", "));
            let detail = format!("its columns are {named}; it must have {}", table::COLUMNS);
            return Err(Flaws::default().fail("required", "/columns", detail));
        };
        Ok((reader, columns))
    };
    // The library promises no answer to damaged files.
    let guarded = |read: &mut dyn FnMut() -> Result<(), TraceError>| {
        catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|_| Err(TraceError::unreadable("the table is damaged")))
    };
    table::convert(input, "rows", &|take| {
        guarded(&mut || {
            let (reader, columns) = read()?;
            let rows = reader.get_row_iter(None).map_err(TraceError::unreadable)?;
            for (nth, row) in (0..).zip(rows) {
                let row = row.map_err(TraceError::unreadable)?;
                let fields: Vec<String> =
                    row.get_column_iter().map(|(_, field)| field.to_string()).collect();
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                let fail = |what: &str| {
                    let pointer = format!("/rows/{nth}");
                    Flaws::default().fail("type", pointer, format!("row {nth}: {what}"))
                };
                columns.give((nth, nth), &fields, &fail, take)?;
            }
            Ok(())
        })
    })
}
