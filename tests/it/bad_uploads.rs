//! Files of every format, cut off and damaged: each its exact problem, and nothing is kept.

use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use moe_gps_core::formats::trace::readers::{READERS, by_extension};
use serde_json::json;

use crate::support::TestApp;

/// Every format, what is said when its second half is missing, and when ones stand in place
/// of all but its first four bytes.
const FILES: [(&str, &str, &str); 11] = [
    ("examples/traces/mixtral_like_e8k2.python.test.npz", NO_ARCHIVE, NO_ARCHIVE),
    (
        "tests/fixtures/engines/sglang_routes.jsonl",
        "EOF while parsing a string at line 1 column 336",
        "EOF while parsing a string at line 1 column 672",
    ),
    (
        "tests/fixtures/engines/sglang_stat.json",
        "EOF while parsing a value at line 1 column 278",
        "EOF while parsing a string at line 1 column 557",
    ),
    (
        "tests/fixtures/engines/vllm_routes.json",
        "EOF while parsing a string at line 1 column 181",
        "EOF while parsing a string at line 1 column 363",
    ),
    (
        "tests/fixtures/engines/counts.npy",
        "array `file`: it ends too early",
        "array `file`: not a NumPy array",
    ),
    ("tests/fixtures/engines/sglang_per_token.pt", NO_ARCHIVE, NO_ARCHIVE),
    (
        "tests/fixtures/engines/trtllm.tar",
        "the archive ends inside one of its files",
        "not a readable archive: numeric field did not have utf-8 text",
    ),
    ("tests/fixtures/engines/trtllm.zip", NO_ARCHIVE, NO_ARCHIVE),
    (
        "tests/fixtures/engines/trtllm_rank0.safetensors",
        "`rank0.safetensors`: tensor `100_1`: bytes 0 to 64 of ",
        "`rank0.safetensors`: its head claims ",
    ),
    (
        "tests/fixtures/engines/counts.parquet",
        "Parquet error: Invalid Parquet file. Corrupt footer",
        "Parquet error: Invalid Parquet file. Corrupt footer",
    ),
    (
        "tests/fixtures/engines/counts.csv",
        "line 12: too few columns",
        "line 1: stream did not contain valid UTF-8",
    ),
];

const NO_ARCHIVE: &str = "not a readable archive: invalid Zip archive: Could not find EOCD";

#[tokio::test]
async fn cut_off_and_damaged_files_are_told_what_is_wrong() {
    let app = TestApp::start().await;
    let mut seen = Vec::new();
    for (path, cut, damaged) in FILES {
        let whole = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let reader = by_extension(path.rsplit('.').next().unwrap()).unwrap();
        seen.push(reader.media_type);
        let ones = [&whole[..4], &vec![0xff; whole.len() - 4]].concat();
        for (bytes, said) in [
            (whole[..whole.len() / 2].to_vec(), cut),
            (ones, damaged),
            (Vec::new(), "the body is empty"),
        ] {
            let request = Request::post("/v1/traces").header("content-type", reader.media_type);
            let answer = app.send(request.body(Body::from(bytes)).unwrap()).await;
            // A table that ends inside a row is text all the same, and means nothing.
            let problem = if said.starts_with("line 12") {
                answer.problem(422, "invalid-trace")
            } else {
                answer.problem(400, "unreadable-trace")
            };
            let detail = problem["detail"].as_str().unwrap();
            let detail = detail.strip_prefix("the trace cannot be read: ").unwrap_or(detail);
            assert!(detail.starts_with(said), "{path}: {detail}");
            assert!(detail.len() < 200, "{path}: {detail}");
        }
    }
    for reader in READERS {
        assert!(seen.contains(&reader.media_type), "{} is not tried", reader.media_type);
    }
    assert_eq!(app.get("/v1/traces").await.json()["items"], json!([]));
    let left: Vec<_> = std::fs::read_dir(app.dir.path().join("traces")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_changed_byte_in_an_archive_is_found_by_its_checksum() {
    let app = TestApp::start().await;
    for (name, media_type) in
        [("sglang_stat.pt", "application/x-pytorch"), ("trtllm.zip", "application/zip")]
    {
        let path = format!("tests/fixtures/engines/{name}");
        let mut bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        let request = Request::post("/v1/traces").header("content-type", media_type);
        let answer = app.send(request.body(Body::from(bytes)).unwrap()).await;
        answer.problem(400, "unreadable-trace");
    }
}
