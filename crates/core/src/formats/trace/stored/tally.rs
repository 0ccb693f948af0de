//! Counts routes at the speed of memory: blocks in parallel, one layer at a time.

use std::io;
use std::ops::Range;

use rayon::prelude::*;

use crate::cancel::{Cancel, Canceled};
use crate::formats::trace::stored::block::Block;
use crate::formats::trace::stored::corrupt;
use crate::formats::trace::stored::read::StoredTrace;
use crate::trace::counts::{ExpertCounts, Histogram};

/// Blocks one task reads before it counts, so that a histogram is summed up rarely.
const GROUP: u64 = 16;

/// Tokens per expert and layer in a range of tokens; `None` once it is canceled, which is
/// asked before every group of blocks.
pub(super) fn count_routes(
    trace: &StoredTrace,
    range: Range<u64>,
    cancel: &Cancel,
) -> io::Result<Option<ExpertCounts>> {
    let (n_layers, n_experts) = (trace.header().n_layers(), trace.header().n_experts());
    let blocks = trace.blocks();
    let (first, last) = (range.start / blocks.tokens, range.end.div_ceil(blocks.tokens));
    let n_groups = last.saturating_sub(first).div_ceil(GROUP);
    let totals = (0..n_groups)
        .into_par_iter()
        .try_fold(
            || Counter::new(n_layers, n_experts),
            |mut counter, group| {
                cancel.check()?;
                let start = first + group * GROUP;
                counter.count(trace, start..last.min(start + GROUP), &range)?;
                Ok(counter)
            },
        )
        .map(|counter| counter.map(|counter| counter.totals))
        // Sums of integers: the order in which threads finish does not matter.
        .try_reduce(
            || vec![0; n_layers * n_experts],
            |mut a, b| {
                for (a, b) in a.iter_mut().zip(b) {
                    *a += b;
                }
                Ok(a)
            },
        );
    let totals = match totals {
        Ok(totals) => totals,
        Err(Ended::Canceled) => return Ok(None),
        Err(Ended::Unread(error)) => return Err(error),
    };
    let values = totals.into_iter().map(|count| count as f64).collect();
    let counts = ExpertCounts::from_values(n_layers, n_experts, values);
    counts.map(Some).ok_or_else(|| corrupt("shape"))
}

/// Why counting ended early.
enum Ended {
    /// Nobody wants the result any more.
    Canceled,
    /// The trace could not be read.
    Unread(io::Error),
}

impl From<Canceled> for Ended {
    fn from(_: Canceled) -> Self {
        Self::Canceled
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Unread(error)
    }
}

struct Counter {
    blocks: Vec<Block>,
    histogram: Histogram,
    totals: Vec<u64>,
}

impl Counter {
    fn new(n_layers: usize, n_experts: usize) -> Self {
        Self {
            blocks: (0..GROUP).map(|_| Block::default()).collect(),
            histogram: Histogram::new(n_experts),
            totals: vec![0; n_layers * n_experts],
        }
    }

    fn count(
        &mut self,
        trace: &StoredTrace,
        group: Range<u64>,
        range: &Range<u64>,
    ) -> io::Result<()> {
        let shape = trace.blocks();
        let mut n_blocks = 0;
        for (block, block_idx) in self.blocks.iter_mut().zip(group) {
            trace.read_block(block_idx, block)?;
            n_blocks += 1;
        }
        let n_experts = trace.header().n_experts();
        for (layer_idx, layer) in trace.header().layers.iter().enumerate() {
            for block in &self.blocks[..n_blocks] {
                let ids = shape.layer(block, usize::from(*layer), range);
                if shape.width == 1 {
                    self.histogram.add_bytes(ids);
                } else {
                    self.histogram.add_words(ids.as_chunks().0);
                }
            }
            let totals = &mut self.totals[layer_idx * n_experts..][..n_experts];
            if !self.histogram.drain_into(totals) {
                return Err(corrupt("an id is out of range"));
            }
        }
        Ok(())
    }
}
