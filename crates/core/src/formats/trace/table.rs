//! Counts as a table, whatever file it stands in: columns `layer`, `expert` and `count` (or `layer_id`,
//! `expert_id`, `num_tokens`), optionally `step`, in any order. A column `rank`, or the tables of several
//! ranks in one archive, are added up. A table may also have one column an expert (`expert_0`, `0`) and one
//! row a layer, which `layer` names or the order tells.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::File;

use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::counts_json::layer_named;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::{Input, shorten};
use crate::trace::{MAX_CELLS, MAX_COUNT, MAX_EXPERTS, MAX_LAYERS};

/// Takes a count with the place of its row.
pub(super) type Take<'a> = &'a mut dyn FnMut(u64, &Row) -> Result<(), TraceError>;

/// Hands every count of a table on, from the beginning each time.
pub(super) type Read<'a> = &'a dyn Fn(Take<'_>) -> Result<(), TraceError>;

/// The columns a table must have, for people.
pub(super) const COLUMNS: &str = "the columns layer, expert and count once each, and may name step and rank; \
                                  or one column an expert (expert_0, expert_1, …), with layer and step or \
                                  without";

/// Converts a table to a stored trace; the places of its rows are counted in `unit`.
pub(super) fn convert(input: Input<'_>, unit: &str, read: Read<'_>) -> Result<File, TraceError> {
    let mut shape = Shape::default();
    read(&mut |_, row| shape.widen(row))?;
    let ((mut recorder, digest), cells, experts) = shape.recorder(input)?;
    let mut step: Option<u64> = None;
    let mut cells: Vec<Option<f64>> = vec![None; cells];
    read(&mut |at, row| {
        if step != Some(row.step) {
            if let Some(before) = step {
                if row.step < before {
                    let detail =
                        format!("step {} comes after step {before}; sort by step", row.step);
                    return Err(Flaws::default().fail("order", format!("/{unit}/{at}"), detail));
                }
                flush(&mut recorder, &mut cells, experts)?;
            }
            step = Some(row.step);
        }
        let cell = &mut cells[size(row.layer) * experts + size(row.expert)];
        if row.adds {
            *cell.get_or_insert(0.0) += row.count;
        } else if cell.replace(row.count).is_some() {
            recorder.flaws.note("duplicate", || {
                let detail = format!("layer {}, expert {} occurs again", row.layer, row.expert);
                (format!("/{unit}/{at}"), detail)
            });
        }
        Ok(())
    })?;
    flush(&mut recorder, &mut cells, experts)?;
    recorder.finish(digest)
}

/// Converts tables of all ranks, handed on one after the other, to a stored trace.
pub(super) fn convert_ranks(
    input: Input<'_>,
    n_tables: usize,
    read: Read<'_>,
) -> Result<File, TraceError> {
    let mut shape = Shape::default();
    read(&mut |_, row| shape.widen(row))?;
    if shape.last_step > 0 {
        let detail = "tables of several ranks have no steps: add them up into one table";
        return Err(Flaws::default().fail("step", "", detail));
    }
    let ((mut recorder, digest), cells, experts) = shape.recorder(input)?;
    let mut sums = vec![0.0; cells];
    read(&mut |_, row| {
        if !(0.0..=MAX_COUNT).contains(&row.count) {
            let detail = format!("count {}; counts must be from 0 to 2^53", row.count);
            return Err(Flaws::default().fail("range", "", detail));
        }
        sums[size(row.layer) * experts + size(row.expert)] += row.count;
        Ok(())
    })?;
    recorder.note(format!("the tables of {n_tables} rank(s) were added up"));
    sums.chunks_exact(experts).try_for_each(|row| recorder.push_row(row))?;
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

/// A count of the table.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Row {
    pub(super) step: u64,
    pub(super) layer: u64,
    pub(super) expert: u64,
    pub(super) count: f64,
    /// Whether it is one rank's part of the count.
    pub(super) adds: bool,
}

impl Row {
    /// Sets what a column says; the error tells what the field is not.
    pub(super) fn set(&mut self, column: Column, field: &str) -> Result<(), String> {
        // Data frames write whole numbers with a point where others are absent.
        let whole = || {
            let digits = field.strip_suffix(".0").unwrap_or(field);
            digits.parse().map_err(|_| format!("`{}` is no whole number", shorten(field)))
        };
        match column {
            Column::Step => self.step = whole()?,
            Column::Layer => {
                let named = || layer_named(field).map(|layer| layer as u64);
                self.layer = whole().or_else(|error| named().ok_or(error))?;
            }
            Column::Expert => self.expert = whole()?,
            Column::Count => self.count = number(field)?,
            Column::Rank => self.adds = true,
            Column::Of(_) | Column::Unnamed | Column::Other => {}
        }
        Ok(())
    }
}

fn number(field: &str) -> Result<f64, String> {
    field.parse().map_err(|_| format!("`{}` is no number", shorten(field)))
}

/// A number that was checked to be small.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(MAX_CELLS)
}

/// What a column means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
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
    /// Whether it says something of a count.
    pub(super) const fn is_known(self) -> bool {
        !matches!(self, Self::Unnamed | Self::Other)
    }

    pub(super) fn expert(self) -> Option<u64> {
        match self {
            Self::Of(expert) => Some(expert),
            _ => None,
        }
    }

    pub(super) fn named(name: &str) -> Self {
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

/// What the columns of a table mean.
pub(super) struct Columns(Vec<Column>);

impl Columns {
    /// Those with these names, if they are a table of counts.
    pub(super) fn named(names: &[&str]) -> Option<Self> {
        let mut columns: Vec<Column> = names.iter().map(|name| Column::named(name)).collect();
        let times = |of: Column| columns.iter().filter(|column| **column == of).count();
        let at_most_once = times(Column::Step) < 2 && times(Column::Rank) < 2;
        let is_list = [Column::Layer, Column::Expert, Column::Count].map(times) == [1; 3];
        if is_list && at_most_once {
            for column in columns.iter_mut().filter(|column| column.expert().is_some()) {
                *column = Column::Other;
            }
            return Some(Self(columns));
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
        (is_wide && lists == 0 && layers < 2 && is_told).then_some(Self(columns))
    }

    /// One column for each of so many experts.
    pub(super) fn experts(n: usize) -> Self {
        Self((0..).take(n).map(Column::Of).collect())
    }

    /// Hands on the counts of the `nth` row; the error tells what is wrong with it.
    pub(super) fn give(
        &self,
        (at, nth): (u64, u64),
        fields: &[&str],
        fail: &dyn Fn(&str) -> TraceError,
        take: Take<'_>,
    ) -> Result<(), TraceError> {
        match fields.len().cmp(&self.0.len()) {
            Ordering::Less => return Err(fail("too few columns")),
            Ordering::Greater => return Err(fail("too many columns")),
            Ordering::Equal => {}
        }
        let mut row = Row { layer: nth, ..Row::default() };
        let mut counts = Vec::new();
        for (column, field) in self.0.iter().zip(fields) {
            let field = field.trim().trim_matches('"');
            match column.expert() {
                Some(expert) => counts.push((expert, number(field).map_err(|what| fail(&what))?)),
                None => row.set(*column, field).map_err(|what| fail(&what))?,
            }
        }
        if counts.is_empty() {
            return take(at, &row);
        }
        counts.into_iter().try_for_each(|(expert, count)| take(at, &Row { expert, count, ..row }))
    }
}
