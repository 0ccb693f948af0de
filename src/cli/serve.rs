//! `moe-gps serve`: from settings to a running service, and back down in order.
//!
//! Up: data directory, listener, first log line, database, workers, address file.
//! Down: not ready, a pause for load balancers to notice, no new connections or jobs,
//! requests and jobs in progress finish, the rest goes back into the queue.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::app::advisor::Advisor;
use crate::app::clock::now_ms;
use crate::app::context::{App, Keep, Queue, Retention, Uploads};
use crate::app::deployments::Deployments;
use crate::app::error::AppError;
use crate::app::ingest::TraceDirectory;
use crate::app::ingest::remote::Remote;
use crate::app::live_jobs::Board;
use crate::app::memory::Memory;
use crate::app::tokens::Gate;
use crate::config::{self, Jobs, Settings, Storage, Synchronous};
use crate::http::state::Service;
use crate::http::{openapi, router, serve};
use crate::jobs::Runner;
use crate::store::{DataDir, Reserve, Store, StoreError};
use crate::telemetry;
use moe_gps_core::revision::REVISION;

/// How long threads that will not end may hold up the end of the process.
const THREAD_GRACE: Duration = Duration::from_millis(500);

/// A database of an earlier version up to this size is rewritten at start, which takes a second or
/// two, bytes.
const QUICKLY_REWRITTEN: u64 = 256 << 20;

/// Runs the service until it is told to stop.
///
/// `ready` is told the address once the service answers.
pub fn run(
    settings: &Settings,
    advisor: Arc<dyn Advisor>,
    ready: Option<fn(SocketAddr)>,
) -> anyhow::Result<()> {
    let storage = &settings.storage;
    let dir = DataDir::take(&storage.data_dir)?.with(storage)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(serve_until_stopped(settings, &dir, advisor, ready));
    dir.remove_address();
    runtime.shutdown_timeout(THREAD_GRACE);
    telemetry::logs::finish();
    ended
}

/// The runtime of all commands that need one.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("the runtime cannot be started")
}

async fn serve_until_stopped(
    settings: &Settings,
    dir: &DataDir,
    advisor: Arc<dyn Advisor>,
    ready: Option<fn(SocketAddr)>,
) -> anyhow::Result<()> {
    // Signals count from here on, also while the service is still starting.
    let told = told_to_stop()?;
    let listen = &settings.listen;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    telemetry::logs::first_line(settings.log.log_format, address)?;
    telemetry::logs::start(&settings.log).map_err(anyhow::Error::msg)?;

    let storage = &settings.storage;
    let (app, runner) = start(settings, dir, advisor).await.with_context(|| {
        if storage.database.is_empty() && storage.traces.is_empty() {
            format!("data directory {} cannot be used", storage.data_dir.display())
        } else {
            "the service cannot start".to_owned()
        }
    })?;
    let loopback = address.ip().to_canonical().is_loopback();
    if !loopback && !app.gate.is_closed() && !settings.access.insecure_no_auth {
        runner.stop(&app, Duration::ZERO).await?;
        anyhow::bail!(
            "{address} is not loopback, and there is no token that would keep others out: make one \
             with `moe-gps token create --data-dir {}`, or name a file of tokens with --token-file; \
             --insecure-no-auth lets everybody in",
            settings.storage.data_dir.display()
        );
    }
    let closing = CancellationToken::new();
    let router = router(settings, &app, loopback);
    let serving = serve::serve(listener, router, &settings.limits, closing.clone());
    let mut serving = std::pin::pin!(serving);
    // On a full disk the service still answers, to those who know where.
    if let Err(error) = dir.write_address(address) {
        tracing::warn!(error = %error, "the address could not be written");
    }
    if settings.storage.synchronous == Synchronous::Normal && !app.store.is_shared() {
        tracing::info!(
            "what is accepted survives the death of the process; to survive the loss of power, too, \
             start with --synchronous full"
        );
    }
    tracing::info!(
        data_dir = %settings.storage.data_dir.display(),
        workers = settings.jobs.n_workers(),
        synchronous = ?settings.storage.synchronous,
        "ready; the API page is http://{address}/docs"
    );
    if let Some(ready) = ready {
        ready(address);
    }
    tokio::select! {
        () = &mut serving => {}
        () = told => {}
    }
    tracing::info!("told to stop");
    app.board.draining.cancel();
    let pause = seconds(settings.jobs.drain_delay_s);
    let _ = tokio::time::timeout(pause, &mut serving).await;
    closing.cancel();
    let patience = seconds(settings.jobs.drain_timeout_s);
    let (requests, jobs) =
        tokio::join!(tokio::time::timeout(patience, &mut serving), runner.stop(&app, patience));
    if requests.is_err() {
        tracing::warn!("connections were cut off that did not end in time");
    }
    jobs?;
    app.store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Opens the database and starts the workers.
pub async fn start(
    settings: &Settings,
    dir: &DataDir,
    advisor: Arc<dyn Advisor>,
) -> Result<(Arc<App>, Runner), AppError> {
    // Before anything is counted.
    telemetry::metrics::recorder();
    // Before the database, whose log needs some room on a full disk.
    let reserve = Reserve::open(dir.root());
    let store = Store::open(&settings.storage).await?;
    // On a full disk what is stored can still be read, and deleted.
    if let Err(error) = store.probe_write(now_ms()).await {
        if !error.is_passing() {
            return Err(error.into());
        }
        tracing::warn!(error = %error, "the database cannot be written");
    }
    match store.allow_giving_back(Some(QUICKLY_REWRITTEN)).await {
        Ok(true) => {}
        Ok(false) => tracing::warn!(
            "the database keeps the room of what is deleted; stop the service and run `moe-gps \
             migrate`, which rewrites it"
        ),
        Err(error) => tracing::warn!(error = %error, "the database could not be rewritten"),
    }
    let traces = traces_of(dir, &settings.storage, store.is_shared())?;
    let access = &settings.access;
    let file = Some(&access.token_file).filter(|file| !file.is_empty()).map(PathBuf::from);
    let gate = Gate::new(&store, file, access.insecure_no_auth).await?;
    let n_cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (board, handovers) = Board::new(settings.jobs.n_workers());
    // Where others share the database, they may report some.
    let has_outcomes = (store.is_shared() || store.has_outcomes().await?).into();
    let app = Arc::new(App {
        store,
        board,
        advisor,
        traces,
        uploads: Uploads {
            limits: moe_gps_core::formats::trace::Limits {
                sent_bytes: settings.limits.max_upload_bytes,
                inflated_bytes: settings.limits.max_inflated_bytes,
            },
            at_once: Semaphore::new(settings.limits.uploads_at_once.max(1)),
            keeping: tokio::sync::Mutex::new(()),
            grace: seconds(settings.storage.trace_grace_s),
        },
        instance: uuid::Uuid::now_v7().to_string(),
        checks: Arc::new(Semaphore::new(2 * n_cores)),
        sweeps: Semaphore::new(crate::app::sweep::AT_ONCE),
        has_outcomes,
        // A quarter of the connections is left for those who do not wait.
        waits: Semaphore::new((settings.limits.max_connections / 4 * 3).max(1)),
        queue: queue(&settings.jobs),
        memory: Memory::new(memory_budget_bytes(&settings.jobs)),
        reserve,
        retention: retention(&settings.retention),
        gate,
        deployments: Deployments::new(settings.watching.max_deployments),
    });
    crate::app::references::forget_superseded(&app).await?;
    let runner = Runner::start(&app, handovers).await?;
    Ok((app, runner))
}

/// Where stored traces lie.
fn traces_of(
    dir: &DataDir,
    storage: &Storage,
    is_shared: bool,
) -> Result<TraceDirectory, StoreError> {
    let address = &storage.traces;
    let (folder, opened) = match address.strip_prefix("file:") {
        Some(folder) => (folder.into(), TraceDirectory::at(folder.into())),
        None => (dir.root().to_owned(), TraceDirectory::open(dir.root())),
    };
    let here = opened.map_err(|source| StoreError::Directory { path: folder, source })?;
    if address.is_empty() || address.starts_with("file:") {
        if is_shared {
            tracing::warn!(
                "traces lie in a folder of this replica, where others do not find them; name an object \
                 store with --traces"
            );
        }
        return Ok(here);
    }
    if !address.starts_with("s3://") {
        let why = "it must begin with file: or s3://".to_owned();
        return Err(StoreError::Traces { address: address.clone(), why });
    }
    match Remote::open(address) {
        Ok(remote) => Ok(here.caching(remote, storage.trace_cache_bytes)),
        Err(why) => Err(StoreError::Traces { address: address.clone(), why }),
    }
}

/// The whole surface over a started service, which may listen to this machine only.
pub fn router(settings: &Settings, app: &Arc<App>, loopback: bool) -> axum::Router {
    let names = settings.access.allowed_hosts.split(',');
    let names = names.map(|name| name.trim().to_ascii_lowercase());
    router::router(Service {
        is_local: loopback,
        own_names: names.filter(|name| !name.is_empty()).collect(),
        guard_metrics: settings.access.guard_metrics,
        app: Arc::clone(app),
        limits: Arc::new(settings.limits.clone()),
        openapi: openapi::json().into(),
    })
}

fn queue(jobs: &Jobs) -> Queue {
    Queue {
        limit: jobs.queue_limit,
        principal_limit: jobs.queue_limit_per_principal,
        lease_ms: i64::from(jobs.lease_s.max(1)) * 1000,
        revision: REVISION,
        max_attempts: jobs.max_attempts.max(1),
    }
}

/// Half of a machine whose memory nobody tells is taken to be this, bytes.
const UNKNOWN_HALF: u64 = 1 << 30;

/// The memory of all computations, with 0 resolved.
fn memory_budget_bytes(jobs: &Jobs) -> u64 {
    if jobs.memory_budget_bytes != 0 {
        return jobs.memory_budget_bytes;
    }
    let read = |path| std::fs::read_to_string(path).ok();
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    });
    group.into_iter().chain(machine).min().map_or(UNKNOWN_HALF, |bytes| bytes / 2)
}

/// What is to be kept, of which 0 is all and for ever.
fn retention(told: &config::Retention) -> Retention {
    let keep = |age_s: f64, most: u32| Keep {
        age_ms: (0.0 < age_s)
            .then(|| i64::try_from(seconds(age_s).as_millis()).unwrap_or(i64::MAX)),
        most: Some(i64::from(most)).filter(|most| *most != 0),
    };
    Retention {
        recommendations: keep(told.max_recommendation_age_s, told.max_recommendations),
        traces: keep(told.max_trace_age_s, told.max_traces),
        keys: keep(told.max_key_age_s, told.max_keys),
    }
}

/// Ends when the process is asked to: SIGTERM, or an interrupt from the keyboard.
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
