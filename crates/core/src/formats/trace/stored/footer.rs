//! The footer of a stored trace: its header as bytes, and where its sections begin.

use std::io;

use crate::formats::trace::stored::{MAGIC, corrupt, crc};
use crate::trace::{MAX_CELLS, MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K, TraceHeader, TraceKind};

/// Bytes of the trailer: length of the footer, its checksum, magic.
pub(super) const TRAILER: usize = 16;
/// Most notes that are kept, and most bytes of one.
const MAX_NOTES: usize = 32;
const MAX_NOTE: usize = 1000;
/// More than any footer can take.
pub(super) const MAX_FOOTER: u64 = 64 * 1024;

/// How the numbers of a trace lie in its file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of an id or of a count.
    pub(super) width: u8,
    /// Layers of the recording, those without routing included.
    pub(super) stored_layers: u32,
    /// Tokens of a block.
    pub(super) block_tokens: u32,
    /// Where the columns begin; the routes or counts begin after the magic.
    pub(super) token_ids_at: u64,
    /// Where the positions begin.
    pub(super) positions_at: u64,
    /// Where the sequence lengths begin.
    pub(super) sequences_at: u64,
    /// Where the footer begins.
    pub(super) footer_at: u64,
}

/// Footer and trailer as bytes.
pub(super) fn encode(header: &TraceHeader, layout: &Layout) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.push(match header.kind {
        TraceKind::Routes => 0,
        TraceKind::Counts => 1,
    });
    out.push(layout.width);
    out.push(
        u8::from(header.has_token_ids)
            | u8::from(header.has_positions) << 1
            | u8::from(header.experts_inferred) << 2,
    );
    out.extend(header.digest);
    for number in [layout.stored_layers, layout.block_tokens, header.experts] {
        out.extend(number.to_le_bytes());
    }
    out.extend(header.top_k.unwrap_or(0).to_le_bytes());
    for number in [
        header.tokens,
        header.sequences,
        header.steps,
        header.repeated_rows,
        header.longest_repeat,
        layout.token_ids_at,
        layout.positions_at,
        layout.sequences_at,
        layout.footer_at,
    ] {
        out.extend(number.to_le_bytes());
    }
    out.extend(low16(header.layers.len()).to_le_bytes());
    for layer in &header.layers {
        out.extend(layer.to_le_bytes());
    }
    let notes = &header.notes[..header.notes.len().min(MAX_NOTES)];
    out.extend(low16(notes.len()).to_le_bytes());
    for note in notes {
        let note = &note[..note.floor_char_boundary(MAX_NOTE)];
        out.extend(low16(note.len()).to_le_bytes());
        out.extend(note.as_bytes());
    }
    let checksum = crc(&out);
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out.extend(length.to_le_bytes());
    out.extend(checksum.to_le_bytes());
    out.extend(MAGIC);
    out
}

/// Lengths written here are bounded by the limits of traces and notes.
fn low16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Length and checksum of the footer, from the trailer.
pub(super) fn decode_trailer(trailer: &[u8; TRAILER]) -> io::Result<(u64, u32)> {
    let mut bytes = Bytes(trailer);
    let (length, checksum) = (u64::from(bytes.u32()?), bytes.u32()?);
    if bytes.0 != MAGIC || length > MAX_FOOTER {
        return Err(corrupt("the end of the file is missing"));
    }
    Ok((length, checksum))
}

/// The footer from its bytes.
pub(super) fn decode(footer: &[u8], checksum: u32) -> io::Result<(TraceHeader, Layout)> {
    if crc(footer) != checksum {
        return Err(corrupt("checksum of the footer"));
    }
    let mut bytes = Bytes(footer);
    let kind = match bytes.u8()? {
        0 => TraceKind::Routes,
        1 => TraceKind::Counts,
        _ => return Err(corrupt("kind")),
    };
    let width = bytes.u8()?;
    let flags = bytes.u8()?;
    let digest = bytes.take(32)?.try_into().map_err(corrupt)?;
    let (stored_layers, block_tokens, experts) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
    let top_k = Some(bytes.u32()?).filter(|k| *k > 0);
    let mut header = TraceHeader {
        kind,
        digest,
        tokens: bytes.u64()?,
        sequences: bytes.u64()?,
        steps: bytes.u64()?,
        layers: Vec::new(),
        experts,
        top_k,
        has_token_ids: flags & 1 != 0,
        has_positions: flags & 2 != 0,
        experts_inferred: flags & 4 != 0,
        repeated_rows: bytes.u64()?,
        longest_repeat: bytes.u64()?,
        notes: Vec::new(),
    };
    let layout = Layout {
        width,
        stored_layers,
        block_tokens,
        token_ids_at: bytes.u64()?,
        positions_at: bytes.u64()?,
        sequences_at: bytes.u64()?,
        footer_at: bytes.u64()?,
    };
    for _ in 0..bytes.u16()? {
        header.layers.push(bytes.u16()?);
    }
    for _ in 0..bytes.u16()? {
        let length = usize::from(bytes.u16()?);
        let note = String::from_utf8(bytes.take(length)?.to_vec()).map_err(corrupt)?;
        header.notes.push(note);
    }
    check(&header, &layout)?;
    Ok((header, layout))
}

/// The limits that everything read later relies on.
fn check(header: &TraceHeader, layout: &Layout) -> io::Result<()> {
    let n_layers = layout.stored_layers as usize;
    let sound = n_layers <= MAX_LAYERS
        && !header.layers.is_empty()
        && header.layers.is_sorted_by(|a, b| a < b)
        && header.layers.iter().all(|layer| usize::from(*layer) < n_layers)
        && (1..=MAX_EXPERTS).contains(&header.experts)
        && n_layers * header.n_experts() <= MAX_CELLS * 16
        && header.top_k.is_none_or(|k| k as usize <= MAX_TOP_K)
        && match header.kind {
            TraceKind::Routes => {
                header.top_k.is_some()
                    && layout.block_tokens > 0
                    && u64::from(layout.block_tokens)
                        <= crate::formats::trace::stored::block::MAX_BLOCK_TOKENS
                    && matches!(layout.width, 1 | 2)
                    && (layout.width == 2 || header.experts <= 256)
            }
            TraceKind::Counts => matches!(layout.width, 4 | 8),
        };
    if sound { Ok(()) } else { Err(corrupt("shape")) }
}

/// A cursor over bytes.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> io::Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n).ok_or_else(|| corrupt("short footer"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(corrupt)
    }

    fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}
