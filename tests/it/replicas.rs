//! Several processes that share a database and an object store, killed one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::databases;
use crate::service::Service;
use crate::support::PATIENCE;

/// An object store in this process.
struct Objects {
    dir: tempfile::TempDir,
    address: std::net::SocketAddr,
}

const KEY: (&str, &str) = ("the-key", "the-secret-of-the-key");
const BUCKET: &str = "fleet";

impl Objects {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut service =
            s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        service.set_auth(s3s::auth::SimpleAuth::from_single(KEY.0, KEY.1));
        let service = service.build();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let stream = hyper_util::rt::TokioIo::new(stream);
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(stream, service.clone());
                    tokio::spawn(serving);
                }
            });
        });
        Self { dir, address }
    }

    /// What a process must be told to find it.
    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.0.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", KEY.1.to_owned()),
            ("MOE_GPS_TRACES", format!("s3://{BUCKET}/moe-gps")),
        ]
    }

    /// The names of what it holds.
    fn names(&self) -> BTreeSet<String> {
        let folder = self.dir.path().join(BUCKET).join("moe-gps/traces");
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Flags of a replica: leases that end soon, and attempts enough for a campaign.
const FLAGS: [&str; 6] = ["--lease-s", "1", "--max-attempts", "1000", "--workers", "2"];

fn replica(dir: &Path, database: &str, variables: &[(&str, String)]) -> Service {
    std::fs::create_dir_all(dir).unwrap();
    let flags = [&FLAGS[..], &["--database", database, "--trace-grace-s", "2"]].concat();
    Service::start_with_variables(dir, &flags, variables)
}

/// Routes of some tokens, another trace for every number.
fn recording(n: u64) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(n);
    let tokens = (0..512).map(|_| {
        let layer = |_| {
            let first = random.random_range(0..8_u32);
            json!([first, (first + random.random_range(1..8_u32)) % 8])
        };
        (0..2).map(layer).collect::<Vec<_>>()
    });
    let lines = tokens.enumerate().map(|(at, experts)| {
        json!({"sequence": at / 64, "position": at % 64, "experts": experts}).to_string() + "\n"
    });
    lines.collect()
}

fn simulated(trace: &str, seed: usize) -> Value {
    let mut question = crate::questions::of_the_paper();
    question["routing"] = json!({"trace_id": trace});
    question["predictors"] = json!([]);
    question["seed"] = json!(seed);
    question
}

/// Three replicas of one database and one object store.
struct Fleet {
    dir: tempfile::TempDir,
    database: String,
    objects: Objects,
    replicas: Vec<Mutex<Service>>,
}

impl Fleet {
    fn start(database: String) -> Self {
        let (dir, objects) = (tempfile::tempdir().unwrap(), Objects::start());
        let start =
            |n: usize| replica(&dir.path().join(n.to_string()), &database, &objects.variables());
        let replicas = (0..3).map(|n| Mutex::new(start(n))).collect();
        Self { dir, database, objects, replicas }
    }

    /// Kills a replica at once and starts it again.
    fn kill(&self, n: usize) {
        let mut one = self.replicas[n].lock().unwrap();
        one.signal("-KILL");
        one.child.wait().unwrap();
        let folder = self.dir.path().join(n.to_string());
        *one = replica(&folder, &self.database, &self.objects.variables());
    }

    /// A request to one of them, whichever the number is of; nothing where it goes away.
    fn call(
        &self,
        n: usize,
        method: &str,
        path: &str,
        prefer: &str,
        body: &str,
    ) -> Option<(u16, Value)> {
        let address = self.replicas[n % 3].lock().unwrap().address;
        Service::call_at(address, method, path, prefer, body)
    }

    /// Uploads a recording to one of them.
    fn upload(&self, n: usize) -> String {
        let replica = self.replicas[n % 3].lock().unwrap();
        let (path, body) = ("/v1/traces?model=mixtral-8x7b", recording(n as u64));
        let sent = replica.call("POST", path, "application/x-ndjson", body.as_bytes());
        let (status, trace) = sent.unwrap();
        assert_eq!(status, 201, "{trace}");
        trace["id"].as_str().unwrap().to_owned()
    }

    /// Asks one after the other, beginning with this one, until one accepts.
    fn ask(&self, first: usize, question: &Value) -> String {
        let asked = (first..).find_map(|n| {
            let sent = self.call(n, "POST", "/v1/recommendations", "wait=0", &question.to_string());
            let accepted = sent.filter(|(status, _)| matches!(status, 200 | 202));
            if accepted.is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
            Some(accepted?.1["id"].as_str().unwrap().to_owned())
        });
        asked.unwrap()
    }

    /// The ids of all that it lists, each once.
    fn listed(&self) -> BTreeSet<String> {
        let mut listed = BTreeSet::new();
        let mut path = "/v1/recommendations?limit=500".to_owned();
        loop {
            let (_, page) = self.call(0, "GET", &path, "wait=0", "").unwrap();
            for item in page["items"].as_array().unwrap() {
                assert!(listed.insert(item["id"].as_str().unwrap().to_owned()), "twice: {item}");
            }
            let Some(cursor) = page["next_cursor"].as_str() else { return listed };
            path = format!("/v1/recommendations?limit=500&cursor={cursor}");
        }
    }
}

/// Questions of the campaign, about one of these traces each.
const JOBS: usize = 500;

/// Asks while replicas are killed, and waits for what one of them accepted at another one; what was
/// accepted, with its seed.
fn asked_under_kills(fleet: &Fleet, traces: &[String]) -> BTreeMap<String, usize> {
    let (accepted, told_elsewhere) = (Mutex::new(BTreeMap::new()), AtomicUsize::new(0));
    let (next, kills) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = |client: usize| {
        loop {
            // So that the campaign lasts for some kills.
            std::thread::sleep(Duration::from_millis(40));
            let n = next.fetch_add(1, Ordering::Relaxed);
            if JOBS <= n {
                break;
            }
            let id = fleet.ask(client, &simulated(&traces[n % traces.len()], n));
            accepted.lock().unwrap().insert(id.clone(), n);
            let path = format!("/v1/recommendations/{id}");
            if let Some((200, job)) = fleet.call(client + 1, "GET", &path, "wait=60", "") {
                assert_eq!(job["status"], "succeeded", "{job}");
                told_elsewhere.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for n in 0..6 {
            scope.spawn(move || client(n));
        }
        for n in (0..3).cycle() {
            std::thread::sleep(Duration::from_millis(200));
            if JOBS <= next.load(Ordering::Relaxed) {
                break;
            }
            fleet.kill(n);
            kills.fetch_add(1, Ordering::Relaxed);
        }
    });
    println!("{kills:?} kills, {told_elsewhere:?} waited for at another replica");
    assert!(2 < kills.into_inner() && 0 < told_elsewhere.into_inner());
    accepted.into_inner().unwrap()
}

#[test]
fn three_replicas_lose_nothing_while_one_after_another_is_killed() {
    let Some(database) = databases::fresh("the story of three replicas") else { return };
    let fleet = Fleet::start(database);
    let traces: Vec<String> = (0..4).map(|n| fleet.upload(n)).collect();
    let accepted = asked_under_kills(&fleet, &traces);
    assert_eq!(accepted.len(), JOBS);
    // Every accepted job ends, once, about what was asked, whichever replica is asked.
    let began = Instant::now();
    for (n, (id, seed)) in accepted.iter().enumerate() {
        let path = format!("/v1/recommendations/{id}");
        let (status, job) = fleet.call(n, "GET", &path, "wait=60", "").unwrap();
        assert_eq!((status, &job["status"]), (200, &json!("succeeded")), "{job}");
        assert_eq!(job["request"]["seed"], json!(seed));
        assert!(began.elapsed() < PATIENCE, "{id} does not end");
    }
    assert_eq!(fleet.listed(), accepted.into_keys().collect());
    // Every trace is in the store, and what nothing names any more goes from there.
    let is_there = |id: &String| {
        let names = fleet.objects.names();
        names.iter().any(|name| name.starts_with(id.as_str()))
    };
    assert!(traces.iter().all(is_there), "{:?}", fleet.objects.names());
    let path = format!("/v1/traces/{}", traces[0]);
    assert_eq!(fleet.call(1, "DELETE", &path, "wait=0", "").unwrap().0, 204);
    let began = Instant::now();
    while is_there(&traces[0]) {
        assert!(began.elapsed() < PATIENCE, "{:?}", fleet.objects.names());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(traces[1..].iter().all(is_there), "{:?}", fleet.objects.names());
}

/// What a database is asked for one number.
fn number(database: &str, query: &'static str) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(database).await.unwrap();
        sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
    })
}

#[test]
fn a_database_that_is_away_for_a_while_loses_nothing() {
    let Some(database) = databases::fresh("a database that is away") else { return };
    let dir = tempfile::tempdir().unwrap();
    let service = replica(dir.path(), &database, &[]);
    let question = |n: u64| {
        let mut question = crate::questions::of_the_paper();
        question["seed"] = json!(n);
        question
    };
    let (status, _) = service.ask(&question(0)).unwrap();
    assert_eq!(status, 200);
    databases::away(&database);
    let (status, problem) = service.ask(&question(1)).unwrap();
    assert_eq!(status, 503, "{problem}");
    assert_eq!(problem["type"], "urn:moe-gps:problem:storage-unavailable");
    assert_eq!(service.call("GET", "/livez", "", b"").unwrap().0, 200);
    assert_eq!(service.call("GET", "/readyz", "", b"").unwrap().0, 503);
    std::thread::sleep(Duration::from_secs(10));
    databases::back(&database);
    let began = Instant::now();
    let job = loop {
        if let Some((200, job)) = service.ask(&question(1)) {
            break job;
        }
        assert!(began.elapsed() < PATIENCE, "it does not come back");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(job["status"], "succeeded");
    assert_eq!(number(&database, "select count(*) from recommendation"), 2);
    assert_eq!(number(&database, "select count(*) from ask"), 2);
    let counted = "select cast(sum(n) as bigint) from job_count where status = 'succeeded'";
    assert_eq!(number(&database, counted), 2);
}

/// A collector of spans, which keeps what it is sent.
struct Collector {
    address: std::net::SocketAddr,
    sent: std::sync::Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = std::sync::Arc::<Mutex<Vec<_>>>::default();
        let kept = std::sync::Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = std::sync::Arc::clone(&kept);
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    loop {
                        let mut length = 0;
                        let mut line = String::new();
                        while line != "\r\n" {
                            line.clear();
                            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                                return;
                            }
                            let header = line.to_ascii_lowercase();
                            if let Some(told) = header.strip_prefix("content-length:") {
                                length = told.trim().parse().unwrap();
                            }
                        }
                        let mut body = vec![0; length];
                        stream.read_exact(&mut body).unwrap();
                        kept.lock().unwrap().push(Message::decode(&body[..]).unwrap());
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        stream.get_mut().write_all(answer).unwrap();
                    }
                });
            }
        });
        Self { address, sent }
    }

    /// The spans of this name.
    fn spans(&self, name: &str) -> Vec<Span> {
        let sent = self.sent.lock().unwrap();
        let resources = sent.iter().flat_map(|sent| &sent.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| &scope.spans).filter(|span| span.name == name).cloned().collect()
    }
}

#[test]
fn a_computation_is_linked_to_its_request_across_replicas() {
    let Some(database) = databases::fresh("spans across replicas") else { return };
    // Each replica has a collector of its own, so that it is known which one computed.
    let (asked, other) = (Collector::start(), Collector::start());
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, collector: &Collector| {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address));
        let soon = ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned());
        replica(&dir.path().join(name), &database, &[endpoint, soon])
    };
    let service = start("asked", &asked);
    let _other = start("other", &other);
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let header = format!("traceparent: 00-{trace_id}-b7ad6b7169203331-01\r\n");
    let began = Instant::now();
    let mut seed = 0;
    // Until some are computed by the one that was not asked.
    while other.spans("computation").is_empty() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                seed += 1;
                let mut question = crate::questions::of_the_paper();
                question["seed"] = json!(seed);
                let (body, service, header) = (question.to_string(), &service, &header);
                scope.spawn(move || {
                    let head = format!(
                        "POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                         {header}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    service.send((head + &body).as_bytes()).unwrap();
                });
            }
        });
        assert!(began.elapsed() < PATIENCE, "no other replica computes");
        std::thread::sleep(Duration::from_millis(100));
    }
    let requests = asked.spans("request");
    let trace_id = (0..16).map(|n| u8::from_str_radix(&trace_id[2 * n..2 * n + 2], 16).unwrap());
    let trace_id: Vec<u8> = trace_id.collect();
    for span in other.spans("computation") {
        let [link] = &span.links[..] else { panic!("{span:?}") };
        assert_eq!(link.trace_id, trace_id);
        let request = requests.iter().find(|request| request.span_id == link.span_id);
        let request = request.expect("the request that it links to");
        assert_eq!(request.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
    }
}

#[test]
fn a_trace_taken_in_by_one_replica_is_read_by_another() {
    let Some(database) = databases::fresh("a trace of another replica") else { return };
    let fleet = Fleet::start(database);
    let trace = fleet.upload(0);
    let asked = fleet.ask(1, &simulated(&trace, 1));
    let path = format!("/v1/recommendations/{asked}");
    let (_, job) = fleet.call(2, "GET", &path, "wait=60", "").unwrap();
    assert_eq!(job["status"], "succeeded", "{job}");
    let report = format!("/v1/traces/{trace}/report?devices=4");
    assert_eq!(fleet.call(2, "GET", &report, "wait=0", "").unwrap().0, 200);
    // A store that is away is said, and so is what that means.
    let away = [("AWS_ENDPOINT", "http://127.0.0.1:1".to_owned())];
    let variables = [&fleet.objects.variables()[..], &away].concat();
    let cut_off = replica(&fleet.dir.path().join("cut off"), &fleet.database, &variables);
    let (status, problem) = cut_off.ask(&simulated(&trace, 2)).unwrap();
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("--traces"), "{problem}");
    drop(cut_off);
    // Another database finds that the objects are none of its own, and deletes none of them.
    let stranger = databases::fresh("a stranger").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let _stranger = replica(dir.path(), &stranger, &fleet.objects.variables());
    std::thread::sleep(Duration::from_secs(6));
    assert!(fleet.objects.names().iter().any(|name| name.starts_with(&trace)));
}
