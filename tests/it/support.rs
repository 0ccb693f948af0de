//! The service in a temporary directory, asked through its router without a socket.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use clap::Parser;
use http_body_util::BodyExt;
use moe_gps::app::advise::CostModel;
use moe_gps::app::advisor::{Advice, AdviceError, Advisor, CheckedQuestion, Progress};
use moe_gps::app::context::App;
use moe_gps::app::question::ReadQuestion;
use moe_gps::app::references::References;
use moe_gps::cli::serve;
use moe_gps::config::Settings;
use moe_gps::store::DataDir;
use moe_gps::wire::violation::Violation;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::databases;

/// Longest time a test waits for something that should happen at once, on a machine that may be
/// doing much else.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Does what the question says: `{"do": "answer" | "wait" | "abort" | "panic" | "refuse"}`.
///
/// It stands for the cost model where a test needs a computation that is slow, waits to
/// be canceled or falls over; it counts how often it was begun.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    /// Computations begun.
    pub(crate) begun: Arc<AtomicUsize>,
}

impl Advisor for Scripted {
    fn check(
        &self,
        question: ReadQuestion,
        references: &References,
    ) -> Result<CheckedQuestion, AdviceError> {
        let request = question.request;
        if request.get("do").is_none() {
            let violation = Violation::new("/do", "required", "do is missing");
            return Err(AdviceError::Refused(vec![violation]));
        }
        let (asked, begun) = (request.clone(), Arc::clone(&self.begun));
        Ok(CheckedQuestion {
            digest: Sha256::digest(request.to_string()).into(),
            model: request["model"].as_str().unwrap_or("mixtral-8x7b").to_owned(),
            device: "a100-sxm4-80gb".to_owned(),
            trace_ids: references.traces.keys().cloned().collect(),
            memory_bytes: request["memory"].as_u64().unwrap_or_default(),
            request,
            work: Box::new(move |progress| {
                begun.fetch_add(1, Ordering::SeqCst);
                act(&asked, progress)
            }),
        })
    }
}

/// Does what is scripted, and asks the cost model everything else.
struct Either(Arc<Scripted>);

impl Advisor for Either {
    fn check(
        &self,
        question: ReadQuestion,
        references: &References,
    ) -> Result<CheckedQuestion, AdviceError> {
        match question.request.get("do") {
            Some(_) => self.0.check(question, references),
            None => CostModel.check(question, references),
        }
    }
}

/// Does what the question says.
fn act(question: &Value, progress: &dyn Progress) -> Result<Advice, AdviceError> {
    match question["do"].as_str() {
        Some("wait" | "abort") => {
            let until = question["until"].as_str().map(Path::new);
            progress.report(0.25, "waiting");
            while !until.is_some_and(Path::exists) {
                progress.cancel().check()?;
                std::thread::sleep(Duration::from_millis(5));
            }
            if question["do"] == "abort" {
                std::process::abort();
            }
        }
        Some("panic") => panic!("told to fall over"),
        Some("refuse") => {
            let violation = Violation::new("/do", "late", "refused late");
            return Err(AdviceError::Refused(vec![violation]));
        }
        _ => {}
    }
    let recommendation = json!({"strategy": "none"});
    Ok(Advice {
        result: to_raw_value(&json!({"recommendation": recommendation, "echo": question}))?,
        recommendation: to_raw_value(&recommendation)?,
        strategy: "none".to_owned(),
        placement: question.get("plan").map(to_raw_value).transpose()?,
    })
}

/// The service in a temporary directory.
pub(crate) struct TestApp {
    pub(crate) router: Router,
    pub(crate) app: Arc<App>,
    pub(crate) advisor: Arc<Scripted>,
    pub(crate) dir: tempfile::TempDir,
    _data_dir: DataDir,
    _runner: moe_gps::jobs::Runner,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
            .to_str()
            .unwrap()
    }

    /// The problem, after a look at what all problems have.
    pub(crate) fn problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:moe-gps:problem:{slug}"));
        assert_eq!(problem["status"], status);
        for field in ["title", "detail", "instance", "request_id"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        problem
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: Settings,
}

/// The default settings with the given flags.
pub(crate) fn settings(dir: &Path, flags: &[&str]) -> Settings {
    let dir = dir.to_str().unwrap();
    let line = ["test", "--listen", "127.0.0.1:0", "--data-dir", dir];
    let engine = databases::flags(Path::new(dir));
    let engine = engine.iter().map(String::as_str);
    Line::parse_from(line.into_iter().chain(flags.iter().copied()).chain(engine)).settings
}

impl Drop for TestApp {
    /// Ends what is still computed; the runtime would wait for it.
    fn drop(&mut self) {
        self.app.board.stopping.cancel();
        self.app.board.cancel_all();
    }
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The service with these flags beside the defaults.
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags).await
    }

    /// The service in a directory that an earlier one may have used.
    pub(crate) async fn start_in(dir: tempfile::TempDir, flags: &[&str]) -> Self {
        let advisor = Arc::new(Scripted::default());
        let answering = Arc::clone(&advisor) as Arc<dyn Advisor>;
        Self::start_advised(dir, flags, advisor, answering).await
    }

    /// The service as it is, with the cost model for an advisor.
    pub(crate) async fn start_advising() -> Self {
        Self::start_advising_in(tempfile::tempdir().unwrap(), &[]).await
    }

    /// The same with these flags.
    pub(crate) async fn start_with_advice(flags: &[&str]) -> Self {
        Self::start_advising_in(tempfile::tempdir().unwrap(), flags).await
    }

    /// The same in a directory that an earlier one may have used, with these flags; it also does
    /// what is scripted.
    pub(crate) async fn start_advising_in(dir: tempfile::TempDir, flags: &[&str]) -> Self {
        let scripted = Arc::new(Scripted::default());
        let either = Arc::new(Either(Arc::clone(&scripted)));
        Self::start_advised(dir, flags, scripted, either).await
    }

    async fn start_advised(
        dir: tempfile::TempDir,
        flags: &[&str],
        advisor: Arc<Scripted>,
        answering: Arc<dyn Advisor>,
    ) -> Self {
        let settings = settings(dir.path(), flags);
        let data_dir = DataDir::take(dir.path()).unwrap();
        let (app, runner) = serve::start(&settings, &data_dir, answering).await.unwrap();
        let router = serve::router(&settings, &app, true);
        Self { router, app, advisor, dir, _data_dir: data_dir, _runner: runner }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let answering = async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            Answer { status: parts.status, headers: parts.headers, body }
        };
        tokio::time::timeout(PATIENCE, answering).await.expect("an answer")
    }

    pub(crate) async fn call(&self, method: &str, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).await
    }

    /// Posts JSON with these headers.
    pub(crate) async fn post_json(
        &self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Asks a question with these headers.
    pub(crate) async fn ask(&self, question: &Value, headers: &[(&str, &str)]) -> Answer {
        self.post_json("/v1/recommendations", question, headers).await
    }

    /// Asks and waits for the end.
    pub(crate) async fn ask_and_wait(&self, question: &Value) -> Answer {
        self.ask(question, &[("prefer", "wait=15")]).await
    }

    /// Asks without waiting and gives the job's id.
    pub(crate) async fn submit(&self, question: &Value) -> String {
        let answer = self.ask(question, &[]).await;
        assert!([200, 202].contains(&answer.status.as_u16()), "{:?}", answer.status);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Looks until the job has this status.
    pub(crate) async fn until(&self, id: &str, status: &str) -> Value {
        let looking = async {
            loop {
                let job = self.get(&format!("/v1/recommendations/{id}")).await.json();
                if job["status"] == status {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not {status}"))
    }

    /// Keeps a worker busy until the gate of this name is opened.
    pub(crate) async fn hold_worker(&self, gate: &str) {
        let id = self.submit(&json!({"do": "wait", "until": self.gate(gate)})).await;
        self.until(&id, "running").await;
    }

    /// A path whose creation lets `{"do": "wait", "until": path}` go on.
    pub(crate) fn gate(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}
