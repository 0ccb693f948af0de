//! Ask, follow, fetch again, list, cancel, delete.

use serde_json::{Value, json};

use crate::questions::of_the_paper;
use crate::support::TestApp;

/// The same with this seed.
fn seeded(seed: u64) -> Value {
    let mut question = of_the_paper();
    question["seed"] = json!(seed);
    question
}

#[tokio::test]
async fn a_question_that_waits_gets_its_result() {
    let app = TestApp::start_advising().await;
    let question = of_the_paper();
    let answer = app.ask_and_wait(&question).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("preference-applied"), "wait=15");
    let job = answer.json();
    assert_eq!(job["status"], "succeeded");
    assert_eq!(job["request"].to_string(), question.to_string(), "as it was asked");
    assert!(job["result"]["recommendation"]["strategy"].is_string());
    let path = answer.header("location").to_owned();
    assert_eq!(path, format!("/v1/recommendations/{}", job["id"].as_str().unwrap()));
    assert_eq!(app.get(&path).await.json(), job, "what is stored is what was answered");
}

#[tokio::test]
async fn a_question_that_does_not_wait_is_followed() {
    let app = TestApp::start().await;
    let gate = app.gate("go");
    let id = app.submit(&json!({"do": "wait", "until": gate})).await;
    let running = app.until(&id, "running").await;
    assert!(running.get("result").is_none() && running.get("finished_at").is_none());
    let waited = app.ask(&json!({"do": "wait", "until": gate}), &[("prefer", "wait=0")]).await;
    assert_eq!((waited.status.as_u16(), &waited.json()["id"]), (202, &json!(id)));
    std::fs::write(gate, "").unwrap();
    let done = app.until(&id, "succeeded").await;
    assert!(done.get("progress").is_none() && done["finished_at"].is_string());
}

#[tokio::test]
async fn progress_and_phase_are_visible_while_running() {
    let app = TestApp::start().await;
    let gate = app.gate("go");
    let id = app.submit(&json!({"do": "wait", "until": gate})).await;
    loop {
        let job = app.until(&id, "running").await;
        if job["phase"] == "waiting" {
            assert_eq!(job["progress"], 0.25);
            break;
        }
    }
    std::fs::write(gate, "").unwrap();
    app.until(&id, "succeeded").await;
}

#[tokio::test]
async fn equal_questions_share_one_job() {
    let app = TestApp::start_advising().await;
    let first = app.ask_and_wait(&of_the_paper()).await.json();
    // A written default, and another order of fields.
    let mut written = seeded(0);
    let model = written.as_object_mut().unwrap().shift_remove("model").unwrap();
    written["model"] = model;
    for question in [of_the_paper(), written] {
        let second = app.ask_and_wait(&question).await;
        assert_eq!((second.status.as_u16(), &second.json()), (200, &first));
    }
    assert_ne!(app.ask_and_wait(&seeded(1)).await.json()["id"], first["id"]);
}

#[tokio::test]
async fn equal_questions_at_once_share_one_job() {
    let app = TestApp::start_advising().await;
    let question = of_the_paper();
    let asked = (0..20).map(|_| app.ask_and_wait(&question));
    let answers = futures_util::future::join_all(asked).await;
    for answer in &answers {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, answers[0].body);
    }
}

#[tokio::test]
async fn finished_results_have_a_strong_etag() {
    let app = TestApp::start_advising().await;
    let location = app.ask_and_wait(&of_the_paper()).await.header("location").to_owned();
    let first = app.get(&location).await;
    let etag = first.header("etag");
    assert!(etag.starts_with('"') && etag.ends_with('"'));
    let request = axum::http::Request::get(&location)
        .header("if-none-match", etag)
        .body(axum::body::Body::empty())
        .unwrap();
    let known = app.send(request).await;
    assert_eq!((known.status.as_u16(), known.header("etag")), (304, etag));
    assert!(known.body.is_empty());
}

#[tokio::test]
async fn an_idempotency_key_replays_and_binds() {
    let app = TestApp::start().await;
    let key = [("idempotency-key", "\"k-1\"")];
    let question = json!({"do": "panic"});
    let id = app.ask(&question, &key).await.json()["id"].clone();
    app.until(id.as_str().unwrap(), "failed").await;
    let again = app.ask(&question, &key).await.json();
    assert_eq!(again["id"], id, "with the key the same job, although it failed");
    let fresh = app.ask(&question, &[]).await.json();
    assert_ne!(fresh["id"], id, "without the key a failed job is tried anew");
    let other = app.ask(&json!({"do": "answer"}), &key).await;
    let problem = other.problem(422, "invalid-question");
    assert_eq!(problem["violations"][0]["rule"], "idempotency_key");
}

#[tokio::test]
async fn past_recommendations_are_listed_newest_first_in_pages() {
    let app = TestApp::start_advising().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let mut question = seeded(n);
        if n % 2 == 1 {
            question["model"] = json!("phi-3.5-moe");
        }
        ids.push(app.ask_and_wait(&question).await.json()["id"].clone());
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/v1/recommendations?limit=2".to_owned();
    loop {
        let page = app.get(&path).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/recommendations?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let count = async |filter: &str| {
        let page = app.get(&format!("/v1/recommendations?{filter}")).await.json();
        page["items"].as_array().unwrap().len()
    };
    assert_eq!(count("model=phi-3.5-moe").await, 2);
    assert_eq!(count("device=a100-sxm4-80gb&status=succeeded").await, 5);
    let items = app.get("/v1/recommendations").await.json()["items"].clone();
    let of = |item: &Value| item["recommendation"]["strategy"].as_str().unwrap().to_owned();
    for strategy in ["none", "distribution_only", "token_to_expert"] {
        let recommended = items.as_array().unwrap().iter().filter(|item| of(item) == strategy);
        assert_eq!(count(&format!("strategy={strategy}")).await, recommended.count());
    }
    assert_eq!(count("trace_id=none").await, 0);
    assert_eq!(count("created_after=2020-01-01T00:00:00Z").await, 5);
    assert_eq!(count("created_before=2020-01-01T00:00:00%2B01:00").await, 0);
}

#[tokio::test]
async fn filters_that_mean_nothing_are_all_told() {
    let app = TestApp::start().await;
    let answer = app.get("/v1/recommendations?status=done&limit=-1&created_after=now").await;
    let problem = answer.problem(422, "invalid-question");
    assert_eq!(problem["violations"].as_array().unwrap().len(), 3);
    app.get("/v1/recommendations?colour=red").await.problem(422, "invalid-question");
}

#[tokio::test]
async fn a_plan_is_fetched_or_the_reason_why_there_is_none() {
    let app = TestApp::start().await;
    let plan = json!({"layers": [{"physical_to_logical": [0, 1, 1]}]});
    let with = app.ask_and_wait(&json!({"do": "answer", "plan": plan})).await;
    let path = format!("{}/placement", with.header("location"));
    assert_eq!(app.get(&path).await.json(), plan);
    assert_eq!(app.get(&format!("{path}?format=json")).await.json(), plan);
    let other = app.get(&format!("{path}?format=toml")).await;
    let problem = other.problem(422, "invalid-question");
    assert!(problem["violations"][0]["detail"].as_str().unwrap().contains("json"));
    let without = app.ask_and_wait(&json!({"do": "answer"})).await;
    app.get(&format!("{}/placement", without.header("location"))).await.problem(404, "not-found");
    let id = app.submit(&json!({"do": "wait"})).await;
    app.get(&format!("/v1/recommendations/{id}/placement")).await.problem(409, "conflict");
    app.get("/v1/recommendations/nix/placement").await.problem(404, "not-found");
}

#[tokio::test]
async fn the_formulas_of_the_paper_place_no_experts() {
    let app = TestApp::start_advising().await;
    let path = app.ask_and_wait(&of_the_paper()).await.header("location").to_owned();
    let problem = app.get(&format!("{path}/placement")).await.problem(404, "not-found");
    assert!(problem["detail"].as_str().unwrap().contains("paper preset"), "{problem}");
}

#[tokio::test]
async fn finished_recommendations_are_deleted() {
    let app = TestApp::start_advising().await;
    let path = app.ask_and_wait(&of_the_paper()).await.header("location").to_owned();
    assert_eq!(app.call("DELETE", &path).await.status, 204);
    app.get(&path).await.problem(404, "not-found");
    app.call("DELETE", &path).await.problem(404, "not-found");
    let again = app.ask_and_wait(&of_the_paper()).await;
    assert_eq!(again.status, 200, "a deleted answer can be asked for again");
    assert_ne!(again.header("location"), path);
}
