//! The recording of answers that a change of structure is compared with.
//!
//! `cargo test --test it -- --ignored --nocapture recording` with `MOE_GPS_RECORDING=DIR` asks
//! every question of [`cases`] of the service as it is built now. Where `DIR` holds no recording
//! one is written; else the two are compared, file by file:
//!
//! - `NAME.json`, every number, list and choice of an answer, must be the same to the last bit;
//! - `NAME.txt`, its prose (every text of more than one word, and what the commands print), is
//!   compared apart. `MOE_GPS_RECORDING_PROSE=accept` writes it anew, for a change that is meant.
//!
//! Names of jobs, digests and the version are left out. The recording itself is not kept in the
//! repository: it is made from the commit before the change.

mod cases;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use crate::fitted::one_hot;
use crate::support::{Answer, TestApp};
use cases::{Ask, RecordedCase, Traces};

/// Fields that name a job, a moment or a build, or measure this run, not a finding.
const IDENTIFIERS: [&str; 8] = [
    "catalog_digest",
    "created_at",
    "finished_at",
    "instance",
    "plan_s",
    "request_id",
    "started_at",
    "version",
];

/// What a case gave: what must stay the same to the last bit, and its prose.
#[derive(Debug, Default, PartialEq)]
struct Recorded {
    exact: Value,
    prose: String,
}

impl Recorded {
    fn of(mut body: Value) -> Self {
        let mut prose = String::new();
        part(&mut body, "", &mut prose);
        Self { exact: body, prose }
    }
}

/// Takes the identifiers out of a value, and its prose into `prose`, each with its place.
fn part(value: &mut Value, place: &str, prose: &mut String) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !IDENTIFIERS.contains(&name.as_str()));
            for (name, field) in fields {
                part(field, &format!("{place}/{name}"), prose);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                part(item, &format!("{place}/{index}"), prose);
            }
        }
        Value::String(text) if text.contains(char::is_whitespace) => {
            writeln!(prose, "{place}: {text}").unwrap();
            "prose".clone_into(text);
        }
        _ => {}
    }
}

/// Runs the program with these arguments and gives what it prints.
fn printed(arguments: &[String]) -> String {
    let program = env!("CARGO_BIN_EXE_moe-gps");
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(program).args(arguments).current_dir(root).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    format!("{}\n{}", output.status, String::from_utf8_lossy(&text))
}

/// The answer of a case: what was recorded, and the plan beside it.
async fn record(app: &TestApp, case: &RecordedCase) -> Recorded {
    match &case.ask {
        Ask::Question(question) => {
            let job = app.ask(question, &[("prefer", "wait=60")]).await.json();
            let mut found =
                if job["result"].is_object() { job["result"].clone() } else { job.clone() };
            found["status"] = job["status"].clone();
            if let Some(id) = job["id"].as_str() {
                assert!(job["status"] != "running", "{} takes more than a minute", case.name);
                let path = format!("/v1/recommendations/{id}/placement");
                let plan = app.get(&path).await;
                found["placement"] = if plan.status == 200 { plan.json() } else { Value::Null };
            }
            Recorded::of(found)
        }
        Ask::Sweep(sweep) => Recorded::of(app.post_json("/v1/sweeps", sweep, &[]).await.json()),
        Ask::Get(path) => match app.get(path).await {
            json if json.header("content-type").contains("json") => Recorded::of(json.json()),
            Answer { body, .. } => {
                let prose = String::from_utf8_lossy(&body).into_owned();
                Recorded { exact: Value::Null, prose }
            }
        },
        Ask::Command(arguments) => {
            let text = printed(arguments);
            let body = text.split_once('\n').and_then(|(_, body)| serde_json::from_str(body).ok());
            body.map_or_else(|| Recorded { exact: Value::Null, prose: text }, Recorded::of)
        }
    }
}

/// Compares a text with that of a file, and writes the file where it is absent.
fn same(file: &Path, text: &str, accept: bool) -> bool {
    match std::fs::read_to_string(file) {
        Ok(before) if before == text => true,
        Ok(_) if !accept => {
            std::fs::write(file.with_added_extension("now"), text).unwrap();
            false
        }
        _ => {
            std::fs::write(file, text).unwrap();
            true
        }
    }
}

async fn uploaded(app: &TestApp, (content_type, bytes): (&str, Vec<u8>)) -> String {
    let request = Request::post("/v1/traces").header("content-type", content_type);
    let answer = app.send(request.body(Body::from(bytes)).unwrap()).await;
    answer.json()["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and compares with a recording that MOE_GPS_RECORDING names"]
async fn answers_are_those_of_the_recording() {
    let Some(folder) = std::env::var_os("MOE_GPS_RECORDING").map(PathBuf::from) else {
        println!("skipped: MOE_GPS_RECORDING names no folder");
        return;
    };
    let accept = std::env::var("MOE_GPS_RECORDING_PROSE").is_ok_and(|how| how == "accept");
    std::fs::create_dir_all(&folder).unwrap();
    let app = TestApp::start_advising().await;
    let mut traces = Traces::default();
    for (name, upload) in cases::uploads() {
        traces.insert(name, uploaded(&app, upload).await);
    }
    let put = Request::put(format!("/v1/traces/{}/embedding", traces["tokens"]));
    let put = put.header("content-type", "application/x-npy");
    let put = put.body(Body::from(one_hot(72, 24))).unwrap();
    assert_eq!(app.send(put).await.status, 204);
    let cases = cases::all(&traces);
    let (mut exact, mut prose) = (Vec::new(), Vec::new());
    for case in &cases {
        let found = record(&app, case).await;
        let numbers = serde_json::to_string_pretty(&found.exact).unwrap();
        if !same(&folder.join(format!("{}.json", case.name)), &numbers, false) {
            exact.push(case.name.as_str());
        }
        if !same(&folder.join(format!("{}.txt", case.name)), &found.prose, accept) {
            prose.push(case.name.as_str());
        }
    }
    let n = cases.len();
    println!("numbers: {} of {n} equal; prose: {} of {n} equal", n - exact.len(), n - prose.len());
    assert!(exact.is_empty(), "numbers changed: {exact:?}");
    assert!(prose.is_empty(), "prose changed: {prose:?}");
}
