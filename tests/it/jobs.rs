//! Cancellation, failure, the bound of the queue, and a database that cannot be written.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::TestApp;

#[tokio::test]
async fn a_running_job_is_canceled_and_its_worker_is_free_again() {
    let app = TestApp::start_with(&["--workers", "1"]).await;
    let id = app.submit(&json!({"do": "wait"})).await;
    app.until(&id, "running").await;
    let canceled = app.call("DELETE", &format!("/v1/recommendations/{id}")).await;
    assert_eq!((canceled.status.as_u16(), &canceled.json()["status"]), (200, &json!("canceled")));
    // The only worker is needed for this one.
    assert_eq!(app.ask_and_wait(&json!({"do": "answer"})).await.status, 200);
    assert_eq!(app.until(&id, "canceled").await["id"], id);
    let again = app.submit(&json!({"do": "wait"})).await;
    assert_ne!(again, id, "a canceled question may be asked again");
}

#[tokio::test]
async fn a_queued_job_is_canceled_before_it_begins() {
    let app = TestApp::start_with(&["--workers", "1"]).await;
    let gate = app.gate("go");
    let first = app.submit(&json!({"do": "wait", "until": gate})).await;
    let second = app.submit(&json!({"do": "answer"})).await;
    assert_eq!(app.get(&format!("/v1/recommendations/{second}")).await.json()["status"], "queued");
    assert_eq!(app.call("DELETE", &format!("/v1/recommendations/{second}")).await.status, 200);
    std::fs::write(gate, "").unwrap();
    app.until(&first, "succeeded").await;
    app.until(&second, "canceled").await;
    assert_eq!(app.advisor.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_waits_for_a_job_is_told_when_it_is_canceled() {
    let app = TestApp::start().await;
    let question = json!({"do": "wait"});
    let id = app.submit(&question).await;
    let began = Instant::now();
    let path = format!("/v1/recommendations/{id}");
    let (waited, _) = tokio::join!(app.ask_and_wait(&question), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        app.call("DELETE", &path).await
    });
    assert_eq!(waited.json()["status"], "canceled");
    assert!(began.elapsed() < Duration::from_secs(10), "told, not timed out");
}

#[tokio::test]
async fn a_computation_that_falls_over_fails_its_job_only() {
    let app = TestApp::start_with(&["--workers", "1"]).await;
    let failed = app.ask_and_wait(&json!({"do": "panic"})).await;
    assert_eq!(failed.status, 200);
    let job = failed.json();
    assert_eq!((&job["status"], &job["error"]["status"]), (&json!("failed"), &json!(500)));
    assert_eq!(job["error"]["type"], "urn:moe-gps:problem:internal");
    assert_eq!(app.ask_and_wait(&json!({"do": "answer"})).await.json()["status"], "succeeded");
}

#[tokio::test]
async fn a_question_refused_late_fails_with_its_violations() {
    let app = TestApp::start().await;
    let job = app.ask_and_wait(&json!({"do": "refuse"})).await.json();
    assert_eq!((&job["status"], &job["error"]["status"]), (&json!("failed"), &json!(422)));
    assert_eq!(job["error"]["violations"][0]["pointer"], "/do");
}

#[tokio::test]
async fn a_full_queue_answers_503_and_takes_questions_again_later() {
    let app = TestApp::start_with(&["--workers", "1", "--queue-limit", "2"]).await;
    let gate = app.gate("go");
    let mut ids = vec![app.submit(&json!({"do": "wait", "until": gate})).await];
    // Until a worker has it, it takes a place of the queue.
    app.until(&ids[0], "running").await;
    for n in 0..2 {
        ids.push(app.submit(&json!({"do": "answer", "n": n})).await);
    }
    let full = app.ask(&json!({"do": "answer", "n": 2}), &[]).await;
    full.problem(503, "queue-full");
    assert_eq!(full.header("retry-after"), "1");
    let known = app.ask(&json!({"do": "answer", "n": 1}), &[]).await;
    assert_eq!(known.status, 202, "a question in the queue needs no further place");
    // What would be refused is not even looked at, unless the same body led to an answer.
    let costly = json!({"do": "answer", "memory": 1_u64 << 60});
    app.ask(&costly, &[]).await.problem(503, "queue-full");
    // Three wait for room; what is withdrawn makes it for one of them.
    let three: Vec<_> = (3..6).map(|n| json!({"do": "answer", "n": n})).collect();
    let asked = futures_util::future::join_all(three.iter().map(|question| app.ask(question, &[])));
    let withdrawn = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        app.call("DELETE", &format!("/v1/recommendations/{}", ids[2])).await.json()
    };
    let (asked, withdrawn) = tokio::join!(asked, withdrawn);
    assert_eq!(withdrawn["status"], "canceled");
    let mut statuses: Vec<u16> = asked.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 503, 503]);
    let accepted = asked.iter().find(|answer| answer.status == 202).unwrap();
    ids[2] = accepted.json()["id"].as_str().unwrap().to_owned();
    std::fs::write(gate, "").unwrap();
    for id in ids {
        app.until(&id, "succeeded").await;
    }
    assert_eq!(app.ask_and_wait(&json!({"do": "answer", "n": 2})).await.status, 200);
}

#[tokio::test]
async fn many_questions_at_once_are_each_computed_once() {
    let app = TestApp::start_with(&["--workers", "3"]).await;
    let questions: Vec<_> = (0..60).map(|n| json!({"do": "answer", "n": n})).collect();
    let answers = futures_util::future::join_all(questions.iter().map(|q| app.ask_and_wait(q)));
    for (answer, question) in answers.await.iter().zip(&questions) {
        assert_eq!((answer.status.as_u16(), &answer.json()["result"]["echo"]), (200, question));
    }
    assert_eq!(app.advisor.begun.load(Ordering::SeqCst), 60);
}

#[tokio::test]
async fn jobs_of_a_lost_process_are_taken_over_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().to_owned();
    let first = TestApp::start_in(dir, &["--workers", "1"]).await;
    let running = first.submit(&json!({"do": "wait", "until": first.gate("go")})).await;
    let queued = first.submit(&json!({"do": "answer"})).await;
    first.until(&running, "running").await;
    // As after a kill: the lock is gone, the rows say that a worker is on it.
    let copy = tempfile::tempdir().unwrap();
    for name in ["moe-gps.db", "moe-gps.db-wal"] {
        std::fs::copy(kept.join(name), copy.path().join(name)).unwrap();
    }
    std::fs::write(first.gate("go"), "").unwrap();
    let second = TestApp::start_in(copy, &["--workers", "1"]).await;
    second.until(&running, "succeeded").await;
    second.until(&queued, "succeeded").await;
    assert_eq!(second.advisor.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_full_database_loses_nothing_that_was_accepted() {
    let room = (60 * 4096).to_string();
    let app = TestApp::start_with(&["--max-database-bytes", &room]).await;
    let filler = "x".repeat(8000);
    let mut accepted = Vec::new();
    let refused = loop {
        let n = accepted.len();
        assert!(n < 100, "the database never became full");
        let question = json!({"do": "wait", "until": "/", "n": n, "filler": filler});
        let answer = app.ask(&question, &[]).await;
        match answer.status.as_u16() {
            202 => accepted.push(answer.json()["id"].as_str().unwrap().to_owned()),
            _ => break answer,
        }
    };
    refused.problem(503, "storage-unavailable");
    assert_eq!(refused.header("retry-after"), "10");
    assert!(!accepted.is_empty());
    for id in accepted {
        let kept = app.get(&format!("/v1/recommendations/{id}")).await;
        assert_eq!(kept.status, 200, "an accepted question is gone");
    }
}
