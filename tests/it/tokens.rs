//! Tokens: who is let in, what each scope may do, and that a service others can reach has one.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use moe_gps::app::clock::now_ms;
use moe_gps::app::tokens::{self, Scope};
use moe_gps::store::tokens::TokenRecord;
use serde_json::json;

use crate::support::{Answer, PATIENCE, TestApp};

pub(crate) async fn token(app: &TestApp, name: &str, scope: Scope) -> (TokenRecord, String) {
    tokens::create(&app.app.store, Some(name), scope).await.unwrap()
}

/// Asks with this token.
pub(crate) async fn with(
    app: &TestApp,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&serde_json::Value>,
) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = request.header("content-type", "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    app.send(request.body(body).unwrap()).await
}

/// Asks until the gate has seen that there is a token.
pub(crate) async fn until_closed(app: &TestApp) {
    let began = Instant::now();
    while app.get("/v1/models").await.status != 401 {
        assert!(began.elapsed() < Duration::from_secs(5), "still open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Looks until the gate knows of what has been made.
async fn until_status(app: &TestApp, token: &str, status: u16) {
    let began = Instant::now();
    while with(app, token, "GET", "/v1/models", None).await.status != status {
        assert!(began.elapsed() < Duration::from_secs(5), "still not {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_tokens_a_loopback_service_asks_for_none_and_with_one_it_does() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/v1/models").await.status, 200);
    let (_, reader) = token(&app, "reader", Scope::Read).await;
    until_closed(&app).await;
    for path in ["/v1/models", "/v1/recommendations", "/docs/", "/openapi.json", "/v1/nothing"] {
        let answer = app.get(path).await;
        answer.problem(401, "unauthenticated");
        let challenges = answer.headers.get_all("www-authenticate").iter();
        let challenges: Vec<_> = challenges.map(|value| value.to_str().unwrap()).collect();
        assert_eq!(challenges[0], "Bearer");
        assert!(challenges[1].starts_with("Basic realm=\"moe-gps\""), "{challenges:?}");
        assert_ne!(with(&app, &reader, "GET", path, None).await.status, 401, "{path}");
    }
    for path in ["/livez", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn scopes_bound_what_a_token_may_do() {
    let app = TestApp::start().await;
    let (_, reader) = token(&app, "r", Scope::Read).await;
    let (_, asker) = token(&app, "a", Scope::Ask).await;
    let (_, admin) = token(&app, "o", Scope::Admin).await;
    until_closed(&app).await;
    let question = json!({"do": "answer"});
    let refused = with(&app, &reader, "POST", "/v1/recommendations", Some(&question)).await;
    let problem = refused.problem(403, "forbidden");
    assert!(problem["detail"].as_str().unwrap().contains("`ask`"), "{problem}");
    let asked = with(&app, &asker, "POST", "/v1/recommendations", Some(&question)).await;
    assert_eq!(asked.status, 202);
    assert_eq!(with(&app, &reader, "GET", asked.header("location"), None).await.status, 200);
    for (method, path) in [("POST", "/v1/devices"), ("DELETE", "/v1/traces/nix")] {
        with(&app, &asker, method, path, Some(&json!({}))).await.problem(403, "forbidden");
        let answer = with(&app, &admin, method, path, Some(&json!({}))).await;
        assert!([404, 422].contains(&answer.status.as_u16()), "{path}");
    }
}

#[tokio::test]
async fn a_token_is_a_password_too_and_a_revoked_one_counts_no_more() {
    let app = TestApp::start().await;
    let (record, secret) = token(&app, "a", Scope::Ask).await;
    until_closed(&app).await;
    let basic = |pair: String| {
        use base64::Engine;
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair))
    };
    let send = async |value: String| {
        let request = Request::get("/v1/models").header("authorization", value);
        app.send(request.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    assert_eq!(send(basic(format!("anyone:{secret}"))).await, 200);
    let other = tokens::mint().unwrap().1;
    assert_eq!(send(basic(format!("anyone:{other}"))).await, 401);
    assert_eq!(send(format!("Bearer {secret}x")).await, 401);
    assert_eq!(send(format!("Digest {secret}")).await, 401);
    assert!(app.app.store.revoke_token(&record.id, now_ms()).await.unwrap());
    until_status(&app, &secret, 401).await;
    assert_eq!(app.get("/v1/models").await.status, 401, "it stays closed");
    assert!(!app.app.store.revoke_token(&record.id, now_ms()).await.unwrap());
}

#[tokio::test]
async fn the_metrics_may_be_guarded_and_authentication_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (_, secret) = tokens::mint().unwrap();
    std::fs::write(&file, format!("# of the cluster\n{secret} read scraper\n")).unwrap();
    let file = file.to_str().unwrap();
    let app = TestApp::start_with(&["--token-file", file, "--guard-metrics"]).await;
    app.get("/metrics").await.problem(401, "unauthenticated");
    assert_eq!(with(&app, &secret, "GET", "/metrics", None).await.status, 200);
    let asked = with(&app, &secret, "POST", "/v1/recommendations", Some(&json!({}))).await;
    asked.problem(403, "forbidden");
    let open = TestApp::start_with(&["--token-file", file, "--insecure-no-auth"]).await;
    assert_eq!(open.get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_on_loopback() {
    let app = TestApp::start_with(&["--allowed-hosts", "advice.example, b.example"]).await;
    let send = async |name: &str, value: &str| {
        let request = Request::get("/v1/models").header(name, value);
        app.send(request.body(Body::empty()).unwrap()).await
    };
    for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "ADVICE.example", "b.example:1"]
    {
        assert_eq!(send("host", host).await.status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "192.168.0.1:8080", "a b"] {
        send("host", host).await.problem(403, "forbidden");
    }
    for origin in ["http://localhost:8080", "https://advice.example"] {
        assert_eq!(send("origin", origin).await.status, 200, "{origin}");
    }
    for origin in ["https://evil.example", "null", "file://", ""] {
        send("origin", origin).await.problem(403, "forbidden");
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    command.args(arguments).env("MOE_GPS_LOG", "warn").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

/// Whether the service becomes ready with these arguments; else what it says.
fn serves(dir: &Path, arguments: &[&str]) -> Result<(), String> {
    let data = dir.to_str().unwrap();
    let mut all = vec!["serve", "--data-dir", data, "--drain-delay-s", "0"];
    all.extend_from_slice(arguments);
    let child = program(&all).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "neither ready nor ended");
        if dir.join("address").exists() {
            child.kill().unwrap();
            child.wait().unwrap();
            std::fs::remove_file(dir.join("address")).unwrap();
            return Ok(());
        }
        if child.try_wait().unwrap().is_some() {
            let said = child.wait_with_output().unwrap();
            return Err(String::from_utf8_lossy(&said.stderr).into_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_service_that_others_reach_starts_with_a_token_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let all = ["--listen", "0.0.0.0:0"];
    let said = serves(dir.path(), &all).unwrap_err();
    for word in ["is not loopback", "moe-gps token create", "--token-file", "--insecure-no-auth"] {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(serves(dir.path(), &["--listen", "127.0.0.1:0"]), Ok(()));
    assert_eq!(serves(dir.path(), &[&all[..], &["--insecure-no-auth"]].concat()), Ok(()));
    let file = dir.path().join("tokens");
    std::fs::write(&file, "short\n").unwrap();
    let named = [&all[..], &["--token-file", file.to_str().unwrap()]].concat();
    let said = serves(dir.path(), &named).unwrap_err();
    assert!(said.contains("line 1") && !said.contains("\"short\""), "{said}");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    assert_eq!(serves(dir.path(), &named), Ok(()));

    let made = output(&["token", "create", "--data-dir", data, "--name", "ci", "--scope", "ask"]);
    let secret = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let id = tokens::id_of(&secret).unwrap();
    assert_eq!(serves(dir.path(), &all), Ok(()));
    let listed = output(&["token", "list", "--data-dir", data]).stdout;
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.starts_with(&format!("{id}  ask    20")), "{listed}");
    assert!(!listed.contains(&secret[18..50]), "the secret is not kept");
    assert!(output(&["token", "revoke", id, "--data-dir", data]).status.success());
    assert_eq!(output(&["token", "revoke", id, "--data-dir", data]).status.code(), Some(1));
    let listed = output(&["token", "list", "--json", "--data-dir", data]).stdout;
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["scope"]), (&json!("ci"), &json!("ask")));
    assert!(listed[0]["revoked_at"].is_string());
    assert!(serves(dir.path(), &all).is_err(), "a revoked token is none");
    assert_eq!(output(&["token", "create", "--scope", "root"]).status.code(), Some(2));
}
