//! One `GET` over plain HTTP, for the commands that ask a running program.

use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;

/// Largest answer that is read. Engines print some hundred kilobytes of metrics.
const MOST_BYTES: usize = 64 << 20;

/// What an address answers: status and body.
pub(super) fn get(uri: &Uri, patience: Duration) -> Result<(StatusCode, Bytes)> {
    let authority = uri.authority().with_context(|| format!("{uri} has no host"))?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let asking = async move {
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let stream = tokio::net::TcpStream::connect((host, port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(path)
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, "text/plain, application/json")
            .body(Body::empty())?;
        let answering = async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = to_bytes(Body::new(answer.into_body()), MOST_BYTES).await?;
            // The connection ends with the answer, also where the other side would keep it.
            drop(sender);
            anyhow::Ok((status, body))
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
