//! Opens stored traces and reads any part of them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::cancel::Cancel;
use crate::formats::trace::stored::block::{Block, Blocks};
use crate::formats::trace::stored::column::{self, ColumnReader};
use crate::formats::trace::stored::footer::{Layout, TRAILER, decode, decode_trailer};
use crate::formats::trace::stored::steps::StoredSteps;
use crate::formats::trace::stored::{MAGIC, corrupt, crc, tally};
use crate::trace::counts::ExpertCounts;
use crate::trace::stats::TraceStatistics;
use crate::trace::steps::{StepOrder, StepPlan, decode_steps, split_point};
use crate::trace::{TraceHeader, TraceKind};

/// A stored trace, open for reading; may be shared between threads.
///
/// Everything read is checked against its checksum; a damaged file is an error of kind
/// [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::UnexpectedEof`].
#[derive(Debug)]
pub struct StoredTrace {
    file: File,
    header: TraceHeader,
    layout: Layout,
}

impl StoredTrace {
    /// Reads shape and identity of the trace in a file.
    pub fn from_file(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut magic = [0; MAGIC.len()];
        let trailer_at =
            length.checked_sub(TRAILER as u64).ok_or_else(|| corrupt("the file is too short"))?;
        file.read_exact_at(&mut magic, 0)?;
        if magic != MAGIC {
            return Err(corrupt("not a stored trace of version 1"));
        }
        let mut trailer = [0; TRAILER];
        file.read_exact_at(&mut trailer, trailer_at)?;
        let (footer_length, checksum) = decode_trailer(&trailer)?;
        let footer_at =
            trailer_at.checked_sub(footer_length).ok_or_else(|| corrupt("length of the footer"))?;
        let mut footer = vec![0; usize::try_from(footer_length).map_err(corrupt)?];
        file.read_exact_at(&mut footer, footer_at)?;
        let (header, layout) = decode(&footer, checksum)?;
        let trace = Self { file, header, layout };
        if trace.layout.footer_at != footer_at || trace.expected_sections().is_none() {
            return Err(corrupt("sections"));
        }
        Ok(trace)
    }

    /// `Some` if the sections lie where their sizes put them.
    fn expected_sections(&self) -> Option<()> {
        let (header, layout) = (&self.header, &self.layout);
        let present = |flag: bool, n: u64| if flag { column::size(n) } else { Some(0) };
        let body = match header.kind {
            TraceKind::Routes => self.blocks().size()?,
            TraceKind::Counts => header.steps.checked_mul(self.step_bytes() as u64 + 4)?,
        };
        let token_ids_at = body.checked_add(MAGIC.len() as u64)?;
        let positions_at =
            token_ids_at.checked_add(present(header.has_token_ids, header.tokens)?)?;
        let sequences_at =
            positions_at.checked_add(present(header.has_positions, header.tokens)?)?;
        let footer_at = sequences_at.checked_add(column::size(header.sequences)?)?;
        let found =
            (layout.token_ids_at, layout.positions_at, layout.sequences_at, layout.footer_at);
        (found == (token_ids_at, positions_at, sequences_at, footer_at)).then_some(())
    }

    /// Shape and identity.
    #[must_use]
    pub fn header(&self) -> &TraceHeader {
        &self.header
    }

    pub(super) fn blocks(&self) -> Blocks {
        Blocks::new(&self.header, &self.layout)
    }

    /// Vocabulary ids, where they were recorded.
    pub(super) fn token_ids(&self) -> Option<ColumnReader<'_>> {
        self.header
            .has_token_ids
            .then(|| ColumnReader::new(&self.file, self.layout.token_ids_at, self.header.tokens))
    }

    /// The vocabulary ids of a range of tokens; empty where they were not recorded.
    pub fn read_token_ids(&self, range: Range<u64>) -> io::Result<Vec<u32>> {
        match self.token_ids() {
            Some(mut column) => self.clip(range).map(|token| column.get(token)).collect(),
            None => Ok(Vec::new()),
        }
    }

    /// The positions of a range of tokens within their sequences.
    pub fn read_positions(&self, range: Range<u64>) -> io::Result<Vec<u32>> {
        let range = self.clip(range);
        if self.header.has_positions {
            let (at, n) = (self.layout.positions_at, self.header.tokens);
            let mut column = ColumnReader::new(&self.file, at, n);
            return range.map(|token| column.get(token)).collect();
        }
        let mut positions = Vec::new();
        for sequence in self.sequences() {
            let sequence = sequence?;
            if sequence.start >= range.end {
                break;
            }
            for token in sequence.start.max(range.start)..sequence.end.min(range.end) {
                positions.push(u32::try_from(token - sequence.start).map_err(corrupt)?);
            }
        }
        Ok(positions)
    }

    /// Lengths of the sequences.
    pub(super) fn lengths(&self) -> ColumnReader<'_> {
        ColumnReader::new(&self.file, self.layout.sequences_at, self.header.sequences)
    }

    /// The tokens of each sequence, in order.
    pub fn sequences(&self) -> impl Iterator<Item = io::Result<Range<u64>>> {
        let mut column = self.lengths();
        let mut start = 0_u64;
        (0..self.header.sequences).map(move |sequence| {
            let tokens = start..start + u64::from(column.get(sequence)?);
            if tokens.end > self.header.tokens {
                return Err(corrupt("sequence lengths"));
            }
            start = tokens.end;
            Ok(tokens)
        })
    }

    /// The beginning of the sequence nearest to the token where `fraction` of them ends.
    ///
    /// With one sequence only, that token itself.
    pub fn split_between_sequences(&self, fraction: f64) -> io::Result<u64> {
        let target = split_point(self.header.tokens, fraction);
        let mut nearest = None;
        for sequence in self.sequences() {
            let start = sequence?.start;
            if start > 0
                && nearest.is_none_or(|at: u64| start.abs_diff(target) < at.abs_diff(target))
            {
                nearest = Some(start);
            }
            if start >= target {
                break;
            }
        }
        Ok(nearest.unwrap_or(target))
    }

    /// Where the first part ends when it is to hold `fraction`: a step of counts, the nearest
    /// beginning of a sequence of routes.
    pub fn split(&self, fraction: f64) -> io::Result<u64> {
        match self.header.kind {
            TraceKind::Routes => self.split_between_sequences(fraction),
            TraceKind::Counts => Ok(split_point(self.header.steps, fraction)),
        }
    }

    /// Tokens per expert and layer in a range of tokens (routes) or steps (counts).
    ///
    /// Runs on all threads of the current rayon pool; the result does not depend on how many.
    pub fn count(&self, range: Range<u64>) -> io::Result<ExpertCounts> {
        // Counting that nobody cancels comes to its end.
        let counted = self.count_unless(range, Cancel::NEVER)?;
        Ok(counted.unwrap_or_else(|| self.no_counts()))
    }

    /// The same; `None` once it is canceled.
    pub fn count_unless(
        &self,
        range: Range<u64>,
        cancel: &Cancel,
    ) -> io::Result<Option<ExpertCounts>> {
        let range = self.clip(range);
        match self.header.kind {
            TraceKind::Routes => tally::count_routes(self, range, cancel),
            TraceKind::Counts => {
                let mut sum = self.no_counts();
                let mut step = sum.clone();
                let mut buffer = Vec::new();
                for idx in range {
                    if cancel.is_canceled() {
                        return Ok(None);
                    }
                    self.read_counts(idx, &mut buffer, &mut step)?;
                    sum.add(&step);
                }
                Ok(Some(sum))
            }
        }
    }

    /// Counts of nothing, in the trace's shape.
    fn no_counts(&self) -> ExpertCounts {
        ExpertCounts::zeros(self.header.n_layers(), self.header.n_experts())
    }

    /// Statistics of the whole trace and its two halves.
    pub fn statistics(&self) -> io::Result<TraceStatistics> {
        let extent = self.header.extent();
        let middle = split_point(extent, 0.5);
        Ok(TraceStatistics::of_halves(self.count(0..middle)?, self.count(middle..extent)?))
    }

    /// Reads the steps of a plan one after the other.
    #[must_use]
    pub fn steps(&self, plan: &StepPlan) -> StoredSteps<'_> {
        StoredSteps::new(self, plan)
    }

    /// How many steps a plan gives.
    pub fn n_steps(&self, plan: &StepPlan) -> io::Result<u64> {
        let range = self.clip(plan.range.clone());
        Ok(match (self.header.kind, plan.order) {
            (TraceKind::Counts, _) => range.end - range.start,
            (TraceKind::Routes, StepOrder::Prefill { tokens_per_step }) => {
                (range.end - range.start) / tokens_per_step.max(1)
            }
            (TraceKind::Routes, StepOrder::Decode { sequences }) => {
                let mut damage = None;
                let lengths = self.sequences_in(range).map_while(|tokens| match tokens {
                    Ok(tokens) => Some(tokens.end - tokens.start),
                    Err(error) => {
                        damage = Some(error);
                        None
                    }
                });
                let steps = decode_steps(lengths, sequences);
                damage.map_or(Ok(steps), Err)?
            }
            (TraceKind::Routes, StepOrder::Recorded) => 0,
        })
    }

    /// The parts of the sequences that lie in a range of tokens.
    pub(super) fn sequences_in(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = io::Result<Range<u64>>> {
        self.sequences().filter_map(move |tokens| match tokens {
            Ok(tokens) => {
                let part = tokens.start.max(range.start)..tokens.end.min(range.end);
                (part.start < part.end).then_some(Ok(part))
            }
            Err(error) => Some(Err(error)),
        })
    }

    /// The range as far as the trace reaches.
    pub(super) fn clip(&self, range: Range<u64>) -> Range<u64> {
        let end = range.end.min(self.header.extent());
        range.start.min(end)..end
    }

    /// Reads and checks everything once.
    pub fn verify(&self) -> io::Result<()> {
        self.count(0..self.header.extent())?;
        for sequence in self.sequences() {
            sequence?;
        }
        self.read_last_of_columns()
    }

    fn read_last_of_columns(&self) -> io::Result<()> {
        const CHUNK: usize = 16_384;
        let positions = self
            .header
            .has_positions
            .then(|| ColumnReader::new(&self.file, self.layout.positions_at, self.header.tokens));
        for mut column in [self.token_ids(), positions].into_iter().flatten() {
            for token in (0..self.header.tokens).step_by(CHUNK) {
                column.get(token)?;
            }
        }
        Ok(())
    }

    fn step_bytes(&self) -> usize {
        self.layout.stored_layers as usize
            * self.header.n_experts()
            * usize::from(self.layout.width)
    }

    /// Reads one recorded step.
    pub(super) fn read_counts(
        &self,
        step: u64,
        buffer: &mut Vec<u8>,
        to: &mut ExpertCounts,
    ) -> io::Result<()> {
        let n_bytes = self.step_bytes();
        buffer.resize(n_bytes + 4, 0);
        self.file.read_exact_at(buffer, MAGIC.len() as u64 + step * (n_bytes as u64 + 4))?;
        let (cells, checksum) = buffer.split_at(n_bytes);
        if crc(cells).to_le_bytes() != checksum {
            return Err(corrupt(format_args!("checksum of step {step}")));
        }
        let row_bytes = self.header.n_experts() * usize::from(self.layout.width);
        for (layer_idx, layer) in self.header.layers.iter().enumerate() {
            let row = &cells[usize::from(*layer) * row_bytes..][..row_bytes];
            let to = to.layer_mut(layer_idx);
            if self.layout.width == 4 {
                for (to, cell) in to.iter_mut().zip(row.as_chunks::<4>().0) {
                    *to = f64::from(u32::from_le_bytes(*cell));
                }
            } else {
                for (to, cell) in to.iter_mut().zip(row.as_chunks::<8>().0) {
                    *to = f64::from_le_bytes(*cell);
                }
            }
        }
        Ok(())
    }

    /// Reads one block of routes.
    pub(super) fn read_block(&self, block_idx: u64, to: &mut Block) -> io::Result<()> {
        self.blocks().read(&self.file, block_idx, to)
    }
}
