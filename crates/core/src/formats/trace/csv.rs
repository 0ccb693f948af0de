//! Reads counts as comma-separated values with a head line: `layer,expert,count` (or `layer_id`,
//! `expert_id`), optionally `step`, columns in any order. The tables of several ranks, in one archive,
//! are added up.
//!
//! Written here rather than taken from a library because every value is a plain number: no
//! quoting is needed, and a line that never ends must not be held in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};

use crate::formats::trace::archive::Folder;
use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::{Input, shorten};
use crate::trace::{MAX_CELLS, MAX_COUNT, MAX_EXPERTS, MAX_LAYERS};

/// Longest line.
const MAX_LINE: u64 = 4096;

/// Whether an archive holds tables.
pub(super) fn is_tables(folder: &Folder) -> bool {
    names(folder).next().is_some()
}

fn names(folder: &Folder) -> impl Iterator<Item = &str> {
    folder.names().filter(|name| name.to_lowercase().ends_with(".csv"))
}

/// Converts the tables of all ranks, in one archive, to a stored trace.
pub(super) fn convert_archive(input: Input<'_>, folder: &Folder) -> Result<File, TraceError> {
    let mut shape = Shape::default();
    let each = |take: &mut dyn FnMut(&Row) -> Result<(), TraceError>| {
        names(folder).try_for_each(|name| {
            let Some(member) = folder.member(name) else { return Ok(()) };
            let table = read(&mut folder.reader(member), &mut |_, row| take(row));
            table.map_err(|error| error.within(name))
        })
    };
    each(&mut |row| shape.widen(row))?;
    if shape.last_step > 0 {
        let detail = "tables of several ranks have no steps: add them up into one table";
        return Err(Flaws::default().fail("step", "", detail));
    }
    let ((mut recorder, digest), cells, experts) = shape.recorder(input)?;
    let mut sums = vec![0.0; cells];
    each(&mut |row| {
        if !(0.0..=MAX_COUNT).contains(&row.count) {
            let detail = format!("count {}; counts must be from 0 to 2^53", row.count);
            return Err(Flaws::default().fail("range", "", detail));
        }
        sums[size(row.layer) * experts + size(row.expert)] += row.count;
        Ok(())
    })?;
    recorder.note(format!("the tables of {} rank(s) were added up", names(folder).count()));
    sums.chunks_exact(experts).try_for_each(|row| recorder.push_row(row))?;
    recorder.finish(digest)
}

/// Converts a table to a stored trace.
pub(super) fn convert(input: Input<'_>) -> Result<File, TraceError> {
    let raw = input.raw.try_clone().map_err(TraceError::storage)?;
    let mut shape = Shape::default();
    read_file(&raw, &mut |_, row| shape.widen(row))?;
    let ((mut recorder, digest), cells, experts) = shape.recorder(input)?;
    let mut step: Option<u64> = None;
    let mut cells: Vec<Option<f64>> = vec![None; cells];
    read_file(&raw, &mut |line, row| {
        if step != Some(row.step) {
            if let Some(before) = step {
                if row.step < before {
                    let detail =
                        format!("step {} comes after step {before}; sort by step", row.step);
                    return Err(Flaws::default().fail("order", format!("/lines/{line}"), detail));
                }
                flush(&mut recorder, &mut cells, experts)?;
            }
            step = Some(row.step);
        }
        let at = size(row.layer) * experts + size(row.expert);
        if cells[at].replace(row.count).is_some() {
            recorder.flaws.note("duplicate", || {
                let detail = format!("layer {}, expert {} occurs again", row.layer, row.expert);
                (format!("/lines/{line}"), detail)
            });
        }
        Ok(())
    })?;
    flush(&mut recorder, &mut cells, experts)?;
    recorder.finish(digest)
}

/// Hands a finished step on; what was not listed took no tokens.
fn flush(
    recorder: &mut CountsRecorder,
    cells: &mut [Option<f64>],
    n_experts: usize,
) -> Result<(), TraceError> {
    let mut row = Vec::with_capacity(n_experts);
    for layer in cells.chunks_exact_mut(n_experts) {
        row.clear();
        row.extend(layer.iter_mut().map(|cell| cell.take().unwrap_or(0.0)));
        recorder.push_row(&row)?;
    }
    Ok(())
}

/// How large the table is.
#[derive(Default)]
struct Shape {
    layers: u64,
    experts: u64,
    rows: u64,
    last_step: u64,
}

impl Shape {
    /// Starts to record counts of this shape; also the digest, and how many cells and experts a
    /// step has.
    #[expect(clippy::type_complexity, reason = "what belongs to a table, taken apart at once")]
    fn recorder(
        self,
        input: Input<'_>,
    ) -> Result<((CountsRecorder, [u8; 32]), usize, usize), TraceError> {
        if self.rows == 0 {
            return Err(Flaws::default().fail("empty", "", "the table holds no rows"));
        }
        let experts = input.declared.experts.map_or(self.experts, u64::from).max(self.experts);
        let mut flaws = Flaws::default();
        check_counts_shape(&mut flaws, "", self.layers, experts, input.declared);
        flaws.into_result()?;
        let shape = (size(self.layers), size(experts));
        let recorder = CountsRecorder::new(input.to, input.scratch, shape, input.declared)?;
        Ok(((recorder, input.digest), shape.0 * shape.1, shape.1))
    }

    fn widen(&mut self, row: &Row) -> Result<(), TraceError> {
        if row.layer >= MAX_LAYERS as u64 || row.expert >= u64::from(MAX_EXPERTS) {
            let detail = format!(
                "layer {}, expert {}; there may be {MAX_LAYERS} layers of {MAX_EXPERTS} experts",
                row.layer, row.expert
            );
            return Err(Flaws::default().fail("range", "", detail));
        }
        self.layers = self.layers.max(row.layer + 1);
        self.experts = self.experts.max(row.expert + 1);
        self.rows += 1;
        self.last_step = self.last_step.max(row.step);
        Ok(())
    }
}

/// A line of the table.
#[derive(Debug, Default, Clone, Copy)]
struct Row {
    step: u64,
    layer: u64,
    expert: u64,
    count: f64,
}

/// A number that was checked to be small.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(MAX_CELLS)
}

/// The columns with a meaning.
const COLUMNS: [&str; 4] = ["step", "layer", "expert", "count"];

/// Hands every row of a file on.
fn read_file(
    raw: &File,
    take: &mut dyn FnMut(u64, &Row) -> Result<(), TraceError>,
) -> Result<(), TraceError> {
    let mut file = raw;
    file.rewind().map_err(TraceError::storage)?;
    read(&mut file, take)
}

/// Hands every row on with its line from 1.
fn read(
    from: &mut dyn Read,
    take: &mut dyn FnMut(u64, &Row) -> Result<(), TraceError>,
) -> Result<(), TraceError> {
    let mut from = BufReader::with_capacity(256 * 1024, from);
    let mut columns: Option<Vec<usize>> = None;
    let (mut text, mut line) = (String::new(), 0);
    loop {
        text.clear();
        let n = (&mut from)
            .take(MAX_LINE + 1)
            .read_line(&mut text)
            .map_err(|error| TraceError::unreadable(format_args!("line {}: {error}", line + 1)))?;
        line += 1;
        if n == 0 {
            return if columns.is_some() {
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
        let row = text.trim_start_matches('\u{feff}').trim();
        if row.is_empty() {
            continue;
        }
        match &columns {
            None => columns = Some(head(row)?),
            Some(columns) => take(line, &parse(row, columns, line)?)?,
        }
    }
}

/// The meaning of every column: an index into [`COLUMNS`], or beyond it for none.
fn head(row: &str) -> Result<Vec<usize>, TraceError> {
    let place = |name: &str| {
        let name = name.trim().trim_matches('"').to_ascii_lowercase();
        let name = name.strip_suffix("_id").unwrap_or(&name);
        COLUMNS.iter().position(|known| *known == name).unwrap_or(COLUMNS.len())
    };
    let columns: Vec<usize> = row.split(',').map(place).collect();
    let times = |which: usize| columns.iter().filter(|column| **column == which).count();
    if times(0) > 1 || (1..COLUMNS.len()).any(|which| times(which) != 1) {
        let detail = format!(
            "the first line is `{}`; it must name the columns layer, expert and count once each, \
             and may name step",
            shorten(row)
        );
        return Err(Flaws::default().fail("required", "/lines/1", detail));
    }
    Ok(columns)
}

fn parse(text: &str, columns: &[usize], line: u64) -> Result<Row, TraceError> {
    let bad = |what: &str| {
        Flaws::default().fail("type", format!("/lines/{line}"), format!("line {line}: {what}"))
    };
    let mut row = Row::default();
    let mut fields = text.split(',');
    for column in columns {
        let field = fields.next().ok_or_else(|| bad("too few columns"))?.trim().trim_matches('"');
        let whole =
            || field.parse().map_err(|_| bad(&format!("`{}` is no whole number", shorten(field))));
        match column {
            0 => row.step = whole()?,
            1 => row.layer = whole()?,
            2 => row.expert = whole()?,
            3 => {
                let count = field.parse();
                row.count =
                    count.map_err(|_| bad(&format!("`{}` is no number", shorten(field))))?;
            }
            _ => {}
        }
    }
    match fields.next() {
        Some(_) => Err(bad("too many columns")),
        None => Ok(row),
    }
}
