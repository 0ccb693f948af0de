//! One request over plain HTTP, for the commands that ask a running program.

use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;

/// Largest answer that is read. Engines print some hundred kilobytes of metrics, and a map of the largest
/// model has some megabytes.
const MOST_BYTES: usize = 64 << 20;

/// What is sent.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Vec<u8>,
}

/// What comes back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What an address answers: status and body.
pub(super) fn get(uri: &Uri, patience: Duration) -> Result<(StatusCode, Bytes)> {
    let headers = vec![(header::ACCEPT, "text/plain, application/json".to_owned())];
    let call = Call { method: Method::GET, headers, body: Vec::new() };
    let Reply { status, body, .. } = send(uri, call, patience)?;
    Ok((status, body))
}

/// Sends a request to an address.
pub(super) fn send(uri: &Uri, call: Call, patience: Duration) -> Result<Reply> {
    let authority = uri.authority().with_context(|| format!("{uri} has no host"))?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let asking = async move {
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let stream = tokio::net::TcpStream::connect((host, port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder().method(call.method).uri(path);
        request = request.header(header::HOST, authority.as_str());
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(call.body))?;
        let answering = async move {
            let answer = sender.send_request(request).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = to_bytes(Body::new(answer.into_body()), MOST_BYTES).await?;
            // The connection ends with the answer, also where the other side would keep it.
            drop(sender);
            anyhow::Ok(Reply { status, headers, body })
        };
        let (answer, _) = tokio::join!(answering, connection);
        answer
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let waiting = async { tokio::time::timeout(patience, asking).await };
    runtime
        .block_on(waiting)
        .with_context(|| format!("{uri} does not answer within {} s", patience.as_secs()))?
        .with_context(|| format!("cannot ask {uri}"))
}
