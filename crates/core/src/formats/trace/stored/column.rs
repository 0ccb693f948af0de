//! Columns of one `u32` per token or sequence, in chunks with checksums.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use crate::formats::trace::stored::{corrupt, crc};

/// Numbers of a chunk.
const CHUNK: usize = 16_384;
/// Bytes of a full chunk with its checksum.
const STRIDE: u64 = (CHUNK * 4 + 4) as u64;

/// Writes a column to a file of its own, to be appended later.
#[derive(Debug)]
pub(super) struct ColumnWriter {
    file: File,
    chunk: Vec<u8>,
}

impl ColumnWriter {
    pub(super) fn new(scratch: File) -> Self {
        Self { file: scratch, chunk: Vec::with_capacity(CHUNK * 4 + 4) }
    }

    pub(super) fn push(&mut self, number: u32) -> io::Result<()> {
        self.chunk.extend(number.to_le_bytes());
        if self.chunk.len() == CHUNK * 4 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let checksum = crc(&self.chunk);
        self.chunk.extend(checksum.to_le_bytes());
        self.file.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    /// Appends the column to `to` and returns its bytes.
    pub(super) fn append_to(mut self, to: &mut impl Write) -> io::Result<u64> {
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        self.file.seek(SeekFrom::Start(0))?;
        io::copy(&mut self.file, to)
    }
}

/// Reads a column, remembering the chunk read last.
#[derive(Debug)]
pub(super) struct ColumnReader<'a> {
    file: &'a File,
    at: u64,
    length: u64,
    chunk_idx: Option<u64>,
    bytes: Vec<u8>,
}

impl<'a> ColumnReader<'a> {
    pub(super) fn new(file: &'a File, at: u64, length: u64) -> Self {
        Self { file, at, length, chunk_idx: None, bytes: Vec::new() }
    }

    /// The number at a place.
    pub(super) fn get(&mut self, idx: u64) -> io::Result<u32> {
        debug_assert!(idx < self.length);
        let chunk_idx = idx / CHUNK as u64;
        if self.chunk_idx != Some(chunk_idx) {
            self.load(chunk_idx)?;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a place within a chunk")]
        let place = (idx % CHUNK as u64) as usize;
        self.bytes
            .as_chunks::<4>()
            .0
            .get(place)
            .map(|bytes| u32::from_le_bytes(*bytes))
            .ok_or_else(|| corrupt("column"))
    }

    fn load(&mut self, chunk_idx: u64) -> io::Result<()> {
        self.chunk_idx = None;
        let numbers = self.length.saturating_sub(chunk_idx * CHUNK as u64).min(CHUNK as u64);
        #[expect(clippy::cast_possible_truncation, reason = "at most a chunk")]
        let n_bytes = numbers as usize * 4;
        self.bytes.resize(n_bytes + 4, 0);
        self.file.read_exact_at(&mut self.bytes, self.at + chunk_idx * STRIDE)?;
        let (numbers, checksum) = self.bytes.split_at(n_bytes);
        if crc(numbers).to_le_bytes() != checksum {
            return Err(corrupt("checksum of a column"));
        }
        self.bytes.truncate(n_bytes);
        self.chunk_idx = Some(chunk_idx);
        Ok(())
    }
}

/// Bytes that a column of so many numbers takes; `None` if that is beyond any file.
pub(super) fn size(length: u64) -> Option<u64> {
    length.checked_mul(4)?.checked_add(length.div_ceil(CHUNK as u64).checked_mul(4)?)
}
