//! Reads counts as values separated by commas, semicolons or tabs, with a head line that names the columns
//! of a [`table`]. With one column an expert the head may be left out.
//!
//! Written here rather than taken from a library because every value is a plain number: no
//! quoting is needed, and a line that never ends must not be held in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};

use crate::formats::trace::archive::Folder;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::table::{self, Columns, Take};
use crate::formats::trace::{Input, shorten};

/// Longest line; a row of counts of a thousand experts fits.
const MAX_LINE: u64 = 64 * 1024;

/// Whether an archive holds tables.
pub(super) fn is_tables(folder: &Folder) -> bool {
    names(folder).next().is_some()
}

fn names(folder: &Folder) -> impl Iterator<Item = &str> {
    folder.names().filter(|name| name.to_lowercase().ends_with(".csv"))
}

/// Converts the tables of all ranks, in one archive, to a stored trace.
pub(super) fn convert_archive(input: Input<'_>, folder: &Folder) -> Result<File, TraceError> {
    table::convert_ranks(input, names(folder).count(), &|take| {
        names(folder).try_for_each(|name| {
            let Some(member) = folder.member(name) else { return Ok(()) };
            read(&mut folder.reader(member), take).map_err(|error| error.within(name))
        })
    })
}

/// Converts a table to a stored trace.
pub(super) fn convert(input: Input<'_>) -> Result<File, TraceError> {
    let raw = input.raw.try_clone().map_err(TraceError::storage)?;
    table::convert(input, "lines", &|take| {
        let mut file = &raw;
        file.rewind().map_err(TraceError::storage)?;
        read(&mut file, take)
    })
}

/// How a table is written.
struct Layout {
    separator: char,
    columns: Columns,
    /// Whether the first line is counts already.
    is_headless: bool,
}

impl Layout {
    /// That of a table whose first line is this one.
    fn of(first: &str) -> Result<Self, TraceError> {
        let found =
            [',', ';', '\t'].iter().find_map(|separator| Self::separated(first, *separator));
        found.ok_or_else(|| {
            let detail =
                format!("the first line is `{}`; it must name {}", shorten(first), table::COLUMNS);
            Flaws::default().fail("required", "/lines/1", detail)
        })
    }

    fn separated(first: &str, separator: char) -> Option<Self> {
        let fields: Vec<&str> = first.split(separator).map(str::trim).collect();
        // Three numbers might be layer, expert and count without a head.
        if fields.len() > 3 && fields.iter().all(|field| field.parse::<f64>().is_ok()) {
            let is_headless =
                !fields.iter().enumerate().all(|(nth, field)| *field == nth.to_string());
            return Some(Self { separator, columns: Columns::experts(fields.len()), is_headless });
        }
        Some(Self { separator, columns: Columns::named(&fields)?, is_headless: false })
    }
}

/// Hands every count on with its line from 1.
fn read(from: &mut dyn Read, take: Take<'_>) -> Result<(), TraceError> {
    let mut from = BufReader::with_capacity(256 * 1024, from);
    let mut layout: Option<Layout> = None;
    let (mut text, mut line, mut nth) = (String::new(), 0, 0);
    loop {
        text.clear();
        let n = (&mut from)
            .take(MAX_LINE + 1)
            .read_line(&mut text)
            .map_err(|error| TraceError::unreadable(format_args!("line {}: {error}", line + 1)))?;
        line += 1;
        if n == 0 {
            return if layout.is_some() {
                Ok(())
            } else {
                Err(Flaws::default().fail("empty", "", "the table is empty"))
            };
        }
        if n as u64 > MAX_LINE {
            return Err(TraceError::unreadable(format_args!(
                "line {line} is longer than {MAX_LINE} bytes"
            )));
        }
        let row = text.trim_start_matches('\u{feff}').trim_matches(['\r', '\n', ' ']);
        if row.trim().is_empty() {
            continue;
        }
        if layout.is_none() {
            let first = Layout::of(row)?;
            let is_headless = first.is_headless;
            layout = Some(first);
            if !is_headless {
                continue;
            }
        }
        let Some(layout) = &layout else { continue };
        let fields: Vec<&str> = row.split(layout.separator).collect();
        let fail = |what: &str| {
            Flaws::default().fail("type", format!("/lines/{line}"), format!("line {line}: {what}"))
        };
        layout.columns.give((line, nth), &fields, &fail, take)?;
        nth += 1;
    }
}
