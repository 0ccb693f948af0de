//! A campaign of crashes: the service is killed at random moments under mixed load, and what it has
//! accepted must be there, once, with the right inputs.
//!
//! `MOE_GPS_CRASH_ROUNDS=1000 cargo test --test it crashes` runs it for longer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::service::Service;
use crate::support::PATIENCE;

/// Kills of a run that does not say how many.
const ROUNDS: u64 = 50;

/// What the clients have been told.
#[derive(Default)]
struct Told {
    /// Accepted questions by id, with what was asked.
    accepted: BTreeMap<String, u64>,
    /// Those of which a deletion was asked, answered or not.
    deleted: BTreeMap<String, bool>,
    /// Traces that were uploaded.
    traces: Vec<String>,
}

fn question(seed: u64) -> Value {
    let mut question = crate::questions::of_the_paper();
    question["seed"] = json!(seed);
    question
}

/// One client: asks, uploads and deletes until the service goes away.
fn act(service: &Service, told: &Mutex<Told>, next: &AtomicU64, stop: &AtomicBool, client: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(client);
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        match random.random_range(0..10) {
            0 => {
                let body = format!("{{\"counts\": [[{}, 2], [2, 1]]}}", n + 1);
                let sent = service.call("POST", "/v1/traces", "application/json", body.as_bytes());
                // Of an answer that is cut off nobody has heard.
                if let Some((201, trace)) = sent
                    && let Some(id) = trace["id"].as_str()
                {
                    told.lock().unwrap().traces.push(id.to_owned());
                }
            }
            1 => {
                let id = {
                    let mut told = told.lock().unwrap();
                    let of = |id: &&String| !told.deleted.contains_key(*id);
                    let Some(id) = told.accepted.keys().find(of).cloned() else { continue };
                    told.deleted.insert(id.clone(), false);
                    id
                };
                let path = format!("/v1/recommendations/{id}");
                if let Some((204, _)) = service.call("DELETE", &path, "", b"") {
                    told.lock().unwrap().deleted.insert(id, true);
                }
            }
            _ => {
                if let Some((200 | 202, job)) = service.ask(&question(n))
                    && let Some(id) = job["id"].as_str()
                {
                    told.lock().unwrap().accepted.insert(id.to_owned(), n);
                }
            }
        }
    }
}

#[test]
fn what_is_accepted_survives_a_campaign_of_kills() {
    let rounds = std::env::var("MOE_GPS_CRASH_ROUNDS").ok();
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let dir = tempfile::tempdir().unwrap();
    let told = Mutex::new(Told::default());
    let next = AtomicU64::new(0);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for round in 0..rounds {
        let service = Service::start(dir.path(), &["--lease-s", "1", "--max-attempts", "1000"]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..4 {
                let (service, told, next, stop) = (&service, &told, &next, &stop);
                scope.spawn(move || act(service, told, next, stop, round * 4 + client));
            }
            std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
            service.signal("-KILL");
            stop.store(true, Ordering::Relaxed);
        });
    }
    let service = Service::start(dir.path(), &[]);
    let told = told.into_inner().unwrap();
    assert!(!told.accepted.is_empty() && !told.traces.is_empty());
    let began = Instant::now();
    for (id, seed) in &told.accepted {
        let path = format!("/v1/recommendations/{id}");
        let job = loop {
            let (status, job) = service.call("GET", &path, "", b"").unwrap();
            let gone = told.deleted.get(id);
            if status == 404 {
                assert!(gone.is_some(), "{id} is lost");
                break None;
            }
            assert_ne!(gone, Some(&true), "{id} was deleted and is there again");
            if job["status"] != "queued" && job["status"] != "running" {
                break Some(job);
            }
            assert!(began.elapsed() < PATIENCE, "{id} does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        if let Some(job) = job.filter(|job| job["status"] != "canceled") {
            assert_eq!(job["status"], "succeeded", "{job}");
            assert_eq!(job["request"]["seed"].as_u64(), Some(*seed), "answered from other inputs");
        }
    }
    for id in &told.traces {
        assert_eq!(service.call("GET", &format!("/v1/traces/{id}"), "", b"").unwrap().0, 200);
    }
    // Every file has its row, and nothing is there twice.
    let mut listed = BTreeSet::new();
    let mut path = "/v1/recommendations?limit=500".to_owned();
    loop {
        let (_, page) = service.call("GET", &path, "", b"").unwrap();
        for item in page["items"].as_array().unwrap() {
            assert!(listed.insert(item["id"].as_str().unwrap().to_owned()), "twice: {item}");
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/recommendations?limit=500&cursor={cursor}");
    }
    for file in std::fs::read_dir(dir.path().join("traces")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let id = name.split('.').next().unwrap();
        let (status, _) = service.call("GET", &format!("/v1/traces/{id}"), "", b"").unwrap();
        assert_eq!(status, 200, "{name} is orphaned");
    }
    println!(
        "{rounds} kills, {} questions accepted, {} deletions, {} uploads",
        told.accepted.len(),
        told.deleted.len(),
        told.traces.len()
    );
}
