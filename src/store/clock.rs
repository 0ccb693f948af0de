//! The clock by which leases end.
//!
//! Where several hosts share the database it is the database's: looked at every second, and carried on
//! by a clock that nobody sets, so that a host whose time is wrong keeps no job too long and takes
//! none that lives.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::engine::Pool;
use crate::store::{Store, StoreError};

/// Longest time between two looks that follow each other without a gap.
const GAP: Duration = Duration::from_secs(3);

/// What the database's clock showed.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<Look>>);

#[derive(Debug, Clone, Copy)]
struct Look {
    ms: i64,
    at: Instant,
    /// When the first of the looks was that follow each other without a gap.
    since: Instant,
}

impl Store {
    /// The time by which leases end, milliseconds: this machine's where no other shares the database.
    #[must_use]
    pub fn clock_ms(&self, here_ms: i64) -> i64 {
        let looked = *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.map_or(here_ms, |Look { ms, at, .. }| {
            ms.saturating_add(i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX))
        })
    }

    /// Looks at the database's clock, where it has one.
    pub async fn look_at_clock(&self) -> Result<(), StoreError> {
        let Pool::Postgres(pool) = &self.pool else { return Ok(()) };
        let look = "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint)";
        // Before the answer, so that a slow one makes leases longer and not shorter.
        let at = Instant::now();
        let ms: i64 = sqlx::query_scalar(look).fetch_one(pool).await?;
        let mut looked = self.clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        let follows = looked.filter(|last| last.at.elapsed() < GAP);
        *looked = Some(Look { ms, at, since: follows.map_or(at, |last| last.since) });
        Ok(())
    }

    /// For how long the database has been in reach without a gap; for ever where nobody shares it. After
    /// a gap others that live may not have said so again yet.
    #[must_use]
    pub fn in_reach_for(&self) -> Duration {
        if !self.is_shared() {
            return Duration::MAX;
        }
        let looked = *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.map_or(Duration::ZERO, |look| look.since.elapsed())
    }
}
