//! The service as a process: killed, told to stop, started twice, given an odd directory.
//!
//! The processes are this test binary again, running [`child`] with the scripted advisor,
//! so that jobs can be held in the middle.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Scripted, settings};

const DIR: &str = "MOE_GPS_TEST_CHILD_DIR";
const FLAGS: &str = "MOE_GPS_TEST_CHILD_FLAGS";

/// Not a test of its own: what the other tests start as a process.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let flags = std::env::var(FLAGS).unwrap_or_default();
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let settings = settings(Path::new(&dir), &flags);
    let ended = moe_gps::cli::serve::run(&settings, Arc::new(Scripted::default()), None);
    if let Err(error) = ended {
        eprintln!("ended: {error:#}");
        std::process::exit(1);
    }
}

pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

fn command(dir: &Path, flags: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process::child", "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir).env(FLAGS, flags);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Process {
    pub(crate) fn start(dir: &Path, flags: &str) -> Self {
        Self::try_start(dir, flags).expect("ended at start")
    }

    /// A process that may end before it has said where it listens.
    pub(crate) fn try_start(dir: &Path, flags: &str) -> Option<Self> {
        // A killed predecessor leaves its own behind.
        let file = dir.join("address");
        let _ = std::fs::remove_file(&file);
        let mut child = command(dir, flags).spawn().unwrap();
        let address = until("the start", || {
            if child.try_wait().unwrap().is_some() {
                return Some(None);
            }
            std::fs::read_to_string(&file).ok()?.strip_suffix('\n')?.parse().ok().map(Some)
        });
        Some(Self { child, address: address? })
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.try_call(method, path, body).expect("an answer")
    }

    pub(crate) fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split_whitespace().nth(1)?.parse().ok()?;
        let body = text.split_once("\r\n\r\n")?.1;
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }

    pub(crate) fn submit(&self, question: &Value) -> String {
        let (status, job) = self.call("POST", "/v1/recommendations", Some(question));
        assert!([200, 202].contains(&status), "{status}");
        job["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn until(&self, id: &str, status: &str) -> Value {
        let path = format!("/v1/recommendations/{id}");
        until(status, || {
            Some(self.call("GET", &path, None).1).filter(|job| job["status"] == status)
        })
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn after_a_kill_every_accepted_job_finishes() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("go");
    let mut first = Process::start(dir.path(), "--workers 1");
    let held = json!({"do": "wait", "until": gate});
    let running = first.submit(&held);
    first.until(&running, "running");
    let queued: Vec<_> = (0..20).map(|n| first.submit(&json!({"do": "answer", "n": n}))).collect();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    std::fs::write(&gate, "").unwrap();

    let second = Process::start(dir.path(), "--workers 1");
    for id in queued.iter().chain([&running]) {
        let job = second.until(id, "succeeded");
        assert_eq!(job["result"]["echo"], job["request"]);
    }
    let (_, page) = second.call("GET", "/v1/recommendations?limit=100", None);
    assert_eq!(page["items"].as_array().unwrap().len(), 21, "each job once");
    assert_eq!(second.submit(&held), running, "and known as answered");
}

#[test]
fn a_job_that_kills_its_process_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let question = json!({"do": "wait", "until": dir.path().join("never")});
    let mut id = String::new();
    for _ in 0..2 {
        let mut process = Process::start(dir.path(), "--max-attempts 2");
        id = process.submit(&question);
        process.until(&id, "running");
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }
    let process = Process::start(dir.path(), "--max-attempts 2");
    let job = process.until(&id, "failed");
    assert_eq!(job["error"]["type"], "urn:moe-gps:problem:given-up");
}

#[test]
fn health_is_what_the_running_service_says_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let health = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
        command.arg("health").args(flags).env_remove("MOE_GPS_DATA_DIR");
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let data_dir = dir.path().to_str().unwrap();
    let (status, _, said) = health(&["--data-dir", data_dir]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("address") && said.contains("--data-dir"), "{said}");

    let flags = "--drain-delay-s 60 --drain-timeout-s 5";
    let mut process = Process::start(dir.path(), flags);
    let address = process.address.to_string();
    for of in [["--data-dir", data_dir], ["--address", &address]] {
        assert_eq!(
            health(&of),
            (Some(0), format!("the service at {address} is ready\n"), String::new())
        );
    }
    process.terminate();
    let said = until("not ready", || {
        let (status, _, said) = health(&["--data-dir", data_dir]);
        (status == Some(1)).then_some(said)
    });
    assert!(said.contains("is not ready") && said.contains("stop"), "{said}");
    // Killed, it leaves its address behind.
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let (status, _, said) = health(&["--data-dir", data_dir]);
    assert_eq!(status, Some(1));
    assert!(said.contains(&format!("cannot ask http://{address}/readyz")), "{said}");
    assert_eq!(health(&["--address", "nowhere at all"]).0, Some(1));
}

#[test]
fn told_to_stop_it_drains() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("go");
    let flags = "--workers 1 --drain-delay-s 1 --drain-timeout-s 5";
    let mut process = Process::start(dir.path(), flags);
    let running = process.submit(&json!({"do": "wait", "until": gate}));
    process.until(&running, "running");
    let queued = process.submit(&json!({"do": "answer"}));
    process.terminate();
    // Not ready, but still answering.
    until("not ready", || (process.try_call("GET", "/readyz", None)?.0 == 503).then_some(()));
    assert_eq!(process.call("GET", "/livez", None).0, 200);
    std::fs::write(&gate, "").unwrap();
    let status = until("the end", || process.child.try_wait().unwrap());
    assert!(status.success());
    assert!(!dir.path().join("address").exists());

    let next = Process::start(dir.path(), flags);
    next.until(&queued, "succeeded");
    next.until(&running, "succeeded");
}

#[test]
fn told_to_stop_it_puts_back_what_does_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("go");
    let flags = "--workers 1 --drain-delay-s 0 --drain-timeout-s 0.2 --max-attempts 1";
    let mut process = Process::start(dir.path(), flags);
    let running = process.submit(&json!({"do": "wait", "until": gate}));
    process.until(&running, "running");
    process.terminate();
    assert!(until("the end", || process.child.try_wait().unwrap()).success());
    std::fs::write(&gate, "").unwrap();
    // An attempt that was put back in order does not count.
    Process::start(dir.path(), flags).until(&running, "succeeded");
}

#[test]
fn one_directory_has_one_service() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Process::start(dir.path(), "");
    let second = command(dir.path(), "").output().unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("in use by another moe-gps"), "{text}");
    assert!(dir.path().join("address").exists(), "the first one's address stays");
}

#[test]
fn the_first_log_line_is_the_address() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), "");
    process.child.kill().unwrap();
    let mut log = String::new();
    process.child.stdout.take().unwrap().read_to_string(&mut log).unwrap();
    // Before it stands what the test harness says.
    let line = log.lines().find(|line| !line.is_empty() && !line.starts_with("running")).unwrap();
    let line = line.strip_prefix("test process::child ... ").unwrap_or(line);
    assert_eq!(line, process.address.to_string());
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = command(&file.join("data"), "").output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.starts_with("ended: ")).unwrap();
    assert!(line.contains("file/data") && line.contains("--data-dir"), "{line}");
}

#[cfg(unix)]
#[test]
fn a_read_only_directory_is_named() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = command(dir.path(), "");
    // The superuser writes everywhere: somebody else is to try.
    let probe = dir.path().join("probe");
    if std::fs::write(&probe, "").is_ok() {
        std::fs::remove_file(&probe).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            println!("skipped: nobody else may run this test's program");
            return;
        }
        output => output.unwrap(),
    };
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.starts_with("ended: ")).unwrap();
    let said = format!(
        "ended: data directory {} cannot be used; choose a writable one with --data-dir: \
         Permission denied (os error 13)",
        dir.path().join("lock").display()
    );
    assert_eq!(line, said);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    // The document is more than a pipe holds.
    let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    command.arg("openapi").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_database_without_room_is_told_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), "--max-database-bytes 8192").output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no room left") && text.contains(dir.path().to_str().unwrap()), "{text}");
}

#[test]
fn a_head_that_does_not_come_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), "--header-timeout-s 0.3");
    let mut stream = TcpStream::connect(process.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost:").unwrap();
    let mut rest = Vec::new();
    // The end of the connection, with or without a parting word, but in time.
    let _ = stream.read_to_end(&mut rest).map_err(|error| {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "still open");
    });
    assert_eq!(process.call("GET", "/livez", None).0, 200);
}

#[test]
fn a_refused_body_is_read_so_that_the_refusal_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), "");
    let mut stream = TcpStream::connect(process.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let n_bytes = 100 << 20;
    write!(
        stream,
        "POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {n_bytes}\r\n\r\n"
    )
    .unwrap();
    let piece = vec![b' '; 1 << 20];
    for _ in 0..(n_bytes >> 20) {
        stream.write_all(&piece).expect("a client that only writes is not cut off");
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    assert!(text.contains("urn:moe-gps:problem:too-large"), "{text}");
}

#[test]
fn a_body_that_trickles_is_refused_when_its_time_is_up_not_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), "--body-timeout-s 0.3");
    let mut stream = TcpStream::connect(process.address).unwrap();
    // Below the ten seconds for which what is left of a refused body is read.
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    write!(
        stream,
        "POST /v1/recommendations HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
    )
    .unwrap();
    // Nothing more is sent and the connection stays open: the answer must come all the same.
    let mut answer = [0; 4096];
    let n = stream.read(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer[..n]);
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert!(text.contains("the body did not arrive within 0.3 s"), "{text}");
}

#[test]
fn what_lies_elsewhere_has_one_process_at_a_time() {
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().to_str().unwrap();
    for flags in [
        format!("--database sqlite:{elsewhere}/answers.db"),
        format!("--traces file:{elsewhere}/traces"),
    ] {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Process::start(dir.path(), &flags);
        assert!(Process::try_start(other.path(), &flags).is_none(), "{flags}");
        drop(first);
        assert!(Process::try_start(other.path(), &flags).is_some(), "{flags}");
    }
    assert!(Path::new(elsewhere).join("answers.db").exists());
    assert!(Path::new(elsewhere).join("traces").is_dir());
}
