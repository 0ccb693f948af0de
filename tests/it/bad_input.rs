//! Bodies that cannot be a question: each gets its exact problem, and the next one is answered.

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use serde_json::json;

use crate::support::{Answer, TestApp};

async fn post(app: &TestApp, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post("/v1/recommendations").header("content-type", content_type);
    app.send(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn malformed_json_is_400_and_says_where() {
    let app = TestApp::start().await;
    for (body, place) in [
        ("", "line 1 column 0"),
        ("{\"do\": ", "line 1 column 7"),
        ("{\"do\": NaN}", "line 1 column 8"),
        ("{\"do\": 1e999}", "line 1 column"),
        ("{'do': 1}", "line 1 column 2"),
        ("{} trailing", "line 1 column 4"),
    ] {
        let problem = post(&app, "application/json", body).await.problem(400, "malformed");
        assert!(problem["detail"].as_str().unwrap().contains(place), "{body}: {problem}");
    }
    let invalid = post(&app, "application/json", vec![b'"', 0xff, b'"']).await;
    invalid.problem(400, "malformed");
}

#[tokio::test]
async fn deep_nesting_is_400() {
    let app = TestApp::start().await;
    for n in [200, 1_000_000] {
        let body = format!("{}{}", "[".repeat(n), "]".repeat(n));
        let problem = post(&app, "application/json", body).await.problem(400, "malformed");
        assert!(problem["detail"].as_str().unwrap().contains("recursion limit"), "{problem}");
    }
}

#[tokio::test]
async fn other_formats_are_415() {
    let app = TestApp::start().await;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        post(&app, content_type, "{}").await.problem(415, "unsupported-format");
    }
    let bare = Request::post("/v1/recommendations").body(Body::from("{}")).unwrap();
    app.send(bare).await.problem(415, "unsupported-format");
    let packed = Request::post("/v1/recommendations")
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(Body::from("{}"))
        .unwrap();
    app.send(packed).await.problem(415, "unsupported-format");
    let question = post(&app, "Application/JSON; charset=utf-8", r#"{"do": "answer"}"#).await;
    assert_eq!(question.status, 202);
}

#[tokio::test]
async fn a_hundred_megabytes_of_json_are_413() {
    let app = TestApp::start().await;
    let declared = Request::post("/v1/recommendations")
        .header("content-type", "application/json")
        .header("content-length", "104857600")
        .body(Body::empty())
        .unwrap();
    let problem = app.send(declared).await.problem(413, "too-large");
    assert_eq!(problem["detail"], "the body is larger than 8388608 bytes");
    // Without a declared length, in pieces; memory holds one of them.
    let piece = axum::body::Bytes::from(vec![b' '; 1 << 20]);
    let pieces =
        futures_util::stream::iter(0..100).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
    post(&app, "application/json", Body::from_stream(pieces)).await.problem(413, "too-large");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_400() {
    let app = TestApp::start().await;
    let pieces = futures_util::stream::iter([
        Ok("{\"do\": "),
        Err(std::io::Error::other("connection reset")),
    ]);
    post(&app, "application/json", Body::from_stream(pieces)).await.problem(400, "malformed");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let app = TestApp::start_with(&["--body-timeout-s", "0.2"]).await;
    let pieces = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Some((Ok::<_, std::io::Error>(" "), ()))
    });
    let answer = post(&app, "application/json", Body::from_stream(pieces.take(100))).await;
    answer.problem(408, "slow-body");
}

#[tokio::test]
async fn refused_questions_show_every_violation_and_store_nothing() {
    let app = TestApp::start().await;
    let refused = app.ask_and_wait(&json!({"question": 1})).await;
    let problem = refused.problem(422, "invalid-question");
    assert_eq!(problem["violations"][0]["pointer"], "/do");
    assert_eq!(app.get("/v1/recommendations").await.json()["items"], json!([]));
}

#[tokio::test]
async fn odd_idempotency_keys_are_422() {
    let app = TestApp::start().await;
    for key in ["", "\"\"", &"k".repeat(300)] {
        let answer = app.ask(&json!({"do": "answer"}), &[("idempotency-key", key)]).await;
        answer.problem(422, "invalid-question");
    }
}
