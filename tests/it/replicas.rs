//! Several processes that share a database and an object store, killed one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

fn simulated(trace: &str, seed: u64) -> Value {
    let mut question = crate::questions::of_the_paper();
    question["routing"] = json!({"trace_id": trace});
    question["predictors"] = json!([]);
    question["seed"] = json!(seed);
    question
}

#[test]
fn three_replicas_lose_nothing_while_one_after_another_is_killed() {
    let Some(database) = databases::fresh("the story of three replicas") else { return };
    let objects = Objects::start();
    let variables = objects.variables();
    let dir = tempfile::tempdir().unwrap();
    let folder = |n: usize| dir.path().join(n.to_string());
    let replicas: Vec<Mutex<Service>> =
        (0..3).map(|n| Mutex::new(replica(&folder(n), &database, &variables))).collect();
    let addresses =
        || -> Vec<_> { replicas.iter().map(|one| one.lock().unwrap().address).collect() };
    let traces: Vec<String> = (0..4)
        .map(|n| {
            let body = recording(n);
            let sent = replicas[n as usize % 3].lock().unwrap().call(
                "POST",
                "/v1/traces?model=mixtral-8x7b",
                "application/x-ndjson",
                body.as_bytes(),
            );
            let (status, trace) = sent.unwrap();
            assert_eq!(status, 201, "{trace}");
            trace["id"].as_str().unwrap().to_owned()
        })
        .collect();
    const JOBS: u64 = 500;
    let accepted = Mutex::new(BTreeMap::new());
    let waited_elsewhere = AtomicU64::new(0);
    let next = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..6_usize {
            let (accepted, next, traces) = (&accepted, &next, &traces);
            let (addresses, waited_elsewhere) = (&addresses, &waited_elsewhere);
            scope.spawn(move || {
                loop {
                    // So that the campaign lasts for some kills.
                    std::thread::sleep(Duration::from_millis(40));
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if JOBS <= n {
                        break;
                    }
                    let question = simulated(&traces[n as usize % traces.len()], n);
                    // Asked of one replica, until one takes it; then waited for at another one.
                    let id = (0..)
                        .find_map(|attempt: usize| {
                            let at = addresses()[(client + attempt) % 3];
                            let sent = Service::call_at(
                                at,
                                "POST",
                                "/v1/recommendations",
                                "wait=0",
                                &question.to_string(),
                            );
                            if !matches!(sent, Some((200 | 202, _))) {
                                std::thread::sleep(Duration::from_millis(20));
                            }
                            let (_, job) =
                                sent.filter(|(status, _)| matches!(status, 200 | 202))?;
                            Some(job["id"].as_str().unwrap().to_owned())
                        })
                        .unwrap();
                    accepted.lock().unwrap().insert(id.clone(), n);
                    let at = addresses()[(client + 1) % 3];
                    let path = format!("/v1/recommendations/{id}");
                    if let Some((200, job)) = Service::call_at(at, "GET", &path, "wait=60", "") {
                        assert_eq!(job["status"], "succeeded", "{job}");
                        waited_elsewhere.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let (done, database, folder, variables) = (&done, &database, &folder, &variables);
        let replicas = &replicas;
        let killing = scope.spawn(move || {
            let mut kills = 0;
            for n in (0..3).cycle() {
                std::thread::sleep(Duration::from_millis(200));
                if done.load(Ordering::Relaxed) {
                    return kills;
                }
                let mut one = replicas[n].lock().unwrap();
                one.signal("-KILL");
                one.child.wait().unwrap();
                *one = replica(&folder(n), database, variables);
                kills += 1;
            }
            kills
        });
        while next.load(Ordering::Relaxed) < JOBS + 6 {
            std::thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
        let kills = killing.join().unwrap();
        println!(
            "{kills} kills, {} waited for elsewhere",
            waited_elsewhere.load(Ordering::Relaxed)
        );
        assert!(2 < kills);
    });
    let accepted = accepted.into_inner().unwrap();
    assert_eq!(accepted.len() as u64, JOBS);
    assert!(0 < waited_elsewhere.into_inner());
    // Every accepted job ends, once, about what was asked, whichever replica is asked.
    let began = Instant::now();
    for (n, (id, seed)) in accepted.iter().enumerate() {
        let at = addresses()[n % 3];
        let path = format!("/v1/recommendations/{id}");
        let (status, job) = Service::call_at(at, "GET", &path, "wait=60", "").unwrap();
        assert_eq!((status, &job["status"]), (200, &json!("succeeded")), "{job}");
        assert_eq!(job["request"]["seed"].as_u64(), Some(*seed));
        assert!(began.elapsed() < PATIENCE, "{id} does not end");
    }
    let mut listed = BTreeSet::new();
    let mut path = "/v1/recommendations?limit=500".to_owned();
    loop {
        let (_, page) = Service::call_at(addresses()[0], "GET", &path, "wait=0", "").unwrap();
        for item in page["items"].as_array().unwrap() {
            assert!(listed.insert(item["id"].as_str().unwrap().to_owned()), "twice: {item}");
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/recommendations?limit=500&cursor={cursor}");
    }
    assert_eq!(listed, accepted.into_keys().collect());
    // Every trace is in the store, and what nothing names any more goes from there.
    let of = |id: &String| objects.names().iter().any(|name| name.starts_with(id.as_str()));
    assert!(traces.iter().all(of), "{:?}", objects.names());
    let path = format!("/v1/traces/{}", traces[0]);
    let (status, _) = Service::call_at(addresses()[1], "DELETE", &path, "wait=0", "").unwrap();
    assert_eq!(status, 204);
    let began = Instant::now();
    while of(&traces[0]) {
        assert!(began.elapsed() < PATIENCE, "{:?}", objects.names());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(traces[1..].iter().all(of), "{:?}", objects.names());
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
    // All connections break, and none is let in.
    let (server, name) = database.rsplit_once('/').unwrap();
    let postgres = format!("{server}/postgres");
    databases::execute(
        &postgres,
        &format!(
            "alter database {name} allow_connections false;
             select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}';"
        ),
    );
    let (status, problem) = service.ask(&question(1)).unwrap();
    assert_eq!(status, 503, "{problem}");
    assert_eq!(problem["type"], "urn:moe-gps:problem:storage-unavailable");
    assert_eq!(service.call("GET", "/livez", "", b"").unwrap().0, 200);
    assert_eq!(service.call("GET", "/readyz", "", b"").unwrap().0, 503);
    std::thread::sleep(Duration::from_secs(10));
    databases::execute(&postgres, &format!("alter database {name} allow_connections true"));
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
    // Each replica tells a collector of its own, by which they are told apart.
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
