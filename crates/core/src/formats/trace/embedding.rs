//! Reads rows of a kept embedding table.

use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::os::unix::fs::FileExt;

use crate::formats::trace::npy::read_header;
use crate::predict::Embedding;
use crate::predict::embedding::Spread;

/// Most values that are held in memory, 1 GiB of them.
const MAX_VALUES: usize = 1 << 28;

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddingError {
    /// A token the table has no row for.
    #[error(
        "token id {id} is not below the {vocabulary} rows of the embedding table; upload the table of the trace's own vocabulary"
    )]
    Vocabulary {
        /// The largest id asked for.
        id: u32,
        /// Rows of the table.
        vocabulary: u64,
    },
    /// More rows than are held in memory.
    #[error(
        "{rows} rows of {dim} values are more than the {MAX_VALUES} that are held in memory; use a trace with fewer distinct tokens"
    )]
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// Values of a row.
        dim: u64,
    },
    /// The file is not what was kept.
    #[error("the kept embedding table cannot be read; upload it again")]
    Damaged(#[source] io::Error),
}

/// The rows of ascending token ids, scaled to about unit variance.
pub fn read_rows(file: &File, ids: Vec<u32>) -> Result<Embedding, EmbeddingError> {
    let mut reader = BufReader::new(file);
    let damaged = |what: String| EmbeddingError::Damaged(io::Error::other(what));
    let header =
        read_header(&mut reader, "embedding").map_err(|error| damaged(error.to_string()))?;
    let start = reader.stream_position().map_err(EmbeddingError::Damaged)?;
    let [vocabulary, dim] = header.shape[..] else {
        return Err(damaged("not two-dimensional".to_owned()));
    };
    if let Some(id) = ids.last().filter(|id| u64::from(**id) >= vocabulary) {
        return Err(EmbeddingError::Vocabulary { id: *id, vocabulary });
    }
    let n_values = usize::try_from(dim).ok().and_then(|dim| dim.checked_mul(ids.len()));
    let Some(n_values) = n_values.filter(|n| *n <= MAX_VALUES) else {
        return Err(EmbeddingError::TooLarge { rows: ids.len(), dim });
    };
    let width = header.dtype.size;
    let row_bytes = n_values / ids.len().max(1) * width;
    let mut values = Vec::with_capacity(n_values);
    let mut row = vec![0; row_bytes];
    for id in &ids {
        let at = start + u64::from(*id) * row_bytes as u64;
        file.read_exact_at(&mut row, at).map_err(EmbeddingError::Damaged)?;
        if width == 2 {
            values.extend(row.as_chunks().0.iter().map(|b| half(u16::from_le_bytes(*b))));
        } else {
            values.extend(row.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)));
        }
    }
    let mut spread = Spread::default();
    for value in &values {
        spread.add(*value);
    }
    let scale = spread.scale();
    for value in &mut values {
        *value *= scale;
    }
    Embedding::new(ids, usize::try_from(dim).unwrap_or(0), values)
        .ok_or_else(|| damaged("size".to_owned()))
}

/// A number in half precision (IEEE 754 binary16).
pub(super) fn half(bits: u16) -> f32 {
    // The exponents differ in their bias, 15 against 127: a factor of 2^112; the highest is for infinity
    // and what is no number.
    let size = match bits & 0x7fff {
        0x7c00 => f32::INFINITY,
        0x7c01.. => f32::NAN,
        finite => f32::from_bits(u32::from(finite) << 13) * 2.0_f32.powi(112),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn table(descr: &str, rows: &[u8]) -> File {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (4, 2), }}\n");
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\x93NUMPY\x01\x00").unwrap();
        file.write_all(&u16::try_from(text.len()).unwrap().to_le_bytes()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.write_all(rows).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn halves_by_the_standard() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65_504.0),
            (0x8000, 0.0),
        ] {
            assert!((half(bits) - value).abs() <= value.abs() * 1e-6, "{bits:x} {}", half(bits));
        }
        assert!(half(0xfc00).is_infinite() && half(0xfc00) < 0.0);
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn rows_of_both_widths_are_scaled() {
        let floats: Vec<u8> = [0.0_f32, 0.0, 1.0, 3.0, 0.0, 0.0, 5.0, 7.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let halves: Vec<u8> = [0_u16, 0, 0x3c00, 0x4200, 0, 0, 0x4500, 0x4700]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        // 1, 3, 5, 7 have variance 5.
        let scale = 5.0_f32.sqrt().recip();
        let wanted =
            Embedding::new(vec![1, 3], 2, [1.0, 3.0, 5.0, 7.0].map(|x| x * scale).to_vec());
        for (descr, bytes) in [("<f4", floats), ("<f2", halves)] {
            assert_eq!(read_rows(&table(descr, &bytes), vec![1, 3]).ok(), wanted, "{descr}");
        }
    }

    #[test]
    fn what_the_table_does_not_hold_is_an_error() {
        let file = table("<f2", &[0; 16]);
        assert!(matches!(
            read_rows(&file, vec![4]),
            Err(EmbeddingError::Vocabulary { id: 4, vocabulary: 4 })
        ));
        let short = table("<f2", &[0; 15]);
        assert!(matches!(read_rows(&short, vec![3]), Err(EmbeddingError::Damaged(_))));
    }
}
