//! Stored traces as files others read: the list of formats, one file per kind.
//!
//! Layers stand where they stood in the recording; those it left out are written as zeros.

mod counts;
mod ndjson;
mod npz;

use std::io::{self, Write};

use crate::formats::trace::stored::StoredTrace;
use crate::trace::TraceKind;

/// A format a trace can be written in.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    /// Its name.
    pub id: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    /// Writes a trace; routes become counts of so many tokens a step, or of all tokens.
    pub write: fn(&StoredTrace, Option<u64>, &mut dyn SeekWrite) -> Result<(), ExportError>,
}

/// Where a file is written.
pub trait SeekWrite: Write + io::Seek {}

impl<T: Write + io::Seek> SeekWrite for T {}

/// Every format.
pub const WRITERS: [Writer; 6] = [
    Writer { id: "ndjson", what: "routes, a token a line", write: |x, _, to| ndjson::write(x, to) },
    Writer { id: "npz", what: "routes as a NumPy archive", write: |x, _, to| npz::write(x, to) },
    Writer { id: "json", what: "counts", write: |x, n, to| counts::json(x, n, "counts", to) },
    Writer {
        id: "sglang",
        what: "counts as SGLang's recorder has them, which --init-expert-location takes, too",
        write: |x, n, to| counts::json(x, n, "logical_count", to),
    },
    Writer { id: "csv", what: "counts as a table", write: counts::csv },
    Writer {
        id: "npy",
        what: "counts of all steps together",
        write: |x, _, to| counts::npy(x, to),
    },
];

/// Why a trace cannot be written in a format.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No format has this name.
    #[error("format is {id}; supported are {known}")]
    UnknownFormat {
        /// The name.
        id: String,
        /// The names there are.
        known: String,
    },
    /// Routes were asked for, and only counts were recorded.
    #[error("the trace holds counts, not the experts of every token; use json, sglang, csv or npy")]
    NoRoutes,
    /// An array cannot hold sequences of several lengths.
    #[error("sequences have {shortest} to {longest} tokens, an array holds equal ones; use ndjson")]
    UnlikeSequences {
        /// Fewest tokens.
        shortest: u64,
        /// Most tokens.
        longest: u64,
    },
    /// The trace cannot be read, or the file not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The format with this name.
pub fn by_id(id: &str) -> Result<&'static Writer, ExportError> {
    WRITERS.iter().find(|writer| writer.id == id).ok_or_else(|| {
        let known = WRITERS.map(|writer| writer.id).join(", ");
        ExportError::UnknownFormat { id: id.to_owned(), known }
    })
}

/// Fails for traces of counts.
fn routes_of(trace: &StoredTrace) -> Result<usize, ExportError> {
    match (trace.header().kind, trace.header().top_k) {
        (TraceKind::Routes, Some(top_k)) => Ok(top_k as usize),
        _ => Err(ExportError::NoRoutes),
    }
}

/// For every layer up to the last recorded one, its place among those that carry routing.
///
/// With one expert a token zeros would read as expert 0, so no layer is added there.
fn places(trace: &StoredTrace) -> Vec<Option<usize>> {
    let layers = &trace.header().layers;
    if trace.header().top_k == Some(1) && trace.header().kind == TraceKind::Routes {
        return (0..layers.len()).map(Some).collect();
    }
    let last = layers.last().copied().unwrap_or(0);
    (0..=last).map(|layer| layers.binary_search(&layer).ok()).collect()
}
