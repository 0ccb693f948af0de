//! Writes stored traces from front to back.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use crate::formats::trace::stored::block::block_tokens;
use crate::formats::trace::stored::column::ColumnWriter;
use crate::formats::trace::stored::footer::{Layout, encode};
use crate::formats::trace::stored::{MAGIC, crc};
use crate::trace::{TraceHeader, TraceKind};

/// Gives empty files that vanish when they are closed.
pub type Scratch<'a> = &'a dyn Fn() -> io::Result<File>;

/// Buffer of the file that is written.
const BUFFER: usize = 256 * 1024;

/// Writes a trace of routes, token after token.
#[derive(Debug)]
pub struct RouteWriter {
    to: BufWriter<File>,
    written: u64,
    n_layers: usize,
    top_k: usize,
    wide: bool,
    block_tokens: usize,
    /// The block being filled, `[layer][token][k]`, and how many tokens it holds.
    block: Vec<u8>,
    filled: usize,
    tokens: u64,
    sequences: u64,
    in_sequence: u32,
    odd_positions: bool,
    n_token_ids: u64,
    token_ids: ColumnWriter,
    positions: ColumnWriter,
    lengths: ColumnWriter,
}

impl RouteWriter {
    /// Starts a trace of so many layers and experts per token, with ids below `id_bound`.
    pub fn new(
        to: File,
        scratch: Scratch<'_>,
        n_layers: usize,
        top_k: usize,
        id_bound: u32,
    ) -> io::Result<Self> {
        let mut to = BufWriter::with_capacity(BUFFER, to);
        to.write_all(&MAGIC)?;
        let wide = id_bound > 256;
        let block_tokens = block_tokens(n_layers * top_k);
        Ok(Self {
            to,
            written: MAGIC.len() as u64,
            n_layers,
            top_k,
            wide,
            block_tokens,
            block: vec![0; block_tokens * n_layers * top_k * (1 + usize::from(wide))],
            filled: 0,
            tokens: 0,
            sequences: 0,
            in_sequence: 0,
            odd_positions: false,
            n_token_ids: 0,
            token_ids: ColumnWriter::new(scratch()?),
            positions: ColumnWriter::new(scratch()?),
            lengths: ColumnWriter::new(scratch()?),
        })
    }

    /// Adds the next token of the sequence: its position and its ids, `[layer][k]`.
    pub fn push(&mut self, position: u32, row: &[u16]) -> io::Result<()> {
        let (k, t, full) = (self.top_k, self.filled, self.block_tokens);
        if self.wide {
            for (layer, ids) in row.chunks_exact(k).enumerate() {
                let to = &mut self.block[(layer * full + t) * k * 2..][..k * 2];
                for (to, id) in to.as_chunks_mut::<2>().0.iter_mut().zip(ids) {
                    *to = id.to_le_bytes();
                }
            }
        } else {
            for (layer, ids) in row.chunks_exact(k).enumerate() {
                let to = &mut self.block[(layer * full + t) * k..][..k];
                for (to, id) in to.iter_mut().zip(ids) {
                    *to = id.to_le_bytes()[0];
                }
            }
        }
        self.odd_positions |= position != self.in_sequence;
        self.positions.push(position)?;
        self.in_sequence += 1;
        self.tokens += 1;
        self.filled += 1;
        if self.filled == full { self.flush_block() } else { Ok(()) }
    }

    /// Adds the vocabulary id of the next token that has none yet.
    pub fn push_token_id(&mut self, token_id: u32) -> io::Result<()> {
        self.n_token_ids += 1;
        self.token_ids.push(token_id)
    }

    /// Ends the sequence.
    pub fn end_sequence(&mut self) -> io::Result<()> {
        if self.in_sequence > 0 {
            self.lengths.push(self.in_sequence)?;
            self.sequences += 1;
            self.in_sequence = 0;
        }
        Ok(())
    }

    /// Tokens so far.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    fn flush_block(&mut self) -> io::Result<()> {
        let token = self.top_k * (1 + usize::from(self.wide));
        let part = self.filled * token;
        if self.filled < self.block_tokens {
            for layer in 1..self.n_layers {
                let from = layer * self.block_tokens * token;
                self.block.copy_within(from..from + part, layer * part);
            }
        }
        let block = &self.block[..part * self.n_layers];
        self.to.write_all(block)?;
        self.to.write_all(&crc(block).to_le_bytes())?;
        self.written += block.len() as u64 + 4;
        self.filled = 0;
        Ok(())
    }

    /// Ends the trace; `header` says what the writer cannot know.
    ///
    /// Kind, tokens, sequences, top-k and which columns exist are filled in here.
    pub fn finish(mut self, mut header: TraceHeader) -> io::Result<File> {
        self.end_sequence()?;
        if self.filled > 0 {
            self.flush_block()?;
        }
        header.kind = TraceKind::Routes;
        header.tokens = self.tokens;
        header.sequences = self.sequences;
        header.steps = 0;
        header.top_k = u32::try_from(self.top_k).ok();
        header.has_token_ids = self.tokens > 0 && self.n_token_ids == self.tokens;
        header.has_positions = self.odd_positions;
        let token_ids_at = self.written;
        if header.has_token_ids {
            self.written += self.token_ids.append_to(&mut self.to)?;
        }
        let positions_at = self.written;
        if header.has_positions {
            self.written += self.positions.append_to(&mut self.to)?;
        }
        let sequences_at = self.written;
        self.written += self.lengths.append_to(&mut self.to)?;
        let layout = Layout {
            width: 1 + u8::from(self.wide),
            stored_layers: u32::try_from(self.n_layers).unwrap_or(u32::MAX),
            block_tokens: u32::try_from(self.block_tokens).unwrap_or(u32::MAX),
            token_ids_at,
            positions_at,
            sequences_at,
            footer_at: self.written,
        };
        self.to.write_all(&encode(&header, &layout))?;
        self.to.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// Writes a trace of counts, row after row.
#[derive(Debug)]
pub struct CountsWriter {
    to: File,
    rows: BufWriter<File>,
    row_bytes: Vec<u8>,
    n_rows: u64,
    all_small: bool,
}

impl CountsWriter {
    /// Starts a trace.
    pub fn new(to: File, scratch: Scratch<'_>) -> io::Result<Self> {
        Ok(Self {
            to,
            rows: BufWriter::with_capacity(BUFFER, scratch()?),
            row_bytes: Vec::new(),
            n_rows: 0,
            all_small: true,
        })
    }

    /// Adds the counts of the next layer; all rows are equally long.
    pub fn push_row(&mut self, counts: &[f64]) -> io::Result<()> {
        self.row_bytes.clear();
        for count in counts {
            self.row_bytes.extend(count.to_le_bytes());
            self.all_small &= small(*count).is_some();
        }
        self.n_rows += 1;
        self.rows.write_all(&self.row_bytes)
    }

    /// Ends the trace; `header` says what the writer cannot know, `stored_layers` how many
    /// rows make a step.
    pub fn finish(self, mut header: TraceHeader, stored_layers: usize) -> io::Result<File> {
        header.kind = TraceKind::Counts;
        header.steps = self.n_rows / stored_layers.max(1) as u64;
        header.tokens = 0;
        header.sequences = 0;
        let mut rows = self.rows.into_inner().map_err(io::IntoInnerError::into_error)?;
        rows.seek(SeekFrom::Start(0))?;
        let mut rows = BufReader::with_capacity(BUFFER, rows);
        let mut to = BufWriter::with_capacity(BUFFER, self.to);
        to.write_all(&MAGIC)?;
        let width = if self.all_small { 4 } else { 8 };
        let cells = stored_layers * header.n_experts();
        let mut step = Vec::with_capacity(cells * width);
        let mut cell = [0; 8];
        for _ in 0..header.steps {
            step.clear();
            for _ in 0..cells {
                rows.read_exact(&mut cell)?;
                let count = f64::from_le_bytes(cell);
                match small(count) {
                    Some(count) if self.all_small => step.extend(count.to_le_bytes()),
                    _ => step.extend(cell),
                }
            }
            to.write_all(&step)?;
            to.write_all(&crc(&step).to_le_bytes())?;
        }
        let at = MAGIC.len() as u64 + header.steps * (cells * width + 4) as u64;
        let layout = Layout {
            width: if self.all_small { 4 } else { 8 },
            stored_layers: u32::try_from(stored_layers).unwrap_or(u32::MAX),
            block_tokens: 0,
            token_ids_at: at,
            positions_at: at,
            sequences_at: at,
            footer_at: at,
        };
        to.write_all(&encode(&header, &layout))?;
        to.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// The count as an integer below 2^32, if it is one.
fn small(count: f64) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the result is compared with where it came from"
    )]
    let integer = count as u32;
    (f64::from(integer).to_bits() == count.to_bits()).then_some(integer)
}
