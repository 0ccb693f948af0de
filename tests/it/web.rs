//! The pages: what they say, what they load, and who may ask them.

use axum::body::Body;
use axum::http::Request;
use moe_gps::app::tokens::Scope;
use serde_json::{Value, json};

use crate::questions::of_the_paper;
use crate::support::{Answer, TestApp};
use crate::tokens::{token, until_closed};

const ACCEPT: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// Asks as a browser does, and looks at what holds of every page.
async fn page(app: &TestApp, path: &str) -> (Answer, String) {
    let request = Request::get(path).header("accept", ACCEPT).body(Body::empty()).unwrap();
    let answer = app.send(request).await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert_is_page(&answer, &text, path);
    (answer, text)
}

fn assert_is_page(answer: &Answer, text: &str, path: &str) {
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{path}");
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
    assert!(!policy.contains("unsafe"), "{path}: {policy}");
    for outside in ["http:", "https:", "=\"//", "@import", "style=\"", "<style", "onclick"] {
        assert!(!text.contains(outside), "{path} has {outside}");
    }
    assert!(text.contains("<html lang=\"en\">") && text.contains("<main id=\"main\">"), "{path}");
    assert_eq!(text.matches("<h1").count(), 1, "{path}");
    // Nobody waits for a page longer than for 100 KB.
    assert!(text.len() < 100_000, "{path}: {} bytes", text.len());
}

/// The paths of what a page loads.
fn loaded(text: &str) -> Vec<&str> {
    let parts = text.split("\"/assets/").skip(1);
    parts.map(|rest| rest.split('"').next().unwrap()).collect()
}

async fn answered(app: &TestApp, question: &Value) -> String {
    let job = app.ask_and_wait(question).await.json();
    assert_eq!(job["status"], "succeeded", "{job}");
    job["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_answer_is_a_page_for_a_browser_and_json_for_a_program() {
    let app = TestApp::start_advising().await;
    let mut question = of_the_paper();
    question["labels"] = json!({"team": "<script>alert(1)</script>"});
    let id = answered(&app, &question).await;
    let path = format!("/v1/recommendations/{id}");
    let (answer, text) = page(&app, &path).await;
    assert_eq!((answer.status.as_u16(), answer.header("vary")), (200, "accept"));
    assert!(text.contains("&lt;script&gt;alert(1)") && !text.contains("<script>alert"));
    let job = app.get(&path).await;
    assert_eq!(job.header("vary"), "accept");
    let job = job.json();
    let advice = &job["result"]["recommendation"];
    let strategy = advice["strategy"].as_str().unwrap();
    assert!(text.contains(&format!("<h1>Run <code>{strategy}</code></h1>")), "{text}");
    assert!(text.contains(advice["reason"].as_str().unwrap()));
    // The digits of the printed table, and a bar of every strategy.
    let strategies = job["result"]["strategies"].as_array().unwrap().iter();
    let latencies = strategies.filter_map(|entry| entry["layer_latency_s"].as_f64());
    for latency in latencies.map(|latency| latency * 1e6) {
        assert!(text.contains(&format!("<td>{latency:.1}</td>")), "{latency}");
        assert!(text.contains(&format!(">{latency:.1} µs</text>")), "{latency}");
    }
    for flip in job["result"]["flip_points"].as_array().unwrap() {
        let becomes = flip["becomes"].as_str().map(|name| format!(": to {name} at "));
        assert!(text.contains(becomes.as_deref().unwrap_or("does not change from")), "{flip}");
    }
    // A browser that has it gets nothing anew.
    let request = Request::get(&path).header("accept", ACCEPT);
    let request = request.header("if-none-match", answer.header("etag"));
    assert_eq!(app.send(request.body(Body::empty()).unwrap()).await.status, 304);
    let files = loaded(&text);
    assert!(!files.is_empty());
    for file in files {
        let asset = app.get(&format!("/assets/{file}")).await;
        assert_eq!(asset.status, 200, "{file}");
        assert!(asset.header("cache-control").contains("immutable"), "{file}");
    }
    app.get("/assets/style.css").await.problem(404, "not-found");
}

#[tokio::test]
async fn what_an_engine_runs_stands_on_the_page() {
    let app = TestApp::start_advising().await;
    let mut question: Value =
        serde_json::from_str(include_str!("../../examples/questions/map-in-force.json")).unwrap();
    question["cluster"]["devices"] = json!(4);
    let id = answered(&app, &question).await;
    let path = format!("/v1/recommendations/{id}");
    let (_, text) = page(&app, &path).await;
    let shell = app.get(&format!("{path}/launch?format=shell")).await;
    let shell = String::from_utf8(shell.body).unwrap();
    assert!(text.contains(&format!("<code>{}</code>", shell.trim().replace('"', "&quot;"))));
    for format in ["json", "sglang", "trtllm", "vllm_ascend"] {
        let file = format!("{path}/placement?format={format}");
        assert!(text.contains(&format!("href=\"{file}\" download")), "{format}");
        assert_eq!(app.get(&file).await.status, 200, "{format}");
    }
}

#[tokio::test]
async fn the_list_is_filtered_by_its_address() {
    let app = TestApp::start_advising().await;
    let (answer, empty) = page(&app, "/").await;
    assert!(answer.status == 200 && empty.contains("Nothing has been asked yet"));
    let mut question = of_the_paper();
    question["labels"] = json!({"fleet": "<i>"});
    let one = answered(&app, &question).await;
    question["routing"]["skewness"] = json!(2);
    question["labels"] = json!({"fleet": "west"});
    let two = answered(&app, &question).await;
    let (_, all) = page(&app, "/").await;
    assert!(all.contains(&one) && all.contains(&two) && all.contains("fleet: &lt;i&gt;"));
    let (_, some) = page(&app, "/?label=fleet:west&verdict=recommended").await;
    assert!(!some.contains(&one) && some.contains(&two));
    assert!(some.contains("<option value=\"recommended\" selected>"), "the filter is shown");
    let (_, first) = page(&app, "/?limit=1&label=fleet").await;
    let next = first.split("href=\"/?limit=1").nth(1).unwrap().split('"').next().unwrap();
    let (_, second) = page(&app, &format!("/?limit=1{}", next.replace("&amp;", "&"))).await;
    assert!(first.contains(&two) && !first.contains(&one) && second.contains(&one));
    // Empty fields of a form do not stay in the address.
    let answer = app.get("/?model=&q=mixtral&engine=").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/?q=mixtral"));
    let (answer, text) = page(&app, "/?verdict=perhaps").await;
    assert!(answer.status == 422 && text.contains("<code>/verdict</code>"), "{text}");
}

#[tokio::test]
async fn a_question_that_is_being_answered_shows_how_far_it_is() {
    let app = TestApp::start().await;
    let id = app.submit(&json!({"do": "wait", "until": app.gate("open")})).await;
    app.until(&id, "running").await;
    let path = format!("/v1/recommendations/{id}");
    let (answer, text) = page(&app, &path).await;
    assert_eq!(answer.status, 200);
    assert!(text.contains("hx-get") && text.contains(&format!("hx-get=\"{path}\"")), "{text}");
    assert!(text.contains("<noscript><meta http-equiv=\"refresh\""), "{text}");
    assert!(loaded(&text).iter().any(|name| name.starts_with("htmx")));
    app.call("DELETE", &path).await;
    app.until(&id, "canceled").await;
    let (_, text) = page(&app, &path).await;
    assert!(text.contains("was canceled") && !text.contains("hx-get"));
    let refused = app.submit(&json!({"do": "refuse"})).await;
    app.until(&refused, "failed").await;
    let (_, text) = page(&app, &format!("/v1/recommendations/{refused}")).await;
    assert!(text.contains("There is no answer") && text.contains("refused late"), "{text}");
}

#[tokio::test]
async fn an_error_is_a_page_for_a_browser() {
    let app = TestApp::start().await;
    for (path, status) in [
        ("/v1/recommendations/%3Cb%3Enix", 404),
        ("/nowhere", 404),
        ("/v1/recommendations?limit=0", 422),
        ("/assets/x", 404),
    ] {
        let (answer, text) = page(&app, path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(text.contains(&format!("Status {status}")) && !text.contains("<b>nix"), "{path}");
        let problem = app.get(path).await;
        assert_eq!(problem.header("content-type"), "application/problem+json");
    }
}

#[tokio::test]
async fn a_browser_signs_in_with_a_token_as_its_password() {
    use base64::Engine;
    let app = TestApp::start().await;
    let (_, secret) = token(&app, "a", Scope::Ask).await;
    until_closed(&app).await;
    for path in ["/", "/v1/recommendations", "/assets/x"] {
        let (answer, text) = page(&app, path).await;
        assert_eq!(answer.status, 401, "{path}");
        let challenges = answer.headers.get_all("www-authenticate").iter();
        assert!(challenges.into_iter().any(|one| one.to_str().unwrap().starts_with("Basic ")));
        assert!(text.contains("token"), "{text}");
    }
    let pair = base64::prelude::BASE64_STANDARD.encode(format!("anyone:{secret}"));
    let request = Request::get("/").header("authorization", format!("Basic {pair}"));
    let answer = app.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn changes_are_refused_to_pages_of_other_origins() {
    let app = TestApp::start_with(&["--allowed-hosts", "advice.example"]).await;
    let send = async |method: &str, host: &str, origin: &str, site: Option<&str>| {
        let mut request = Request::builder().method(method).uri("/v1/recommendations");
        request = request.header("host", host).header("origin", origin);
        request = request.header("content-type", "application/json");
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        app.send(request.body(Body::from(r#"{"do": "answer"}"#)).unwrap()).await.status.as_u16()
    };
    let ours = "localhost:8080";
    for (method, origin, site, allowed) in [
        ("POST", "http://localhost:8080", None, true),
        ("POST", "http://LOCALHOST:8080", Some("same-origin"), true),
        // Another service of this machine.
        ("POST", "http://localhost:3000", None, false),
        ("POST", "http://localhost:3000", Some("same-site"), false),
        ("POST", "https://evil.example", None, false),
        ("POST", "null", None, false),
        ("POST", "https://advice.example", Some("cross-site"), true),
        ("GET", "http://localhost:3000", None, true),
    ] {
        let status = send(method, ours, origin, site).await;
        assert_eq!(status != 403, allowed, "{method} {origin} {site:?}: {status}");
    }
}
