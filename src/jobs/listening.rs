//! Hears what other processes that share the database have done.

use std::sync::Arc;
use std::time::Duration;

use crate::app::context::App;
use crate::store::{Event, StoreError};

/// Pause before a connection that cannot be had is tried again; the poll of the queue goes on.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens until the service stops; at once over where nobody shares the database.
pub(super) async fn listen(app: Arc<App>) {
    loop {
        let heard = tokio::select! {
            () = app.board.stopping.cancelled() => return,
            heard = hear(&app) => heard,
        };
        let Err(error) = heard else { return };
        tracing::warn!(error = %error, "what other replicas do is seen late");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hears until the connection cannot be had any more.
async fn hear(app: &App) -> Result<(), StoreError> {
    let Some(mut events) = app.store.events().await? else { return Ok(()) };
    look_for_ends(app).await?;
    loop {
        match events.next().await? {
            Event::Queued => app.board.ring(),
            Event::Ended(id) => ended(app, &id).await?,
            Event::Deployments => app.deployments.changed(),
            Event::Missed => {
                app.board.ring();
                app.deployments.changed();
                look_for_ends(app).await?;
            }
        }
    }
}

/// Tells those who wait here what has ended elsewhere without a word.
pub(super) async fn look_for_ends(app: &App) -> Result<(), StoreError> {
    let waited = app.board.waited_for();
    if waited.is_empty() {
        return Ok(());
    }
    for id in app.store.find_ended(&waited).await? {
        ended(app, &id).await?;
    }
    Ok(())
}

/// Tells those who wait here that a job has ended, and ends its computation if it goes on here.
async fn ended(app: &App, id: &str) -> Result<(), StoreError> {
    // A worker of this process tells by itself, unless somebody else has ended its job.
    let live = app.board.live(id);
    if live.is_none() && !app.board.is_waited_for(id) {
        return Ok(());
    }
    let Some(job) = app.store.find_job(id).await? else {
        // It ended, of which this was told, and was deleted.
        live.inspect(|live| live.cancel());
        app.board.drop_waiters(id);
        return Ok(());
    };
    if job.status.is_final() {
        live.inspect(|live| live.cancel());
        app.board.announce(&Arc::new(job));
    }
    Ok(())
}
