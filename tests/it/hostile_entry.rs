//! What hostile bytes are fed to: shared by the test `hostile` and the fuzz targets.

use std::io::{Seek, Write};

use moe_gps_core::formats::placement;
use moe_gps_core::formats::trace::embedding_file::convert_embedding;
use moe_gps_core::formats::trace::readers::by_content_type;
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::formats::trace::{Cut, Declared, Input, Limits};

/// The name of a corpus, and what it is fed to.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target. Parquet tables are a library's to read, whose panics are caught.
pub(crate) const TARGETS: [Target; 12] = [
    ("npz", |bytes| trace("application/x-npz", bytes)),
    ("ndjson", |bytes| trace("application/x-ndjson", bytes)),
    ("json", |bytes| trace("application/json", bytes)),
    ("npy", |bytes| trace("application/x-npy", bytes)),
    ("pt", |bytes| trace("application/x-pytorch", bytes)),
    ("tar", |bytes| trace("application/x-tar", bytes)),
    ("zip", |bytes| trace("application/zip", bytes)),
    ("csv", |bytes| trace("text/csv", bytes)),
    ("safetensors", |bytes| trace("application/x-safetensors", bytes)),
    ("embedding", embedding),
    ("stored", stored),
    ("placement", plan_file),
];

/// Feeds bytes to the target of this name.
pub(crate) fn feed(target: &str, bytes: &[u8]) {
    for (_, feed) in TARGETS.iter().filter(|(name, _)| *name == target) {
        feed(bytes);
    }
}

/// Small, so that what claims to be large is told from what is.
const LIMITS: Limits = Limits { sent_bytes: 16 << 20, inflated_bytes: 64 << 20 };

/// Bytes as an upload, as they are and with rows cut: refused, or taken in and then sound.
fn trace(media_type: &str, bytes: &[u8]) {
    let cut = Cut { skip: 1, drop_repeats: true };
    trace_as(media_type, bytes, Declared::default());
    trace_as(media_type, bytes, Declared { top_k: Some(2), cut, ..Declared::default() });
}

fn trace_as(media_type: &str, bytes: &[u8], declared: Declared) {
    let reader = by_content_type(media_type).unwrap();
    let scratch = || tempfile::tempfile();
    let mut raw = tempfile::tempfile().unwrap();
    raw.write_all(bytes).unwrap();
    raw.rewind().unwrap();
    let input = Input {
        raw,
        to: tempfile::tempfile().unwrap(),
        scratch: &scratch,
        declared,
        limits: &LIMITS,
        digest: [0; 32],
    };
    if let Ok(converted) = (reader.convert)(input) {
        let trace = StoredTrace::from_file(converted.trace).unwrap();
        trace.verify().unwrap();
        trace.statistics().unwrap();
    }
}

/// Bytes as the embedding of a trace.
fn embedding(bytes: &[u8]) {
    let mut kept = Vec::new();
    let _ = convert_embedding(&mut &bytes[..], &mut kept, &LIMITS);
}

/// Bytes as a trace that was stored, and damaged since.
fn stored(bytes: &[u8]) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    if let Ok(trace) = StoredTrace::from_file(file) {
        let _ = trace.verify();
        let _ = trace.statistics();
    }
}

/// Bytes as a placement in force.
fn plan_file(bytes: &[u8]) {
    let _ = placement::read_any(bytes, placement::Deployed { experts: 8, devices: 2 });
}
