//! What goes wrong around the service: clients that vanish, files without rows, a database that is
//! gone or damaged, a log nobody reads, profiles without bounds.

use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::devices::{keep, profile};
use crate::service::Service;
use crate::support::TestApp;
use crate::traces::upload;

/// A question as a request.
fn asked(question: &Value) -> Request<Body> {
    let request = Request::post("/v1/recommendations").header("content-type", "application/json");
    request.body(Body::from(question.to_string())).unwrap()
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_no_job_without_a_worker() {
    let app = TestApp::start_with(&["--workers", "8"]).await;
    for n in 0..200_u64 {
        let sending = app.router.clone().oneshot(asked(&json!({"do": "answer", "n": n})));
        // Gone at any moment of the way.
        let patience = Duration::from_micros(20 * (n % 50));
        let _ = tokio::time::timeout(patience, sending).await;
    }
    let began = Instant::now();
    loop {
        let counts = app.app.store.count_jobs().await.unwrap();
        let open = counts.iter().filter(|(status, _)| !status.is_final());
        if open.map(|(_, n)| n).sum::<i64>() == 0 && !counts.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "still open: {counts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_keeps_nothing() {
    let app = TestApp::start().await;
    for vanishes in [true, false] {
        let lines: Vec<Result<String, std::io::Error>> = (0..50)
            .map(|n| Ok(format!("{{\"sequence\": 0, \"position\": {n}, \"experts\": [[0]]}}\n")))
            .collect();
        let whole = futures_util::stream::iter(lines);
        let pending = futures_util::stream::pending();
        let broken = futures_util::stream::iter([Err(std::io::Error::other("reset"))]);
        let body = if vanishes {
            Body::from_stream(whole.chain(pending))
        } else {
            Body::from_stream(whole.chain(broken))
        };
        let request = Request::post("/v1/traces").header("content-type", "application/x-ndjson");
        let sending = app.router.clone().oneshot(request.body(body).unwrap());
        let _ = tokio::time::timeout(Duration::from_millis(100), sending).await;
    }
    let began = Instant::now();
    let folder = app.dir.path().join("traces");
    while std::fs::read_dir(&folder).unwrap().next().is_some() {
        assert!(began.elapsed() < Duration::from_secs(20), "a file stays behind");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(app.get("/v1/traces").await.json()["items"], json!([]));
}

#[tokio::test]
async fn files_without_a_row_go_at_the_next_start() {
    let app = TestApp::start().await;
    let counts = "{\"counts\": [[1, 2], [2, 1]]}";
    let kept = upload(&app, "", "application/json", None, counts).await.json();
    let kept = format!("{}.trace", kept["id"].as_str().unwrap());
    let folder = app.dir.path().join("traces");
    let orphan = "0".repeat(64);
    for name in [format!("{orphan}.trace"), format!("{orphan}.embedding.npy")] {
        std::fs::write(folder.join(name), "x").unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("traces")).unwrap();
    for name in ["moe-gps.db", "moe-gps.db-wal"] {
        std::fs::copy(app.dir.path().join(name), copy.path().join(name)).unwrap();
    }
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join("traces").join(file.file_name())).unwrap();
    }
    let second = TestApp::start_in(copy, &[]).await;
    let left = std::fs::read_dir(second.dir.path().join("traces")).unwrap();
    let left: Vec<_> = left.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left, [kept]);
}

#[tokio::test]
async fn a_service_whose_database_is_gone_is_not_ready() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/readyz").await.status, 200);
    let file = app.dir.path().join("moe-gps.db");
    std::fs::remove_file(&file).unwrap();
    let problem = app.get("/readyz").await.problem(503, "not-ready");
    assert!(problem["detail"].as_str().unwrap().contains("moe-gps.db"), "{problem}");
    std::fs::write(&file, "another file").unwrap();
    app.get("/readyz").await.problem(503, "not-ready");
}

#[tokio::test]
async fn names_that_come_twice_are_refused() {
    let app = TestApp::start().await;
    for path in ["/v1/recommendations", "/v1/sweeps", "/v1/devices"] {
        let request = Request::post(path).header("content-type", "application/json");
        let body = Body::from("{\"do\": \"answer\", \"a\": {\"do\": 1, \"do\": 2}}");
        let answer = app.send(request.body(body).unwrap()).await;
        let problem = answer.problem(400, "malformed");
        assert!(problem["detail"].as_str().unwrap().contains("\"do\" stands twice"), "{problem}");
    }
}

#[tokio::test]
async fn profiles_have_bounds() {
    type Change = fn(&mut Value);
    let app = TestApp::start().await;
    let changes: [(Change, &str); 5] = [
        (|one| one["peak_flop_per_s"]["fp8"] = json!(-1), "/peak_flop_per_s/fp8"),
        (|one| one["peak_flop_per_s"]["bf16"] = json!(0), "/peak_flop_per_s/bf16"),
        (|one| one["multiprocessors"] = json!(1_000_000), "/multiprocessors"),
        (|one| one["name"] = json!("x".repeat(5000)), "/name"),
        (|one| one["stack"] = json!(vec![one["stack"][0].clone(); 5000]), ""),
    ];
    for (change, pointer) in changes {
        let mut document = profile("bounded");
        change(&mut document);
        let problem = keep(&app, &document).await.problem(422, "invalid-device");
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{problem}");
        let mut question = crate::devices::question(&document);
        question["seed"] = json!(1);
        let app = TestApp::start_advising().await;
        let refused = app.ask(&question, &[]).await.problem(422, "invalid-question");
        assert!(
            refused["violations"][0]["pointer"].as_str().unwrap().starts_with("/cluster/device"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_service_that_stops_says_that_the_connection_ends() {
    let app = TestApp::start().await;
    assert!(app.get("/livez").await.headers.get("connection").is_none());
    app.app.board.draining.cancel();
    assert_eq!(app.get("/livez").await.header("connection"), "close");
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Service::start_logging(dir.path(), &[], Stdio::piped());
    // A pipe holds 64 KiB: a few hundred lines.
    for n in 0..1500 {
        let head = format!(
            "GET /v1/links/{n}-{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            "x".repeat(200)
        );
        assert!(service.send(head.as_bytes()).unwrap().starts_with("HTTP/1.1 404"), "{n}");
    }
    service.signal("-TERM");
    let began = Instant::now();
    while service.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_request_without_a_host_is_400() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path(), &[]);
    let text = service.send(b"GET /livez HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("problem:malformed"), "{text}");
    let text = service
        .send(b"GET /livez HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
        .unwrap();
    assert!(text.starts_with("HTTP/1.1 403") && text.contains("problem:forbidden"), "{text}");
}
