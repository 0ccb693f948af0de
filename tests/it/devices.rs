//! Device profiles that clients register: kept, named in questions, and let go.

use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use moe_gps::store::devices::{DeviceRecord, Kind};
use moe_gps_core::formats::device_toml;
use moe_gps_lab::calibrate::run::device_document;
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

/// The profile of a shipped device under another id.
pub(crate) fn profile(id: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog/devices");
    let mut document = device_document(&folder.join("h200-sxm.toml")).unwrap();
    document["id"] = json!(id);
    document
}

async fn register(app: &TestApp, media_type: &str, body: String) -> Answer {
    let request = Request::post("/v1/devices").header("content-type", media_type);
    app.send(request.body(Body::from(body)).unwrap()).await
}

pub(crate) async fn keep(app: &TestApp, document: &Value) -> Answer {
    register(app, "application/json", document.to_string()).await
}

pub(crate) fn question(device: &Value) -> Value {
    json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": device, "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 512},
        "routing": {"skewness": 1.39}
    })
}

#[tokio::test]
async fn a_registered_device_is_listed_shown_and_deleted() {
    let app = TestApp::start().await;
    let kept = keep(&app, &profile("mine")).await;
    assert_eq!(kept.status, 201, "{:?}", kept.json());
    assert_eq!(kept.header("location"), "/v1/devices/mine");
    let shown = app.get("/v1/devices/mine").await;
    assert_eq!((shown.status.as_u16(), shown.json()), (200, kept.json()));
    assert!(shown.json()["registered_at"].is_string());
    let listed = app.get("/v1/devices").await.json();
    let ids: Vec<_> = listed["items"].as_array().unwrap().iter().map(|d| &d["id"]).collect();
    assert!(ids.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()), "{ids:?}");
    assert!(ids.contains(&&json!("mine")) && ids.contains(&&json!("h100-sxm")));
    let shipped = app.get("/v1/devices/h100-sxm").await.json();
    assert!(shipped.get("registered_at").is_none());

    assert_eq!(app.call("DELETE", "/v1/devices/mine").await.status, 204);
    let problem = app.get("/v1/devices/mine").await.problem(404, "not-found");
    assert!(problem["detail"].as_str().unwrap().contains("\"mine\""), "{problem}");
    app.call("DELETE", "/v1/devices/mine").await.problem(404, "not-found");
}

#[tokio::test]
async fn the_file_that_calibrate_writes_can_be_registered_as_it_is() {
    let app = TestApp::start().await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog/devices/h200-sxm.toml");
    let text = std::fs::read_to_string(file).unwrap().replace("\"h200-sxm\"", "\"of-a-file\"");
    let kept = register(&app, "application/toml", text.clone()).await;
    assert_eq!(kept.status, 201);
    // The same content is the same device, whatever the format and the order of keys.
    assert_eq!(register(&app, "application/toml; charset=utf-8", text).await.status, 200);
    assert_eq!(keep(&app, &profile("of-a-file")).await.status, 200);
}

#[tokio::test]
async fn what_clashes_is_refused_and_changes_nothing() {
    let app = TestApp::start().await;
    let problem = keep(&app, &profile("h200-sxm")).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("shipped"), "{problem}");
    app.call("DELETE", "/v1/devices/h200-sxm").await.problem(409, "conflict");
    assert_eq!(keep(&app, &profile("mine")).await.status, 201);
    let mut other = profile("mine");
    other["memory_bytes"] = json!(96e9);
    let problem = keep(&app, &other).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("other content"), "{problem}");
    assert_eq!(app.get("/v1/devices/mine").await.json()["memory_bytes"], 143_771.0 * 1_048_576.0);
}

#[tokio::test]
async fn what_means_nothing_is_refused_with_what_is_wrong() {
    let app = TestApp::start().await;
    let mut document = profile("My Device");
    document["bandwidth_bytes_per_s"] = json!(1.0);
    document["l2_bytes"] = json!(1.0);
    let problem = keep(&app, &document).await.problem(422, "invalid-device");
    let violations = problem["violations"].as_array().unwrap();
    let found: Vec<_> = violations.iter().map(|v| v["detail"].as_str().unwrap()).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("memory bandwidth is 1") && found[1].contains("L2 cache is 1"));
    assert_eq!(violations[2]["pointer"], "/id");

    let problem = keep(&app, &json!(7)).await.problem(422, "invalid-device");
    assert!(problem["detail"].as_str().unwrap().contains("a profile is an object"), "{problem}");
    // What is missing and what is wrong are told together, each with its place.
    let mut document = profile("mine");
    document.as_object_mut().unwrap().remove("l2_bytes");
    document["memory_bytes"] = json!("80 GB");
    document["gemm"]["extra"] = json!({"framework": 3});
    let problem = keep(&app, &document).await.problem(422, "invalid-device");
    let violations = problem["violations"].as_array().unwrap();
    let places: Vec<_> = violations.iter().map(|v| v["pointer"].as_str().unwrap()).collect();
    assert_eq!(places, ["/l2_bytes", "/gemm/extra/framework", "/memory_bytes"]);
    register(&app, "application/json", "{".to_owned()).await.problem(400, "malformed");
    register(&app, "application/toml", "id =".to_owned()).await.problem(400, "malformed");
    register(&app, "text/plain", String::new()).await.problem(415, "unsupported-format");
    assert_eq!(app.get("/v1/devices").await.json()["items"].as_array().unwrap().len(), 16);
}

#[tokio::test]
async fn a_question_names_it_and_is_answered_with_its_content() {
    let app = TestApp::start_advising().await;
    let asked = question(&json!("mine"));
    app.ask(&asked, &[]).await.problem(422, "invalid-question");
    assert_eq!(keep(&app, &profile("mine")).await.status, 201);
    let first = app.ask_and_wait(&asked).await.json();
    assert_eq!(first["status"], "succeeded", "{first}");
    assert_eq!(first["request"], asked, "the question is shown as it was asked");
    let found = app.get("/v1/recommendations?device=mine").await.json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    // The profile inside the question is the same question.
    let inline = app.ask_and_wait(&question(&profile("mine"))).await.json();
    assert_eq!(inline["id"], first["id"]);

    // Other content under the same id is another question.
    assert_eq!(app.call("DELETE", "/v1/devices/mine").await.status, 204);
    let mut slower = profile("mine");
    slower["bandwidth_bytes_per_s"] = json!(1e12);
    assert_eq!(keep(&app, &slower).await.status, 201);
    let second = app.ask_and_wait(&asked).await.json();
    assert_ne!(second["id"], first["id"]);
    let latency = |job: &Value| job["result"]["strategies"][0]["layer_latency_s"].as_f64().unwrap();
    assert!(latency(&first) < latency(&second));
}

#[tokio::test]
async fn a_profile_that_a_later_version_cannot_read_is_said_and_the_others_are_listed() {
    let app = TestApp::start_advising().await;
    keep(&app, &profile("readable")).await;
    let mut document = profile("mine");
    document.as_object_mut().unwrap().remove("l2_bytes");
    let kept = |id: &str, document: String| DeviceRecord {
        id: id.to_owned(),
        digest: Vec::new(),
        created_ms: 0,
        document,
    };
    for record in [kept("mine", document.to_string()), kept("torn", "{".to_owned())] {
        app.app.store.insert_registered(Kind::Device, &record, 9).await.unwrap();
    }
    let listed = app.get("/v1/devices").await;
    assert_eq!(listed.status, 200);
    let listed = listed.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 17);
    insta::assert_json_snapshot!(listed["unreadable"]);
    app.get("/v1/devices/mine").await.problem(409, "conflict");
    let refused = app.ask(&question(&json!("mine")), &[]).await;
    let refused = refused.problem(422, "invalid-question");
    assert_eq!(refused["violations"][0]["pointer"], "/cluster/device");
    let axes = json!([{"parameter": "skewness", "values": [1.2, 2.0]}]);
    let sweep = json!({"question": question(&json!("mine")), "axes": axes});
    let refused = app.post_json("/v1/sweeps", &sweep, &[]).await;
    let refused = refused.problem(422, "invalid-question");
    assert_eq!(refused["violations"][0]["pointer"], "/question/cluster/device");
    keep(&app, &profile("mine")).await.problem(409, "conflict");
    assert_eq!(app.call("DELETE", "/v1/devices/mine").await.status, 204);
    assert_eq!(keep(&app, &profile("mine")).await.status, 201);
}

#[tokio::test]
async fn engines_in_a_profile_are_ignored_with_a_warning_and_still_shown() {
    let app = TestApp::start_advising().await;
    let answer = async |document: &Value| {
        let mut asked = question(document);
        asked["engine"] = json!({"name": "tensorrt-llm"});
        let job = app.ask_and_wait(&asked).await.json();
        assert_eq!(job["status"], "succeeded", "{job}");
        job["result"].clone()
    };
    let plain = profile("mine");
    let mut claiming = plain.clone();
    claiming["stack"][0]["engines"] = json!(["tensorrt-llm", "an engine of tomorrow"]);
    let (without, with) = (answer(&plain).await, answer(&claiming).await);
    assert_eq!(without["strategies"], with["strategies"]);
    let warned = |result: &Value| result["warnings"].to_string().contains("`engines`");
    assert!(!warned(&without) && warned(&with), "{}", with["warnings"]);

    let shown = keep(&app, &claiming).await.json();
    let engines = |name: &str| {
        let mut stacks = shown["stacks"].as_array().unwrap().iter();
        stacks.find(|stack| stack["name"] == name).unwrap()["engines"].clone()
    };
    assert_eq!(engines("vllm"), json!(["vllm", "vllm-ascend"]));
    assert_eq!(engines("sglang"), json!(["sglang"]));
    assert_eq!(engines("tensorrt-llm"), json!(["tensorrt-llm"]));
    assert_eq!(engines("pytorch"), json!([]));
}

#[tokio::test]
async fn a_sweep_names_it_as_a_question_does() {
    let app = TestApp::start().await;
    let sweep = |device: Value| {
        json!({
            "question": question(&device),
            "axes": [{"parameter": "skewness", "values": [1.2, 2.0]}],
        })
    };
    let unknown = app.post_json("/v1/sweeps", &sweep(json!("mine")), &[]).await;
    unknown.problem(422, "invalid-question");
    keep(&app, &profile("mine")).await;
    let named = app.post_json("/v1/sweeps", &sweep(json!("mine")), &[]).await;
    let inline = app.post_json("/v1/sweeps", &sweep(profile("mine")), &[]).await;
    assert_eq!((named.status.as_u16(), named.json()), (200, inline.json()));
}

#[tokio::test]
async fn a_registered_device_goes_before_an_alias() {
    let app = TestApp::start_advising().await;
    let asked = question(&json!("h100-sxm5"));
    app.call("DELETE", "/v1/devices/h100-sxm5").await.problem(409, "conflict");
    let shipped = app.ask_and_wait(&asked).await.json();
    assert_eq!(keep(&app, &profile("h100-sxm5")).await.status, 201);
    let registered = app.ask_and_wait(&asked).await.json();
    assert_ne!(registered["id"], shipped["id"]);
    assert!(app.get("/v1/devices/h100-sxm5").await.json()["registered_at"].is_string());
    assert_eq!(app.call("DELETE", "/v1/devices/h100-sxm5").await.status, 204);
    assert_eq!(app.ask_and_wait(&asked).await.json()["id"], shipped["id"]);
}

#[test]
fn a_profile_in_a_file_is_told_everything_that_is_wrong_with_it() {
    let text = include_str!("../../catalog/devices/l40s.toml");
    let broken = text.replacen("memory_bytes", "memory_byte", 1).replacen(
        "l2_bytes = ",
        "l2_bytes = true #",
        1,
    );
    let said = device_toml::parse(&broken).unwrap_err().to_string();
    for part in [
        "/memory_bytes: memory_bytes is missing",
        "/memory_byte: unknown field",
        "/l2_bytes: invalid type: boolean",
    ] {
        assert!(said.contains(part), "{said}");
    }
}
