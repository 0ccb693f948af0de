//! What is kept and what goes: retention, room given back, checksums, backup and restore.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::questions::of_the_paper;
use crate::service::Service;
use crate::support::{PATIENCE, TestApp};
use crate::traces::upload;

async fn database(app: &TestApp) -> SqlitePool {
    let file = app.dir.path().join("moe-gps.db");
    SqlitePool::connect_with(SqliteConnectOptions::new().filename(file)).await.unwrap()
}

async fn execute(app: &TestApp, statement: &'static str) {
    let pool = database(app).await;
    sqlx::raw_sql(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

/// Looks until what is asked for is so.
async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !look().await {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ids(app: &TestApp) -> Vec<String> {
    let page = app.get("/v1/recommendations?limit=500").await.json();
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_newest_and_what_is_labelled_keep_stay() {
    let app = TestApp::start_with(&["--max-recommendations", "3", "--workers", "1"]).await;
    let kept = json!({"do": "answer", "n": 0, "labels": {"keep": "why not"}});
    let kept = app.ask_and_wait(&kept).await.json()["id"].as_str().unwrap().to_owned();
    let near = json!({"do": "answer", "n": 1, "labels": {"say": "\"keep\":"}});
    let near = app.ask_and_wait(&near).await.json()["id"].as_str().unwrap().to_owned();
    let mut expected = vec![kept.clone()];
    for n in 2..8 {
        let answer = app.ask_and_wait(&json!({"do": "answer", "n": n})).await;
        expected.insert(0, answer.json()["id"].as_str().unwrap().to_owned());
    }
    expected.drain(2..expected.len() - 1);
    until("the deletion", async || ids(&app).await == expected).await;
    assert_eq!(app.get(&format!("/v1/recommendations/{near}")).await.status, 404);
    // What waits or runs is never counted, and never goes.
    app.hold_worker("go").await;
    for n in 10..16 {
        app.submit(&json!({"do": "answer", "n": n})).await;
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(ids(&app).await.len(), expected.len() + 7);
    std::fs::write(app.gate("go"), "").unwrap();
    until("the deletion", async || ids(&app).await.len() == 3).await;
    assert!(ids(&app).await.contains(&kept));
    let text = String::from_utf8(app.get("/metrics").await.body).unwrap();
    assert!(text.contains("moe_gps_jobs{status=\"succeeded\"} 3"), "{text}");
}

#[tokio::test]
async fn what_is_old_goes_with_its_traces_and_keys() {
    let flags =
        ["--max-recommendation-age-s", "3", "--max-trace-age-s", "3", "--max-key-age-s", "3"];
    let app = TestApp::start_with(&flags).await;
    let counts = |n: u64| format!("{{\"counts\": [[1, 2], [2, {n}]]}}");
    let mut traces = Vec::new();
    for n in 1..3 {
        let answer = upload(&app, "", "application/json", None, counts(n)).await;
        traces.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    let asked = |trace: &str| json!({"do": "answer", "routing": {"trace_id": trace}});
    let mut kept = asked(&traces[0]);
    kept["labels"] = json!({"keep": ""});
    let kept = app.ask_and_wait(&kept).await.json()["id"].as_str().unwrap().to_owned();
    let key = [("prefer", "wait=15"), ("idempotency-key", "k")];
    app.ask(&asked(&traces[1]), &key).await;
    until("the deletion", async || ids(&app).await == [kept.as_str()]).await;
    until("the deletion of a trace", async || {
        let page = app.get("/v1/traces").await.json();
        page["items"].as_array().unwrap().iter().all(|trace| trace["id"] == traces[0].as_str())
    })
    .await;
    let left = std::fs::read_dir(app.dir.path().join("traces")).unwrap();
    for file in left {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with(&traces[0]), "{name} stays behind");
    }
    assert_eq!(app.get(&format!("/v1/traces/{}", traces[0])).await.status, 200);
    // Another body may come with the key once it is forgotten.
    let other = json!({"do": "answer", "n": 1});
    until("the key to go", async || app.ask(&other, &key).await.status == 200).await;
}

#[tokio::test]
async fn room_is_given_back_also_by_a_database_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("moe-gps.db");
    // As versions before left it: it never gives back.
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql("create table probe_of_before (x)").execute(&pool).await.unwrap();
    pool.close().await;
    let app = TestApp::start_in(dir, &[]).await;
    let filler = "x".repeat(200_000);
    let mut asked = Vec::new();
    for n in 0..60 {
        let answer = app.ask_and_wait(&json!({"do": "answer", "n": n, "filler": filler})).await;
        asked.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    let size = || std::fs::metadata(&file).unwrap().len();
    execute(&app, "pragma wal_checkpoint(passive)").await;
    let full = size();
    assert!(20_000_000 < full, "{full}");
    for id in asked {
        assert_eq!(app.call("DELETE", &format!("/v1/recommendations/{id}")).await.status, 204);
    }
    until("room given back", async || size() < full / 5).await;
    let text = String::from_utf8(app.get("/metrics").await.body).unwrap();
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    assert!(value("moe_gps_database_bytes") >= size() as f64);
    assert!(value("moe_gps_database_free_bytes") < 5e6);
    assert!(0.0 < value("moe_gps_disk_free_bytes"));
    assert!(value("moe_gps_disk_free_bytes") < value("moe_gps_disk_bytes"));
}

#[tokio::test]
async fn what_is_damaged_is_named_and_never_answered() {
    let plan = json!({"do": "answer", "plan": {"layers": []}});
    for (change, path, what) in [
        ("result = replace(result, 'none', 'some')", "", "result"),
        ("request = replace(request, 'answer', 'danger')", "", "request"),
        ("recommendation = '{\"strategy\":\"some\"}'", "list", "recommendation"),
        ("placement = '{\"layers\":[1]}'", "/placement", "placement"),
    ] {
        let app = TestApp::start().await;
        let id = app.ask_and_wait(&plan).await.json()["id"].as_str().unwrap().to_owned();
        let statement = format!("update recommendation set {change}");
        let pool = database(&app).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        let read = match path {
            "list" => app.get("/v1/recommendations").await,
            path => app.get(&format!("/v1/recommendations/{id}{path}")).await,
        };
        let problem = read.problem(503, "storage-unavailable");
        let said = format!("the stored {what} of {id} is damaged");
        assert!(problem["detail"].as_str().unwrap().starts_with(&said), "{problem}");
        if path.is_empty() {
            app.ask_and_wait(&plan).await.problem(503, "storage-unavailable");
        }
        // It can be deleted, and asked again.
        assert_eq!(app.call("DELETE", &format!("/v1/recommendations/{id}")).await.status, 204);
        assert_eq!(app.ask_and_wait(&plan).await.json()["status"], "succeeded");
    }
    let app = TestApp::start().await;
    let counts = "{\"counts\": [[1, 2], [2, 1]]}";
    let id = upload(&app, "", "application/json", None, counts).await.json()["id"].clone();
    execute(&app, "update trace set summary = replace(summary, '2', '3')").await;
    app.get(&format!("/v1/traces/{}", id.as_str().unwrap()))
        .await
        .problem(503, "storage-unavailable");
}

fn moe_gps(command: &str, folder: &Path, data: &Path) -> Output {
    let mut line = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    line.arg(command).arg(folder).arg("--data-dir").arg(data).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_instance_on_a_backup_answers_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let backup = folder.path().join("backup");
    let mut service = Service::start(&first, &[]);
    let trace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/traces/mixtral_like_e8k2.python.test.npz");
    let trace = std::fs::read(trace).unwrap();
    let path = "/v1/traces?name=python";
    let trace = service.call("POST", path, "application/x-npz", &trace).unwrap();
    assert_eq!(trace.0, 201);
    let mut question = of_the_paper();
    question["routing"] = json!({"trace_id": trace.1["id"]});
    let mut answers = vec![service.ask(&question).unwrap().1];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (service, stop) = (&service, &stop);
            scope.spawn(move || {
                for n in 0.. {
                    let mut question = of_the_paper();
                    question["seed"] = json!(thread * 100_000 + n);
                    if stop.load(Ordering::Relaxed) || service.ask(&question).is_none() {
                        break;
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        let mut question = of_the_paper();
        question["seed"] = json!(777_777);
        answers.push(service.ask(&question).unwrap().1);
        let made = moe_gps("backup", &backup, &first);
        assert!(made.status.success(), "{}", told(&made));
        // Under load, without a word.
        service.signal("-KILL");
        stop.store(true, Ordering::Relaxed);
    });
    service.child.wait().unwrap();

    let refused = moe_gps("backup", &backup, &first);
    assert!(!refused.status.success() && told(&refused).contains("is not empty"));
    let refused = moe_gps("restore", &backup, &first);
    assert!(!refused.status.success() && told(&refused).contains("is not empty"));
    let refused = moe_gps("backup", &folder.path().join("other"), &second);
    assert!(told(&refused).contains("there is no database in"), "{}", told(&refused));

    let restored = moe_gps("restore", &backup, &second);
    assert!(restored.status.success(), "{}", told(&restored));
    let service = Service::start(&second, &[]);
    for answer in &answers {
        assert_eq!(answer["status"], "succeeded", "{answer}");
        let (status, again) = service.ask(&answer["request"]).unwrap();
        assert_eq!((status, &again["id"]), (200, &answer["id"]), "known as answered");
        assert_eq!(again["result"], answer["result"]);
        // And computed anew from the restored trace: the same numbers.
        let path = format!("/v1/recommendations/{}", answer["id"].as_str().unwrap());
        assert_eq!(service.call("DELETE", &path, "text/plain", b"").unwrap().0, 204);
        let anew = service.ask(&answer["request"]).unwrap().1;
        assert_ne!(anew["id"], answer["id"]);
        assert_eq!(anew["result"], answer["result"]);
    }

    // One flipped bit anywhere, or a file that is missing, and nothing is restored.
    let third = folder.path().join("third");
    let manifest = std::fs::read_to_string(backup.join("backup.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    for entry in manifest["files"].as_array().unwrap() {
        let file = backup.join(entry["path"].as_str().unwrap());
        // A link may lead to the first one's own file.
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&file).unwrap();
        let missing = moe_gps("restore", &backup, &third);
        assert!(!missing.status.success());
        std::fs::write(&file, &bytes).unwrap();
        let damaged = moe_gps("restore", &backup, &third);
        assert!(told(&damaged).contains("is damaged: its SHA-256"), "{}", told(&damaged));
        assert_eq!(std::fs::read_dir(&third).unwrap().count(), 0, "something was restored");
        bytes[middle] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
    }
    assert!(moe_gps("restore", &backup, &third).status.success());
    std::fs::remove_file(backup.join("backup.json")).unwrap();
    let fourth = folder.path().join("fourth");
    assert!(told(&moe_gps("restore", &backup, &fourth)).contains("is no complete backup"));
}
