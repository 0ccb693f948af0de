//! Token embeddings, the input of learned predictors: `[vocabulary, dimension]` floats.

use std::io::{Read, Write};

use crate::formats::trace::Limits;
use crate::formats::trace::array::Array;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::npy::{self, NpyHeader, read_header};

/// Checks an embedding that comes as a NumPy file of its own, and copies it to `to`.
pub fn convert_embedding(
    from: &mut dyn Read,
    to: &mut impl Write,
    limits: &Limits,
) -> Result<(), TraceError> {
    let mut from = from;
    let mut flaws = Flaws::default();
    let header = read_header(&mut from, "embedding")?;
    if let Err(detail) = check_embedding(&header) {
        return Err(flaws.fail("shape", "", detail));
    }
    let n_bytes = header.n_bytes().unwrap_or(u64::MAX);
    if n_bytes > limits.inflated_bytes {
        return Err(TraceError::TooLarge {
            what: "the embedding",
            limit_bytes: limits.inflated_bytes,
        });
    }
    to.write_all(&embedding_header(&header)).map_err(TraceError::storage)?;
    let mut array = Array { from, name: "embedding", left: n_bytes };
    copy_finite(&header, &mut array, &mut flaws, to)?;
    flaws.into_result()
}

pub(super) fn check_embedding(header: &NpyHeader) -> Result<(), String> {
    let float = header.dtype.kind == 'f' && matches!(header.dtype.size, 2 | 4);
    let sized = header.shape.len() == 2 && header.shape.iter().all(|n| *n > 0);
    if float && sized && !header.fortran && !header.dtype.big_endian {
        return Ok(());
    }
    Err(format!(
        "is {:?} of {}; it must be [vocabulary, dimension] of little-endian f2 or f4 in C order",
        header.shape,
        header.dtype.name()
    ))
}

/// The header under which the embedding is kept.
pub(super) fn embedding_header(header: &NpyHeader) -> Vec<u8> {
    npy::header(&format!("<f{}", header.dtype.size), &header.shape)
}

/// Copies floats, noting those that are not finite.
pub(super) fn copy_finite(
    header: &NpyHeader,
    array: &mut Array<'_>,
    flaws: &mut Flaws,
    to: &mut impl Write,
) -> Result<(), TraceError> {
    let (size, columns) = (header.dtype.size, header.shape[1]);
    let (mut bytes, mut n) = (Vec::new(), 0_u64);
    while array.next_chunk(size, &mut bytes)? {
        for value in bytes.chunks_exact(size) {
            // All exponent bits set: infinite or not a number, in both widths.
            let (high, low) = (value[size - 1] & 0x7f, value[size - 2]);
            let finite = if size == 2 { high & 0x7c != 0x7c } else { high != 0x7f || low < 0x80 };
            if !finite {
                flaws.note("finite", || {
                    (format!("/embedding/{}/{}", n / columns, n % columns), "is not finite".into())
                });
            }
            n += 1;
        }
        to.write_all(&bytes).map_err(TraceError::storage)?;
    }
    Ok(())
}
