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
    Declared, Limits, counts_json, csv, ndjson, npy_file, npz, parquet, records, responses,
    route_lines, sglang_pt, shorten, trtllm,
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
        what: "JSON Lines: a token a line, a token and layer a line, a row of counts a line, or an engine's answer with its routes",
        convert: |x| {
            if responses::is_response(&x.raw)? {
                return plain(responses::convert(x));
            }
            if route_lines::is_route_lines(&x.raw)? {
                return plain(route_lines::convert(x));
            }
            if records::is_records(&x.raw, true)? {
                return plain(records::convert(x, true));
            }
            let raw = BufReader::with_capacity(256 * 1024, x.raw);
            plain(ndjson::convert(raw, x.to, x.scratch, x.declared, x.digest))
        },
    },
    Reader {
        media_type: "application/json",
        extensions: &["json"],
        what: "JSON: counts, by layer, as arrays or as rows, or answers of an engine with their routes",
        convert: |x| {
            if responses::is_response(&x.raw)? {
                return plain(responses::convert(x));
            }
            if records::is_records(&x.raw, false)? {
                return plain(records::convert(x, false));
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
        what: "what SGLang's expert distribution recorder dumps; tensors of counts, routes or router logits, one or one a layer",
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
        media_type: "application/vnd.apache.parquet",
        extensions: &["parquet"],
        what: "Parquet table of counts, with the columns of the CSV one",
        convert: |x| plain(parquet::convert(x)),
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

/// What is to be done with bytes that no reader, or another one, takes.
#[derive(Clone, Copy)]
enum Remedy {
    /// They are compressed as this content encoding says.
    Encoding,
    /// Send them as one of these media types.
    Send(&'static [&'static str]),
    /// Bring them into a form that is read.
    Rewrite(&'static str),
}

const AS_CSV: &str = "write it as a table, `layer,expert,count` or one column an expert, and send it as \
                      text/csv (.csv): pandas.read_feather(FILE).to_csv(OUT, index=False)";
const AS_GZIP: &str = "unpack it, or compress it with gzip or zstd";
const AS_ARRAY: &str = "write its array with numpy.save and send it as application/x-npy (.npy)";

/// How files begin, what they are, and what is to be done with them.
const BEGINNINGS: [(&[u8], &str, Remedy); 14] = [
    (b"\x1f\x8b", "gzip", Remedy::Encoding),
    (b"\x28\xb5\x2f\xfd", "zstd", Remedy::Encoding),
    (b"BZh", "compressed with bzip2", Remedy::Rewrite(AS_GZIP)),
    (b"\xfd7zXZ", "compressed with xz", Remedy::Rewrite(AS_GZIP)),
    (b"7z\xbc\xaf", "a 7z archive", Remedy::Rewrite(AS_GZIP)),
    (b"PAR1", "a Parquet table", Remedy::Send(&["application/vnd.apache.parquet"])),
    (b"ARROW1", "an Arrow table, which is not read", Remedy::Rewrite(AS_CSV)),
    (b"\x89HDF", "an HDF5 file, which is not read", Remedy::Rewrite(AS_ARRAY)),
    (b"\x93NUMPY", "a NumPy array", Remedy::Send(&["application/x-npy"])),
    (
        b"PK\x03\x04",
        "a zip archive",
        Remedy::Send(&["application/x-npz", "application/x-pytorch", "application/zip"]),
    ),
    (b"\x80\x02", "a pickle", Remedy::Send(&["application/x-pytorch"])),
    (b"\x80\x03", "a pickle", Remedy::Send(&["application/x-pytorch"])),
    (b"\x80\x04", "a pickle", Remedy::Send(&["application/x-pytorch"])),
    (b"\x80\x05", "a pickle", Remedy::Send(&["application/x-pytorch"])),
];
/// The media types of text.
const TEXTS: &[&str] = &["application/json", "application/x-ndjson", "text/csv"];

/// Refuses bytes that are plainly something else than the reader's format, or than any that is read.
pub fn check_beginning(raw: &File, reader: Option<&Reader>) -> Result<(), TraceError> {
    // The head of a tar archive has a zero by then, whatever the name of its first file.
    let mut head = [0; 256];
    let n = raw.read_at(&mut head, 0).map_err(TraceError::storage)?;
    let head = &head[..n];
    let found = BEGINNINGS.iter().find(|(beginning, ..)| head.starts_with(beginning));
    let (what, remedy) = match found {
        Some((_, what, remedy)) => (*what, *remedy),
        None if is_text(head) => ("text", Remedy::Send(TEXTS)),
        None => return Ok(()),
    };
    Err(TraceError::unreadable(match remedy {
        Remedy::Encoding => format!(
            "it is compressed; send it with `Content-Encoding: {what}`, or give the file a name \
             that ends in .gz or .zst"
        ),
        Remedy::Send(types) if reader.is_none_or(|one| types.contains(&one.media_type)) => {
            return Ok(());
        }
        Remedy::Send(types) => {
            let readers = READERS.iter().filter(|reader| types.contains(&reader.media_type));
            let names = readers.map(|one| format!("{} (.{})", one.media_type, one.extensions[0]));
            let names: Vec<String> = names.collect();
            let names = listed(&names.iter().map(String::as_str).collect::<Vec<_>>());
            format!("it is {what}; send it as {names}")
        }
        Remedy::Rewrite(how) => format!("it is {what}; {how}"),
    }))
}

/// Whether a file begins with readable characters only, as no binary format does.
fn is_text(head: &[u8]) -> bool {
    let is_readable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    !head.trim_ascii().is_empty() && head.iter().all(is_readable)
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
            let refused = check_beginning(&raw, by_content_type(media_type).ok());
            refused.err().map(|error| error.to_string())
        };
        let gzip = told(b"\x1f\x8b\x08\0\0\0\0", "application/x-npz").unwrap();
        assert!(gzip.contains("`Content-Encoding: gzip`"), "{gzip}");
        let npy = told(b"\x93NUMPY\x01\0", "text/csv").unwrap();
        assert!(npy.ends_with("it is a NumPy array; send it as application/x-npy (.npy)"), "{npy}");
        let json = told(b"{\"counts\": [[1, 2]]}", "application/x-npz").unwrap();
        assert!(json.contains("it is text; send it as application/x-ndjson (.ndjson), "), "{json}");
        assert_eq!(told(b"{\"counts\": [[1, 2]]}", "text/csv"), None, "its reader tells");
        let arrow = told(b"ARROW1\x15\x04", "application/json").unwrap();
        assert!(
            arrow.contains("an Arrow table, which is not read; write it as a table"),
            "{arrow}"
        );
        let pickle = told(b"\x80\x02}q\0.", "application/json").unwrap();
        assert!(
            pickle.ends_with("it is a pickle; send it as application/x-pytorch (.pt)"),
            "{pickle}"
        );
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
