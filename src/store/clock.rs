//! The clock by which leases end.
//!
//! Where several hosts share the database it is the database's: looked at every second, and carried on
//! by a clock that nobody sets, so that a host whose time is wrong keeps no job too long and takes
//! none that lives.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::store::engine::Pool;
use crate::store::{Store, StoreError};

/// What the database's clock showed, and when.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<(i64, Instant)>>);

impl Store {
    /// The time by which leases end, milliseconds: this machine's where no other shares the database.
    #[must_use]
    pub fn clock_ms(&self, here_ms: i64) -> i64 {
        let looked = *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.map_or(here_ms, |(ms, at)| {
            ms.saturating_add(i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX))
        })
    }

    /// Looks at the database's clock, where it has one.
    pub async fn look_at_clock(&self) -> Result<(), StoreError> {
        let Pool::Postgres(pool) = &self.pool else { return Ok(()) };
        let look = "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint)";
        let ms: i64 = sqlx::query_scalar(look).fetch_one(pool).await?;
        let looked = Some((ms, Instant::now()));
        *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner) = looked;
        Ok(())
    }
}
