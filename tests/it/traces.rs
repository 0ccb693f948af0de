//! Traces: uploaded, fetched, listed, deleted unless needed; and uploads that are refused.

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

/// Counts of two steps, two layers and four experts, unlike those of any other `n`.
fn counts(n: u64) -> String {
    json!({"counts": [[[n, 2, 3, 4], [1, 1, 1, 1]], [[4, 3, 2, 1], [2, 2, 2, 2]]]}).to_string()
}

pub(crate) async fn upload(
    app: &TestApp,
    query: &str,
    content_type: &str,
    encoding: Option<&str>,
    body: impl Into<Body>,
) -> Answer {
    let mut request =
        Request::post(format!("/v1/traces{query}")).header("content-type", content_type);
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    app.send(request.body(body.into()).unwrap()).await
}

async fn upload_counts(app: &TestApp, n: u64) -> String {
    let answer = upload(app, "", "application/json", None, counts(n)).await;
    assert_eq!(answer.status, 201);
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn example() -> Vec<u8> {
    let file = "examples/traces/mixtral_like_e8k2.python.test.npz";
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

#[tokio::test]
async fn a_trace_is_kept_once_under_the_digest_of_its_bytes() {
    let app = TestApp::start().await;
    let first = upload(&app, "?name=code", "application/x-npz", None, example()).await;
    assert_eq!(first.status, 201);
    let summary = first.json();
    assert_eq!((&summary["layers"], &summary["experts"]), (&json!(8), &json!(8)));
    assert_eq!((&summary["top_k"], &summary["tokens"]), (&json!(2), &json!(32 * 512)));
    let location = first.header("location").to_owned();
    assert_eq!(location, format!("/v1/traces/{}", summary["id"].as_str().unwrap()));
    assert_eq!(app.get(&location).await.json(), summary);
    let again = upload(&app, "", "application/x-npz", None, example()).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, summary), "the name stays, too");
}

#[tokio::test]
async fn compressed_bodies_are_the_traces_inside() {
    let app = TestApp::start().await;
    let plain = upload_counts(&app, 1).await;
    let zstd = zstd::encode_all(counts(1).as_bytes(), 3).unwrap();
    let answer = upload(&app, "", "application/json", Some("zstd"), zstd).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["id"]), (200, &json!(plain)));
}

#[tokio::test]
async fn labels_are_checked_against_the_catalog() {
    let app = TestApp::start().await;
    let answer = upload(&app, "?model=mixtral-8x7b", "application/x-npz", None, example()).await;
    assert_eq!(answer.json()["model"], "mixtral-8x7b");
    for (query, pointer) in [
        ("?model=mixtral-8x8b", "/model"),
        ("?model=mixtral-8x7b&num_experts=9", "/num_experts"),
        ("?num_experts=0", "/num_experts"),
        ("?colour=red", "/colour"),
    ] {
        let answer = upload(&app, query, "application/x-npz", None, example()).await;
        let problem = answer.problem(422, "invalid-question");
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{query}");
    }
}

#[tokio::test]
async fn traces_are_listed_in_pages_and_deleted() {
    let app = TestApp::start().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(upload_counts(&app, n).await);
    }
    ids.sort();
    let first = app.get("/v1/traces?limit=2").await.json();
    let cursor = first["next_cursor"].as_str().unwrap().to_owned();
    let second = app.get(&format!("/v1/traces?limit=2&cursor={cursor}")).await.json();
    assert_eq!(second["next_cursor"], Value::Null);
    let items = [&first["items"], &second["items"]].map(|items| items.as_array().unwrap().clone());
    let seen: Vec<Value> = items.concat().iter().map(|item| item["id"].clone()).collect();
    assert_eq!(json!(seen), json!(ids));

    let path = format!("/v1/traces/{}", ids[0]);
    assert_eq!(app.call("DELETE", &path).await.status, 204);
    app.get(&path).await.problem(404, "not-found");
    app.call("DELETE", &path).await.problem(404, "not-found");
    let file = app.dir.path().join("traces").join(format!("{}.trace", ids[0]));
    assert!(!file.exists());
    let mut created = 0;
    for n in 0..3 {
        created +=
            i32::from(upload(&app, "", "application/json", None, counts(n)).await.status == 201);
    }
    assert_eq!(created, 1, "what was deleted can be uploaded again");
}

#[tokio::test]
async fn a_trace_that_is_needed_stays() {
    let app = TestApp::start_with(&["--workers", "1"]).await;
    let trace = upload_counts(&app, 1).await;
    let path = format!("/v1/traces/{trace}");
    let id = app.submit(&json!({"do": "wait", "routing": {"trace_id": trace}})).await;
    app.until(&id, "running").await;
    app.call("DELETE", &path).await.problem(409, "conflict");
    let listed = app.get(&format!("/v1/recommendations?trace_id={trace}")).await.json();
    assert_eq!(listed["items"][0]["trace_ids"], json!([trace]));
    app.call("DELETE", &format!("/v1/recommendations/{id}")).await;
    assert_eq!(app.call("DELETE", &path).await.status, 204);
}

#[tokio::test]
async fn an_embedding_lies_beside_its_trace_and_counts_in_its_digest() {
    let app = TestApp::start().await;
    let trace = upload_counts(&app, 1).await;
    let facts = async || {
        let record = app.app.store.find_trace(&trace).await.unwrap().unwrap();
        app.app.traces.facts(&trace, record.embedding_digest.as_deref()).unwrap()
    };
    let before = facts().await;
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";
    npy.extend_from_slice(format!("{header:<117}\n").as_bytes());
    npy.extend([0.5_f32; 6].iter().flat_map(|x| x.to_le_bytes()));
    let put = |id: &str, content_type: &str| {
        let request = Request::put(format!("/v1/traces/{id}/embedding"));
        request.header("content-type", content_type).body(Body::from(npy.clone())).unwrap()
    };
    let answer = app.send(put(&trace, "application/x-npy")).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(app.get(&format!("/v1/traces/{trace}")).await.json()["has_embedding"], true);
    assert_ne!(facts().await.digest, before.digest);
    app.send(put("nix", "application/x-npy")).await.problem(404, "not-found");
    app.send(put(&trace, "text/plain")).await.problem(415, "unsupported-format");
}

#[tokio::test]
async fn unreadable_uploads_are_400_and_leave_nothing() {
    let app = TestApp::start().await;
    let whole = example();
    for (content_type, encoding, body) in [
        ("application/x-npz", None, whole[..whole.len() / 2].to_vec()),
        ("application/x-npz", None, b"PK\x03\x04 nonsense".to_vec()),
        ("application/json", None, b"{\"counts\": [[[1, 2".to_vec()),
        ("application/json", None, Vec::new()),
        ("application/x-ndjson", None, b"{\"sequence\": 0, ".to_vec()),
        ("application/json", Some("gzip"), counts(1).into_bytes()),
        ("application/json", Some("zstd"), counts(1).into_bytes()),
    ] {
        let answer = upload(&app, "", content_type, encoding, body).await;
        answer.problem(400, "unreadable-trace");
    }
    assert_eq!(app.get("/v1/traces").await.json()["items"], json!([]));
    let left: Vec<_> = std::fs::read_dir(app.dir.path().join("traces")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn unknown_formats_and_encodings_are_415() {
    let app = TestApp::start().await;
    for (content_type, encoding) in
        [("text/plain", None), ("", None), ("application/json", Some("br"))]
    {
        let answer = upload(&app, "", content_type, encoding, counts(1)).await;
        answer.problem(415, "unsupported-format");
    }
}

#[tokio::test]
async fn meaningless_uploads_are_422_with_every_violation() {
    let app = TestApp::start().await;
    let negative = json!({"counts": [[[1, -2, 3, 4], [1, 1, -1, 1]]]}).to_string();
    let problem = upload(&app, "", "application/json", None, negative).await;
    let problem = problem.problem(422, "invalid-trace");
    assert_eq!(problem["violations"].as_array().unwrap().len(), 2, "{problem}");
    let out_of_range = upload(&app, "?num_experts=2", "application/x-npz", None, example()).await;
    out_of_range.problem(422, "invalid-trace");
}

#[tokio::test]
async fn a_bomb_is_413_before_it_goes_off() {
    let app = TestApp::start_with(&["--max-inflated-bytes", "1000000"]).await;
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 1 << 30), 1).unwrap();
    assert!(bomb.len() < 1_000_000);
    let problem = upload(&app, "", "application/json", Some("zstd"), bomb).await;
    let problem = problem.problem(413, "too-large");
    assert!(problem["detail"].as_str().unwrap().contains("1000000 bytes"), "{problem}");
}

/// Ten gigabytes would be within no bound either; these are within the bound of what comes out.
#[tokio::test]
async fn what_one_byte_stands_for_is_bounded_in_every_wrapping() {
    let app = TestApp::start().await;
    let spaces = || std::io::Read::take(std::io::repeat(b' '), 80 << 20);
    let mut gzip = flate2::read::GzEncoder::new(spaces(), flate2::Compression::best());
    let mut gzipped = Vec::new();
    std::io::Read::read_to_end(&mut gzip, &mut gzipped).unwrap();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("rank0.safetensors", zip::write::SimpleFileOptions::default()).unwrap();
    std::io::copy(&mut spaces(), &mut zip).unwrap();
    let zipped = zip.finish().unwrap().into_inner();
    let zstd = zstd::encode_all(spaces(), 1).unwrap();
    for (media_type, encoding, bomb, what) in [
        ("application/json", Some("gzip"), gzipped, "the decoded body"),
        ("application/x-ndjson", Some("zstd"), zstd, "the decoded body"),
        ("application/zip", None, zipped, "the data inside the archive"),
    ] {
        let problem = upload(&app, "", media_type, encoding, bomb).await;
        let problem = problem.problem(413, "too-large");
        assert_eq!(
            problem["detail"],
            format!(
                "{what} is more than 200 times as large as what was sent; if that is meant, send it \
                 without compression"
            )
        );
    }
}

#[tokio::test]
async fn json_without_end_is_400_and_costs_no_memory() {
    let app = TestApp::start().await;
    for text in ["{\"counts\": ", "{\"note\": ", ""] {
        let body = format!("{text}{}", "[".repeat(1_000_000));
        let problem = upload(&app, "", "application/json", None, body).await;
        let problem = problem.problem(400, "unreadable-trace");
        let said = "the trace cannot be read: arrays and objects lie more than 128 deep";
        assert_eq!(problem["detail"], said, "{text}");
    }
}

#[tokio::test]
async fn an_upload_above_its_bound_is_413_declared_or_not() {
    let app = TestApp::start_with(&["--max-upload-bytes", "100000"]).await;
    let declared = Request::post("/v1/traces")
        .header("content-type", "application/json")
        .header("content-length", "10000000000")
        .body(Body::empty())
        .unwrap();
    app.send(declared).await.problem(413, "too-large");
    let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(" ".repeat(10_000)));
    let body = Body::from_stream(pieces.take(1000));
    upload(&app, "", "application/json", None, body).await.problem(413, "too-large");
}

#[tokio::test]
async fn an_upload_that_pauses_is_408_and_one_that_breaks_off_400() {
    let app = TestApp::start_with(&["--body-timeout-s", "0.2"]).await;
    let begun = || futures_util::stream::iter([Ok::<_, std::io::Error>("{\"counts\": ")]);
    let body = Body::from_stream(begun().chain(futures_util::stream::pending()));
    upload(&app, "", "application/json", None, body).await.problem(408, "slow-body");
    let broken = begun().chain(futures_util::stream::iter([Err(std::io::Error::other("reset"))]));
    let body = Body::from_stream(broken);
    upload(&app, "", "application/json", None, body).await.problem(400, "malformed");
}

#[tokio::test]
async fn uploads_at_once_are_all_taken() {
    let app = TestApp::start_with(&["--uploads-at-once", "2"]).await;
    let uploads = (0..20).map(|n| upload_counts(&app, n));
    let mut ids = futures_util::future::join_all(uploads).await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    let same = (0..8).map(|_| upload(&app, "", "application/json", None, counts(50)));
    let answers = futures_util::future::join_all(same).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().all(|answer| answer.status.is_success()));
}
