//! Blocks of routes: where each one lies, how it is filled and how it is read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::formats::trace::stored::footer::Layout;
use crate::formats::trace::stored::{MAGIC, corrupt, crc};
use crate::trace::TraceHeader;

/// Ids of a block, about.
const BLOCK_IDS: usize = 64 * 1024;
/// Most tokens of a block.
pub(super) const MAX_BLOCK_TOKENS: u64 = 4096;

/// Tokens of a block for rows of so many ids.
pub(super) fn block_tokens(row: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "a small constant")]
    let most = MAX_BLOCK_TOKENS as usize;
    (BLOCK_IDS / row.max(1)).clamp(1, most)
}

/// The shape of all blocks of a trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    /// Layers in the file.
    pub(super) n_layers: usize,
    /// Experts per token.
    pub(super) top_k: usize,
    /// Bytes of an id.
    pub(super) width: usize,
    /// Tokens of a full block.
    pub(super) tokens: u64,
    /// Tokens of the trace.
    pub(super) total: u64,
}

impl Blocks {
    pub(super) fn new(header: &TraceHeader, layout: &Layout) -> Self {
        Self {
            n_layers: layout.stored_layers as usize,
            top_k: header.top_k.unwrap_or(1) as usize,
            width: usize::from(layout.width),
            tokens: u64::from(layout.block_tokens).max(1),
            total: header.tokens,
        }
    }

    /// Bytes of one token.
    pub(super) fn row_bytes(&self) -> usize {
        self.n_layers * self.top_k * self.width
    }

    /// Number of blocks.
    pub(super) fn count(&self) -> u64 {
        self.total.div_ceil(self.tokens)
    }

    /// Tokens of one block.
    pub(super) fn range(&self, block_idx: u64) -> Range<u64> {
        let start = block_idx * self.tokens;
        start..self.total.min(start + self.tokens)
    }

    /// Bytes of all blocks; `None` if that is beyond any file.
    pub(super) fn size(&self) -> Option<u64> {
        self.total.checked_mul(self.row_bytes() as u64)?.checked_add(self.count().checked_mul(4)?)
    }

    /// Reads and checks one block.
    pub(super) fn read(&self, file: &File, block_idx: u64, to: &mut Block) -> io::Result<()> {
        let range = self.range(block_idx);
        let n_tokens = usize::try_from(range.end - range.start).map_err(corrupt)?;
        let n_bytes = n_tokens * self.row_bytes();
        let at = MAGIC.len() as u64 + block_idx * (self.tokens * self.row_bytes() as u64 + 4);
        to.tokens = 0..0;
        to.bytes.resize(n_bytes + 4, 0);
        file.read_exact_at(&mut to.bytes, at)?;
        let (ids, checksum) = to.bytes.split_at(n_bytes);
        if crc(ids).to_le_bytes() != checksum {
            return Err(corrupt(format_args!("checksum of block {block_idx}")));
        }
        to.bytes.truncate(n_bytes);
        to.tokens = range;
        Ok(())
    }

    /// The ids of tokens `part` of a block in one layer, as bytes `[token][k]`.
    pub(super) fn layer<'b>(&self, block: &'b Block, layer: usize, part: &Range<u64>) -> &'b [u8] {
        let first = part.start.max(block.tokens.start) - block.tokens.start;
        let last = part.end.min(block.tokens.end).saturating_sub(block.tokens.start).max(first);
        let stride = self.top_k * self.width;
        let n_tokens = usize::try_from(block.tokens.end - block.tokens.start).unwrap_or(0);
        let [first, last] = [first, last].map(|n| usize::try_from(n).unwrap_or(0));
        &block.bytes[(layer * n_tokens + first) * stride..(layer * n_tokens + last) * stride]
    }
}

/// One block in memory.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Its tokens.
    pub(super) tokens: Range<u64>,
    bytes: Vec<u8>,
}
