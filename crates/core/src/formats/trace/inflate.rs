//! Undoes the content encoding of an upload, and never reads more than is allowed.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read, Write};

use sha2::{Digest, Sha256};

use crate::formats::trace::error::TraceError;
use crate::formats::trace::{Limits, shorten};

/// Bytes that are moved at a time.
const CHUNK: usize = 128 * 1024;
/// Largest window a zstd frame may ask for, as a power of two: 8 MiB, what RFC 8878
/// recommends every decoder to support. It bounds the decoder's memory.
const ZSTD_WINDOW_LOG: u32 = 23;

/// How a body was compressed for its transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// The encoding named by a `Content-Encoding`; none is identity.
    pub fn from_header(header: Option<&str>) -> Result<Self, TraceError> {
        match header.unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => Err(TraceError::UnknownEncoding(shorten(other))),
        }
    }
}

/// Copies a body, decoded, and returns its length and SHA-256.
pub fn copy_decoded(
    body: impl Read,
    encoding: Encoding,
    limits: &Limits,
    to: &mut impl Write,
) -> Result<(u64, [u8; 32]), TraceError> {
    let sent = Cell::new(0);
    let body = Body { inner: body, left: limits.sent_bytes, sent: &sent };
    let body = BufReader::with_capacity(CHUNK, body);
    match encoding {
        Encoding::Identity => copy(body, &sent, limits, to),
        Encoding::Gzip => copy(flate2::bufread::MultiGzDecoder::new(body), &sent, limits, to),
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(body).map_err(TraceError::unreadable)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(TraceError::unreadable)?;
            copy(NotEmpty { inner: decoder, seen: false }, &sent, limits, to)
        }
    }
}

fn copy(
    mut from: impl Read,
    sent: &Cell<u64>,
    limits: &Limits,
    to: &mut impl Write,
) -> Result<(u64, [u8; 32]), TraceError> {
    let mut chunk = vec![0; CHUNK];
    let (mut length, mut digest) = (0_u64, Sha256::new());
    loop {
        let n = match from.read(&mut chunk) {
            Ok(0) => return Ok((length, digest.finalize().into())),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(classify(error, limits)),
        };
        length += n as u64;
        limits.allow_inflated("the decoded body", sent.get(), length)?;
        digest.update(&chunk[..n]);
        to.write_all(&chunk[..n]).map_err(TraceError::storage)?;
    }
}

/// Tells the sender's troubles from those of the compressed data.
fn classify(error: io::Error, limits: &Limits) -> TraceError {
    match error.downcast::<BodyError>() {
        Ok(BodyError::TooLong) => {
            TraceError::TooLarge { what: "the body", limit_bytes: limits.sent_bytes }
        }
        Ok(BodyError::Broken(error)) => TraceError::Interrupted(error),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            TraceError::unreadable("the compressed data ends too early")
        }
        Err(error) => {
            TraceError::unreadable(format_args!("the compressed data is corrupt ({error})"))
        }
    }
}

/// The body as sent, counted.
struct Body<'a, R> {
    inner: R,
    left: u64,
    sent: &'a Cell<u64>,
}

#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the body is too long")]
    TooLong,
    #[error("the body broke off")]
    Broken(#[source] io::Error),
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(n) if n as u64 > self.left => Err(io::Error::other(BodyError::TooLong)),
            Ok(n) => {
                self.left -= n as u64;
                self.sent.update(|sent| sent + n as u64);
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(io::Error::other(BodyError::Broken(error))),
        }
    }
}

/// A zstd stream of no frame at all reads as empty; here it is an early end.
struct NotEmpty<R> {
    inner: R,
    seen: bool,
}

impl<B: BufRead> Read for NotEmpty<zstd::stream::read::Decoder<'_, B>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.seen {
            self.seen = true;
            if self.inner.get_mut().fill_buf()?.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(bytes: &[u8], encoding: Encoding, limits: &Limits) -> Result<Vec<u8>, TraceError> {
        let mut out = Vec::new();
        copy_decoded(bytes, encoding, limits, &mut out).map(|_| out)
    }

    #[test]
    fn every_encoding_gives_the_same_bytes_and_digest() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let limits = Limits::default();
        let mut digests = Vec::new();
        for (encoding, bytes) in [
            (Encoding::Identity, text.clone()),
            (Encoding::Gzip, gzip(&text)),
            (Encoding::Zstd, zstd::encode_all(&text[..], 1).unwrap()),
        ] {
            let mut out = Vec::new();
            let (n, digest) = copy_decoded(&bytes[..], encoding, &limits, &mut out).unwrap();
            assert_eq!((n, &out), (text.len() as u64, &text));
            digests.push(digest);
        }
        assert_eq!(digests[0], digests[1]);
        assert_eq!(digests[0], digests[2]);
    }

    #[test]
    fn truncated_and_flipped_streams_are_unreadable() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        for (encoding, bytes) in [
            (Encoding::Gzip, gzip(&text)),
            (Encoding::Zstd, {
                let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
                encoder.include_checksum(true).unwrap();
                encoder.write_all(&text).unwrap();
                encoder.finish().unwrap()
            }),
        ] {
            for cut in (0..bytes.len()).step_by(bytes.len() / 40) {
                let got = decode(&bytes[..cut], encoding, &Limits::default());
                assert!(
                    matches!(got, Err(TraceError::Unreadable(_))),
                    "{encoding:?} {cut} {got:?}"
                );
            }
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 2] ^= 0x10;
            let got = decode(&flipped, encoding, &Limits::default());
            assert!(matches!(got, Err(TraceError::Unreadable(_))), "{encoding:?} {got:?}");
        }
    }

    #[test]
    fn a_bomb_trips_the_limit_without_being_written_out() {
        let bomb = gzip(&vec![0; 50 << 20]);
        assert!(bomb.len() < 1 << 20);
        let limits = Limits { sent_bytes: 1 << 20, inflated_bytes: 1 << 20 };
        let mut out = Vec::new();
        let got = copy_decoded(&bomb[..], Encoding::Gzip, &limits, &mut out);
        assert!(matches!(got, Err(TraceError::TooLarge { limit_bytes: 1_048_576, .. })), "{got:?}");
        assert!(out.len() <= 1 << 20);
    }

    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }

    #[test]
    fn long_and_broken_bodies_are_the_senders_trouble() {
        let limits = Limits { sent_bytes: 10, inflated_bytes: 1 << 20 };
        let got = decode(&[7; 11], Encoding::Identity, &limits);
        assert!(matches!(got, Err(TraceError::TooLarge { limit_bytes: 10, .. })), "{got:?}");

        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let got = copy_decoded(Broken, encoding, &Limits::default(), &mut Vec::new());
            assert!(matches!(got, Err(TraceError::Interrupted(_))), "{encoding:?} {got:?}");
        }
    }

    #[test]
    fn unknown_encodings_are_refused() {
        assert!(Encoding::from_header(Some("br")).is_err());
        assert_eq!(Encoding::from_header(Some("GZIP")).unwrap(), Encoding::Gzip);
        assert_eq!(Encoding::from_header(None).unwrap(), Encoding::Identity);
    }
}
