//! The built program as a service on a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::databases;
use crate::support::PATIENCE;

/// A running service, killed when it is dropped.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Service {
    /// Starts it on a data directory, with these flags beside the defaults.
    pub(crate) fn start(dir: &Path, flags: &[&str]) -> Self {
        Self::start_logging(dir, flags, Stdio::null())
    }

    /// Starts it where no address can be written, on a port that is free.
    pub(crate) fn start_at(dir: &Path, flags: &[&str]) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
        command.args(["serve", "--listen", &free.to_string(), "--drain-delay-s", "0"]).args(flags);
        let child = command.arg("--data-dir").arg(dir).stdout(Stdio::null()).spawn().unwrap();
        let mut service = Self { child, address: free };
        let began = Instant::now();
        while TcpStream::connect(free).is_err() {
            assert!(began.elapsed() < PATIENCE, "the service did not start");
            assert!(service.child.try_wait().unwrap().is_none(), "the service ended at start");
            std::thread::sleep(Duration::from_millis(10));
        }
        service
    }

    /// Starts it with its log to `stdout`.
    pub(crate) fn start_logging(dir: &Path, flags: &[&str], stdout: Stdio) -> Self {
        Self::start_told(dir, flags, &[], stdout)
    }

    /// Starts it with these variables beside those of the test.
    pub(crate) fn start_with_variables(
        dir: &Path,
        flags: &[&str],
        variables: &[(&str, String)],
    ) -> Self {
        Self::start_told(dir, flags, variables, Stdio::null())
    }

    fn start_told(dir: &Path, flags: &[&str], variables: &[(&str, String)], stdout: Stdio) -> Self {
        let file = dir.join("address");
        // A killed predecessor leaves its own behind.
        let _ = std::fs::remove_file(&file);
        let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--drain-delay-s", "0"]).args(flags);
        if !flags.contains(&"--database") {
            command.args(databases::flags(dir));
        }
        command.envs(variables.iter().cloned());
        let child = command.arg("--data-dir").arg(dir).stdout(stdout).spawn().unwrap();
        let mut service = Self { child, address: ([127, 0, 0, 1], 0).into() };
        let began = Instant::now();
        while service.address.port() == 0 {
            assert!(began.elapsed() < PATIENCE, "the service did not start");
            assert!(service.child.try_wait().unwrap().is_none(), "the service ended at start");
            let address = std::fs::read_to_string(&file).unwrap_or_default();
            if let Some(address) = address.strip_suffix('\n') {
                service.address = address.parse().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        service
    }

    /// Sends bytes and reads the answer to the end of the connection.
    pub(crate) fn send(&self, bytes: &[u8]) -> Option<String> {
        Self::send_to(self.address, bytes)
    }

    fn send_to(address: SocketAddr, bytes: &[u8]) -> Option<String> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// A request that waits for the end of what it asks; the status and the JSON, unless the service
    /// goes away.
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Option<(u16, Value)> {
        Self::send_request(self.address, method, path, ("wait=60", content_type), body)
    }

    /// A request with JSON, to whatever listens there.
    pub(crate) fn call_at(
        address: SocketAddr,
        method: &str,
        path: &str,
        prefer: &str,
        body: &str,
    ) -> Option<(u16, Value)> {
        Self::send_request(address, method, path, (prefer, "application/json"), body.as_bytes())
    }

    fn send_request(
        address: SocketAddr,
        method: &str,
        path: &str,
        (prefer, content_type): (&str, &str),
        body: &[u8],
    ) -> Option<(u16, Value)> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nprefer: {prefer}\r\n\
             content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let text = Self::send_to(address, &[head.as_bytes(), body].concat())?;
        let status = text.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(text.split_once("\r\n\r\n")?.1).unwrap_or_default()))
    }

    /// Asks a question and waits for its end.
    pub(crate) fn ask(&self, question: &Value) -> Option<(u16, Value)> {
        let body = question.to_string();
        self.call("POST", "/v1/recommendations", "application/json", body.as_bytes())
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
