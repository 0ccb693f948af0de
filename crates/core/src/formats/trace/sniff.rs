//! What an upload is by its bytes, where nobody says it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::FileExt;

use crate::formats::trace::error::TraceError;
use crate::formats::trace::inflate::Encoding;
use crate::formats::trace::readers::{self, Reader};

/// Bytes from the beginning that are looked at; the name of a tar archive's format ends at 262.
const HEAD: usize = 1024;
/// Longest head of a safetensors file, bytes: the format's own bound.
const SAFETENSORS_HEAD: u64 = 100_000_000;

/// The encoding of a body that begins so; no trace format begins as these two do.
#[must_use]
pub fn encoding(head: &[u8]) -> Encoding {
    match head {
        [0x1f, 0x8b, ..] => Encoding::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Encoding::Zstd,
        _ => Encoding::Identity,
    }
}

/// The reader for a decoded upload, by what it holds; the file stands at its beginning again.
pub fn format(raw: &File) -> Result<&'static Reader, TraceError> {
    let mut head = [0; HEAD];
    let n = raw.read_at(&mut head, 0).map_err(TraceError::storage)?;
    let head = &head[..n];
    let extension = if let Some(found) = binary(head) {
        found
    } else {
        readers::check_beginning(raw, None)?;
        text(raw, head).map_err(TraceError::storage)?.ok_or(TraceError::Unrecognized)?
    };
    readers::by_extension(extension).ok_or(TraceError::Unrecognized)
}

fn binary(head: &[u8]) -> Option<&'static str> {
    let length = head.first_chunk().map_or(u64::MAX, |length| u64::from_le_bytes(*length));
    match head {
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some("npy"),
        [b'P', b'K', 3, 4, ..] => Some(zip(head)),
        [b'P', b'A', b'R', b'1', ..] => Some("parquet"),
        // A pickle of protocol 2 and above, which is how older PyTorch files begin.
        [0x80, 2..=5, ..] => Some("pt"),
        _ if head.get(257..262) == Some(b"ustar") => Some("tar"),
        _ if head.get(8) == Some(&b'{') && (2..=SAFETENSORS_HEAD).contains(&length) => {
            Some("safetensors")
        }
        _ => None,
    }
}

/// What a zip archive is, by the name of its first member.
fn zip(head: &[u8]) -> &'static str {
    // The local header of a member: its name's length stands at 26, the name at 30.
    let length = head.get(26..28).map_or(0, |n| usize::from(u16::from_le_bytes([n[0], n[1]])));
    let name = head.get(30..(30 + length).min(head.len())).unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let torch = ["data.pkl", ".format_version", "byteorder", ".storage_alignment", "version"];
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.rsplit_once('.').is_some_and(|(_, end)| end == "npy") {
        "npz"
    } else if torch.contains(&last) {
        "pt"
    } else {
        "zip"
    }
}

fn text(raw: &File, head: &[u8]) -> io::Result<Option<&'static str>> {
    let begins = head.trim_ascii_start();
    if begins.starts_with(b"{") {
        let several = is_followed(raw)?;
        // A single token is a recording, too; counts have no positions.
        let token = String::from_utf8_lossy(head);
        let is_token = token.contains("\"experts\"") && token.contains("\"position\"");
        return Ok(Some(if several || is_token { "ndjson" } else { "json" }));
    }
    if begins.starts_with(b"[") {
        return Ok(Some("json"));
    }
    let line = begins.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).to_ascii_lowercase();
    let is_head =
        (line.contains("layer") || line.contains("expert")) && line.contains([',', ';', '\t']);
    Ok(is_head.then_some("csv"))
}

/// Whether a second JSON value follows the first one, which is an object; memory does not grow
/// with either.
fn is_followed(raw: &File) -> io::Result<bool> {
    let mut file = BufReader::with_capacity(64 * 1024, raw);
    file.rewind()?;
    let (mut depth, mut in_text, mut escaped) = (0_u64, false, false);
    let found = 'read: loop {
        let piece = file.fill_buf()?;
        let n = piece.len();
        if n == 0 {
            break false;
        }
        for byte in piece {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'{' | b'[' if depth == u64::MAX => break 'read true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        // The next value, if there is one, ends the search.
                        depth = u64::MAX;
                    }
                }
                _ => {}
            }
        }
        file.consume(n);
    };
    file.rewind()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> Option<&'static str> {
        let raw = tempfile::tempfile().unwrap();
        raw.write_all_at(bytes, 0).unwrap();
        let reader = format(&raw).ok()?;
        assert_eq!((&raw).stream_position().unwrap(), 0);
        Some(reader.extensions[0])
    }

    #[test]
    fn texts_are_told_apart() {
        for (bytes, extension) in [
            ("{\"counts\": [[1, 2]]}", Some("json")),
            ("  \n{\"counts\": [[1, 2]]}\n\n", Some("json")),
            ("[[1, 2]]", Some("json")),
            ("{\"a\": \"}{\"}", Some("json")),
            ("{\"a\": \"\\\"}{\"}", Some("json")),
            ("{\"a\": {}}\n{\"a\": 1}", Some("ndjson")),
            ("{\"sequence\": 0, \"position\": 0, \"experts\": [[0]]}\n", Some("ndjson")),
            ("layer,expert,count\n0,0,1\n", Some("csv")),
            ("step,layer_id,expert_id,count\r\n", Some("csv")),
            ("hello", None),
            ("", None),
        ] {
            assert_eq!(told(bytes.as_bytes()), extension, "{bytes}");
        }
    }

    #[test]
    fn archives_are_told_apart_by_their_first_member() {
        let zip = |name: &str| {
            let mut head = b"PK\x03\x04".to_vec();
            head.resize(26, 0);
            head.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            head.extend([0, 0]);
            head.extend(name.bytes());
            told(&head)
        };
        assert_eq!(zip("routes.npy"), Some("npz"));
        assert_eq!(zip("archive/data.pkl"), Some("pt"));
        assert_eq!(zip("rank0.safetensors"), Some("zip"));
    }

    #[test]
    fn compressed_bodies_are_recognized() {
        assert_eq!(encoding(b"\x1f\x8b\x08"), Encoding::Gzip);
        assert_eq!(encoding(b"\x28\xb5\x2f\xfd"), Encoding::Zstd);
        assert_eq!(encoding(b"{"), Encoding::Identity);
    }
}
