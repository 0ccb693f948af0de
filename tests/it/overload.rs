//! Clients that are too many, too slow or ask too much; a disk that is full; jobs that kill.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::Process;
use crate::service::Service;
use crate::support::{PATIENCE, TestApp};

const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

fn service(flags: &[&str]) -> (tempfile::TempDir, Service) {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path(), flags);
    (dir, service)
}

fn connect(service: &Service, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // A connection that is cut off has said what it had to.
    let _ = stream.read_to_string(&mut text);
    text
}

/// The problem in an answer.
fn problem(text: &str, status: u16, slug: &str) -> Value {
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/problem+json"), "{text}");
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["type"], format!("urn:moe-gps:problem:{slug}"));
    assert_eq!(problem["status"], status);
    assert!(problem["request_id"].is_string() && problem["detail"].is_string(), "{problem}");
    problem
}

#[test]
fn what_is_no_request_is_answered_with_a_problem() {
    let (_dir, service) = service(&[]);
    let path = "x".repeat(70_000);
    let long = format!("GET /v1/{path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    problem(&rest(connect(&service, long.as_bytes())), 414, "refused");
    let many = "x: y\r\n".repeat(150);
    let many = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    problem(&rest(connect(&service, many.as_bytes())), 431, "refused");
    problem(&rest(connect(&service, b"what is this\r\n\r\n")), 400, "malformed");
    // After an answer of ours, too.
    let twice = [&LIVEZ[..LIVEZ.len() - 21], b"\r\n"].concat();
    let mut stream = connect(&service, &twice);
    let mut answer = [0; 4096];
    let n = stream.read(&mut answer).unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 200"));
    stream.write_all(b"what is this\r\n\r\n").unwrap();
    problem(&rest(stream), 400, "malformed");
}

#[test]
fn probes_answer_where_all_connections_wait() {
    let (_dir, service) = service(&["--max-connections", "8", "--workers", "1"]);
    // More than may be open, of which each waits for what nobody computes soon.
    let mut question = crate::questions::of_the_paper();
    let mut waiting = Vec::new();
    for n in 0..12 {
        // An upload whose body does not come.
        let head = format!(
            "POST /v1/traces?name={n} HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/csv\r\n\
             content-length: 1000\r\n\r\nlayer"
        );
        waiting.push(connect(&service, head.as_bytes()));
    }
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    for _ in 0..5 {
        let text = service.send(LIVEZ).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    question["seed"] = json!(1);
    let (status, refused) = service.ask(&question).unwrap();
    assert_eq!((status, &refused["type"]), (503, &json!("urn:moe-gps:problem:not-ready")));
    drop(waiting);
    let began = Instant::now();
    while service.ask(&question).is_none_or(|(status, _)| status != 200) {
        assert!(began.elapsed() < PATIENCE, "no place becomes free");
    }
}

#[test]
fn the_idlest_connection_makes_room() {
    let (_dir, service) = service(&["--max-connections", "4"]);
    let idle: Vec<TcpStream> = (0..4).map(|_| connect(&service, b"")).collect();
    std::thread::sleep(Duration::from_millis(1200));
    let (status, _) = service.call("GET", "/v1/links", "", b"").unwrap();
    assert_eq!(status, 200);
    assert_eq!(rest(idle.into_iter().next().unwrap()), "");
}

#[tokio::test]
async fn a_wait_beyond_the_turns_is_answered_at_once() {
    // Three turns of four connections.
    let app = TestApp::start_with(&["--max-connections", "4", "--workers", "1"]).await;
    let question = json!({"do": "wait", "until": app.gate("go")});
    let id = app.submit(&question).await;
    let path = format!("/v1/recommendations/{id}");
    let wait = || {
        let request = axum::http::Request::get(&path).header("prefer", "wait=60");
        app.send(request.body(axum::body::Body::empty()).unwrap())
    };
    let turns = async { tokio::join!(wait(), wait(), wait()) };
    let beyond = async {
        while 0 < app.app.waits.available_permits() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = wait().await;
        assert_eq!(answer.header("preference-applied"), "wait=0");
        assert_eq!(answer.json()["status"], "running");
        std::fs::write(app.gate("go"), "").unwrap();
    };
    let ((first, _, _), ()) = tokio::join!(turns, beyond);
    assert_eq!(first.header("preference-applied"), "wait=60");
    assert_eq!(first.json()["status"], "succeeded");
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let (_dir, service) = service(&["--write-timeout-s", "0.5", "--max-connections", "2"]);
    // The API description is more than one sends ahead, asked for many times over.
    let request = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(200);
    let readers: Vec<TcpStream> = (0..2).map(|_| connect(&service, request.as_bytes())).collect();
    let began = Instant::now();
    while service.call("GET", "/v1/links", "", b"").is_none_or(|(status, _)| status != 200) {
        assert!(began.elapsed() < Duration::from_secs(30), "slow readers keep their places");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(readers);
}

#[test]
fn an_upload_that_trickles_is_cut_off() {
    let (_dir, service) = service(&["--body-timeout-s", "1"]);
    let mut stream = connect(
        &service,
        b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/csv\r\n\
          content-length: 100000\r\n\r\n",
    );
    let mut other = stream.try_clone().unwrap();
    let trickling = std::thread::spawn(move || {
        let began = Instant::now();
        while other.write_all(b"l").is_ok() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer[..n]).into_owned();
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("slow-body"), "{text}");
    stream.shutdown(std::net::Shutdown::Both).unwrap();
    trickling.join().unwrap();
}

#[tokio::test]
async fn computations_share_their_memory() {
    let budget = 64_u64 << 20;
    let flags = ["--workers", "3", "--memory-budget-bytes", &budget.to_string()];
    let app = TestApp::start_with(&flags).await;
    let problem = app.ask(&json!({"do": "answer", "memory": budget + 1}), &[]).await;
    let problem = problem.problem(422, "invalid-question");
    assert_eq!(problem["violations"][0]["rule"], "memory", "{problem}");
    let large = |n: u64| json!({"do": "wait", "until": app.gate("go"), "memory": budget, "n": n});
    let (first, second) = (app.submit(&large(1)).await, app.submit(&large(2)).await);
    let begun = || app.advisor.begun.load(std::sync::atomic::Ordering::SeqCst);
    let began = Instant::now();
    while begun() == 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(begun(), 1, "the second one waits for memory");
    std::fs::write(app.gate("go"), "").unwrap();
    app.until(&first, "succeeded").await;
    app.until(&second, "succeeded").await;
}

#[test]
fn a_job_that_kills_runs_alone_and_takes_no_attempt_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "--workers 4 --max-attempts 2";
    let gate = dir.path().join("go");
    let mut process = Process::start(dir.path(), flags);
    let innocent: Vec<String> =
        (0..2).map(|n| process.submit(&json!({"do": "wait", "until": gate, "n": n}))).collect();
    for id in &innocent {
        process.until(id, "running");
    }
    let guilty = json!({"do": "abort", "until": "/"});
    let head = process.try_call("POST", "/v1/recommendations", Some(&guilty));
    let guilty = head.map(|(_, job)| job["id"].as_str().unwrap().to_owned());
    while !process.has_ended() {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::write(&gate, "").unwrap();
    // It kills the process with all that run, then twice alone, and is given up.
    let mut starts = 0;
    let is_final = |item: &Value| {
        ["succeeded", "failed"].contains(&item["status"].as_str().unwrap_or_default())
    };
    let process = 'starts: loop {
        starts += 1;
        assert!(starts < 6, "it kills for ever");
        let Some(mut process) = Process::try_start(dir.path(), flags) else { continue };
        let began = Instant::now();
        while !process.has_ended() {
            let page = process.try_call("GET", "/v1/recommendations?limit=10", None);
            let items = page.and_then(|(_, page)| page["items"].as_array().cloned());
            if items.is_some_and(|items| items.len() == 3 && items.iter().all(is_final)) {
                break 'starts process;
            }
            assert!(began.elapsed() < PATIENCE, "it neither ends nor is done");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    assert_eq!(starts, 3);
    for id in &innocent {
        process.until(id, "succeeded");
    }
    let (_, page) = process.call("GET", "/v1/recommendations?status=failed", None);
    let failed = page["items"].as_array().unwrap();
    assert_eq!(failed.len(), 1, "{page}");
    if let Some(guilty) = guilty {
        assert_eq!(failed[0]["id"], guilty.as_str());
    }
    let job = process.until(failed[0]["id"].as_str().unwrap(), "failed");
    assert_eq!(job["error"]["type"], "urn:moe-gps:problem:given-up");
}

/// A small file system of its own, where the user may mount one.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(dir.path());
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn on_a_full_disk_things_can_be_read_and_deleted() {
    let Some(disk) = Disk::mount(24 << 20) else {
        println!("skipped: no file system can be mounted here");
        return;
    };
    let data = disk.path().join("data");
    let service = Service::start(&data, &[]);
    let mut ids = Vec::new();
    for seed in 0..20 {
        let mut question = crate::questions::of_the_paper();
        question["seed"] = json!(seed);
        ids.push(service.ask(&question).unwrap().1["id"].as_str().unwrap().to_owned());
    }
    let readyz = |service: &Service| service.call("GET", "/readyz", "", b"").unwrap();
    assert_eq!(readyz(&service).0, 200);
    // Something else takes all that is left.
    let filler = disk.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let (status, problem) = readyz(&service);
    assert_eq!(status, 503);
    assert!(
        problem["detail"].as_str().unwrap().contains("disk of the data directory is full"),
        "{problem}"
    );

    let read = |service: &Service, id: &str| {
        service.call("GET", &format!("/v1/recommendations/{id}"), "", b"").unwrap()
    };
    let delete = |service: &Service, id: &str| {
        service.call("DELETE", &format!("/v1/recommendations/{id}"), "", b"").unwrap().0
    };
    // New questions end at the latest when the room of deletions is touched.
    let mut question = crate::questions::of_the_paper();
    let refused = (100..400).any(|seed| {
        question["seed"] = json!(seed);
        let body = question.to_string();
        // Without a wait: the end of a job that was taken may be stored only when there is room.
        let request = format!(
            "POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        service.send(request.as_bytes()).is_some_and(|text| text.starts_with("HTTP/1.1 503"))
    });
    assert!(refused);
    assert_eq!(read(&service, &ids[0]).1["status"], "succeeded");
    assert_eq!(delete(&service, &ids[0]), 204);
    assert_eq!(delete(&service, &ids[1]), 204);

    // A restart on the full disk serves reads, and deletes.
    service.signal("-KILL");
    drop(service);
    let service = Service::start_at(&data, &[]);
    assert_eq!(read(&service, &ids[0]).0, 404);
    assert_eq!(read(&service, &ids[2]).1["status"], "succeeded");
    assert_eq!(readyz(&service).0, 503);
    assert_eq!(delete(&service, &ids[2]), 204);
    // With room again it takes questions again.
    drop(file);
    std::fs::remove_file(filler).unwrap();
    let began = Instant::now();
    while readyz(&service).0 != 200 {
        assert!(began.elapsed() < PATIENCE, "it does not become ready");
        std::thread::sleep(Duration::from_millis(100));
    }
    question["seed"] = json!(1000);
    assert_eq!(service.ask(&question).unwrap().0, 200);
}

#[tokio::test]
async fn a_database_at_its_bound_is_not_ready_until_something_is_deleted() {
    let room = (80 * 4096).to_string();
    let app = TestApp::start_with(&["--max-database-bytes", &room]).await;
    assert_eq!(app.get("/readyz").await.status, 200);
    let filler = "x".repeat(8000);
    let mut ids = Vec::new();
    for n in 0..100 {
        let question = json!({"do": "answer", "n": n, "filler": filler});
        let answer = app.ask(&question, &[("prefer", "wait=1")]).await;
        if answer.status != 200 {
            break;
        }
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    let problem = app.get("/readyz").await.problem(503, "not-ready");
    assert!(problem["detail"].as_str().unwrap().contains("--max-database-bytes"), "{problem}");
    for id in &ids {
        assert_eq!(app.call("DELETE", &format!("/v1/recommendations/{id}")).await.status, 204);
    }
    let began = Instant::now();
    while app.get("/readyz").await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "it does not become ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
