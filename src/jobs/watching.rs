//! Judges deployments, beside the jobs that it begins.

use std::sync::Arc;
use std::time::Duration;

use crate::app::context::App;
use crate::app::deployments::judging;

/// Pause between two looks where nobody rings, which is how late a pause of a policy ends, and how
/// late the end of a judgement is seen.
const PAUSE: Duration = Duration::from_millis(250);

/// Takes deployments on until the service stops.
pub(super) async fn watch(app: Arc<App>) {
    loop {
        tokio::select! {
            () = app.board.stopping.cancelled() => return,
            () = app.deployments.rung() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
        if let Err(error) = judging::round(&app).await {
            tracing::warn!(error = %error, "deployments could not be judged");
            // What fails fails again; it is not tried without a pause.
            tokio::time::sleep(PAUSE).await;
        }
    }
}
