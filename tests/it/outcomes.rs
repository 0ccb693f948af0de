//! What was measured after an answer, beside what it had said.

use std::process::Command;

use axum::http::Request;
use serde_json::{Value, json};

use crate::questions::{mixtral, of_the_paper};
use crate::support::TestApp;

async fn report(app: &TestApp, id: &str, outcome: &Value) -> crate::support::Answer {
    app.post_json(&format!("/v1/recommendations/{id}/outcomes"), outcome, &[]).await
}

async fn asked(app: &TestApp, question: &Value) -> Value {
    let job = app.ask_and_wait(question).await.json();
    assert_eq!(job["status"], "succeeded", "{job}");
    job
}

fn latency(job: &Value, strategy: &str) -> f64 {
    let all = job["result"]["strategies"].as_array().unwrap();
    let one = all.iter().find(|one| one["strategy"] == strategy).unwrap();
    one["model_latency_s"].as_f64().unwrap()
}

#[tokio::test]
async fn what_was_measured_stands_beside_the_forecast() {
    let app = TestApp::start_advising().await;
    let mut question = mixtral();
    question["workload"] = json!({"phase": "decode", "batch_size": 64, "kv_length": 2048});
    let job = asked(&app, &question).await;
    let id = job["id"].as_str().unwrap();
    let path = format!("/v1/recommendations/{id}");
    let tag = app.get(&path).await.header("etag").to_owned();
    assert!(job.get("outcomes").is_none(), "{job}");

    let forecast = latency(&job, "none");
    let outcome = json!({"strategy": "none", "step_s": forecast / 1.25, "steps": 5000,
                         "note": "vLLM 0.33, 64 clients"});
    let answer = report(&app, id, &outcome).await;
    assert_eq!(answer.status, 201);
    let kept = answer.json();
    assert!((kept["forecast_error"].as_f64().unwrap() - 0.25).abs() < 1e-9, "{kept}");
    assert_eq!(kept["forecast_s"].as_f64(), Some(forecast));
    for field in ["strategy", "step_s", "steps", "note"] {
        assert_eq!(kept[field], outcome[field], "{kept}");
    }
    // A step of decode yields a token.
    let second = json!({"strategy": "replace_only", "tpot_s": 0.05});
    let second = report(&app, id, &second).await.json();
    assert_eq!(second["forecast_s"].as_f64(), Some(latency(&job, "replace_only")));
    assert_eq!(second["tpot_s"], 0.05);

    let seen = app.get(&path).await;
    assert_ne!(seen.header("etag"), tag);
    assert_eq!(seen.json()["outcomes"], json!([kept, second]));
    assert_eq!(seen.json()["result"], job["result"], "the answer is as it was");
    let page = app.get("/v1/recommendations").await.json();
    assert_eq!(page["items"][0]["outcomes"], json!([kept, second]));
    let again = app.ask_and_wait(&question).await.json();
    assert_eq!(again["outcomes"], json!([kept, second]));

    // On the pages, too, in milliseconds and percent.
    let html = async |path: &str| {
        let request = Request::get(path).header("accept", "text/html");
        let page = app.send(request.body(axum::body::Body::empty()).unwrap()).await;
        String::from_utf8(page.body).unwrap()
    };
    let shown = html(&path).await;
    assert!(shown.contains("What was measured, beside the forecast"), "{shown}");
    let measured = format!("{:.3}", 1e3 * forecast / 1.25);
    for cell in [measured.as_str(), &format!("{:.3}", 1e3 * forecast), "+25.0 %", "5000"] {
        assert!(shown.contains(&format!("<td>{cell}</td>")), "{cell}: {shown}");
    }
    let list = html("/").await;
    assert!(list.contains("Forecast off") && list.contains(&measured), "{list}");

    // Exported, they are what `validate` reads.
    let request = Request::get("/v1/recommendations").header("accept", "application/x-ndjson");
    let export = app.send(request.body(axum::body::Body::empty()).unwrap()).await.body;
    let file = app.dir.path().join("outcomes.ndjson");
    std::fs::write(&file, export).unwrap();
    let run = |flags: &[&str]| {
        let mut line = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
        let output = line.arg("validate").arg(&file).args(flags).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (done, lines) = run(&["--json"]);
    assert!(done);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| lines.iter().find(|line| line["strategy"] == name).unwrap();
    assert_eq!(lines.len(), 2);
    assert!((of("none")["mean_error"].as_f64().unwrap() - 0.25).abs() < 1e-9, "{lines:?}");
    assert_eq!(of("none")["outcomes"], 1);
    let expected = latency(&job, "replace_only") / 0.05 - 1.0;
    assert!((of("replace_only")["worst_error"].as_f64().unwrap() - expected).abs() < 1e-9);
    let (done, table) = run(&[]);
    assert!(done && table.contains("replace_only") && table.contains("+25.0"), "{table}");
    std::fs::write(&file, "{\"items\": []}").unwrap();
    assert!(!run(&[]).0, "a file without outcomes is said to be one");

    assert_eq!(app.call("DELETE", &path).await.status, 204);
    report(&app, id, &outcome).await.problem(404, "not-found");
}

#[tokio::test]
async fn an_outcome_without_a_forecast_is_kept_and_says_so() {
    let app = TestApp::start_advising().await;
    // A step of prefill has no time between tokens.
    let job = asked(&app, &of_the_paper()).await;
    let id = job["id"].as_str().unwrap();
    let kept = report(&app, id, &json!({"strategy": "none", "tpot_s": 0.1})).await;
    assert_eq!(kept.status, 201);
    assert_eq!(kept.json()["forecast_s"], Value::Null);
    assert_eq!(kept.json()["forecast_error"], Value::Null);
}

#[tokio::test]
async fn outcomes_that_mean_nothing_are_refused() {
    let app = TestApp::start_advising().await;
    let id = asked(&app, &of_the_paper()).await["id"].as_str().unwrap().to_owned();
    for (body, pointer, rule) in [
        (json!({"step_s": 0.1}), "", "required"),
        (json!({"strategy": "best", "step_s": 0.1}), "/strategy", "choice"),
        (json!({"strategy": "none"}), "", "required"),
        (json!({"strategy": "none", "step_s": 0.1, "tpot_s": 0.1}), "", "choice"),
        (json!({"strategy": "none", "step_s": 0}), "/step_s", "range"),
        (json!({"strategy": "none", "step_s": -1}), "/step_s", "range"),
        (json!({"strategy": "none", "step_s": "fast"}), "/step_s", "type"),
        (json!({"strategy": "none", "step_s": 0.1, "steps": 0}), "/steps", "range"),
        (json!({"strategy": "none", "step_s": 0.1, "note": 7}), "/note", "type"),
        (json!({"strategy": "none", "step_s": 0.1, "speed": 7}), "/speed", "unknown_field"),
        (json!([]), "", "type"),
    ] {
        let problem = report(&app, &id, &body).await.problem(422, "invalid-question");
        let first = &problem["violations"][0];
        assert_eq!(
            (&first["pointer"], &first["rule"]),
            (&json!(pointer), &json!(rule)),
            "{problem}"
        );
    }
    report(&app, "0192abcd", &json!({"strategy": "none", "step_s": 1}))
        .await
        .problem(404, "not-found");
    app.hold_worker("go").await;
    let running = app.get("/v1/recommendations?status=running").await.json();
    let running = running["items"][0]["id"].as_str().unwrap();
    let body = json!({"strategy": "none", "step_s": 1});
    report(&app, running, &body).await.problem(409, "conflict");
    std::fs::write(app.gate("go"), "").unwrap();
}

#[tokio::test]
async fn what_a_list_shows_can_be_withdrawn_at_once() {
    let app = TestApp::start_with(&["--workers", "1"]).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let model = if n % 2 == 0 { "mixtral-8x7b" } else { "olmoe-1b-7b" };
        let asked = json!({"do": "answer", "n": n, "model": model, "labels": {"n": n.to_string()}});
        ids.push(app.ask_and_wait(&asked).await.json()["id"].clone());
    }
    app.hold_worker("go").await;
    let waiting = app.submit(&json!({"do": "answer", "n": 100})).await;
    for (query, pointer) in [
        ("", ""),
        ("?model=", ""),
        ("?model=x&limit=5", "/limit"),
        ("?status=done", "/status"),
        ("?speed=5", "/speed"),
    ] {
        let refused = app.call("DELETE", &format!("/v1/recommendations{query}")).await;
        let problem = refused.problem(422, "invalid-question");
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{problem}");
    }
    let withdrawn =
        |n: u64, canceled: u64| json!({"withdrawn": n, "canceled": canceled, "more": false});
    let delete = async |query: &str| {
        let answer = app.call("DELETE", &format!("/v1/recommendations?{query}")).await;
        assert_eq!(answer.status, 200);
        answer.json()
    };
    assert_eq!(delete("label=n:0").await, withdrawn(1, 0));
    assert_eq!(delete("model=olmoe-1b-7b").await, withdrawn(3, 0));
    assert_eq!(delete("model=olmoe-1b-7b").await, withdrawn(0, 0));
    assert_eq!(delete("status=queued").await, withdrawn(1, 1));
    let canceled = app.get(&format!("/v1/recommendations/{waiting}")).await.json();
    assert_eq!(canceled["status"], "canceled");
    assert_eq!(delete("created_before=2100-01-01&status=canceled").await, withdrawn(1, 0));
    assert_eq!(delete("status=running").await, withdrawn(1, 1));
    let page = app.get("/v1/recommendations").await.json();
    let left = page["items"].as_array().unwrap().iter().map(|item| item["id"].clone());
    let left: Vec<Value> = left.collect();
    assert_eq!(left[1..], [ids[4].clone(), ids[2].clone()]);
}
