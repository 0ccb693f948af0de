mod json;
mod ndjson;
mod npz;
mod recordings;

use std::io::Write;

use crate::app::ingest::*;
use moe_gps_core::violation::Violation;

/// A data directory of its own.
pub(super) struct Shelf {
    pub(super) traces: TraceDirectory,
    data: tempfile::TempDir,
}

impl Shelf {
    pub(super) fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        Self { traces: TraceDirectory::open(data.path()).unwrap(), data }
    }

    pub(super) fn take(&self, kind: &str, bytes: &[u8]) -> Result<Ingested, TraceError> {
        self.traces.ingest(bytes, &upload(kind), &Limits::default())
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.data.path().join("traces"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(super) fn upload(kind: &str) -> Upload {
    Upload { content_type: format!("application/{kind}"), ..Upload::default() }
}

/// The flaws of a refused upload as `pointer rule`.
pub(super) fn flaws(result: Result<Ingested, TraceError>) -> Vec<String> {
    match result {
        Err(TraceError::Invalid { listed, .. }) => listed
            .into_iter()
            .map(|Violation { pointer, rule, .. }| format!("{pointer} {rule}"))
            .collect(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn is_unreadable(result: &Result<Ingested, TraceError>) -> bool {
    matches!(result, Err(TraceError::Unreadable(_)))
}

const COUNTS: &[u8] = br#"{"counts": [[[4, 2], [0, 0], [1, 5]], [[3, 3], [0, 0], [6, 0]]]}"#;

#[test]
fn the_same_bytes_are_kept_once_under_the_same_id() {
    let shelf = Shelf::new();
    let first = shelf.take("json", COUNTS).unwrap();
    assert!(first.created);
    assert_eq!(first.summary.id.len(), 64);
    let again = shelf.take("json", COUNTS).unwrap();
    assert!(!again.created);
    assert_eq!(again.summary, first.summary);
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(COUNTS).unwrap();
    let encoded = Upload { content_encoding: Some("gzip".to_owned()), ..upload("json") };
    let zipped = zipped.finish().unwrap();
    let sent = shelf.traces.ingest(&zipped[..], &encoded, &Limits::default()).unwrap();
    assert_eq!((sent.created, &sent.summary.id), (false, &first.summary.id));
    let marked = shelf.take("json", &[b"\xef\xbb\xbf", COUNTS].concat()).unwrap();
    assert_eq!(marked.summary.id, first.summary.id, "as an editor on Windows keeps it");
    assert_eq!(shelf.files(), [format!("{}.trace", first.summary.id)]);
    shelf.traces.remove(&first.summary.id).unwrap();
    shelf.traces.remove(&first.summary.id).unwrap();
    assert_eq!(shelf.files(), [""; 0]);
}

#[test]
fn refused_uploads_leave_nothing_behind() {
    let shelf = Shelf::new();
    shelf.take("json", b"{\"counts\": [[1, -2]]}").unwrap_err();
    shelf.take("json", b"{\"counts\"").unwrap_err();
    shelf.take("x-npz", b"PK").unwrap_err();
    shelf.take("x-ndjson", b"{}").unwrap_err();
    assert_eq!(shelf.files(), [""; 0]);
    assert!(matches!(shelf.take("pdf", b"x"), Err(TraceError::UnknownFormat(_))));
    for kind in ["json", "x-npz", "x-ndjson"] {
        assert!(is_unreadable(&shelf.take(kind, b"")), "{kind}");
    }
}

#[test]
fn opening_the_directory_sweeps_what_broke_off() {
    let shelf = Shelf::new();
    let kept = shelf.take("json", COUNTS).unwrap();
    fs::write(shelf.data.path().join("traces/.partial-x1"), b"half").unwrap();
    TraceDirectory::open(shelf.data.path()).unwrap();
    assert_eq!(shelf.files(), [format!("{}.trace", kept.summary.id)]);
}

#[test]
fn ids_that_are_no_ids_reach_no_file() {
    let shelf = Shelf::new();
    for id in ["", "../../etc/passwd", &"A".repeat(64), &"a".repeat(63)] {
        assert_eq!(shelf.traces.trace_path(id), None);
        let error = shelf.traces.open_trace(id).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn another_number_of_experts_is_taken_over_and_said() {
    let shelf = Shelf::new();
    let line = br#"{"sequence": 0, "position": 0, "experts": [[0, 1], [2, 1]]}"#;
    let first = shelf.take("x-ndjson", line).unwrap();
    assert_eq!(first.summary.experts, 3);
    assert!(first.summary.warnings.iter().any(|text| text.contains("1 + the largest id")));
    let mut upload = upload("x-ndjson");
    upload.declared.experts = Some(8);
    let second = shelf.traces.ingest(&line[..], &upload, &Limits::default()).unwrap();
    assert_eq!((second.created, second.summary.experts), (false, 8));
    assert_eq!(first.summary.id, second.summary.id);
    assert!(second.summary.warnings.iter().any(|text| text.contains("kept with 3 experts")));
}

#[test]
fn a_directory_that_cannot_be_written_is_said() {
    let data = tempfile::tempdir().unwrap();
    let traces = TraceDirectory::open(data.path()).unwrap();
    fs::remove_dir(data.path().join("traces")).unwrap();
    let got = traces.ingest(COUNTS, &upload("json"), &Limits::default());
    assert!(matches!(got, Err(TraceError::Storage(_))), "{got:?}");
}

#[test]
fn embeddings_are_checked_and_kept() {
    let shelf = Shelf::new();
    let id = shelf.take("json", COUNTS).unwrap().summary.id;
    let array = |descr: &str, shape: &str, data: &[u8]| npz::npy(descr, false, shape, data);
    let good = array("<f2", "(2, 2)", &[0, 0x3c, 0, 0, 1, 0, 0, 0xbc]);
    let put = |bytes: &[u8]| shelf.traces.ingest_embedding(&id, bytes, None, &Limits::default());
    let digest = put(&good).unwrap();
    let facts = shelf.traces.facts(&id, Some(&digest)).unwrap();
    let kept = fs::read(facts.embedding.unwrap()).unwrap();
    assert_eq!(kept[kept.len() - 8..], good[good.len() - 8..]);
    put(&kept).unwrap();
    for (bad, is_invalid) in [
        (array("<i2", "(2, 2)", &[0; 8]), true),
        (array("<f2", "(4,)", &[0; 8]), true),
        (array("<f2", "(2, 2)", &[0, 0x7c, 0, 0, 0, 0, 0, 0]), true),
        (array("<f4", "(1, 1)", &f32::NAN.to_le_bytes()), true),
        (array("<f2", "(2, 2)", &[0; 7]), false),
        (array("<f2", "(2, 2)", &[0; 9]), false),
        (b"no array".to_vec(), false),
    ] {
        let got = put(&bad);
        assert_eq!(matches!(got, Err(TraceError::Invalid { .. })), is_invalid, "{got:?}");
        assert_eq!(matches!(got, Err(TraceError::Unreadable(_))), !is_invalid, "{got:?}");
    }
}
