//! JSON text whose strings and nesting have bounds, for what a parser would hold in memory.

use std::io::{self, Read};

/// Longest string of a document; what is ignored may be long, but not without bound.
const MAX_STRING: u64 = 64 << 20;
/// Deepest nesting of a document, the same as of a question.
const MAX_DEPTH: u32 = 128;

/// Fails on a string that never ends and on arrays in arrays without end.
pub(super) struct BoundedJson<R> {
    inner: R,
    inside: bool,
    escaped: bool,
    length: u64,
    depth: u32,
}

impl<R> BoundedJson<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, inside: false, escaped: false, length: 0, depth: 0 }
    }

    /// Follows the text by a byte.
    fn step(&mut self, byte: u8) {
        if self.inside {
            self.length += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.inside = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => (self.inside, self.length) = (true, 0),
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

impl<R: Read> Read for BoundedJson<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        for byte in &buffer[..n] {
            self.step(*byte);
            if self.depth > MAX_DEPTH {
                let text = format!("arrays and objects lie more than {MAX_DEPTH} deep");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        if self.length > MAX_STRING {
            let text = format!("a string is longer than {MAX_STRING} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<String> {
        io::copy(&mut BoundedJson::new(text.as_bytes()), &mut io::sink())
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn only_what_is_open_at_once_counts() {
        assert_eq!(said(&"[]".repeat(1000)), None);
        assert_eq!(said(&format!("{}{}", "[".repeat(128), "]".repeat(128))), None);
        assert_eq!(said(&format!("\"{}\\\"[\"", "[".repeat(1000))), None, "inside a string");
        for open in ["[", "{\"a\":", "[{\"a\":"] {
            let said = said(&open.repeat(129)).unwrap();
            assert_eq!(said, "arrays and objects lie more than 128 deep");
        }
    }

    #[test]
    fn a_string_without_end_is_cut_off() {
        let endless = Read::chain(&b"{\"a\": \""[..], io::repeat(b'x'));
        let error = io::copy(&mut BoundedJson::new(endless), &mut io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "a string is longer than 67108864 bytes");
    }
}
