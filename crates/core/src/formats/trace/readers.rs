//! The list of formats that come in: one line each, with its media type, the ends of file
//! names it goes by, and its reader.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;

use crate::formats::trace::archive::Folder;
use crate::formats::trace::error::TraceError;
use crate::formats::trace::npz::Converted;
use crate::formats::trace::stored::Scratch;
use crate::formats::trace::{
    Declared, Limits, counts_json, csv, ndjson, npy_file, npz, responses, route_lines, sglang_pt,
    shorten, trtllm,
};

/// What a reader is given.
pub struct Input<'a> {
    /// The upload, decoded, from its beginning.
    pub raw: File,
    /// Where the stored form goes.
    pub to: File,
    /// Gives files that vanish.
    pub scratch: Scratch<'a>,
    /// What the uploader says about the trace.
    pub declared: Declared,
    /// How much is read.
    pub limits: &'a Limits,
    /// SHA-256 of the upload.
    pub digest: [u8; 32],
}

/// A format that can be uploaded.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// Its media type.
    pub media_type: &'static str,
    /// Ends of file names that stand for it, without the dot.
    pub extensions: &'static [&'static str],
    /// What it is, for people.
    pub what: &'static str,
    /// Turns it into the stored form.
    pub convert: fn(Input<'_>) -> Result<Converted, TraceError>,
}

/// Every format that can be uploaded.
pub const READERS: &[Reader] = &[
    Reader {
        media_type: "application/x-npz",
        extensions: &["npz"],
        what: "NumPy archive of routes",
        convert: |x| npz::convert(x.raw, x.to, x.scratch, x.declared, x.limits, x.digest),
    },
    Reader {
        media_type: "application/x-ndjson",
        extensions: &["ndjson", "jsonl"],
        what: "JSON Lines: a token a line, a token and layer a line, or an engine's answer with its routes",
        convert: |x| {
            if responses::is_response(&x.raw)? {
                return plain(responses::convert(x));
            }
            if route_lines::is_route_lines(&x.raw)? {
                return plain(route_lines::convert(x));
            }
            let raw = BufReader::with_capacity(256 * 1024, x.raw);
            plain(ndjson::convert(raw, x.to, x.scratch, x.declared, x.digest))
        },
    },
    Reader {
        media_type: "application/json",
        extensions: &["json"],
        what: "JSON: counts, by layer or as arrays, or answers of an engine with their routes",
        convert: |x| {
            if responses::is_response(&x.raw)? {
                return plain(responses::convert(x));
            }
            plain(counts_json::convert(x.raw, x.to, x.scratch, x.declared, x.digest))
        },
    },
    Reader {
        media_type: "application/x-npy",
        extensions: &["npy"],
        what: "NumPy array of counts, routes or router logits",
        convert: |x| plain(npy_file::convert(x)),
    },
    Reader {
        media_type: "application/x-pytorch",
        extensions: &["pt", "pth"],
        what: "what SGLang's expert distribution recorder dumps; one tensor of counts or router logits",
        convert: |x| plain(sglang_pt::convert(x)),
    },
    Reader {
        media_type: "application/x-tar",
        extensions: &["tar"],
        what: "folder of TensorRT-LLM's expert statistics, dumps of all ranks of SGLang's recorder, or tables of ranks",
        convert: |x| {
            let folder = Folder::of_tar(x.raw.try_clone()?, x.scratch)?;
            plain(archive(x, &folder))
        },
    },
    Reader {
        media_type: "application/zip",
        extensions: &["zip"],
        what: "folder of TensorRT-LLM's expert statistics, dumps of all ranks of SGLang's recorder, or tables of ranks",
        convert: |x| {
            let folder = Folder::of_zip(x.raw.try_clone()?, x.scratch, x.limits)?;
            plain(archive(x, &folder))
        },
    },
    Reader {
        media_type: "application/x-safetensors",
        extensions: &["safetensors"],
        what: "TensorRT-LLM's expert statistics of one rank",
        convert: |x| plain(trtllm::convert_one(x)),
    },
    Reader {
        media_type: "text/csv",
        extensions: &["csv"],
        what: "table of counts: layer, expert, count, and perhaps step",
        convert: |x| plain(csv::convert(x)),
    },
];

/// What the archive of a folder holds.
fn archive(input: Input<'_>, folder: &Folder) -> Result<File, TraceError> {
    if sglang_pt::is_recording(folder) {
        sglang_pt::convert_archive(input, folder)
    } else if csv::is_tables(folder) && !trtllm::is_statistics(folder) {
        csv::convert_archive(input, folder)
    } else {
        trtllm::convert(input, folder)
    }
}

fn plain(trace: Result<File, TraceError>) -> Result<Converted, TraceError> {
    trace.map(|trace| Converted { trace, embedding: None })
}

/// The reader for a `Content-Type`; parameters are ignored.
pub fn by_content_type(content_type: &str) -> Result<&'static Reader, TraceError> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    READERS
        .iter()
        .find(|reader| reader.media_type.eq_ignore_ascii_case(essence))
        .ok_or_else(|| TraceError::UnknownFormat(shorten(content_type)))
}

/// How files begin, what they are, and as what they are to be sent.
const BEGINNINGS: [(&[u8], &str, &[&str]); 4] = [
    (b"\x1f\x8b", "gzip", &[]),
    (b"\x28\xb5\x2f\xfd", "zstd", &[]),
    (b"\x93NUMPY", "a NumPy array", &["application/x-npy"]),
    (
        b"PK\x03\x04",
        "a zip archive",
        &["application/x-npz", "application/x-pytorch", "application/zip"],
    ),
];

/// Refuses bytes that are plainly something else than the reader's format.
pub fn check_beginning(raw: &File, reader: &Reader) -> Result<(), TraceError> {
    let mut head = [0; 6];
    let n = raw.read_at(&mut head, 0).map_err(TraceError::storage)?;
    let begins = |(beginning, ..): &&(&[u8], &str, &[&str])| head[..n].starts_with(beginning);
    match BEGINNINGS.iter().find(begins) {
        Some((_, what, [])) => Err(TraceError::unreadable(format_args!(
            "it is compressed; send it with `Content-Encoding: {what}`, or give the file a name \
             that ends in .gz or .zst"
        ))),
        Some((_, what, types)) if !types.contains(&reader.media_type) => {
            let readers = READERS.iter().filter(|reader| types.contains(&reader.media_type));
            let names = readers.map(|one| format!("{} (.{})", one.media_type, one.extensions[0]));
            let names: Vec<String> = names.collect();
            let names = listed(&names.iter().map(String::as_str).collect::<Vec<_>>());
            Err(TraceError::unreadable(format_args!("it is {what}; send it as {names}")))
        }
        _ => Ok(()),
    }
}

/// The reader for a file name's last part, without the dot.
#[must_use]
pub fn by_extension(extension: &str) -> Option<&'static Reader> {
    READERS.iter().find(|reader| reader.extensions.contains(&extension))
}

/// All media types, as a list for people.
#[must_use]
pub fn media_types() -> String {
    let all: Vec<&str> = READERS.iter().map(|reader| reader.media_type).collect();
    listed(&all)
}

/// All ends of file names, as a list for people.
#[must_use]
pub fn extensions() -> String {
    let dotted: Vec<String> = READERS
        .iter()
        .flat_map(|reader| reader.extensions)
        .map(|extension| format!(".{extension}"))
        .collect();
    listed(&dotted.iter().map(String::as_str).collect::<Vec<_>>())
}

/// `a, b or c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_may_carry_parameters_but_not_be_guessed() {
        let of = |text| by_content_type(text).ok().map(|reader| reader.media_type);
        assert_eq!(of("application/JSON; charset=utf-8"), Some("application/json"));
        assert_eq!(of("application/x-npz"), Some("application/x-npz"));
        assert_eq!(of("text/plain"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn bytes_that_are_plainly_something_else_are_told_what_they_are() {
        let told = |bytes: &[u8], media_type: &str| {
            let raw = tempfile::tempfile().unwrap();
            raw.write_all_at(bytes, 0).unwrap();
            let refused = check_beginning(&raw, by_content_type(media_type).unwrap());
            refused.err().map(|error| error.to_string())
        };
        let gzip = told(b"\x1f\x8b\x08\0\0\0\0", "application/x-npz").unwrap();
        assert!(gzip.contains("`Content-Encoding: gzip`"), "{gzip}");
        let npy = told(b"\x93NUMPY\x01\0", "text/csv").unwrap();
        assert!(npy.ends_with("it is a NumPy array; send it as application/x-npy (.npy)"), "{npy}");
        assert_eq!(told(b"PK\x03\x04", "application/x-pytorch"), None);
        assert_eq!(told(b"{}", "application/json"), None);
        assert_eq!(told(b"", "application/zip"), None);
    }

    #[test]
    fn no_two_readers_share_a_name() {
        let mut names: Vec<&str> = READERS
            .iter()
            .flat_map(|reader| reader.extensions.iter().chain([&reader.media_type]))
            .copied()
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(media_types().ends_with(" or text/csv"), "{}", media_types());
    }
}
