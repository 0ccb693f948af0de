//! Brings jobs and idle workers together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::live_jobs::Handover;
use crate::jobs::{listening, outcome, work};
use crate::store::{GiveUp, Recovered, StoreError};
use crate::telemetry::metrics as names;

/// How often the queue is looked at although nobody rang.
const POLL: Duration = Duration::from_secs(1);

/// Hands jobs to workers until the service stops.
pub(super) async fn dispatch(
    app: Arc<App>,
    tasks: TaskTracker,
    mut handovers: mpsc::UnboundedReceiver<Handover>,
    mut taken_over: bool,
) {
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wanted = true;
    loop {
        tokio::select! {
            () = app.board.stopping.cancelled() => break,
            Some(handover) = handovers.recv() => {
                let Handover { slot, job, work } = handover;
                tasks.spawn(work::work(Arc::clone(&app), slot, Some((job, work))));
            }
            () = app.board.rung() => wanted = true,
            Some(slot) = app.board.slot(), if wanted => {
                wanted = false;
                tasks.spawn(work::work(Arc::clone(&app), slot, None));
            }
            _ = poll.tick() => {
                app.board.beat(now_ms());
                // Without it, times that nobody scrapes are kept one by one.
                names::recorder().run_upkeep();
                // Freed by their leases the jobs of a dead process would all have had an attempt.
                match look_after(&app, taken_over).await {
                    Ok(()) => taken_over = true,
                    Err(error) => {
                        tracing::warn!(error = %error, "the queue could not be looked after");
                    }
                }
                if let Ok(waiting) = app.store.count_waiting().await {
                    // Room that nobody was told of, as where an ask ended otherwise.
                    if app.board.note_waiting(waiting, app.queue.limit) {
                        app.board.make_room();
                    }
                }
                app.board.ring();
            }
        }
    }
    // Jobs handed over and not begun are put back with the others by `Runner::stop`.
}

/// Time after which one who lives has said so again once the database is back: longer than a
/// connection and a statement are waited for.
const ALL_BACK: Duration = Duration::from_secs(10);
/// Longest look; a connection that was cut in silence is given up then.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// Frees what nobody works on any more, and tells those who wait what has ended elsewhere.
async fn look_after(app: &App, taken_over: bool) -> Result<(), StoreError> {
    let looking = async {
        app.store.look_at_clock().await?;
        if !taken_over {
            take_over(app).await?;
        } else if ALL_BACK <= app.store.in_reach_for() {
            free_expired(app).await?;
        }
        listening::look_for_ends(app).await?;
        app.store.join_counts().await
    };
    let late = |_| Err(StoreError::Silent);
    tokio::time::timeout(LONGEST_LOOK, looking).await.unwrap_or_else(late)
}

/// Frees the jobs of this process that show no sign of life.
async fn free_expired(app: &App) -> Result<(), StoreError> {
    let problem = outcome::given_up(app.queue.max_attempts);
    report(app.store.free_expired(give_up(app, &problem), app.store.clock_ms(now_ms())).await?);
    Ok(())
}

/// Takes over what earlier processes left.
pub(super) async fn take_over(app: &App) -> Result<(), StoreError> {
    let problem = outcome::given_up(app.queue.max_attempts);
    report(
        app.store
            .take_over(&app.instance, give_up(app, &problem), app.store.clock_ms(now_ms()))
            .await?,
    );
    Ok(())
}

fn give_up<'a>(app: &App, problem: &'a str) -> GiveUp<'a> {
    GiveUp { max_attempts: app.queue.max_attempts, problem }
}

/// Says what became of jobs whose worker was gone.
fn report(recovered: Recovered) {
    if recovered == Recovered::default() {
        return;
    }
    metrics::counter!(names::JOBS_RECOVERED, "outcome" => "requeued").increment(recovered.requeued);
    metrics::counter!(names::JOBS_RECOVERED, "outcome" => "given_up").increment(recovered.given_up);
    tracing::warn!(
        jobs.requeued = recovered.requeued,
        jobs.given_up = recovered.given_up,
        "jobs whose worker was gone were taken over"
    );
}
