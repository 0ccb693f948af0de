//! `serve --demo`: a first recommendation from a real recording, over HTTP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cli::answer_table;
use crate::wire::job::JobView;
use crate::wire::trace::TraceSummary;

/// A recording of a small Mixtral-like model on Python source (see `examples/README.md`).
const RECORDING: &[u8] = include_bytes!("../../examples/traces/mixtral_like_e8k2.python.train.npz");

/// The question: a Mixtral 8x7B deployment with the recorded routing.
const QUESTION: &str = include_str!("../../examples/questions/mixtral-h100.json");

/// Asks in a thread of its own, so that the service goes on.
pub(super) fn start(address: SocketAddr) {
    std::thread::spawn(move || {
        // Gathered first: the service logs to the same output while it answers us.
        let mut text = Vec::new();
        if let Err(error) = run(address, &mut text) {
            text.extend_from_slice(format!("the demonstration failed: {error:#}\n").as_bytes());
        }
        let mut out = io::stdout().lock();
        // Without anybody to show it to, the service goes on.
        let _ = out.write_all(&text).and_then(|()| out.flush());
    });
}

fn run(address: SocketAddr, out: &mut dyn Write) -> Result<()> {
    let uploaded = post(
        address,
        "/v1/traces?name=mixtral-like%20on%20python",
        "Content-Type: application/x-npz\r\n",
        RECORDING,
    )?;
    let id = serde_json::from_str::<TraceSummary>(&uploaded)?.id;
    let mut question: Value = serde_json::from_str(QUESTION)?;
    question["routing"] = json!({"trace_id": id});
    let answer = post(
        address,
        "/v1/recommendations",
        "Content-Type: application/json\r\nPrefer: wait=60\r\n",
        question.to_string().as_bytes(),
    )?;
    let job: JobView = serde_json::from_str(&answer)?;
    let Some(result) = job.result else {
        bail!("the answer is not there after a minute: {answer}");
    };
    writeln!(out, "\nuploaded examples/traces/mixtral_like_e8k2.python.train.npz as trace {id}")?;
    writeln!(out, "asked POST http://{address}/v1/recommendations\n{question:#}\n")?;
    answer_table::write(out, &serde_json::from_str(result.get())?, false)?;
    answer_table::outcomes(out, &job.outcomes)?;
    let location = job.id;
    writeln!(out, "\nthis answer:   http://{address}/v1/recommendations/{location}")?;
    writeln!(out, "its placement: http://{address}/v1/recommendations/{location}/placement")?;
    writeln!(out, "the API page:  http://{address}/docs")?;
    Ok(())
}

/// Posts a body and reads the body that comes back.
///
/// One request on one connection to ourselves needs no client library.
fn post(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\
         {headers}\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    let status = head.split(' ').nth(1).unwrap_or("");
    if !status.starts_with('2') {
        bail!("POST {path} answered {status}: {body}");
    }
    Ok(body.to_owned())
}
