//! Ceiling and diagnosis of traces, as JSON and as a page.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::support::TestApp;

async fn upload(app: &TestApp, query: &str, content_type: &str, body: Vec<u8>) -> String {
    let request = Request::post(format!("/v1/traces{query}")).header("content-type", content_type);
    let answer = app.send(request.body(Body::from(body)).unwrap()).await;
    answer.json()["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

fn near(value: &Value, wanted: f64) {
    assert!((number(value) - wanted).abs() < 1e-9, "{value} for {wanted}");
}

/// So many steps of one layer with these loads.
fn counts(steps: &[[u32; 4]]) -> Vec<u8> {
    let steps: Vec<[[u32; 4]; 1]> = steps.iter().map(|step| [*step]).collect();
    json!({ "counts": steps }).to_string().into_bytes()
}

#[tokio::test]
async fn a_steady_load_is_diagnosed_by_hand() {
    let app = TestApp::start().await;
    let trace = upload(&app, "", "application/json", counts(&[[70, 10, 10, 10]; 16])).await;
    let report = app.get(&format!("/v1/traces/{trace}/report?devices=2")).await.json();
    // Contiguous: 80 against 20; mean 50.
    near(&report["imbalance"]["max_over_mean"]["mean"], 1.6);
    near(&report["imbalance"]["mean_over_max"]["worst"], 0.625);
    near(&report["imbalance"]["excess"]["per_layer"][0], 0.6);
    near(&report["ceiling"]["expert_speedup_at_most"], 1.6);
    near(&report["ceiling"]["expert_time_saved_at_most"], 0.375);
    let slots = report["slots"].as_array().unwrap();
    let extra: Vec<&Value> = slots.iter().map(|plan| &plan["extra_slots"]).collect();
    assert_eq!(extra, [0, 0, 2, 4]);
    // Experts alone cannot be split: 80 against 20 is the best; with copies, 50 and 50.
    near(&slots[1]["held_out"]["mean"], 1.6);
    near(&slots[2]["held_out"]["mean"], 1.0);
    near(&slots[2]["expert_time_saved"], 0.375);
    near(&report["steps"]["plans"][0]["p95"], 1.6);
    assert_eq!(report["steps"]["steps"], 8);
    assert_eq!(report["steps"]["recorded_steps_per_step"], 1);
    near(&report["drift"]["most"], 0.0);
    for forecast in report["forecasts"].as_array().unwrap() {
        near(&forecast["errors"][0]["distribution_error"], 0.0);
    }
    near(&report["expert_shares"][0][0], 0.7);
    let finding = report["finding"].as_str().unwrap();
    assert!(finding.contains("1.60") && finding.contains("37.5 %"), "{finding}");
}

#[tokio::test]
async fn a_load_that_turns_round_is_seen_to_drift() {
    let app = TestApp::start().await;
    let mut steps = vec![[60, 20, 10, 10]; 8];
    steps.extend([[10, 10, 20, 60]; 8]);
    let trace = upload(&app, "", "application/json", counts(&steps)).await;
    let report = app.get(&format!("/v1/traces/{trace}/report?devices=4")).await.json();
    // Σ |p̂ − p| = 0.5 + 0.1 + 0.1 + 0.5 between the halves.
    near(&report["drift"]["most"], 1.2);
    let errors = |kind: usize| report["forecasts"][kind]["errors"].clone();
    near(&errors(0)[0]["distribution_error"], 1.2);
    // A window forgets: fresh, only the first two of eight steps are mispredicted.
    assert_eq!(report["forecasts"][1]["window_steps"], 2);
    near(&errors(1)[0]["distribution_error"], (1.2 + 0.6) / 8.0);
    assert!(
        number(&errors(1)[2]["distribution_error"]) > number(&errors(1)[0]["distribution_error"])
    );
    // The plan of the first half gives the hot expert of the second no copy.
    let copies = &report["slots"][2];
    assert!(number(&copies["held_out"]["mean"]) > number(&copies["in_sample"]["mean"]) + 0.2);
}

#[tokio::test]
async fn the_page_stands_alone_and_cannot_be_written_into() {
    let app = TestApp::start().await;
    let file = "examples/traces/mixtral_like_e8k2.python.test.npz";
    let bytes = std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let query = "?name=%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    let trace = upload(&app, query, "application/x-npz", bytes).await;
    let path = format!("/v1/traces/{trace}/report?devices=4");
    let asked = Request::get(&path).header("accept", "text/html,*/*;q=0.8");
    let answer = app.send(asked.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    let page = String::from_utf8(answer.body).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script"));
    assert!(page.matches("<svg class=\"chart\"").count() == 3, "heat map, layers, ages");
    for outside in ["http:", "https:", "//", "@import", "url("] {
        assert!(!page.contains(outside), "the page names {outside}");
    }
    assert_eq!(app.get(&format!("{path}&format=html")).await.body, page.as_bytes());
    let report = app.get(&path).await.json();
    assert_eq!(report["tokens"], 16_384);
    assert_eq!(report["steps"]["tokens_per_step"], 64);
    assert_eq!(report["expert_shares"].as_array().unwrap().len(), 8);
    for (layer, shares) in report["expert_shares"].as_array().unwrap().iter().enumerate() {
        let sum: f64 = shares.as_array().unwrap().iter().map(number).sum();
        assert!((sum - 1.0).abs() < 1e-9, "layer {layer}");
    }
}

#[tokio::test]
async fn meaningless_reports_are_refused() {
    let app = TestApp::start().await;
    let trace = upload(&app, "", "application/json", counts(&[[1, 2, 3, 4]])).await;
    for (query, pointer) in [
        ("", "/devices"),
        ("?devices=0", "/devices"),
        ("?devices=5000", "/devices"),
        ("?devices=5", "/devices"),
        ("?devices=2&format=pdf", "/format"),
        ("?devices=2&tokens_per_step=0", "/tokens_per_step"),
    ] {
        let path = format!("/v1/traces/{trace}/report{query}");
        let problem = app.get(&path).await.problem(422, "invalid-question");
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{query}");
    }
    app.get("/v1/traces/nix/report?devices=2").await.problem(404, "not-found");
    // One matrix is diagnosed as far as it goes.
    let report = app.get(&format!("/v1/traces/{trace}/report?devices=4")).await.json();
    assert_eq!((&report["steps"], &report["drift"]), (&Value::Null, &Value::Null));
    assert!(report["warnings"].to_string().contains("one count matrix"));
    near(&report["imbalance"]["max_over_mean"]["mean"], 1.6);
}
