//! Asks apart from answers: who asked, under which labels, and what goes when one withdraws.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::Request;
use moe_gps::app::tokens::Scope;
use moe_gps::wire::job::Status;
use moe_gps::wire::listing::CheckedListQuery;
use serde_json::{Value, json};

use crate::questions;
use crate::support::{Answer, TestApp};
use crate::tokens::{token, until_closed, with};

/// The service with one worker and two who ask, and one who may see all.
async fn shared(flags: &[&str]) -> (TestApp, [String; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let app = TestApp::start_advising_in(dir, &[&["--workers", "1"], flags].concat()).await;
    let (_, alice) = token(&app, "alice", Scope::Ask).await;
    let (_, bob) = token(&app, "bob", Scope::Ask).await;
    let (_, admin) = token(&app, "admin", Scope::Admin).await;
    until_closed(&app).await;
    (app, [alice, bob, admin])
}

async fn ask(app: &TestApp, token: &str, question: &Value) -> Answer {
    with(app, token, "POST", "/v1/recommendations", Some(question)).await
}

async fn list(app: &TestApp, token: &str, query: &str) -> Vec<Value> {
    let answer = with(app, token, "GET", &format!("/v1/recommendations{query}"), None).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["items"].as_array().unwrap().clone()
}

fn labeled(labels: &Value) -> Value {
    json!({"do": "answer", "labels": labels})
}

/// Asks and follows to the end; the path of the answer.
async fn answered(app: &TestApp, token: &str, question: &Value) -> String {
    let path = ask(app, token, question).await.header("location").to_owned();
    loop {
        let job = with(app, token, "GET", &path, None).await.json();
        if job.get("finished_at").is_some() {
            return path;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn two_who_ask_the_same_share_the_answer_and_nothing_else() {
    let (app, [alice, bob, admin]) = shared(&[]).await;
    let path = answered(&app, &alice, &labeled(&json!({"team": "a"}))).await;
    assert_eq!(answered(&app, &bob, &labeled(&json!({"team": "b", "run": "7"}))).await, path);
    assert_eq!(app.advisor.begun.load(Ordering::SeqCst), 1, "one computation");
    for (token, labels) in
        [(&alice, json!({"team": "a"})), (&bob, json!({"run": "7", "team": "b"}))]
    {
        let job = with(&app, token, "GET", &path, None).await.json();
        assert_eq!(job["labels"], labels);
        assert!(job["request"].get("labels").is_none(), "labels are no part of the question");
        let items = list(&app, token, "").await;
        assert_eq!(items.len(), 1);
        assert_eq!(items[0]["labels"], labels);
    }
    let all = list(&app, &admin, "").await;
    let principals: Vec<_> = all.iter().map(|item| item["principal"].as_str().unwrap()).collect();
    assert_eq!(principals, ["bob", "alice"]);
    assert_eq!(with(&app, &admin, "GET", &path, None).await.json().get("labels"), None);

    assert_eq!(with(&app, &alice, "DELETE", &path, None).await.status, 204);
    assert_eq!(list(&app, &alice, "").await, Vec::<Value>::new());
    assert_eq!(with(&app, &bob, "GET", &path, None).await.status, 200);
    assert_eq!(list(&app, &bob, "").await.len(), 1);
    with(&app, &alice, "DELETE", &path, None).await.problem(403, "forbidden");
    assert_eq!(with(&app, &bob, "DELETE", &path, None).await.status, 204);
    with(&app, &bob, "GET", &path, None).await.problem(404, "not-found");
    with(&app, &bob, "DELETE", &path, None).await.problem(404, "not-found");
}

#[tokio::test]
async fn an_admin_deletes_what_others_asked_for() {
    let (app, [alice, bob, admin]) = shared(&[]).await;
    let path = answered(&app, &alice, &labeled(&json!({}))).await;
    with(&app, &bob, "DELETE", &path, None).await.problem(403, "forbidden");
    assert_eq!(with(&app, &admin, "DELETE", &path, None).await.status, 204);
    with(&app, &alice, "GET", &path, None).await.problem(404, "not-found");
}

#[tokio::test]
async fn labels_are_put_and_found() {
    let (app, [alice, bob, _]) = shared(&[]).await;
    let path = answered(&app, &alice, &labeled(&json!({"team": "a"}))).await;
    let labels = format!("{path}/labels");
    let put = async |token: &str, body: &Value| with(&app, token, "PUT", &labels, Some(body)).await;
    put(&bob, &json!({"x": "y"})).await.problem(404, "not-found");
    let refused = put(&alice, &json!({"a b": "", "c": 1})).await.problem(422, "invalid-question");
    assert_eq!(refused["violations"][1]["pointer"], "/c");
    let kept = put(&alice, &json!({"note": "say \"x:y\", please", "team": "b"})).await;
    assert_eq!(kept.status, 200);
    assert_eq!(with(&app, &alice, "GET", &path, None).await.json()["labels"], kept.json());
    for (filter, n) in [
        ("?label=team:b", 1),
        ("?label=team:a", 0),
        ("?label=team", 1),
        ("?label=tea", 0),
        ("?label=note:say", 0),
        ("?label=x:y", 0),
        ("?q=PLEASE", 1),
        ("?q=100%25", 0),
    ] {
        assert_eq!(list(&app, &alice, filter).await.len(), n, "{filter}");
    }
    // Asked again without labels they stay, with others they are replaced.
    ask(&app, &alice, &json!({"do": "answer"})).await;
    assert_eq!(list(&app, &alice, "?label=team:b").await.len(), 1);
    ask(&app, &alice, &labeled(&json!({"team": "c"}))).await;
    assert_eq!(list(&app, &alice, "?label=team:c").await.len(), 1);
    let mut bad = questions::mixtral();
    bad["labels"] = json!({"team": 1});
    let refused = ask(&app, &alice, &bad).await.problem(422, "invalid-question");
    assert_eq!(refused["violations"][0]["pointer"], "/labels/team");
    let cleared = put(&alice, &json!({"labels": {}})).await;
    assert_eq!(cleared.json(), json!({}));
    assert_eq!(with(&app, &alice, "GET", &path, None).await.json().get("labels"), None);
}

#[tokio::test]
async fn a_job_goes_on_as_long_as_somebody_asks_for_it() {
    let (app, [alice, bob, _]) = shared(&[]).await;
    let question = json!({"do": "wait", "until": app.gate("go")});
    let path = ask(&app, &alice, &question).await.header("location").to_owned();
    ask(&app, &bob, &question).await;
    assert_eq!(with(&app, &alice, "DELETE", &path, None).await.status, 204);
    let status = with(&app, &bob, "GET", &path, None).await.json()["status"].clone();
    assert!(["queued", "running"].contains(&status.as_str().unwrap()), "{status}");
    let canceled = with(&app, &bob, "DELETE", &path, None).await;
    assert_eq!((canceled.status.as_u16(), &canceled.json()["status"]), (200, &json!("canceled")));
}

#[tokio::test]
async fn a_key_is_its_holders_own_and_outlives_the_answer() {
    let (app, [alice, bob, _]) = shared(&[]).await;
    let send = async |token: &str, question: &Value| {
        let request = Request::post("/v1/recommendations").header("idempotency-key", "k");
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.header("content-type", "application/json");
        app.send(request.body(Body::from(question.to_string())).unwrap()).await
    };
    let one = json!({"do": "answer", "n": 1});
    let first = send(&alice, &one).await.header("location").to_owned();
    assert_eq!(send(&bob, &json!({"do": "answer", "n": 2})).await.status, 202, "another's key");
    send(&alice, &json!({"do": "answer", "n": 3})).await.problem(422, "invalid-question");
    answered(&app, &alice, &one).await;
    assert_eq!(with(&app, &alice, "DELETE", &first, None).await.status, 204);
    send(&alice, &json!({"do": "answer", "n": 3})).await.problem(422, "invalid-question");
    let again = send(&alice, &one).await.header("location").to_owned();
    assert_ne!(again, first);
    assert_eq!(send(&alice, &one).await.header("location"), again);
}

#[tokio::test]
async fn one_holder_does_not_fill_the_queue_for_all() {
    let (app, [alice, bob, _]) = shared(&["--queue-limit-per-principal", "2"]).await;
    let held = json!({"do": "wait", "until": app.gate("go")});
    let path = ask(&app, &alice, &held).await.header("location").to_owned();
    while with(&app, &alice, "GET", &path, None).await.json()["status"] != "running" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for n in 0..2 {
        assert_eq!(ask(&app, &alice, &json!({"do": "answer", "n": n})).await.status, 202);
    }
    let refused = ask(&app, &alice, &json!({"do": "answer", "n": 2})).await;
    refused.problem(429, "too-many-queued");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(ask(&app, &alice, &json!({"do": "answer", "n": 1})).await.status, 202, "known");
    assert_eq!(ask(&app, &bob, &json!({"do": "answer", "n": 2})).await.status, 202);
    std::fs::write(app.gate("go"), "").unwrap();
}

fn engined(engine: &str, devices: u32, phase: &str) -> Value {
    let mut question = questions::mixtral();
    question["cluster"]["devices"] = json!(devices);
    question["engine"] = json!({"name": engine});
    if phase == "decode" {
        question["workload"] = questions::mixtral_decode()["workload"].clone();
    }
    question["flip_points"] = json!(false);
    question
}

#[tokio::test]
async fn lists_show_and_filter_what_was_asked() {
    let app = TestApp::start_advising().await;
    for question in [engined("vLLM", 4, "prefill"), engined("sglang", 8, "decode")] {
        assert_eq!(app.ask_and_wait(&question).await.status, 200);
    }
    let items = app.get("/v1/recommendations").await.json()["items"].clone();
    let newest = &items[0];
    assert_eq!((&newest["engine"], &newest["devices"]), (&json!("sglang"), &json!(8)));
    assert_eq!(newest["workload"], questions::mixtral_decode()["workload"]);
    assert_eq!(newest["verdict"], newest["recommendation"]["verdict"]);
    assert_eq!(newest["gain"], newest["recommendation"]["gain"]);
    assert_eq!(items[1]["engine"], "vllm", "by its id");
    let verdict = newest["verdict"].as_str().unwrap();
    let same = items.as_array().unwrap().iter().filter(|item| item["verdict"] == verdict).count();
    let id = newest["id"].as_str().unwrap();
    for (filter, n) in [
        ("engine=vllm".to_owned(), 1),
        ("engine=VLLM".to_owned(), 1),
        ("engine=tensorrt-llm".to_owned(), 0),
        ("phase=decode".to_owned(), 1),
        ("devices=4".to_owned(), 1),
        ("devices=4&phase=decode".to_owned(), 0),
        (format!("verdict={verdict}"), same),
        ("q=SGLang".to_owned(), 1),
        ("q=mixtral".to_owned(), 2),
        ("q=m_xtral".to_owned(), 0),
        (format!("q={id}"), 1),
    ] {
        let page = app.get(&format!("/v1/recommendations?{filter}")).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), n, "{filter}");
    }
    for (filter, pointer) in [
        ("engine=ollama", "/engine"),
        ("phase=training", "/phase"),
        ("devices=0", "/devices"),
        ("verdict=maybe", "/verdict"),
        ("label=a%20b", "/label"),
    ] {
        let problem = app.get(&format!("/v1/recommendations?{filter}")).await;
        let problem = problem.problem(422, "invalid-question");
        assert_eq!(problem["violations"][0]["pointer"], pointer, "{filter}");
    }
}

#[tokio::test]
async fn a_filter_that_few_pass_ends_its_page_early_and_goes_on() {
    let app = TestApp::start().await;
    for n in 0..5 {
        let what = if n == 0 { "panic" } else { "answer" };
        app.ask_and_wait(&json!({"do": what, "n": n})).await;
    }
    let mut filter = CheckedListQuery { limit: 10, ..CheckedListQuery::default() };
    filter.status = Some(Status::Failed);
    let mut sizes = Vec::new();
    loop {
        let page = app.app.store.list_asks(Some("local"), &filter, 2).await.unwrap();
        sizes.push(page.items.len());
        let Some(next) = page.next else { break };
        filter.cursor = Some(next);
    }
    assert_eq!(sizes, [0, 0, 1]);
    filter.cursor = None;
    let whole = app.app.store.list_asks(None, &filter, 5).await.unwrap();
    assert_eq!((whole.items.len(), whole.next), (1, None));
    // With those of all, an index leads to the status.
    let indexed = app.app.store.list_asks(None, &filter, 2).await.unwrap();
    assert_eq!((indexed.items.len(), indexed.next), (1, None));
}

async fn accepting(app: &TestApp, path: &str, accept: &str) -> Answer {
    let request = Request::get(path).header("accept", accept);
    app.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn lists_are_exported_as_lines_and_as_a_table() {
    let app = TestApp::start_advising().await;
    let mut question = engined("vllm", 4, "prefill");
    question["labels"] = json!({"note": "a,\"b\""});
    let id = app.ask_and_wait(&question).await.json()["id"].clone();
    app.ask_and_wait(&questions::of_the_paper()).await;
    let path = "/v1/recommendations?limit=1";
    let lines = accepting(&app, path, "application/x-ndjson").await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let text = String::from_utf8(lines.body.clone()).unwrap();
    let items = app.get(path).await.json()["items"].clone();
    let read: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(read), items);
    let link = lines.header("link");
    let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    let table = accepting(&app, next, "text/csv").await;
    assert_eq!(table.header("content-type"), "text/csv; charset=utf-8");
    assert!(table.headers.get("link").is_none());
    let item = app.get(next).await.json()["items"][0].clone();
    let mut reader = csv::Reader::from_reader(&table.body[..]);
    let heads = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    let cell = |name: &str| rows[0].get(heads.iter().position(|head| head == name).unwrap());
    assert_eq!(cell("id"), id.as_str());
    assert_eq!(cell("engine"), Some("vllm"));
    assert_eq!(cell("phase"), Some("prefill"));
    assert_eq!(cell("strategy"), item["recommendation"]["strategy"].as_str());
    assert_eq!(cell("labels"), Some("{\"note\":\"a,\\\"b\\\"\"}"));
    let mid: f64 = cell("gain_mid").unwrap().parse().unwrap();
    assert_eq!(Some(mid), item["gain"]["mid"].as_f64());
}

#[tokio::test]
async fn two_recommendations_are_compared() {
    let app = TestApp::start_advising().await;
    let id = async |question: &Value| {
        app.ask_and_wait(question).await.json()["id"].as_str().unwrap().to_owned()
    };
    let (one, mut other) = (questions::of_the_paper(), questions::of_the_paper());
    other["routing"]["skewness"] = json!(2.5);
    other["seed"] = json!(0);
    let mut third = other.clone();
    third["seed"] = json!(1);
    let (a, b) = (id(&one).await, id(&other).await);
    let path = format!("/v1/recommendations/compare?a={a}&b={b}");
    let compared = app.get(&path).await.json();
    assert_eq!(
        compared["question"],
        json!([{"pointer": "/routing/skewness", "a": 1.39, "b": 2.5}, {"pointer": "/seed", "b": 0}])
    );
    assert_eq!(compared["provenance"], json!([]));
    let results = [&a, &b].map(|id| format!("/v1/recommendations/{id}"));
    let results = [app.get(&results[0]).await.json(), app.get(&results[1]).await.json()];
    for (side, job) in ["a", "b"].into_iter().zip(&results) {
        let advised = &job["result"]["recommendation"];
        assert_eq!(compared["choice"][side]["strategy"], advised["strategy"]);
        assert_eq!(compared["choice"][side]["reason"], advised["reason"]);
        for (n, entry) in job["result"]["strategies"].as_array().unwrap().iter().enumerate() {
            let shown = &compared["strategies"][n];
            assert_eq!(shown["strategy"], entry["strategy"]);
            assert_eq!(shown["layer_latency_s"][side], entry["layer_latency_s"]);
            for (name, term) in shown["terms"].as_object().unwrap() {
                assert_eq!(term[side], entry["terms"][name], "{name}");
            }
        }
    }
    let none = &compared["strategies"][0]["layer_latency_s"];
    let ratio = none["b"].as_f64().unwrap() / none["a"].as_f64().unwrap();
    assert_eq!(none["ratio"], ratio);
    assert!(ratio > 1.0, "a skewer load takes longer");
    let same = app.get(&format!("/v1/recommendations/compare?a={a}&b={a}")).await.json();
    assert_eq!((&same["question"], &same["choice_differs"]), (&json!([]), &json!(false)));

    let problem = app.get("/v1/recommendations/compare").await.problem(422, "invalid-question");
    assert_eq!(problem["violations"].as_array().unwrap().len(), 2);
    let absent = app.get(&format!("/v1/recommendations/compare?a={a}&b=nix")).await;
    absent.problem(404, "not-found");
    let held = app.submit(&json!({"do": "wait", "until": app.gate("go")})).await;
    let early = app.get(&format!("/v1/recommendations/compare?a={a}&b={held}")).await;
    early.problem(409, "conflict");
}

#[tokio::test]
async fn step_times_are_those_of_the_questions_they_stand_for() {
    let app = TestApp::start_advising().await;
    let question = engined("vllm", 4, "prefill");
    let id = app.ask_and_wait(&question).await.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/recommendations/{id}/step-times");
    let table = app.get(&format!("{path}?sequences=4,64&tokens=8192,100&kv=2048")).await;
    assert_eq!(table.header("content-type"), "text/csv; charset=utf-8");
    let mut reader = csv::Reader::from_reader(&table.body[..]);
    let rows: Vec<Vec<String>> =
        reader.records().map(|row| row.unwrap().iter().map(ToOwned::to_owned).collect()).collect();
    let step = |batch: [&str; 4], strategy: &str| {
        let row = rows.iter().find(|row| row[..4] == batch && row[4] == strategy);
        row.map(|row| row[6].parse::<f64>().unwrap())
    };
    // The batch of the question itself, and one of decode that is asked for here.
    let mut decode = engined("vllm", 4, "decode");
    decode["workload"] = json!({"phase": "decode", "batch_size": 64, "kv_length": 2048});
    let mut prefill = question.clone();
    prefill["workload"] = json!({"phase": "prefill", "batch_size": 4, "sequence_length": 2048});
    for (asked, batch) in
        [(&prefill, ["prefill", "8192", "4", "0"]), (&decode, ["decode", "64", "64", "2048"])]
    {
        let answer = app.ask_and_wait(asked).await.json();
        for entry in answer["result"]["strategies"].as_array().unwrap() {
            if !entry["predictor"].is_null() {
                continue;
            }
            let strategy = entry["strategy"].as_str().unwrap();
            assert_eq!(step(batch, strategy), entry["model_latency_s"].as_f64(), "{strategy}");
        }
    }
    assert_eq!(step(["prefill", "100", "64", "0"], "none"), None, "no whole prompts");
    assert!(step(["prefill", "100", "4", "0"], "none").is_some());
    let problem = app.get(&path).await.problem(422, "invalid-question");
    assert_eq!(problem["violations"][0]["pointer"], "/sequences");
    let absent = app.get("/v1/recommendations/nix/step-times?sequences=1&kv=1").await;
    absent.problem(404, "not-found");
}
