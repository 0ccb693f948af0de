//! Accepted means ended once, with the inputs its digest names, whatever else is asked meanwhile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::devices::{self, keep, profile};
use crate::fitted::{self, classes, one_hot};
use crate::support::{Answer, TestApp};
use crate::traces::upload;

/// The service with one worker.
async fn single() -> TestApp {
    TestApp::start_advising_in(tempfile::tempdir().unwrap(), &["--workers", "1"]).await
}

/// The same, busy until `go` is opened.
async fn held() -> TestApp {
    let app = single().await;
    app.hold_worker("go").await;
    app
}

fn open(app: &TestApp) {
    std::fs::write(app.gate("go"), "").unwrap();
}

/// The end of a job, which is success.
async fn success(app: &TestApp, id: &str) -> Value {
    let path = format!("/v1/recommendations/{id}");
    loop {
        let job = app.get(&path).await.json();
        if job.get("finished_at").is_some() {
            assert_eq!(job["status"], "succeeded", "{job}");
            return job;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn latency(job: &Value) -> f64 {
    job["result"]["strategies"][0]["layer_latency_s"].as_f64().unwrap()
}

/// Another profile with the same id.
fn slower(id: &str) -> Value {
    let mut document = profile(id);
    document["bandwidth_bytes_per_s"] = json!(1e12);
    document
}

#[tokio::test]
async fn a_job_is_computed_with_the_device_it_was_asked_with() {
    let app = held().await;
    let asked = devices::question(&json!("mine"));
    keep(&app, &profile("mine")).await;
    let first = app.submit(&asked).await;
    assert_eq!(app.call("DELETE", "/v1/devices/mine").await.status, 204);
    assert_eq!(keep(&app, &slower("mine")).await.status, 201);
    let second = app.submit(&asked).await;
    assert_eq!(app.call("DELETE", "/v1/devices/mine").await.status, 204);
    open(&app);
    let (first, second) = (success(&app, &first).await, success(&app, &second).await);
    assert!(latency(&first) < latency(&second));
    for (document, job) in [(profile("mine"), first), (slower("mine"), second)] {
        let same = app.ask_and_wait(&devices::question(&document)).await.json();
        assert_eq!(same["id"], job["id"]);
    }
}

#[tokio::test]
async fn a_device_that_changes_while_it_is_asked_changes_no_answer() {
    let app = single().await;
    let seeded = |device: &Value, seed: u64| {
        let mut question = devices::question(device);
        question["seed"] = json!(seed);
        question
    };
    let n_asked = 24;
    let changing = async {
        for n in 0..n_asked {
            let document = if n % 2 == 0 { profile("mine") } else { slower("mine") };
            assert_eq!(keep(&app, &document).await.status, 201);
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(app.call("DELETE", "/v1/devices/mine").await.status, 204);
        }
    };
    let asking = join_all((0..n_asked).map(|seed| {
        let question = seeded(&json!("mine"), seed);
        let app = &app;
        async move {
            loop {
                let answer = app.ask(&question, &[]).await;
                // Between two profiles there is none.
                if answer.status != 422 {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }));
    let asking = tokio::time::timeout(Duration::from_secs(20), asking);
    let keeping = async {
        changing.await;
        keep(&app, &profile("mine")).await
    };
    let (answers, _) = tokio::join!(asking, keeping);
    for (seed, answer) in (0..n_asked).zip(answers.unwrap()) {
        let job = success(&app, answer.json()["id"].as_str().unwrap()).await;
        let fast = app.ask_and_wait(&seeded(&profile("mine"), seed)).await.json();
        let slow = app.ask_and_wait(&seeded(&slower("mine"), seed)).await.json();
        assert_ne!(fast["id"] == job["id"], slow["id"] == job["id"], "one of the two");
        assert!(latency(&fast) < latency(&slow), "each with what its digest names");
    }
}

async fn put_embedding(app: &TestApp, trace: &str, table: Vec<u8>) -> Answer {
    let request = Request::put(format!("/v1/traces/{trace}/embedding"));
    let request = request.header("content-type", "application/x-npy");
    app.send(request.body(Body::from(table)).unwrap()).await
}

async fn upload_classes(app: &TestApp, query: &str) -> Value {
    upload(app, query, "application/x-ndjson", None, classes(80, true)).await.json()
}

#[tokio::test]
async fn a_job_is_computed_with_the_embedding_it_was_asked_with() {
    let app = held().await;
    let trace = upload_classes(&app, "").await["id"].as_str().unwrap().to_owned();
    let asked = fitted::question(&trace, &json!([{"fit": "ffn"}]));
    assert_eq!(put_embedding(&app, &trace, one_hot(72, 24)).await.status, 204);
    let job = app.submit(&asked).await;
    // Too small a table, which would fail.
    assert_eq!(put_embedding(&app, &trace, one_hot(20, 24)).await.status, 204);
    assert_ne!(app.submit(&asked).await, job);
    open(&app);
    success(&app, &job).await;
}

#[tokio::test]
async fn embeddings_that_race_leave_the_row_with_its_own_file() {
    let app = TestApp::start().await;
    let trace = upload_classes(&app, "").await["id"].as_str().unwrap().to_owned();
    for _ in 0..10 {
        join_all((20..28).map(|rows| put_embedding(&app, &trace, one_hot(rows, 24)))).await;
        let digest = app.app.store.find_trace(&trace).await.unwrap().unwrap().embedding_digest;
        let facts = app.app.traces.facts(&trace, digest.as_deref()).unwrap();
        let kept = std::fs::read(facts.embedding.unwrap()).unwrap();
        let put = (20..28)
            .map(|rows| one_hot(rows, 24))
            .find(|table| table.len() == kept.len() && table[128..] == kept[128..]);
        assert_eq!(digest.unwrap(), Sha256::digest(put.unwrap()).to_vec());
    }
}

fn counts() -> String {
    json!({"counts": vec![vec![vec![100, 90, 80, 70, 60, 50, 40, 30]; 2]; 8]}).to_string()
}

fn about(trace: &str) -> Value {
    json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "tokens_per_step": 260},
        "routing": {"trace_id": trace},
    })
}

#[tokio::test]
async fn a_number_of_experts_that_is_declared_later_fails_nothing() {
    let app = held().await;
    let kept = upload_classes(&app, "").await;
    let asked = fitted::question(kept["id"].as_str().unwrap(), &json!([{"fit": "by_token"}]));
    let job = app.submit(&asked).await;
    let again = upload_classes(&app, "?num_experts=128").await;
    assert_eq!((&again["id"], &again["experts"]), (&kept["id"], &json!(128)));
    app.ask(&asked, &[]).await.problem(422, "invalid-question");
    open(&app);
    success(&app, &job).await;
}

#[tokio::test]
async fn declarations_that_race_leave_the_row_with_its_own_file() {
    let app = TestApp::start().await;
    for _ in 0..5 {
        let declared = [64, 65, 66, 67].map(|n| format!("?num_experts={n}"));
        let uploads = declared
            .iter()
            .map(|query| upload(&app, query, "application/x-ndjson", None, classes(4, true)));
        let answers = join_all(uploads).await;
        let kept = answers.iter().find(|answer| answer.status.is_success()).unwrap().json();
        let id = kept["id"].as_str().unwrap();
        let row = app.get(&format!("/v1/traces/{id}")).await.json();
        assert_eq!(row["experts"], app.app.traces.facts(id, None).unwrap().experts);
        for refused in answers.iter().filter(|answer| !answer.status.is_success()) {
            refused.problem(409, "conflict");
        }
    }
}

#[tokio::test]
async fn what_jobs_need_survives_a_restart_and_what_none_needs_goes() {
    let app = held().await;
    let trace = upload_classes(&app, "").await["id"].as_str().unwrap().to_owned();
    let asked = fitted::question(&trace, &json!([{"fit": "ffn"}]));
    for vocabulary in [73, 72] {
        assert_eq!(put_embedding(&app, &trace, one_hot(vocabulary, 24)).await.status, 204);
    }
    let job = app.submit(&asked).await;
    assert_eq!(put_embedding(&app, &trace, one_hot(20, 24)).await.status, 204);
    let again = upload_classes(&app, "?num_experts=128").await;
    assert_eq!((&again["experts"], &again["has_embedding"]), (&json!(128), &json!(true)));
    // As after a kill: the lock is gone, the rows say that a worker is on it.
    let copy = tempfile::tempdir().unwrap();
    let files = |dir: &Path| -> Vec<PathBuf> {
        let all = std::fs::read_dir(dir.join("traces")).unwrap();
        all.map(|file| file.unwrap().path()).collect()
    };
    for name in ["moe-gps.db", "moe-gps.db-wal"] {
        std::fs::copy(app.dir.path().join(name), copy.path().join(name)).unwrap();
    }
    std::fs::create_dir(copy.path().join("traces")).unwrap();
    for file in files(app.dir.path()) {
        let name = Path::new("traces").join(file.file_name().unwrap());
        std::fs::copy(&file, copy.path().join(name)).unwrap();
    }
    let before = files(copy.path()).len();
    open(&app);
    let second = TestApp::start_advising_in(copy, &["--workers", "1"]).await;
    assert_eq!(files(second.dir.path()).len(), before - 1, "without the table of nobody");
    success(&second, &job).await;
    assert_eq!(second.call("DELETE", &format!("/v1/traces/{trace}")).await.status, 204);
    assert!(files(second.dir.path()).is_empty());
}

#[tokio::test]
async fn a_trace_that_is_deleted_while_it_is_asked_for_is_a_conflict() {
    let app = TestApp::start_advising().await;
    for case in ["question", "sweep", "report"] {
        let kept = upload(&app, "", "application/json", None, counts()).await;
        assert_eq!(kept.status, 201);
        let trace = kept.json()["id"].as_str().unwrap().to_owned();
        let axes = json!([{"parameter": "devices", "values": [2, 4]}]);
        let sweep = json!({"question": about(&trace), "axes": axes});
        // It has been looked up, and waits for its turn to be opened.
        let bound = match case {
            "question" => &*app.app.checks,
            "sweep" => &app.app.sweeps,
            _ => &app.app.uploads.at_once,
        };
        let turns = u32::try_from(bound.available_permits()).unwrap();
        let turns = bound.acquire_many(turns).await.unwrap();
        let asking = async {
            match case {
                "question" => app.ask(&about(&trace), &[]).await,
                "sweep" => app.post_json("/v1/sweeps", &sweep, &[]).await,
                _ => app.get(&format!("/v1/traces/{trace}/report?devices=4")).await,
            }
        };
        let deleting = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(app.call("DELETE", &format!("/v1/traces/{trace}")).await.status, 204);
            drop(turns);
        };
        tokio::join!(asking, deleting).0.problem(409, "conflict");
    }
}

#[tokio::test]
async fn a_key_that_races_with_other_bodies_stores_one_job() {
    let app = TestApp::start_with(&["--workers", "2"]).await;
    for round in 0..10 {
        let key = format!("key-{round}");
        let answers = join_all((0..14).map(|n| {
            let question = json!({"do": "answer", "round": round, "n": n / 2});
            let (app, key) = (&app, &key);
            async move { app.ask(&question, &[("idempotency-key", key)]).await }
        }));
        let answers = answers.await;
        let (refused, accepted): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 422);
        assert_eq!(accepted.len(), 2, "the first, and the same again");
        assert_eq!(accepted[0].json()["id"], accepted[1].json()["id"]);
        for refused in refused {
            let problem = refused.problem(422, "invalid-question");
            assert_eq!(problem["violations"][0]["rule"], "idempotency_key");
        }
        let stored = app.get("/v1/recommendations?limit=100").await.json();
        assert_eq!(stored["items"].as_array().unwrap().len(), round + 1);
    }
}
