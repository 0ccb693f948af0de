//! Bodies of the interface as snapshots: every kind of problem as a client sees it, pages of lists, and
//! of large answers their shape (names and types), which a release within `/v1` only adds to.
//!
//! `INSTA_UPDATE=always cargo test snapshots_api` writes them anew; review the difference.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Map, Value, json};

use crate::support::{Answer, TestApp};

/// A request with a body of this type.
fn sent(method: &str, path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    request.header("content-type", content_type).body(body.into()).unwrap()
}

fn json_of(file: &str) -> Value {
    serde_json::from_slice(&bytes_of(file)).unwrap()
}

fn bytes_of(file: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

async fn upload(app: &TestApp, query: &str, content_type: &str, body: Vec<u8>) -> Value {
    let answer = app.send(sent("POST", &format!("/v1/traces{query}"), content_type, body)).await;
    assert_eq!(answer.status, 201);
    answer.json()
}

async fn upload_counts(app: &TestApp, most: u32) -> Value {
    let counts = json!({"counts": [[[most, 2, 3, 4]], [[4, 3, 2, 1]]]});
    upload(app, "?name=counts", "application/json", counts.to_string().into_bytes()).await
}

/// What a value is made of: names and types; of a list, what its items have between them.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => json!(Vec::from_iter(items.iter().map(shape).reduce(united))),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
    }
}

/// The shape of what is of the one shape or of the other.
fn united(one: Value, other: Value) -> Value {
    match (one, other) {
        (one, other) if one == other => one,
        (Value::Object(one), Value::Object(other)) => Value::Object(all_fields(one, other)),
        (Value::Array(one), Value::Array(other)) => {
            json!(Vec::from_iter(one.into_iter().chain(other).reduce(united)))
        }
        (Value::String(one), Value::String(other)) => {
            let mut types: Vec<&str> = one.split(" or ").chain(other.split(" or ")).collect();
            types.sort_unstable();
            types.dedup();
            json!(types.join(" or "))
        }
        (Value::String(null), some) | (some, Value::String(null)) if null == "null" => some,
        (one, other) => json!({"either": one, "or": other}),
    }
}

fn all_fields(mut one: Map<String, Value>, other: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in other {
        let known = one.remove(&name);
        let both = known.map_or(value.clone(), |known| united(known, value));
        one.insert(name, both);
    }
    one.sort_keys();
    one
}

/// Status and body of a refusal, without what is new in every answer.
fn refusal(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let mut problem = answer.json();
    assert_eq!(problem["status"], answer.status.as_u16());
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
    problem["request_id"] = json!("[id]");
    problem
}

#[tokio::test]
async fn problems() {
    let app = TestApp::start_advising().await;
    let asked = "/v1/recommendations";
    let too_long = Request::post(asked)
        .header("content-type", "application/json")
        .header("content-length", "104857600")
        .body(Body::empty())
        .unwrap();
    let mut question = json_of("examples/questions/mixtral-h100.json");
    question["model"] = json!("mixtral-8x7");
    question["workload"]["batch_size"] = json!(0);
    question["colour"] = json!("red");
    let negative = r#"{"counts": [[[1, -2, 3, 4], [1, 1, -1, 1]]]}"#;
    let mut device = device_of_ours();
    device["memory_bytes"] = json!("80 GB");
    let empty = |method, path| sent(method, path, "application/json", Body::empty());
    let requests = [
        sent("POST", asked, "application/json", "{\"model\": "),
        sent("POST", asked, "text/plain", "{}"),
        sent("POST", asked, "application/json", question.to_string()),
        too_long,
        empty("GET", "/v1/nothing"),
        empty("GET", "/v1/recommendations/nix"),
        empty("GET", "/v1/traces/nix"),
        empty("GET", "/v1/models/nix"),
        empty("GET", "/v1/recommendations?status=done&limit=-1&created_after=now"),
        empty("PATCH", asked),
        empty("DELETE", "/v1/devices/h100-sxm"),
        sent("POST", "/v1/devices", "application/json", device.to_string()),
        sent("POST", "/v1/traces", "application/x-npz", "PK nonsense"),
        sent("POST", "/v1/traces", "application/json", negative),
        sent("POST", "/v1/traces?colour=red", "application/json", negative),
    ];
    let mut problems = Vec::new();
    for request in requests {
        let line = format!("{} {}", request.method(), request.uri());
        let answer = app.send(request).await;
        problems.push(json!({"request": line, "problem": refusal(&answer)}));
    }
    app.app.board.draining.cancel();
    let draining = refusal(&app.get("/readyz").await);
    problems.push(json!({"request": "GET /readyz while draining", "problem": draining}));
    insta::assert_json_snapshot!("problems", problems);
}

/// The profile of a shipped device under another id.
fn device_of_ours() -> Value {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog/devices/l40s.toml");
    let mut document = moe_gps_lab::calibrate::run::device_document(&file).unwrap();
    document["id"] = json!("mine");
    document
}

#[tokio::test]
async fn the_catalog_lists_what_is_shipped() {
    let app = TestApp::start_advising().await;
    for kind in ["models", "devices", "links"] {
        let page = app.get(&format!("/v1/{kind}")).await.json();
        let items = page["items"].as_array().unwrap();
        let ids: Vec<&Value> = items.iter().map(|item| &item["id"]).collect();
        insta::assert_json_snapshot!(kind, json!({"ids": ids, "page": shape(&page)}));
        let one = app.get(&format!("/v1/{kind}/{}", ids[0].as_str().unwrap())).await.json();
        insta::assert_json_snapshot!(format!("{kind}_one"), shape(&one));
    }
}

#[tokio::test]
async fn traces_are_listed() {
    let app = TestApp::start_advising().await;
    upload_counts(&app, 1).await;
    upload_counts(&app, 2).await;
    let page = app.get("/v1/traces?limit=1").await.json();
    insta::assert_json_snapshot!("traces", page);
}

#[tokio::test]
async fn a_recommendation_and_all_that_belongs_to_it() {
    let app = TestApp::start_advising().await;
    let routes = bytes_of("examples/traces/mixtral_like_e8k2.python.test.npz");
    let trace = upload(&app, "", "application/x-npz", routes).await["id"].clone();
    let mut question = json_of("examples/questions/mixtral-h100.json");
    question["routing"] = json!({"trace_id": trace});
    let job = app.ask_and_wait(&question).await.json();
    assert_eq!(job["status"], "succeeded", "{job}");
    insta::assert_json_snapshot!("recommendation", shape(&job));
    let path = format!("/v1/recommendations/{}", job["id"].as_str().unwrap());
    let plan = app.get(&format!("{path}/placement")).await.json();
    insta::assert_json_snapshot!("recommendation_placement", shape(&plan));
    let listed = app.get("/v1/recommendations").await.json();
    insta::assert_json_snapshot!("recommendations", shape(&listed));
    let report = format!("/v1/traces/{}/report?devices=4", trace.as_str().unwrap());
    insta::assert_json_snapshot!("trace_report", shape(&app.get(&report).await.json()));
}

#[tokio::test]
async fn a_sweep_over_two_quantities() {
    let app = TestApp::start_advising().await;
    let request = json!({
        "question": json_of("examples/questions/paper-mixtral-a100.json"),
        "axes": [
            {"parameter": "skewness", "values": [1.0, 2.0]},
            {"parameter": "link_bandwidth_bytes_per_s", "values": [8e9, 300e9]},
        ],
    });
    let answer = app.post_json("/v1/sweeps", &request, &[]).await.json();
    insta::assert_json_snapshot!("sweep", shape(&answer));
}
