//! One worker: computes a job, stores its end, and takes the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;
use tracing::Instrument;

use crate::app::advisor::{AdviceError, Progress, Work};
use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::live_jobs::{LiveJob, Slot};
use crate::app::references::{LookedUp, References};
use crate::app::{question, recommendations, references};
use crate::jobs::outcome::{self, End};
use crate::store::StoreError;
use crate::store::jobs::{JobRecord, Lease, Outcome};
use crate::telemetry::{metrics as names, spans};

/// Longest time between two signs of life of a job; also how soon a cancellation by
/// another process is noticed.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Longest such sign; a connection that was cut in silence is given up then.
const LONGEST_BEAT: Duration = Duration::from_secs(10);
/// First and longest pause before a failed write is tried again.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Works on `first`, then on the queue, until it is empty or the service stops.
pub(super) async fn work(app: Arc<App>, slot: Slot, first: Option<(JobRecord, Work)>) {
    let mut next = first.map(|(job, work)| (job, Some(work)));
    // A job handed over when all stop is put back by `Runner::stop` like the others.
    while !app.board.stopping.is_cancelled() {
        let (job, read) = match next.take() {
            Some(first) => first,
            None if !app.board.take_backlog() => break,
            None => match claim(&app).await {
                Ok(Some(job)) => {
                    app.board.make_room();
                    // There may be more: for us afterwards, for an idle worker now.
                    app.board.ring();
                    (job, None)
                }
                Ok(None) => break,
                Err(error) => {
                    // The next poll rings again.
                    tracing::warn!(error = %error, "no job could be claimed");
                    break;
                }
            },
        };
        let span = tracing::info_span!("computation", job.id, job.attempt);
        if let Some(traceparent) = &job.traceparent {
            spans::link(&span, traceparent);
        }
        run(&app, job, read).instrument(span).await;
    }
    drop(slot);
}

async fn claim(app: &App) -> Result<Option<JobRecord>, StoreError> {
    let now = now_ms();
    let job = app.store.claim_job(lease(app), app.queue.revision, now).await?;
    if let Some(job) = &job {
        let waited = Duration::from_millis((now - job.created_ms).unsigned_abs());
        metrics::histogram!(names::JOB_WAIT_SECONDS).record(waited);
    }
    Ok(job)
}

fn lease(app: &App) -> Lease<'_> {
    Lease { owner: &app.instance, until_ms: app.store.clock_ms(now_ms()) + app.queue.lease_ms }
}

/// Computes a job, whose question is read again where it is not at hand.
async fn run(app: &Arc<App>, job: JobRecord, read: Option<Work>) {
    let began = Instant::now();
    let live = app.board.begin(&job.id);
    let work = match read {
        Some(work) => Ok(work),
        None => read_again(app, &job).await.map_err(|error| outcome::unprepared(&error)),
    };
    // The memory is held until the end is stored: what may run beside nothing begins after that, so
    // that a job that kills the process meets none that has done its work and would be blamed.
    let (end, _memory) = match work {
        Ok(work) => keep_alive(app, &job, &live, compute(app, &job, &live, work)).await,
        Err(outcome) => (End::Outcome(Box::new(outcome)), None),
    };
    match end {
        End::Outcome(outcome) => {
            metrics::histogram!(names::JOB_SECONDS, "outcome" => outcome.status.as_str())
                .record(began.elapsed());
            store_outcome(app, job, *outcome).await;
        }
        // Whoever canceled it has said so in the database, or puts it back when all stop.
        End::Canceled => app.board.end(&job.id),
    }
}

/// Computes where threads may block, once there is memory for it, which is handed on.
async fn compute(
    app: &App,
    job: &JobRecord,
    live: &Arc<LiveJob>,
    work: Work,
) -> (End, Option<Arc<OwnedSemaphorePermit>>) {
    let alone = 0 < job.alone;
    let bytes = job.memory_bytes.max(0).unsigned_abs();
    let memory = app.memory.take(bytes, alone).await.map(Arc::new);
    if alone
        && until_stored(app, &job.id, || app.store.mark_alone(job, &app.instance)).await.is_none()
    {
        return (End::Canceled, memory);
    }
    let following = Arc::clone(live);
    let held = memory.clone();
    let computed = tokio::task::spawn_blocking(move || {
        // Also to the end of a computation that nobody waits for any more.
        let _held = held;
        outcome::of(work(&*following))
    });
    let end = computed.await.unwrap_or_else(|error| {
        tracing::error!(job.id = job.id, error = %error, "a computation panicked");
        End::Outcome(Box::new(outcome::panicked()))
    });
    (end, memory)
}

/// The question of a job from what is stored, to be checked again and answered.
async fn read_again(app: &App, job: &JobRecord) -> Result<Work, AppError> {
    let question = question::read(recommendations::read_back(&job.request)?);
    let named = references::of_job(app, job, &question.asked).await?;
    let advisor = Arc::clone(&app.advisor);
    Ok(Box::new(move |progress| {
        let checked = advisor.check(question, &opened(&named, progress)?)?;
        (checked.work)(progress)
    }))
}

/// What a job names, opened; while the object store is away it is tried again, so that an accepted job
/// does not end with it.
fn opened(named: &LookedUp, progress: &dyn Progress) -> Result<References, AdviceError> {
    loop {
        match named.clone().open() {
            Err(AdviceError::Trace { id, source })
                if source.kind() == std::io::ErrorKind::HostUnreachable =>
            {
                tracing::warn!(trace.id = id, error = %source, "a job waits for the object store");
                progress.cancel().check()?;
                std::thread::sleep(RETRY_PAUSE.1);
            }
            opened => return opened,
        }
    }
}

/// Waits for the computation, extending its lease, and ends it when the job is not ours.
async fn keep_alive<T>(
    app: &App,
    job: &JobRecord,
    live: &LiveJob,
    computing: impl Future<Output = T>,
) -> T {
    let mut computing = std::pin::pin!(computing);
    let third = Duration::from_millis(app.queue.lease_ms.unsigned_abs() / 3);
    let period = HEARTBEAT.min(third).max(Duration::from_millis(1));
    let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            computed = &mut computing => return computed,
            _ = beat.tick() => {
                let (progress, phase) = live.progress();
                let extending = app.store.extend_lease(job, lease(app), progress, phase);
                let extended = tokio::time::timeout(LONGEST_BEAT, extending).await;
                match extended.unwrap_or(Err(StoreError::Silent)) {
                    Ok(true) => {}
                    Ok(false) => live.cancel(),
                    Err(error) => {
                        tracing::warn!(job.id = job.id, error = %error, "lease not extended");
                    }
                }
            }
        }
    }
}

/// Stores the end of a job, and tells those who wait for it.
async fn store_outcome(app: &App, mut job: JobRecord, outcome: Outcome) {
    let (ended, how) = (&job, &outcome);
    let write = || async move {
        let now = now_ms();
        let stored = app.store.finish_job(ended, &app.instance, how, now).await?;
        Ok(stored.then_some(now))
    };
    let finished = until_stored(app, &job.id, write).await;
    app.board.end(&job.id);
    // Without it the lease brings the job to the next process.
    let Some(Some(finished_ms)) = finished else { return };
    tracing::debug!(job.id, job.status = outcome.status.as_str(), "job ended");
    job.status = outcome.status;
    job.finished_ms = Some(finished_ms);
    job.result = outcome.result;
    job.problem = outcome.problem;
    app.board.announce(&Arc::new(job));
}

/// Writes about a job, trying again while the database cannot be written; nothing once the service
/// stops.
async fn until_stored<T, F: Future<Output = Result<T, StoreError>>>(
    app: &App,
    id: &str,
    mut write: impl FnMut() -> F,
) -> Option<T> {
    let mut pause = RETRY_PAUSE.0;
    loop {
        match write().await {
            Ok(stored) => return Some(stored),
            Err(error) if app.board.stopping.is_cancelled() => {
                tracing::error!(job.id = id, error = %error, "what became of a job was not stored");
                return None;
            }
            Err(error) => {
                tracing::error!(job.id = id, error = %error, "what became of a job is not stored yet");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = app.board.stopping.cancelled() => {}
                }
                pause = (pause * 2).min(RETRY_PAUSE.1);
            }
        }
    }
}
