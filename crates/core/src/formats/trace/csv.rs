//! Reads counts as comma-separated values with a head line: `layer,expert,count`, optionally
//! `step`, columns in any order.
//!
//! Written here rather than taken from a library because every value is a plain number: no
//! quoting is needed, and a line that never ends must not be held in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};

use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::{Input, shorten};
use crate::trace::{MAX_CELLS, MAX_EXPERTS, MAX_LAYERS};

/// Longest line.
const MAX_LINE: u64 = 4096;

/// Converts a table to a stored trace.
pub(super) fn convert(input: Input<'_>) -> Result<File, TraceError> {
    let mut shape = Shape::default();
    read(&input.raw, &mut |_, row| shape.widen(row))?;
    let Shape { layers: n_layers, experts: n_experts, rows: n_rows } = shape;
    if n_rows == 0 {
        return Err(Flaws::default().fail("empty", "", "the table holds no rows"));
    }
    let experts = input.declared.experts.map_or(n_experts, u64::from).max(n_experts);
    let mut flaws = Flaws::default();
    check_counts_shape(&mut flaws, "", n_layers, experts, input.declared);
    flaws.into_result()?;
    let size = |n: u64| usize::try_from(n).unwrap_or(MAX_CELLS);
    let (layers, experts) = (size(n_layers), size(experts));
    let mut recorder =
        CountsRecorder::new(input.to, input.scratch, (layers, experts), input.declared)?;
    let mut step: Option<u64> = None;
    let mut cells: Vec<Option<f64>> = vec![None; layers * experts];
    read(&input.raw, &mut |line, row| {
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
    recorder.finish(input.digest)
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
}

impl Shape {
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

/// The columns with a meaning.
const COLUMNS: [&str; 4] = ["step", "layer", "expert", "count"];

/// Hands every row on with its line from 1.
fn read(
    raw: &File,
    take: &mut dyn FnMut(u64, &Row) -> Result<(), TraceError>,
) -> Result<(), TraceError> {
    let mut file = raw;
    file.rewind().map_err(TraceError::storage)?;
    let mut from = BufReader::with_capacity(256 * 1024, file);
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
