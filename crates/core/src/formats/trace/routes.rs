//! Checks routes row by row, whatever file they come from, and hands them on to be stored.

use std::fs::File;
use std::io;

use crate::formats::trace::Declared;
use crate::formats::trace::cut::{Cutter, KeptRows};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::stored::{RouteWriter, Scratch};
use crate::trace::checks::ranges;
use crate::trace::{MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K, TraceHeader, TraceKind};

/// An id that no layer can have; readers put it where a number is not an id at all.
pub(super) const NO_ID: u16 = u16::MAX;

/// Where a row stands in its file.
#[derive(Debug, Clone, Copy)]
pub(super) enum RoutePosition {
    /// In an array.
    Array { sequence: u64, position: u64 },
    /// On a line, from 1.
    Line(u64),
}

impl RoutePosition {
    /// JSON pointer to a layer of the row, or to one id.
    pub(super) fn pointer(self, layer: usize, slot: Option<usize>) -> String {
        let slot = slot.map_or(String::new(), |slot| format!("/{slot}"));
        match self {
            Self::Array { sequence, position } => {
                format!("/routes/{sequence}/{position}/{layer}{slot}")
            }
            Self::Line(line) => format!("/lines/{line}/experts/{layer}{slot}"),
        }
    }

    /// The same for people.
    fn words(self, layer: usize) -> String {
        match self {
            Self::Array { sequence, position } => {
                format!("sequence {sequence}, position {position}, layer {layer}")
            }
            Self::Line(line) => format!("line {line}, layer {layer}"),
        }
    }
}

/// Takes rows in (sequence, position) order, checks and stores them.
pub(super) struct RouteRecorder {
    pub(super) flaws: Flaws,
    n_layers: usize,
    top_k: usize,
    declared: Option<u32>,
    /// Ids must be below this.
    bound: u16,
    max_id: u16,
    tokens: u64,
    /// Tokens of a layer whose ids are all zero, and the first of them.
    empty: Vec<(u64, RoutePosition)>,
    previous: Vec<u16>,
    repeated: u64,
    run: u64,
    longest: u64,
    notes: Vec<String>,
    /// What decides which rows stay, and which did, where rows are cut.
    cutter: Option<(Cutter, KeptRows)>,
    writer: RouteWriter,
}

/// Refuses shapes that no trace has.
pub(super) fn check_shape(
    flaws: &mut Flaws,
    pointer: &str,
    n_layers: u64,
    top_k: u64,
    declared: Declared,
) {
    let at = |detail: String| move || (pointer.to_owned(), detail);
    if !(1..=MAX_LAYERS as u64).contains(&n_layers) {
        flaws.note("range", at(format!("{n_layers} layers; there must be 1 to {MAX_LAYERS}")));
    }
    if !(1..=MAX_TOP_K as u64).contains(&top_k) {
        flaws.note("range", at(format!("top_k is {top_k}; it must be from 1 to {MAX_TOP_K}")));
    }
    if let Some(model) = declared.top_k
        && u64::from(model) != top_k
    {
        flaws.note("top_k", at(format!("tokens have {top_k} experts; the model has {model}")));
    }
    if let Some(experts) = declared.experts
        && can_be_stored(flaws, "/num_experts", experts)
        && top_k > u64::from(experts)
    {
        flaws.note("top_k", at(format!("top_k is {top_k}, above the {experts} experts")));
    }
}

/// Whether a stated number of experts can be stored; a flaw is noted where it cannot.
pub(super) fn can_be_stored(flaws: &mut Flaws, pointer: &str, experts: u32) -> bool {
    let can = (1..=MAX_EXPERTS).contains(&experts);
    if !can {
        let detail = format!("num_experts is {experts}; it must be from 1 to {MAX_EXPERTS}");
        flaws.note("range", || (pointer.to_owned(), detail));
    }
    can
}

impl RouteRecorder {
    /// Starts to record; the shape has been checked. `id_bound` is above every id that may
    /// come, should the number of experts not be declared.
    pub(super) fn new(
        to: File,
        scratch: Scratch<'_>,
        (n_layers, top_k): (usize, usize),
        declared: Declared,
        id_bound: u32,
    ) -> Result<Self, TraceError> {
        let bound = declared.experts.unwrap_or(MAX_EXPERTS);
        let n_experts = declared.experts.unwrap_or(id_bound) as usize;
        let cutter = Cutter::new(declared.cut, n_layers, n_experts);
        let kept = cutter.map(|cutter| Ok((cutter, KeptRows::new(scratch)?))).transpose();
        let writer =
            RouteWriter::new(to, scratch, n_layers, top_k, declared.experts.unwrap_or(id_bound))
                .map_err(TraceError::storage)?;
        Ok(Self {
            flaws: Flaws::default(),
            n_layers,
            top_k,
            declared: declared.experts,
            bound: u16::try_from(bound).unwrap_or(NO_ID),
            max_id: 0,
            tokens: 0,
            empty: vec![(0, RoutePosition::Line(0)); n_layers],
            previous: Vec::new(),
            repeated: 0,
            run: 0,
            longest: 0,
            notes: Vec::new(),
            cutter: kept.map_err(TraceError::storage)?,
            writer,
        })
    }

    /// Adds a remark for the reader of the results.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Checks and stores the next token. `raw` tells the number that was written at a place
    /// of the row.
    pub(super) fn push(
        &mut self,
        place: RoutePosition,
        position: u32,
        row: &[u16],
        raw: impl Fn(usize) -> String,
    ) -> Result<(), TraceError> {
        let row_max = row.iter().copied().max().unwrap_or(0);
        if row_max >= self.bound {
            self.out_of_range(place, row, raw);
        }
        self.max_id = self.max_id.max(row_max);
        if !self.keeps(row).map_err(TraceError::storage)? {
            return Ok(());
        }
        if self.top_k > 1 {
            for (layer, ids) in row.chunks_exact(self.top_k).enumerate() {
                if has_twins(ids) {
                    self.twins(place, layer, ids);
                }
            }
        }
        self.tokens += 1;
        if self.previous == row {
            self.repeated += 1;
            self.run += 1;
            self.longest = self.longest.max(self.run);
        } else {
            self.run = 0;
            self.previous.clear();
            self.previous.extend_from_slice(row);
        }
        if self.flaws.is_empty() {
            self.writer.push(position, row).map_err(TraceError::storage)?;
        }
        Ok(())
    }

    /// Whether a row stays, where rows are cut.
    fn keeps(&mut self, row: &[u16]) -> io::Result<bool> {
        let Some((cutter, kept)) = &mut self.cutter else { return Ok(true) };
        let keeps = cutter.keeps(self.previous == row, |counts| {
            for (layer, ids) in row.chunks_exact(self.top_k).enumerate() {
                let counts = counts.layer_mut(layer);
                for id in ids {
                    if let Some(count) = counts.get_mut(usize::from(*id)) {
                        *count += 1.0;
                    }
                }
            }
        });
        if !keeps {
            self.previous.clear();
            self.previous.extend_from_slice(row);
        }
        kept.push(keeps)?;
        Ok(keeps)
    }

    /// Stores the vocabulary id of the next token that has none yet.
    pub(super) fn push_token_id(&mut self, token_id: u32) -> Result<(), TraceError> {
        if let Some((_, kept)) = &mut self.cutter
            && !kept.next().map_err(TraceError::storage)?
        {
            return Ok(());
        }
        if self.flaws.is_empty() {
            self.writer.push_token_id(token_id).map_err(TraceError::storage)?;
        }
        Ok(())
    }

    /// Ends a sequence.
    pub(super) fn end_sequence(&mut self) -> Result<(), TraceError> {
        if self.flaws.is_empty() {
            self.writer.end_sequence().map_err(TraceError::storage)?;
        }
        Ok(())
    }

    #[cold]
    fn out_of_range(&mut self, place: RoutePosition, row: &[u16], raw: impl Fn(usize) -> String) {
        let limit = self.bound;
        let most = match self.declared {
            Some(_) => format!("ids must be from 0 to {}", limit.saturating_sub(1)),
            None => format!("ids must be from 0 to {}", MAX_EXPERTS - 1),
        };
        for (at, _) in row.iter().enumerate().filter(|(_, id)| **id >= limit) {
            let (layer, slot) = (at / self.top_k, at % self.top_k);
            self.flaws.note("range", || {
                let detail = format!("expert id {} at {}; {most}", raw(at), place.words(layer));
                (place.pointer(layer, Some(slot)), detail)
            });
        }
    }

    #[cold]
    fn twins(&mut self, place: RoutePosition, layer: usize, ids: &[u16]) {
        // A dense layer of a recording that has a row for every layer: distinguished at the end.
        if ids.iter().all(|id| *id == 0) {
            let (n, first) = &mut self.empty[layer];
            if *n == 0 {
                *first = place;
            }
            *n += 1;
        } else if ids.iter().all(|id| *id < self.bound) {
            self.flaws.note("distinct", || twin_flaw(place, layer, ids));
        }
    }

    /// Ends the trace.
    pub(super) fn finish(mut self, digest: [u8; 32]) -> Result<File, TraceError> {
        if let Some((cutter, _)) = &self.cutter {
            if self.tokens == 0 {
                let detail = cutter.nothing_left("tokens");
                return Err(self.flaws.fail("empty", "/skip", detail));
            }
            self.notes.push(cutter.note("tokens"));
        }
        if self.tokens == 0 {
            return Err(self.flaws.fail("empty", "", "the trace holds no tokens"));
        }
        let mut layers = Vec::new();
        let mut dense = Vec::new();
        for (layer, (n, first)) in self.empty.iter().enumerate() {
            if *n == self.tokens {
                dense.push(layer);
            } else {
                layers.push(u16::try_from(layer).unwrap_or(NO_ID));
                if *n > 0 {
                    let ids = vec![0; self.top_k];
                    self.flaws.note("distinct", || {
                        let (pointer, detail) = twin_flaw(*first, layer, &ids);
                        (pointer, format!("{detail} (the first of {n} such tokens in this layer)"))
                    });
                }
            }
        }
        if layers.is_empty() {
            return Err(self.flaws.fail("empty", "", "no layer of the trace carries routing"));
        }
        let experts = self.declared.unwrap_or(u32::from(self.max_id) + 1);
        if (experts as usize) < self.top_k {
            self.flaws.note("top_k", || {
                (String::new(), format!("top_k is {}, above the {experts} experts", self.top_k))
            });
        }
        self.flaws.into_result()?;
        if !dense.is_empty() {
            self.notes.push(format!(
                "layer(s) {} hold no routing (dense layers) and are left out",
                ranges(dense)
            ));
        }
        let header = TraceHeader {
            kind: TraceKind::Routes,
            digest,
            tokens: 0,
            sequences: 0,
            steps: 0,
            layers,
            experts,
            top_k: None,
            has_token_ids: false,
            has_positions: false,
            experts_inferred: self.declared.is_none(),
            repeated_rows: self.repeated,
            longest_repeat: self.longest,
            notes: self.notes,
        };
        debug_assert_eq!(self.writer.tokens(), self.tokens);
        debug_assert_eq!(self.empty.len(), self.n_layers);
        self.writer.finish(header).map_err(TraceError::storage)
    }
}

fn twin_flaw(place: RoutePosition, layer: usize, ids: &[u16]) -> (String, String) {
    let detail = format!(
        "experts {ids:?} at {}; the experts of a token must be distinct",
        place.words(layer)
    );
    (place.pointer(layer, None), detail)
}

/// Whether an id occurs twice.
fn has_twins(ids: &[u16]) -> bool {
    match ids {
        [a, b] => a == b,
        _ => ids.iter().enumerate().any(|(n, id)| ids[n + 1..].contains(id)),
    }
}
