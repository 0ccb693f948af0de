//! The numbers of one array, taken piece by piece from wherever the array lies.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::formats::trace::counts::CountsRecorder;
use crate::formats::trace::error::TraceError;
use crate::formats::trace::fortran;
use crate::formats::trace::npy::NpyHeader;
use crate::formats::trace::routes::{NO_ID, RoutePosition, RouteRecorder};
use crate::formats::trace::stored::Scratch;

/// Bytes that are taken from an array at a time, about.
const CHUNK: usize = 256 * 1024;

/// The numbers of one array.
pub(super) struct Array<'a> {
    pub(super) from: &'a mut dyn Read,
    pub(super) name: &'a str,
    pub(super) left: u64,
}

impl Array<'_> {
    /// Reads the next whole `unit`s of bytes, as many as are handy; false at the end.
    ///
    /// At the end the archive's checksum has been compared.
    pub(super) fn next_chunk(&mut self, unit: usize, to: &mut Vec<u8>) -> Result<bool, TraceError> {
        if self.left == 0 {
            return self.end().map(|()| false);
        }
        let n = ((CHUNK / unit.max(1)).max(1) * unit.max(1)) as u64;
        let n = usize::try_from(n.min(self.left)).unwrap_or(CHUNK);
        to.resize(n, 0);
        self.from.read_exact(to).map_err(|error| self.bad(&error))?;
        self.left -= n as u64;
        Ok(true)
    }

    pub(super) fn end(&mut self) -> Result<(), TraceError> {
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(TraceError::unreadable(format_args!(
                "array `{}` goes on after its last element",
                self.name
            ))),
            Err(error) => Err(self.bad(&error)),
        }
    }

    pub(super) fn bad(&self, error: &io::Error) -> TraceError {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
            _ => error.to_string(),
        };
        TraceError::unreadable(format_args!("array `{}`: {why}", self.name))
    }

    /// Hands over the elements chunk by chunk in C order, whatever order they are in.
    pub(super) fn in_c_order(
        &mut self,
        header: &NpyHeader,
        shape: [usize; 4],
        unit: usize,
        scratch: Scratch<'_>,
        mut take: impl FnMut(&[u8]) -> Result<(), TraceError>,
    ) -> Result<(), TraceError> {
        let mut bytes = Vec::new();
        if !header.fortran {
            while self.next_chunk(unit, &mut bytes)? {
                take(&bytes)?;
            }
            return Ok(());
        }
        let mut flat = scratch().map_err(TraceError::storage)?;
        while self.next_chunk(1, &mut bytes)? {
            flat.write_all(&bytes).map_err(TraceError::storage)?;
        }
        let mut turned = scratch().map_err(TraceError::storage)?;
        fortran::transpose(&flat, &turned, shape, header.dtype.size)
            .map_err(TraceError::storage)?;
        turned.seek(SeekFrom::Start(0)).map_err(TraceError::storage)?;
        let n_bytes = header.n_bytes().unwrap_or(0);
        let mut turned = Array { from: &mut turned, name: self.name, left: n_bytes };
        while turned.next_chunk(unit, &mut bytes)? {
            take(&bytes)?;
        }
        Ok(())
    }
}

/// Hands the routes of an array `[sequences, tokens, layers, top_k]` on, token after token.
pub(super) fn record_routes(
    array: &mut Array<'_>,
    header: &NpyHeader,
    shape: [usize; 4],
    scratch: Scratch<'_>,
    recorder: &mut RouteRecorder,
) -> Result<(), TraceError> {
    let (dtype, row) = (header.dtype, shape[2] * shape[3]);
    let n_tokens = shape[1] as u64;
    let (mut sequence, mut position) = (0_u64, 0_u64);
    let mut ids = Vec::new();
    array.in_c_order(header, shape, row * dtype.size, scratch, |bytes| {
        dtype.ids(bytes, NO_ID, &mut ids);
        let raw_rows = bytes.chunks_exact(row * dtype.size);
        for (ids, raw) in ids.chunks_exact(row).zip(raw_rows) {
            let place = RoutePosition::Array { sequence, position };
            let at = u32::try_from(position).unwrap_or(u32::MAX);
            recorder.push(place, at, ids, |n| {
                dtype.integer(&raw[n * dtype.size..][..dtype.size]).to_string()
            })?;
            position += 1;
            if position == n_tokens {
                recorder.end_sequence()?;
                (sequence, position) = (sequence + 1, 0);
            }
        }
        Ok(())
    })
}

/// Hands the counts of an array `[steps, layers, experts]` on, row after row.
pub(super) fn record_counts(
    array: &mut Array<'_>,
    header: &NpyHeader,
    shape: [usize; 4],
    scratch: Scratch<'_>,
    recorder: &mut CountsRecorder,
) -> Result<(), TraceError> {
    let (dtype, row) = (header.dtype, shape[2]);
    let mut counts = Vec::with_capacity(row);
    array.in_c_order(header, shape, row * dtype.size, scratch, |bytes| {
        for raw in bytes.chunks_exact(row * dtype.size) {
            counts.clear();
            counts.extend(raw.chunks_exact(dtype.size).map(|number| dtype.number(number)));
            recorder.push_row(&counts)?;
        }
        Ok(())
    })
}
