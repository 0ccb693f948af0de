//! Reads counts as values separated by commas, semicolons or tabs, with a head line: `layer,expert,count`
//! (or `layer_id`, `expert_id`, `num_tokens`), optionally `step`, columns in any order. A column `rank`, or
//! the tables of several ranks in one archive, are added up. A table may also have one column an expert
//! (`expert_0`, `0`) and one row a layer, which `layer` names or the order tells; then the head may be left out.
//!
//! Written here rather than taken from a library because every value is a plain number: no
//! quoting is needed, and a line that never ends must not be held in memory.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};

use crate::formats::trace::archive::Folder;
use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::{Input, shorten};
use crate::trace::{MAX_CELLS, MAX_COUNT, MAX_EXPERTS, MAX_LAYERS};

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
        if row.adds {
            *cells[at].get_or_insert(0.0) += row.count;
        } else if cells[at].replace(row.count).is_some() {
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
    /// Whether it is one rank's part of the count.
    adds: bool,
}

/// A number that was checked to be small.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(MAX_CELLS)
}

/// What a column means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Step,
    Layer,
    Expert,
    Count,
    Rank,
    /// The counts of this expert.
    Of(u64),
    /// It has no name, as the index of a data frame.
    Unnamed,
    Other,
}

impl Column {
    fn expert(self) -> Option<u64> {
        match self {
            Self::Of(expert) => Some(expert),
            _ => None,
        }
    }

    fn named(name: &str) -> Self {
        let name = name.trim().trim_matches('"').to_ascii_lowercase();
        let stem = ["_id", "_idx", "_index"].iter().find_map(|end| name.strip_suffix(end));
        match stem.unwrap_or(&name) {
            "" => Self::Unnamed,
            "step" | "iteration" => Self::Step,
            "layer" => Self::Layer,
            "expert" => Self::Expert,
            "count" | "counts" | "num_tokens" | "tokens" | "load" => Self::Count,
            "rank" => Self::Rank,
            name => {
                let rest = name.strip_prefix("expert").or_else(|| name.strip_prefix('e'));
                let number = rest.unwrap_or(name).trim_start_matches(['_', ' ', '.']).parse();
                number.map_or(Self::Other, Self::Of)
            }
        }
    }
}

/// How a table is written.
struct Layout {
    separator: char,
    columns: Vec<Column>,
    /// Whether the first line is counts already.
    is_headless: bool,
}

impl Layout {
    /// That of a table whose first line is this one.
    fn of(first: &str) -> Result<Self, TraceError> {
        let found =
            [',', ';', '\t'].iter().find_map(|separator| Self::separated(first, *separator));
        found.ok_or_else(|| {
            let detail = format!(
                "the first line is `{}`; it must name the columns layer, expert and count once \
                 each, and may name step and rank; or one column an expert (expert_0, expert_1, …), \
                 with layer and step or without",
                shorten(first)
            );
            Flaws::default().fail("required", "/lines/1", detail)
        })
    }

    fn separated(first: &str, separator: char) -> Option<Self> {
        let fields: Vec<&str> = first.split(separator).map(str::trim).collect();
        let mut columns: Vec<Column> = fields.iter().map(|name| Column::named(name)).collect();
        let times = |of: Column| columns.iter().filter(|column| **column == of).count();
        let at_most_once = times(Column::Step) < 2 && times(Column::Rank) < 2;
        let is_list = [Column::Layer, Column::Expert, Column::Count].map(times) == [1; 3];
        if is_list && at_most_once {
            for column in columns.iter_mut().filter(|column| column.expert().is_some()) {
                *column = Column::Other;
            }
            return Some(Self { separator, columns, is_headless: false });
        }
        // Three numbers might be layer, expert and count without a head.
        if fields.len() > 3 && fields.iter().all(|field| field.parse::<f64>().is_ok()) {
            let is_headless = !(0..).zip(&columns).all(|(nth, column)| *column == Column::Of(nth));
            let columns = (0..).take(columns.len()).map(Column::Of).collect();
            return Some(Self { separator, columns, is_headless });
        }
        let experts: BTreeSet<u64> = columns.iter().filter_map(|column| column.expert()).collect();
        let n_experts = columns.iter().filter(|column| column.expert().is_some()).count();
        let is_wide = experts.len() > 1 && experts.len() == n_experts && at_most_once;
        let [layers, lists] = [times(Column::Layer), times(Column::Expert) + times(Column::Count)];
        if layers == 0 && columns.first() == Some(&Column::Unnamed) {
            columns[0] = Column::Layer;
        }
        let has_layer = columns.contains(&Column::Layer);
        // Without a layer's name, rows are layers in their order, of one step and rank.
        let is_told = has_layer
            || ![Column::Step, Column::Rank].iter().any(|column| columns.contains(column));
        (is_wide && lists == 0 && layers < 2 && is_told).then_some(Self {
            separator,
            columns,
            is_headless: false,
        })
    }

    /// Hands the counts of the `nth` line of them on.
    fn parse(
        &self,
        text: &str,
        (line, nth): (u64, u64),
        take: &mut dyn FnMut(u64, &Row) -> Result<(), TraceError>,
    ) -> Result<(), TraceError> {
        let bad = |what: &str| {
            Flaws::default().fail("type", format!("/lines/{line}"), format!("line {line}: {what}"))
        };
        let whole = |field: &str| {
            // Data frames write whole numbers with a point where others are absent.
            let digits = field.strip_suffix(".0").unwrap_or(field);
            digits.parse().map_err(|_| bad(&format!("`{}` is no whole number", shorten(field))))
        };
        let number = |field: &str| {
            field.parse().map_err(|_| bad(&format!("`{}` is no number", shorten(field))))
        };
        let fields: Vec<&str> = text.split(self.separator).collect();
        match fields.len().cmp(&self.columns.len()) {
            Ordering::Less => return Err(bad("too few columns")),
            Ordering::Greater => return Err(bad("too many columns")),
            Ordering::Equal => {}
        }
        let mut row = Row { layer: nth, ..Row::default() };
        let mut counts = Vec::new();
        for (column, field) in self.columns.iter().zip(fields) {
            let field = field.trim().trim_matches('"');
            match column {
                Column::Step => row.step = whole(field)?,
                Column::Layer => row.layer = whole(field)?,
                Column::Expert => row.expert = whole(field)?,
                Column::Count => row.count = number(field)?,
                Column::Rank => row.adds = true,
                Column::Of(expert) => counts.push((*expert, number(field)?)),
                Column::Unnamed | Column::Other => {}
            }
        }
        if !counts.is_empty() {
            return counts
                .into_iter()
                .try_for_each(|(expert, count)| take(line, &Row { expert, count, ..row }));
        }
        take(line, &row)
    }
}

/// Hands every row of a file on.
fn read_file(
    raw: &File,
    take: &mut dyn FnMut(u64, &Row) -> Result<(), TraceError>,
) -> Result<(), TraceError> {
    let mut file = raw;
    file.rewind().map_err(TraceError::storage)?;
    read(&mut file, take)
}

/// Hands every count on with its line from 1.
fn read(
    from: &mut dyn Read,
    take: &mut dyn FnMut(u64, &Row) -> Result<(), TraceError>,
) -> Result<(), TraceError> {
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
        layout.parse(row, (line, nth), take)?;
        nth += 1;
    }
}
