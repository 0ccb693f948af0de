//! The compact form in which traces are kept: written once, read many times.
//!
//! ```text
//! magic             8 bytes, names the version
//! routes            blocks of B tokens; a block is [layer][token][k] ids, then its CRC-32
//!   or counts       steps; a step is [layer][expert] counts, then its CRC-32
//! token ids         \
//! positions          > columns of u32, in chunks of 16,384, each followed by its CRC-32
//! sequence lengths  /
//! footer            shape, identity, offsets of the sections
//! trailer           length of the footer, its CRC-32, magic
//! ```
//!
//! All numbers are little-endian. Ids take one byte up to 256 experts, else two; counts
//! take four bytes if all are integers below 2^32, else they are doubles. Layer-major
//! blocks let a histogram run over one layer at the speed of memory, and a block is small
//! enough (64 KiB of one-byte ids) that a few thousand sequences can each have one at hand.
//! The footer comes last, so that a file cut short is recognised, and a writer never
//! goes back. Tokens lie in (sequence, position) order.

mod block;
mod column;
mod footer;
mod lanes;
mod read;
mod repeats;
mod steps;
mod tally;
mod tokens;
mod write;

pub use read::StoredTrace;
pub use steps::{StoredStep, StoredSteps};
pub use write::{CountsWriter, RouteWriter, Scratch};

use std::io;

/// First and last bytes of a stored trace, version 1.
pub const MAGIC: [u8; 8] = *b"MOETRC\x00\x01";

/// The error of a stored file that is not what was written.
fn corrupt(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the stored trace is damaged ({what}); delete it and upload the trace again"),
    )
}

/// CRC-32 of the bytes.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests;
