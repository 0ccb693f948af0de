//! A stored trace that does not let itself be read holds up nothing but what is asked about it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::support::{Answer, PATIENCE, TestApp};

/// Opens a pipe for writing once told to, which lets go of who opens it for reading.
fn gate(pipe: PathBuf) -> mpsc::Sender<()> {
    let (open, opened) = mpsc::channel();
    std::thread::spawn(move || {
        // A service that blocks its only thread is let go in the end, and fails.
        let _ = opened.recv_timeout(PATIENCE);
        std::fs::File::options().write(true).open(pipe).unwrap();
    });
    open
}

/// The file of a trace that questions read, which says what is in it.
fn read(app: &TestApp, trace: &str) -> PathBuf {
    let folder = app.dir.path().join("traces");
    let names = std::fs::read_dir(&folder).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let named = names.find(|name| name.starts_with(trace) && *name != format!("{trace}.trace"));
    folder.join(named.unwrap())
}

/// The answer to a request that blocks on a trace, after `/livez` has answered meanwhile.
async fn answer_after_probes(app: &TestApp, trace: &str, request: Request<Body>) -> Answer {
    let open = gate(read(app, trace));
    let mut asking = std::pin::pin!(app.send(request));
    let turns = || app.app.checks.available_permits() + app.app.sweeps.available_permits();
    let (free, uploads) = (turns(), app.app.uploads.at_once.available_permits());
    let probing = async {
        let begun = || turns() < free || app.app.uploads.at_once.available_permits() < uploads;
        let mut probes = 0;
        while probes < 100 {
            assert_eq!(app.get("/livez").await.status, 200);
            probes += usize::from(begun());
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        answer = &mut asking => panic!("answered without the trace: {answer:?}"),
        () = probing => {}
    }
    open.send(()).unwrap();
    asking.await
}

// On a runtime of one thread: whoever blocks it blocks all.
#[tokio::test(flavor = "current_thread")]
async fn probes_are_answered_while_a_trace_blocks() {
    let app = TestApp::start_advising().await;
    let counts = vec![vec![vec![100, 90, 80, 70, 60, 50, 40, 30]; 2]; 8];
    let upload = Request::post("/v1/traces").header("content-type", "application/json");
    let upload = upload.body(Body::from(json!({"counts": counts}).to_string())).unwrap();
    let id = app.send(upload).await.json()["id"].as_str().unwrap().to_owned();
    let question = json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "tokens_per_step": 260},
        "routing": {"trace_id": id},
    });
    assert_eq!(app.ask_and_wait(&question).await.json()["status"], "succeeded");

    let stored = read(&app, &id);
    std::fs::remove_file(&stored).unwrap();
    assert!(Command::new("mkfifo").arg(&stored).status().unwrap().success());
    let axes = json!([{"parameter": "devices", "values": [2, 4]}]);
    let sweep = json!({"question": question, "axes": axes});
    let post = |path: &str, body: &serde_json::Value| {
        let request = Request::post(path).header("content-type", "application/json");
        request.body(Body::from(body.to_string())).unwrap()
    };
    let report = format!("/v1/traces/{id}/report?devices=4");
    for request in [
        post("/v1/recommendations", &question),
        post("/v1/sweeps", &sweep),
        Request::get(report).body(Body::empty()).unwrap(),
    ] {
        // A pipe is no trace.
        answer_after_probes(&app, &id, request).await.problem(500, "internal");
    }
}
