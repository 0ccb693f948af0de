//! Reads parts of a trace into memory, token by token: what predictors are fitted on.

use std::io;
use std::ops::Range;

use crate::formats::trace::stored::block::Block;
use crate::formats::trace::stored::read::StoredTrace;
use crate::formats::trace::stored::steps::{size, widen};
use crate::predict::Tokens;
use crate::trace::steps::StepRoutes;

/// Tokens of a run when only a sample of a part is read.
const RUN: u64 = 512;

impl StoredTrace {
    /// Runs of consecutive tokens of one sequence, at most `most` tokens in all.
    ///
    /// The whole range where it is no longer than that, else runs evenly spread over it.
    pub fn sample_runs(&self, range: Range<u64>, most: u64) -> io::Result<Vec<Range<u64>>> {
        let range = self.clip(range);
        let length = range.end - range.start;
        if length <= most {
            return self.sequences_in(range).collect();
        }
        let (n_wanted, n_runs) = ((most / RUN).max(1), length.div_ceil(RUN));
        let starts = (0..n_wanted).map(|n| {
            let run = u128::from(n) * u128::from(n_runs) / u128::from(n_wanted);
            range.start + u64::try_from(run).unwrap_or(0) * RUN
        });
        let mut starts = starts.peekable();
        let mut runs = Vec::new();
        for sequence in self.sequences_in(range.clone()) {
            let sequence = sequence?;
            while let Some(start) = starts.peek().copied()
                && start < sequence.end
            {
                let end = (start + RUN.min(most)).min(range.end);
                let part = start.max(sequence.start)..end.min(sequence.end);
                if part.start < part.end {
                    runs.push(part);
                }
                if end > sequence.end {
                    break;
                }
                starts.next();
            }
        }
        Ok(runs)
    }

    /// The tokens of ascending runs, each within one sequence.
    pub fn read_tokens(&self, runs: &[Range<u64>]) -> io::Result<Tokens> {
        let (header, shape) = (self.header(), self.blocks());
        let (n_layers, top_k) = (header.n_layers(), shape.top_k);
        let n_tokens = runs.iter().map(size).sum();
        let stride = n_tokens * top_k;
        let mut routes = StepRoutes { n_layers, n_tokens, top_k, ids: vec![0; n_layers * stride] };
        let mut tokens = Tokens { n_experts: header.n_experts(), ..Tokens::default() };
        let mut block = Block::default();
        let mut at = 0;
        for run in runs {
            tokens.token_ids.extend(self.read_token_ids(run.clone())?);
            tokens.sequences.push(at..at + size(run));
            let mut place = at;
            for block_idx in run.start / shape.tokens..run.end.div_ceil(shape.tokens) {
                if block.tokens != shape.range(block_idx) {
                    self.read_block(block_idx, &mut block)?;
                }
                let part = run.start.max(block.tokens.start)..run.end.min(block.tokens.end);
                for (layer_idx, layer) in header.layers.iter().enumerate() {
                    let ids = shape.layer(&block, usize::from(*layer), &part);
                    let to = &mut routes.ids[layer_idx * stride + place * top_k..];
                    widen(ids, shape.width, &mut to[..size(&part) * top_k]);
                }
                place += size(&part);
            }
            at = place;
        }
        tokens.positions = self.positions_of(runs)?;
        tokens.routes = routes;
        Ok(tokens)
    }

    /// Positions of ascending runs, in one pass over the sequences.
    fn positions_of(&self, runs: &[Range<u64>]) -> io::Result<Vec<u32>> {
        let mut positions = Vec::new();
        if self.header().has_positions {
            for run in runs {
                positions.extend(self.read_positions(run.clone())?);
            }
            return Ok(positions);
        }
        let mut runs = runs.iter().peekable();
        for sequence in self.sequences() {
            let sequence = sequence?;
            while let Some(run) = runs.next_if(|run| run.start < sequence.end) {
                let first = run.start - sequence.start;
                let places = first..first + (run.end - run.start);
                positions.extend(places.map(|place| u32::try_from(place).unwrap_or(u32::MAX)));
            }
        }
        Ok(positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::trace::stored::{RouteWriter, StoredTrace};
    use crate::trace::steps::{StepOrder, StepPlan};
    use crate::trace::{TraceHeader, TraceKind};

    /// Two layers of one of nine experts; token t of the trace goes to t mod 9 and t mod 7.
    fn stored(lengths: &[u32]) -> StoredTrace {
        let scratch = || tempfile::tempfile();
        let file = tempfile::tempfile().unwrap();
        let mut writer = RouteWriter::new(file, &scratch, 2, 1, 9).unwrap();
        let mut token = 0_u16;
        for length in lengths {
            for position in 0..*length {
                writer.push(position, &[token % 9, token % 7]).unwrap();
                token += 1;
            }
            writer.end_sequence().unwrap();
        }
        let header = TraceHeader {
            kind: TraceKind::Routes,
            digest: [0; 32],
            tokens: 0,
            sequences: 0,
            steps: 0,
            layers: vec![0, 1],
            experts: 9,
            top_k: None,
            has_token_ids: false,
            has_positions: false,
            experts_inferred: false,
            repeated_rows: 0,
            longest_repeat: 0,
            notes: Vec::new(),
        };
        StoredTrace::from_file(writer.finish(header).unwrap()).unwrap()
    }

    #[test]
    fn tokens_are_those_of_the_runs() {
        // More tokens than a block holds, so that runs cross blocks.
        let trace = stored(&[5000, 1, 4000]);
        let tokens = trace.read_tokens(&[10..14, 4094..4098, 5001..5003]).unwrap();
        let of = |by: u64| -> Vec<u16> {
            (10..14)
                .chain(4094..4098)
                .chain(5001..5003)
                .map(|t: u64| u16::try_from(t % by).unwrap())
                .collect()
        };
        assert_eq!(tokens.routes.layer(0), of(9));
        assert_eq!(tokens.routes.layer(1), of(7));
        assert_eq!(tokens.positions, [10, 11, 12, 13, 4094, 4095, 4096, 4097, 0, 1]);
        assert_eq!(tokens.sequences, [0..4, 4..8, 8..10]);
        assert!(tokens.token_ids.is_empty());
    }

    #[test]
    fn the_places_of_a_step_are_where_its_tokens_are_read() {
        let trace = stored(&[5000, 1, 4000, 300]);
        for order in
            [StepOrder::Prefill { tokens_per_step: 700 }, StepOrder::Decode { sequences: 3 }]
        {
            let plan = StepPlan { order, range: 50..9200, with_routes: true };
            let mut steps = trace.steps(&plan);
            let mut n = 0;
            while let Some(step) = steps.next_step().unwrap() {
                let routes = step.routes.clone();
                let places = steps.places();
                n += 1;
                // A look at the start, at the edge of a block, and where sequences end.
                if !(n < 3 || (4040..4050).contains(&n) || n % 1000 == 0) {
                    continue;
                }
                let runs: Vec<Range<u64>> = places.iter().map(|at| *at..at + 1).collect();
                let mut read = StepRoutes { ids: Vec::new(), ..routes.clone() };
                for layer in 0..2 {
                    for run in &runs {
                        let token = trace.read_tokens(std::slice::from_ref(run)).unwrap();
                        read.ids.extend(token.routes.layer(layer));
                    }
                }
                assert_eq!(read, routes, "step {n} of {order:?}");
            }
            assert!(n > 12, "{n}");
        }
    }

    #[test]
    fn a_sample_is_spread_and_never_crosses_sequences() {
        let trace = stored(&[700, 1, 4000, 2000]);
        assert_eq!(trace.sample_runs(0..6701, 10_000).unwrap().len(), 4);
        let runs = trace.sample_runs(100..6701, 2048).unwrap();
        let n: u64 = runs.iter().map(|run| run.end - run.start).sum();
        assert_eq!(n, 2048);
        assert!(runs.is_sorted_by(|a, b| a.end <= b.start));
        assert!(runs[0].start == 100 && runs.last().unwrap().start == 4708, "{runs:?}");
        for run in &runs {
            for edge in [700, 701, 4701] {
                assert!(run.end <= edge || run.start >= edge, "{run:?}");
            }
        }
    }
}
