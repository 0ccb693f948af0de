//! Checks counts row by row, whatever file they come from, and hands them on to be stored.

use std::fs::File;

use crate::formats::trace::cut::Cutter;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::stored::{CountsWriter, Scratch};
use crate::formats::trace::{Cut, Declared};
use crate::trace::checks::ranges;
use crate::trace::impossible::BeyondTopK;
use crate::trace::{
    MAX_CELLS, MAX_COUNT, MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K, TraceHeader, TraceKind,
};

/// What is known when all counts have been read.
pub(super) struct Counted<'a> {
    pub(super) declared: Declared,
    pub(super) n_experts: usize,
    pub(super) steps: u64,
    /// Sum over steps, `[layer][expert]`.
    pub(super) totals: &'a [f64],
    /// Remarks for the reader of the results.
    pub(super) notes: Vec<String>,
}

impl Counted<'_> {
    /// The header of the trace; fails with what was noted or is wrong with the whole.
    pub(super) fn header(
        self,
        mut flaws: Flaws,
        pointer: String,
        digest: [u8; 32],
    ) -> Result<TraceHeader, TraceError> {
        if let Some(top_k) = self.declared.top_k
            && (top_k as usize > self.n_experts || top_k as usize > MAX_TOP_K)
        {
            let detail = format!("top_k is {top_k}, above the {} experts", self.n_experts);
            flaws.note("top_k", || (pointer.clone(), detail));
        }
        flaws.into_result()?;
        let rows = || self.totals.chunks_exact(self.n_experts);
        if let Some(top_k) = self.declared.top_k
            && let Some((layer, found, of)) = BeyondTopK::worst(rows(), top_k)
        {
            let detail = match of {
                1 => format!("layer {layer}: {found}"),
                _ => format!("layer {layer} (the worst of {of} such layers): {found}"),
            };
            return Err(Flaws::default().fail("top_k", pointer, detail));
        }
        let (mut layers, mut dense) = (Vec::new(), Vec::new());
        for (layer, counts) in rows().enumerate() {
            if counts.iter().any(|count| *count > 0.0) {
                layers.push(u16::try_from(layer).unwrap_or(u16::MAX));
            } else {
                dense.push(layer);
            }
        }
        if layers.is_empty() {
            return Err(Flaws::default().fail("empty", pointer, "every count is zero"));
        }
        let mut notes = self.notes;
        if !dense.is_empty() {
            notes.push(format!(
                "layer(s) {} hold no counts (dense layers) and are left out",
                ranges(dense)
            ));
        }
        Ok(TraceHeader {
            kind: TraceKind::Counts,
            digest,
            tokens: 0,
            sequences: 0,
            steps: self.steps,
            layers,
            experts: u32::try_from(self.n_experts).unwrap_or(MAX_EXPERTS),
            top_k: self.declared.top_k,
            has_token_ids: false,
            has_positions: false,
            experts_inferred: false,
            repeated_rows: 0,
            longest_repeat: 0,
            notes,
        })
    }
}

/// Takes rows of counts, layer after layer and step after step, checks and stores them.
pub(super) struct CountsRecorder {
    pub(super) flaws: Flaws,
    declared: Declared,
    n_layers: usize,
    n_experts: usize,
    rows: u64,
    totals: Vec<f64>,
    notes: Vec<String>,
    cut: CutSteps,
    writer: CountsWriter,
}

/// Refuses shapes that no counts have; `pointer` names the place of the shape.
pub(super) fn check_counts_shape(
    flaws: &mut Flaws,
    pointer: &str,
    n_layers: u64,
    n_experts: u64,
    declared: Declared,
) {
    let at = |detail: String| move || (pointer.to_owned(), detail);
    if !(1..=MAX_LAYERS as u64).contains(&n_layers) {
        flaws.note("range", at(format!("{n_layers} layers; there must be 1 to {MAX_LAYERS}")));
    }
    if !(1..=u64::from(MAX_EXPERTS)).contains(&n_experts) {
        flaws.note("range", at(format!("{n_experts} experts; there must be 1 to {MAX_EXPERTS}")));
    }
    if n_layers.saturating_mul(n_experts) > MAX_CELLS as u64 {
        flaws.note("range", at(format!("more than {MAX_CELLS} counts in a step")));
    }
    if let Some(experts) = declared.experts
        && u64::from(experts) != n_experts
    {
        let detail = format!("rows have {n_experts} counts; there are {experts} experts");
        flaws.note("experts", at(detail));
    }
}

impl CountsRecorder {
    /// Starts to record; the shape has been checked.
    pub(super) fn new(
        to: File,
        scratch: Scratch<'_>,
        (n_layers, n_experts): (usize, usize),
        declared: Declared,
    ) -> Result<Self, TraceError> {
        Ok(Self {
            flaws: Flaws::default(),
            declared,
            n_layers,
            n_experts,
            rows: 0,
            totals: vec![0.0; n_layers * n_experts],
            notes: Vec::new(),
            cut: CutSteps::new(declared.cut),
            writer: CountsWriter::new(to, scratch).map_err(TraceError::storage)?,
        })
    }

    /// Adds a remark for the reader of the results.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Checks and stores the counts of the next layer.
    pub(super) fn push_row(&mut self, counts: &[f64]) -> Result<(), TraceError> {
        let (step, layer) = (self.rows / self.n_layers as u64, self.rows % self.n_layers as u64);
        for (expert, count) in counts.iter().enumerate() {
            if !(0.0..=MAX_COUNT).contains(count) {
                self.flaws.note("range", || {
                    let detail = format!(
                        "count {count} at step {step}, layer {layer}, expert {expert}; counts \
                         must be from 0 to 2^53"
                    );
                    (format!("/counts/{step}/{layer}/{expert}"), detail)
                });
            }
        }
        self.rows += 1;
        if !self.flaws.is_empty() {
            return Ok(());
        }
        let last = layer + 1 == self.n_layers as u64;
        let step = self.cut.take(counts, self.n_experts, last);
        let first = if step.len() > counts.len() {
            0
        } else {
            usize::try_from(layer).unwrap_or(0) * self.n_experts
        };
        for (total, count) in self.totals[first..].iter_mut().zip(step) {
            *total += count;
        }
        let mut rows = step.chunks_exact(self.n_experts);
        rows.try_for_each(|row| self.writer.push_row(row)).map_err(TraceError::storage)
    }

    /// Ends the trace.
    pub(super) fn finish(self, digest: [u8; 32]) -> Result<File, TraceError> {
        if self.rows == 0 {
            return Err(self.flaws.fail("empty", "", "the trace holds no counts"));
        }
        let steps = self.rows / self.n_layers as u64;
        let (steps, note) = self.cut.end(steps, &self.flaws)?;
        let counted = Counted {
            declared: self.declared,
            n_experts: self.n_experts,
            steps,
            totals: &self.totals,
            notes: self.notes.into_iter().chain(note).collect(),
        };
        let header = counted.header(self.flaws, "/counts".to_owned(), digest)?;
        self.writer.finish(header, self.n_layers).map_err(TraceError::storage)
    }
}

/// Steps that are not kept; each is held back until its last layer has come, where any may go.
pub(super) struct CutSteps {
    cut: Cut,
    cutter: Option<Cutter>,
    step: Vec<f64>,
    before: Vec<f64>,
    kept: u64,
}

impl CutSteps {
    pub(super) fn new(cut: Cut) -> Self {
        Self { cut, cutter: None, step: Vec::new(), before: Vec::new(), kept: 0 }
    }

    /// Takes the next row, the `last` one of its step or not, and gives the rows to store.
    pub(super) fn take<'a>(
        &'a mut self,
        row: &'a [f64],
        n_experts: usize,
        last: bool,
    ) -> &'a [f64] {
        if !self.cut.is_any() {
            return row;
        }
        self.step.extend_from_slice(row);
        if last { self.end_step(n_experts) } else { &[] }
    }

    /// The step that has come, if it stays.
    pub(super) fn end_step(&mut self, n_experts: usize) -> &[f64] {
        let n_layers = self.step.len() / n_experts.max(1);
        self.cutter = self.cutter.take().or_else(|| Cutter::new(self.cut, n_layers, n_experts));
        let Some(cutter) = &mut self.cutter else { return &[] };
        let keeps = cutter.keeps(self.before == self.step, |counts| {
            for (layer, row) in
                self.step.chunks_exact(n_experts).take(counts.n_layers()).enumerate()
            {
                counts.layer_mut(layer).iter_mut().zip(row).for_each(|(to, count)| *to += count);
            }
        });
        std::mem::swap(&mut self.before, &mut self.step);
        self.step.clear();
        self.kept += u64::from(keeps);
        if keeps { &self.before } else { &[] }
    }

    /// How many of the steps are kept, and what is said of the others, unless there are flaws.
    pub(super) fn end(
        &self,
        steps: u64,
        flaws: &Flaws,
    ) -> Result<(u64, Option<String>), TraceError> {
        match &self.cutter {
            None => Ok((steps, None)),
            Some(_) if !flaws.is_empty() => Ok((steps, None)),
            Some(cutter) if self.kept == 0 => {
                Err(Flaws::default().fail("empty", "/skip", cutter.nothing_left("steps")))
            }
            Some(cutter) => Ok((self.kept, Some(cutter.note("steps")))),
        }
    }
}
