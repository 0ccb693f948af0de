//! Counts a trace without the tokens that repeat the one before, as warm-up batches do.

use std::io;

use crate::formats::trace::stored::block::Block;
use crate::formats::trace::stored::corrupt;
use crate::formats::trace::stored::read::StoredTrace;
use crate::formats::trace::stored::steps::{size, widen};
use crate::trace::counts::ExpertCounts;

impl StoredTrace {
    /// Tokens per expert and layer, without those that are routed like the token before in all
    /// layers; nothing for a trace of counts.
    pub fn count_without_repeats(&self) -> io::Result<ExpertCounts> {
        let (header, blocks) = (self.header(), self.blocks());
        let mut counts = ExpertCounts::zeros(header.n_layers(), header.n_experts());
        let mut before = vec![Vec::new(); header.n_layers()];
        let (mut block, mut ids) = (Block::default(), vec![0; blocks.top_k]);
        for block_idx in 0..blocks.count() {
            self.read_block(block_idx, &mut block)?;
            let tokens = blocks.range(block_idx);
            let rows = |layer: u16| {
                let ids = blocks.layer(&block, usize::from(layer), &tokens);
                ids.chunks_exact(blocks.top_k * blocks.width)
            };
            let mut repeats = vec![true; size(&tokens)];
            for (before, layer) in before.iter_mut().zip(&header.layers) {
                for (repeats, row) in repeats.iter_mut().zip(rows(*layer)) {
                    *repeats &= before == row;
                    before.clear();
                    before.extend_from_slice(row);
                }
            }
            for (nth, layer) in header.layers.iter().enumerate() {
                let counts = counts.layer_mut(nth);
                for (row, _) in rows(*layer).zip(&repeats).filter(|(_, repeats)| !**repeats) {
                    widen(row, blocks.width, &mut ids);
                    for id in &ids {
                        let count = counts.get_mut(usize::from(*id));
                        *count.ok_or_else(|| corrupt("an id is out of range"))? += 1.0;
                    }
                }
            }
        }
        Ok(counts)
    }
}
