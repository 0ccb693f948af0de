//! Stored traces: fetched, listed, deleted unless needed.

use moe_gps::store::traces::TraceRecord;
use serde_json::json;

use crate::support::TestApp;

async fn store(app: &TestApp, id: &str) {
    let record = TraceRecord {
        id: id.to_owned(),
        digest: vec![7; 32],
        name: None,
        model: None,
        tokens: 4,
        sequences: 1,
        steps: 1,
        layers: 1,
        experts: 4,
        top_k: 2,
        has_token_ids: false,
        stored_bytes: 8,
        created_ms: 0,
        summary: json!({"id": id}).to_string(),
    };
    assert!(app.app.store.insert_trace(&record).await.unwrap());
}

#[tokio::test]
async fn traces_are_fetched_listed_and_deleted() {
    let app = TestApp::start().await;
    for id in ["a", "b", "c"] {
        store(&app, id).await;
    }
    assert_eq!(app.get("/v1/traces/b").await.json(), json!({"id": "b"}));
    let page = app.get("/v1/traces?limit=2").await.json();
    assert_eq!(page, json!({"items": [{"id": "a"}, {"id": "b"}], "next_cursor": "b"}));
    let page = app.get("/v1/traces?limit=2&cursor=b").await.json();
    assert_eq!(page, json!({"items": [{"id": "c"}], "next_cursor": null}));
    assert_eq!(app.call("DELETE", "/v1/traces/b").await.status, 204);
    app.get("/v1/traces/b").await.problem(404, "not-found");
    app.call("DELETE", "/v1/traces/b").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_trace_that_is_needed_stays() {
    let app = TestApp::start_with(&["--workers", "1"]).await;
    store(&app, "t").await;
    let question = json!({"do": "wait", "routing": {"trace_id": "t"}});
    let id = app.submit(&question).await;
    app.until(&id, "running").await;
    app.call("DELETE", "/v1/traces/t").await.problem(409, "conflict");
    let listed = app.get("/v1/recommendations?trace_id=t").await.json();
    assert_eq!(listed["items"][0]["trace_ids"], json!(["t"]));
    app.call("DELETE", &format!("/v1/recommendations/{id}")).await;
    assert_eq!(app.call("DELETE", "/v1/traces/t").await.status, 204);
}
