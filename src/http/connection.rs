//! What one connection may take: how long it may refuse to be written to, and whether it is idle.
//!
//! The HTTP library answers what it cannot read by itself, with a bare status. Such an answer gets the
//! body of a problem here; all refusals of ours have one.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::http::problem::Failure;

/// What others may know of a connection, and tell it.
#[derive(Debug)]
pub(super) struct Connection {
    began: Instant,
    /// When it last became idle, milliseconds after it began; the largest number while a request is
    /// being answered.
    idle_ms: AtomicU64,
    /// Asks it to end, after what it is answering.
    pub(super) close: CancellationToken,
}

impl Connection {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), idle_ms: AtomicU64::new(0), close: CancellationToken::new() }
    }

    /// Notes that a request has come.
    pub(super) fn begin(&self) {
        self.idle_ms.store(u64::MAX, Ordering::Relaxed);
    }

    /// Notes that it has been answered.
    pub(super) fn end(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.idle_ms.store(now, Ordering::Relaxed);
    }

    /// How long it has been idle; `None` while a request is being answered.
    pub(super) fn idle(&self) -> Option<Duration> {
        match self.idle_ms.load(Ordering::Relaxed) {
            u64::MAX => None,
            since => Some(self.began.elapsed().saturating_sub(Duration::from_millis(since))),
        }
    }
}

/// A stream that breaks when nothing can be written to it for too long.
pub(super) struct Guarded<S> {
    inner: S,
    patience: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    /// What is written in place of a bare answer, and how much of it has been.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    pub(super) fn new(inner: S, patience: Duration) -> Self {
        Self { inner, patience, deadline: None, instead: None }
    }

    /// The same, unless it has been pending for too long.
    fn within_patience<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.deadline = None;
            return poll;
        }
        let patience = self.patience;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

/// What is to be written in place of `head`, if that is a bare refusal of the HTTP library.
fn problem_for(head: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(head.strip_prefix(b"HTTP/1.1 4")?).ok()?;
    let is_bare = head.contains("\r\ncontent-length: 0\r\n") && head.ends_with("\r\n\r\n");
    let status = StatusCode::from_bytes(format!("4{}", head.get(..2)?).as_bytes()).ok()?;
    is_bare.then(|| bare_problem(status))
}

/// A whole answer with a problem, after which the connection ends.
fn bare_problem(status: StatusCode) -> Vec<u8> {
    let mut problem = Failure::of_status(status).problem;
    let id = uuid::Uuid::now_v7().to_string();
    problem.request_id = Some(id.clone());
    // A struct of texts and numbers always serialises.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\nx-request-id: {id}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        status.as_u16(),
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    answer
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.instead.is_none() {
            this.instead = problem_for(buffer).map(|answer| (answer, 0));
        }
        while let Some((answer, written)) = &mut this.instead {
            let poll = Pin::new(&mut this.inner).poll_write(context, &answer[*written..]);
            if let Poll::Ready(Ok(n)) = poll {
                *written += n;
                if *written < answer.len() && 0 < n {
                    continue;
                }
                // All of what it stands for counts as written.
                this.instead = None;
                this.deadline = None;
                return Poll::Ready(Ok(buffer.len()));
            }
            return this.within_patience(context, poll);
        }
        let poll = Pin::new(&mut this.inner).poll_write(context, buffer);
        this.within_patience(context, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(context);
        self.within_patience(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_shutdown(context);
        self.within_patience(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = buffers.iter().find(|buffer| !buffer.is_empty())
            && (self.instead.is_some() || problem_for(first).is_some())
        {
            return self.poll_write(context, first);
        }
        let poll = Pin::new(&mut self.inner).poll_write_vectored(context, buffers);
        self.within_patience(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
