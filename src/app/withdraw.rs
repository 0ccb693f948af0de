//! Withdraw asks: with the last one a recommendation that goes on is canceled, and one that has
//! ended goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::app::clock::now_ms;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::recommendations::{SCAN, Seen, fetch, not_found, own, resolve, see};
use crate::app::room;
use crate::app::tokens::{Caller, Scope};
use crate::store::asks::Withdrawn;
use crate::store::jobs::JobRecord;
use crate::wire::listing::{CheckedListQuery, Withdrawal};

/// Asks that are withdrawn in one transaction, so that no other write waits long.
const WITHDRAWN_AT_ONCE: usize = 100;
/// How long a request withdraws; it says when there is more.
const WITHDRAWAL_TIME: Duration = Duration::from_secs(20);

/// Withdraws the asks that a list with these filters shows and that are there now.
pub async fn withdraw_listed(
    app: &App,
    caller: &Caller,
    query: CheckedListQuery,
) -> Result<Withdrawal, AppError> {
    let began = Instant::now();
    let mut query = resolve(app, query).await?;
    // What is asked from now on has a later id.
    query.cursor = Some(Uuid::now_v7().to_string());
    let principal = own(caller);
    let mut done = Withdrawal::default();
    loop {
        let (asks, next) = app.store.find_asked(principal, &query, SCAN).await?;
        for some in asks.chunks(WITHDRAWN_AT_ONCE) {
            if WITHDRAWAL_TIME < began.elapsed() {
                done.more = true;
                return Ok(done);
            }
            let mut gone = app.store.withdraw_asks(some, now_ms()).await;
            if room::made(app, &gone) {
                gone = app.store.withdraw_asks(some, now_ms()).await;
            }
            for (id, withdrawn) in gone? {
                done.withdrawn += 1;
                if withdrawn == Withdrawn::Canceled {
                    done.canceled += 1;
                    match canceled(app, &id).await {
                        // Withdrawn once more, and gone.
                        Ok(_) | Err(AppError::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        match next {
            Some(next) => query.cursor = Some(next),
            None => return Ok(done),
        }
    }
}

/// Ends the computation of a job that has been canceled, and tells those who wait for it.
async fn canceled(app: &App, id: &str) -> Result<Arc<JobRecord>, AppError> {
    match app.board.live(id) {
        Some(live) => live.cancel(),
        None => app.board.make_room(),
    }
    let job = Arc::new(fetch(app, id).await?);
    app.board.announce(&job);
    Ok(job)
}

/// Withdraws a caller's own ask. With the last one a job that is queued or running is canceled,
/// and returned, and one that has ended goes.
pub async fn withdraw(app: &App, caller: &Caller, id: &str) -> Result<Option<Seen>, AppError> {
    let all = caller.scope == Scope::Admin;
    let mut withdrawn = app.store.withdraw(&caller.principal, id, all, now_ms()).await;
    if room::made(app, &withdrawn) {
        withdrawn = app.store.withdraw(&caller.principal, id, all, now_ms()).await;
    }
    match withdrawn? {
        Withdrawn::Absent => Err(not_found(id)),
        Withdrawn::NotAsked => Err(AppError::Forbidden(format!(
            "none of your asks leads to recommendation {id}; deleting what others asked for needs \
             a token of scope `admin`"
        ))),
        Withdrawn::Ask | Withdrawn::Recommendation => Ok(None),
        Withdrawn::Canceled => {
            let job = canceled(app, id).await?;
            see(app, caller, job).await.map(Some)
        }
    }
}
