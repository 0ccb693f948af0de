//! The header of a NumPy array and the numbers behind it.
//!
//! Written here rather than taken from a library because headers come from strangers: a
//! shape whose product overflows, a header of gigabytes or one nested a thousand deep must
//! be an error. Format: NumPy enhancement proposal 1, versions 1.0 to 3.0.

use std::io::Read;

use crate::formats::trace::embedding::half;
use crate::formats::trace::error::TraceError;
use crate::formats::trace::shorten;

/// Longest header text that is read; NumPy itself stops at 10,000 bytes.
const MAX_HEADER: usize = 16 * 1024;
/// Most dimensions; NumPy itself allows 64.
const MAX_DIMENSIONS: usize = 32;

/// What the elements of an array are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) struct Dtype {
    /// `u`, `i`, `f`, …
    pub(in crate::formats) kind: char,
    /// Bytes of an element.
    pub(in crate::formats) size: usize,
    /// Whether the highest byte comes first.
    pub(in crate::formats) big_endian: bool,
}

impl Dtype {
    /// Whether the elements are integers of at most eight bytes.
    pub(in crate::formats) fn is_integer(self) -> bool {
        matches!(self.kind, 'i' | 'u') && matches!(self.size, 1 | 2 | 4 | 8)
    }

    /// Whether the elements are numbers that can be counts.
    pub(in crate::formats) fn is_number(self) -> bool {
        self.is_integer() || (self.kind == 'f' && matches!(self.size, 2 | 4 | 8))
    }

    /// The number in these bytes, for integers and floats of two, four or eight bytes.
    pub(in crate::formats) fn number(self, bytes: &[u8]) -> f64 {
        if self.kind != 'f' {
            return self.integer(bytes) as f64;
        }
        let mut digits = [0; 8];
        for (n, digit) in digits[..bytes.len().min(8)].iter_mut().enumerate() {
            *digit = bytes[if self.big_endian { bytes.len() - 1 - n } else { n }];
        }
        match digits {
            [a, b, ..] if self.size == 2 => f64::from(half(u16::from_le_bytes([a, b]))),
            [a, b, c, d, ..] if self.size == 4 => f64::from(f32::from_le_bytes([a, b, c, d])),
            all => f64::from_le_bytes(all),
        }
    }

    /// The name as NumPy writes it.
    pub(in crate::formats) fn name(self) -> String {
        format!("{}{}", self.kind, self.size)
    }

    /// The integer in these bytes.
    pub(in crate::formats) fn integer(self, bytes: &[u8]) -> i128 {
        let digits = |value: i128, byte: &u8| value << 8 | i128::from(*byte);
        let value = if self.big_endian {
            bytes.iter().fold(0, digits)
        } else {
            bytes.iter().rev().fold(0, digits)
        };
        let bits = bytes.len() * 8;
        let negative = self.kind == 'i' && bits > 0 && value >> (bits - 1) & 1 == 1;
        if negative { value - (1 << bits) } else { value }
    }

    /// The ids in these bytes; what is not below 65,535 becomes `bad`.
    pub(in crate::formats) fn ids(self, bytes: &[u8], bad: u16, to: &mut Vec<u16>) {
        to.clear();
        match (self.kind, self.size, self.big_endian) {
            ('u', 1, _) => to.extend(bytes.iter().map(|id| u16::from(*id))),
            ('i', 1, _) => {
                to.extend(bytes.iter().map(|id| if *id < 128 { u16::from(*id) } else { bad }));
            }
            ('u', 2, false) => {
                to.extend(bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)));
            }
            ('i', 2, false) => to.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| u16::try_from(i16::from_le_bytes(*b)).unwrap_or(bad)),
            ),
            ('u' | 'i', 4, false) => to.extend(bytes.as_chunks().0.iter().map(|b| {
                // A negative number is huge when read as unsigned.
                u16::try_from(u32::from_le_bytes(*b)).unwrap_or(bad)
            })),
            ('u' | 'i', 8, false) => to.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| u16::try_from(u64::from_le_bytes(*b)).unwrap_or(bad)),
            ),
            _ => to.extend(
                bytes
                    .chunks_exact(self.size.max(1))
                    .map(|b| u16::try_from(self.integer(b)).unwrap_or(bad)),
            ),
        }
    }
}

/// What stands before the numbers of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::formats) struct NpyHeader {
    pub(in crate::formats) dtype: Dtype,
    /// Whether the first index changes fastest.
    pub(in crate::formats) fortran: bool,
    pub(in crate::formats) shape: Vec<u64>,
}

impl NpyHeader {
    /// Bytes of all elements; `None` if beyond 2^63.
    pub(in crate::formats) fn n_bytes(&self) -> Option<u64> {
        // A dimension of zero must not hide an overflow of the others.
        let elements = self.shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d))?;
        elements.checked_mul(self.dtype.size as u64).filter(|n| *n < 1 << 63)
    }
}

/// What stands before the numbers of an array in C order.
pub(in crate::formats) fn header(descr: &str, shape: &[u64]) -> Vec<u8> {
    headed(descr, false, shape)
}

/// A header that was read, as it is written.
pub(in crate::formats) fn written(of: &NpyHeader) -> Vec<u8> {
    let order = if of.dtype.big_endian { '>' } else { '<' };
    headed(&format!("{order}{}", of.dtype.name()), of.fortran, &of.shape)
}

fn headed(descr: &str, fortran: bool, shape: &[u64]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    let (sizes, comma) = (sizes.join(", "), if sizes.is_empty() { "" } else { "," });
    let fortran = if fortran { "True" } else { "False" };
    let text =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({sizes}{comma}), }}");
    // NumPy pads the header with blanks so that the numbers begin at a multiple of 64.
    let length = (text.len() + 11).next_multiple_of(64) - 10;
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(format!("{text:<width$}\n", width = length - 1).into_bytes());
    out
}

/// Reads the header of the array `name`.
pub(in crate::formats) fn read_header(
    from: &mut impl Read,
    name: &str,
) -> Result<NpyHeader, TraceError> {
    let bad = |what: &str| TraceError::unreadable(format_args!("array `{name}`: {what}"));
    let mut take = |n: usize| -> Result<Vec<u8>, TraceError> {
        let mut bytes = vec![0; n];
        from.read_exact(&mut bytes).map_err(|error| bad(&format!("in its header: {error}")))?;
        Ok(bytes)
    };
    let start = take(8)?;
    if start[..6] != *b"\x93NUMPY" {
        return Err(bad("not a NumPy array"));
    }
    let length = match start[6] {
        1 => take(2)?.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)),
        2 | 3 => take(4)?.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)),
        version => return Err(bad(&format!("unknown version {version} of the NumPy format"))),
    };
    if length > MAX_HEADER {
        return Err(bad(&format!("its header of {length} bytes is longer than {MAX_HEADER}")));
    }
    let text = String::from_utf8(take(length)?).map_err(|_| bad("its header is not text"))?;
    parse(&text).ok_or_else(|| bad(&format!("its header cannot be read: {}", shorten(text.trim()))))
}

/// `{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }`, keys in any order.
fn parse(text: &str) -> Option<NpyHeader> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut dtype, mut fortran, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        rest = after.trim_start().strip_prefix(':')?.trim_start();
        match key {
            "descr" if dtype.is_none() => {
                let (descr, after) = quoted(rest)?;
                dtype = Some(parse_dtype(descr)?);
                rest = after;
            }
            "fortran_order" if fortran.is_none() => {
                let (value, word) = if rest.starts_with("True") { (true, 4) } else { (false, 5) };
                if !value && !rest.starts_with("False") {
                    return None;
                }
                fortran = Some(value);
                rest = &rest[word..];
            }
            "shape" if shape.is_none() => {
                let (inside, after) = rest.strip_prefix('(')?.split_once(')')?;
                let inside = inside.trim().trim_end_matches(',');
                let numbers: Option<Vec<u64>> = inside
                    .split(',')
                    .filter(|_| !inside.trim().is_empty())
                    .map(|n| n.trim().trim_end_matches('L').parse().ok())
                    .collect();
                shape = Some(numbers.filter(|shape| shape.len() <= MAX_DIMENSIONS)?);
                rest = after;
            }
            _ => return None,
        }
        rest = rest.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    Some(NpyHeader { dtype: dtype?, fortran: fortran?, shape: shape? })
}

/// A string literal without escapes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

fn parse_dtype(descr: &str) -> Option<Dtype> {
    let (order, rest) = match descr.chars().next()? {
        order @ ('<' | '>' | '|' | '=') => (order, &descr[1..]),
        _ => ('=', descr),
    };
    let kind = rest.chars().next().filter(char::is_ascii_alphabetic)?;
    let size = rest[1..].parse().ok().filter(|size| (1..=1 << 16).contains(size))?;
    let big_endian = order == '>' || (order == '=' && cfg!(target_endian = "big"));
    Some(Dtype { kind, size, big_endian })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_as_numpy_writes_them() {
        let header = parse("{'descr': '<u2', 'fortran_order': False, 'shape': (32, 512), }   \n");
        let dtype = Dtype { kind: 'u', size: 2, big_endian: false };
        assert_eq!(header, Some(NpyHeader { dtype, fortran: false, shape: vec![32, 512] }));
        let header = parse("{'descr': '>i8', 'fortran_order': True, 'shape': (7,), }").unwrap();
        assert_eq!((header.shape, header.fortran, header.dtype.big_endian), (vec![7], true, true));
        for shape in [&[][..], &[7], &[2, 3]] {
            let written = super::header("<f4", shape);
            assert!(written.len().is_multiple_of(64));
            let read = read_header(&mut &written[..], "x").unwrap();
            assert_eq!((read.shape.as_slice(), read.dtype.name().as_str()), (shape, "f4"));
        }
        let scalar = parse("{'shape': (), 'fortran_order': False, 'descr': '|u1'}").unwrap();
        assert_eq!((scalar.n_bytes(), scalar.shape), (Some(1), vec![]));
    }

    #[test]
    fn strange_headers_are_refused() {
        for text in [
            "",
            "{}",
            "{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<u2', 'fortran_order': 0, 'shape': (1,)}",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<u2', 'descr': '<u2', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<u2', 'fortran_order': False, 'shape': ((((((((1,))))))))}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let huge =
            parse("{'descr': '<u8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 0)}");
        assert_eq!(huge.unwrap().n_bytes(), None);
    }

    #[test]
    fn integers_of_every_width_sign_and_order() {
        let of = |kind, size, big_endian| Dtype { kind, size, big_endian };
        assert_eq!(of('i', 2, false).integer(&[0xfe, 0xff]), -2);
        assert_eq!(of('i', 2, true).integer(&[0xff, 0xfe]), -2);
        assert_eq!(of('u', 8, false).integer(&[0xff; 8]), i128::from(u64::MAX));
        assert_eq!(of('i', 8, false).integer(&[0xff; 8]), -1);
        let mut ids = Vec::new();
        for kind in ['i', 'u'] {
            for size in [1, 2, 4, 8] {
                for big_endian in [false, true] {
                    let mut bytes = vec![0; size * 2];
                    bytes[if big_endian { size - 1 } else { 0 }] = 5;
                    bytes[size..].fill(0xff);
                    of(kind, size, big_endian).ids(&bytes, u16::MAX, &mut ids);
                    let last = if (kind, size) == ('u', 1) { 255 } else { u16::MAX };
                    assert_eq!(ids, [5, last], "{kind}{size} {big_endian}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = parse(&text);
            let _ = parse(&format!("{{'descr': '{text}', 'fortran_order': True, 'shape': (1,)}}"));
        }
    }
}
