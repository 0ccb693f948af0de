//! The durable runner: takes jobs from the queue and computes them off the async threads.
//!
//! A job is the database's; a worker has it on lease. The lease is extended while the
//! worker lives; when it does not, the job goes back into the queue. A job may therefore
//! be computed twice, but its answer is a pure function of the question and is stored
//! once. At start the runner takes over at once what any earlier process held where the
//! data directory, which has one user at a time, has the database; where processes share
//! one, what they leave is taken when their leases have ended.

mod dispatch;
mod expiry;
mod listening;
mod outcome;
mod watching;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::live_jobs::Handover;
use crate::store::StoreError;

/// How long canceled computations may take to notice, when the service stops.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// The running workers.
#[derive(Debug)]
pub struct Runner {
    tasks: TaskTracker,
}

impl Runner {
    /// Takes over what earlier processes left and starts to work.
    pub async fn start(
        app: &Arc<App>,
        handovers: mpsc::UnboundedReceiver<Handover>,
    ) -> Result<Self, StoreError> {
        // What cannot be taken over now, as on a full disk, is so later.
        let taken_over = match dispatch::take_over(app).await {
            Err(error) if !error.is_passing() => return Err(error),
            Err(error) => {
                tracing::warn!(error = %error, "earlier jobs are not taken over yet");
                false
            }
            Ok(()) => true,
        };
        app.board.beat(now_ms());
        let tasks = TaskTracker::new();
        tasks.spawn(dispatch::dispatch(Arc::clone(app), tasks.clone(), handovers, taken_over));
        tasks.spawn(expiry::expire(Arc::clone(app)));
        tasks.spawn(listening::listen(Arc::clone(app)));
        tasks.spawn(watching::watch(Arc::clone(app)));
        Ok(Self { tasks })
    }

    /// Takes nothing new, lets jobs in progress finish within `patience`, puts back the rest.
    pub async fn stop(self, app: &App, patience: Duration) -> Result<(), StoreError> {
        app.board.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            app.board.cancel_all();
            // A computation that does not notice dies with the process; its job is put back.
            let _ = tokio::time::timeout(CANCEL_GRACE, self.tasks.wait()).await;
        }
        let requeued = app.store.requeue_all(&app.instance).await?;
        if 0 < requeued {
            tracing::info!(jobs.requeued = requeued, "jobs in progress were put back");
        }
        Ok(())
    }
}
