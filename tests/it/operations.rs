//! Probes, metrics, the API description and its page, and what unknown paths answer.

use serde_json::json;

use crate::questions::of_the_paper;
use crate::support::TestApp;

#[tokio::test]
async fn probes_answer_under_all_their_names() {
    let app = TestApp::start().await;
    for path in ["/livez", "/live", "/health", "/healthz"] {
        assert_eq!(app.get(path).await.json(), json!({"status": "live"}));
    }
    for path in ["/readyz", "/ready"] {
        assert_eq!(app.get(path).await.json(), json!({"status": "ready"}));
    }
}

#[tokio::test]
async fn a_draining_service_is_alive_but_not_ready() {
    let app = TestApp::start_advising().await;
    app.app.board.draining.cancel();
    let answer = app.get("/readyz").await;
    answer.problem(503, "not-ready");
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(app.get("/livez").await.status, 200);
    assert_eq!(app.ask_and_wait(&of_the_paper()).await.status, 200);
}

#[tokio::test]
async fn metrics_are_prometheus_text_with_route_templates() {
    let app = TestApp::start_advising().await;
    let location = app.ask_and_wait(&of_the_paper()).await.header("location").to_owned();
    app.get(&location).await;
    let answer = app.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain"));
    let text = String::from_utf8(answer.body).unwrap();
    for expected in [
        "moe_gps_http_requests_total{method=\"GET\",route=\"/v1/recommendations/{id}\",status=\"200\"}",
        "moe_gps_http_request_duration_seconds_bucket",
        "moe_gps_jobs{status=\"succeeded\"}",
        "moe_gps_job_duration_seconds_bucket{outcome=\"succeeded\"",
        "moe_gps_questions_total{outcome=\"new\"}",
        "moe_gps_build_info{version=",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(!text.contains(&location), "a raw path became a label");
}

#[tokio::test]
async fn the_page_comes_from_the_program_alone() {
    let app = TestApp::start().await;
    let page = app.get("/docs").await;
    assert!(page.status.is_redirection());
    let page = app.get("/docs/").await;
    let text = String::from_utf8(page.body).unwrap();
    assert!(text.contains("swagger-ui"));
    assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
    for asset in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert_eq!(app.get(&format!("/docs/{asset}")).await.status, 200, "{asset}");
    }
    let script = app.get("/docs/swagger-initializer.js").await.body;
    assert!(String::from_utf8(script).unwrap().contains("/openapi.json"));
}

#[tokio::test]
async fn the_description_served_is_the_one_committed() {
    let app = TestApp::start().await;
    let served = String::from_utf8(app.get("/openapi.json").await.body).unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi");
    let refresh = "is not up to date; run the commands in openapi/README.md";
    let committed = std::fs::read_to_string(folder.join("moe-gps.v1.json")).unwrap();
    assert!(served == committed, "openapi/moe-gps.v1.json {refresh}");
    let operations = std::fs::read_to_string(folder.join("operations.txt")).unwrap();
    assert_eq!(moe_gps::http::openapi::operations(), operations, "operations.txt {refresh}");
    let description: serde_json::Value = serde_json::from_str(&served).unwrap();
    assert_eq!(description["openapi"], "3.1.0");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let app = TestApp::start().await;
    app.get("/v1/nothing").await.problem(404, "not-found");
    app.get("/v1/recommendations/nix").await.problem(404, "not-found");
    let answer = app.call("PATCH", "/v1/recommendations").await;
    answer.problem(405, "method-not-allowed");
    let allowed = answer.header("allow");
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made() {
    let app = TestApp::start().await;
    let with = |id: String| {
        let request = axum::http::Request::get("/livez").header("x-request-id", id);
        request.body(axum::body::Body::empty()).unwrap()
    };
    let echoed = app.send(with("abc-1".to_owned())).await;
    assert_eq!(echoed.header("x-request-id"), "abc-1");
    let replaced = app.send(with("x".repeat(1000))).await;
    assert_eq!(replaced.header("x-request-id").len(), 36);
}
