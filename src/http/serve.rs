//! Accepts connections and serves them until told to stop.
//!
//! In place of the framework's loop, because a connection must not take forever to send
//! its head or to take its answer, and because there is a bound on how many are open. Beyond the
//! bound the idlest one is closed, and what still has no place is told so; probes are answered
//! over some more, so that a supervisor does not kill a service that is only asked much.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::config::Limits;
use crate::http::connection::{Connection, Guarded};

/// Marks a request that came over a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnWire {
    /// Whether the connection is beyond the bound, where only probes are answered.
    pub(super) is_spare: bool,
}

/// Pause after a connection could not be accepted, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections beyond the bound that are told so, or probe.
const SPARE: usize = 64;
/// How long a connection waits for a place before it is told that there is none.
const PLACE_WAIT: Duration = Duration::from_millis(100);
/// An idle connection younger than this may be about to send.
const LEAST_IDLE: Duration = Duration::from_secs(1);

/// The connections that are open.
#[derive(Default)]
struct Open(Mutex<Vec<Arc<Connection>>>);

impl Open {
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        // The list stays whole whatever a holder does.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection that has been idle for longest, if one is.
    fn close_idlest(&self) {
        let all = self.all();
        let idle = all.iter().filter(|one| !one.close.is_cancelled());
        let idle = idle.filter_map(|one| Some((one.idle()?, one)));
        let idlest = idle.filter(|(idle, _)| LEAST_IDLE <= *idle).max_by_key(|(idle, _)| *idle);
        if let Some((_, one)) = idlest {
            one.close.cancel();
        }
    }
}

/// What all connections share.
struct Shared {
    router: Router,
    places: Arc<Semaphore>,
    open: Open,
    head: Duration,
    patience: Duration,
    stop: CancellationToken,
}

/// Serves until `stop`, then lets the requests in progress finish.
///
/// Returns when all are answered; who is in a hurry drops the future.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    stop: CancellationToken,
) {
    let n_places = limits.max_connections.max(1);
    let shared = Arc::new(Shared {
        router,
        places: Arc::new(Semaphore::new(n_places)),
        open: Open::default(),
        head: Duration::from_secs_f64(limits.header_timeout_s.max(0.001)),
        patience: Duration::from_secs_f64(limits.write_timeout_s.max(0.001)),
        stop: stop.clone(),
    });
    let accepted = Arc::new(Semaphore::new(n_places + SPARE));
    let connections = TaskTracker::new();
    loop {
        let accepting = async {
            let place = loop {
                let place = Arc::clone(&accepted).acquire_owned();
                if let Ok(place) = tokio::time::timeout(PLACE_WAIT, place).await {
                    break place;
                }
                shared.open.close_idlest();
            };
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepting => accepted,
        };
        match (place, accepted) {
            (Ok(place), Ok((stream, _))) => {
                connections.spawn(connection(stream, Arc::clone(&shared), place));
            }
            (_, Err(error)) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The semaphore is never closed.
            (Err(_), _) => break,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, accepted: OwnedSemaphorePermit) {
    // Answers are written whole; waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error = %error, "a connection was gone at once");
        return;
    }
    let connection = Arc::new(Connection::new());
    shared.open.all().push(Arc::clone(&connection));
    let place = Mutex::new(place(&shared).await);
    let answer = |request: Request<hyper::body::Incoming>| {
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_none() {
            *place = Arc::clone(&shared.places).try_acquire_owned().ok();
        }
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(OnWire { is_spare: place.is_none() });
        connection.begin();
        let (connection, mut router) = (Arc::clone(&connection), shared.router.clone());
        async move {
            let response = router.call(request).await;
            connection.end();
            response
        }
    };
    let stream = Guarded::new(stream, shared.patience);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.head)
        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shared.stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.as_mut().await
        }
        () = connection.close.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection broke");
    }
    shared.open.all().retain(|one| !Arc::ptr_eq(one, &connection));
    drop(accepted);
}

/// A place among those whose requests are answered, if there is one soon.
async fn place(shared: &Shared) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() {
        return Some(place);
    }
    shared.open.close_idlest();
    let soon = tokio::time::timeout(PLACE_WAIT, Arc::clone(&shared.places).acquire_owned()).await;
    soon.ok()?.ok()
}
