//! What other processes that share the database do, told the moment they have done it.

use sqlx::postgres::PgListener;

use crate::store::engine::{Pool, Shared, Transaction, reading, writing};
use crate::store::{Store, StoreError};

/// The channel on which triggers tell.
const CHANNEL: &str = "moe_gps";

/// Something that a process has done, this one included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job waits for a worker.
    Queued,
    /// The job of this id has ended.
    Ended(String),
    /// A deployment is another, or has other loads.
    Deployments,
    /// The connection broke, so that something may have been missed.
    Missed,
}

/// What is told.
#[derive(Debug)]
pub struct Events(PgListener);

impl Events {
    /// The next event.
    pub async fn next(&mut self) -> Result<Event, StoreError> {
        Ok(match self.0.try_recv().await? {
            None => Event::Missed,
            Some(told) => match told.payload() {
                "queued" => Event::Queued,
                "deployments" => Event::Deployments,
                id => Event::Ended(id.to_owned()),
            },
        })
    }
}

/// Held while something is done that no other process may do at once.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    /// Rolled back when it is dropped, by which the lock is let go.
    _lock: Option<Transaction>,
}

impl Store {
    /// What is told from now on; nothing where no other process can have the database.
    pub async fn events(&self) -> Result<Option<Events>, StoreError> {
        let Pool::Postgres(pool) = &self.pool else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(Events(listener)))
    }

    /// Of these jobs, those that have ended; one that is not there may be about to be stored.
    pub async fn find_ended(&self, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let Pool::Postgres(pool) = &self.pool else { return Ok(Vec::new()) };
        let ended = "select id from recommendation
                     where id = any($1) and status not in ('queued', 'running')";
        Ok(sqlx::query_scalar(ended).bind(ids).fetch_all(pool).await?)
    }

    /// Waits until no other process does the same, and keeps others from it until the turn ends.
    pub async fn turn(&self, what: Shared) -> Result<Turn, StoreError> {
        if !self.is_shared() {
            return Ok(Turn { _lock: None });
        }
        let mut transaction = self.begin().await?;
        transaction.alone(what).await?;
        Ok(Turn { _lock: Some(transaction) })
    }

    /// The name of this database, which it got when it was first asked.
    pub async fn identity(&self, new: &str) -> Result<String, StoreError> {
        let keep = "insert into identity (id, name) values (1, $1) on conflict (id) do nothing";
        writing!(self, db => {
            sqlx::query(keep).bind(new).execute(db).await?;
        });
        let look = "select name from identity where id = 1";
        Ok(reading!(self, db => sqlx::query_scalar(look).fetch_one(db).await?))
    }

    /// Joins the rows of the counts of jobs, once there are some; of several processes one does.
    pub async fn join_counts(&self) -> Result<(), StoreError> {
        let Pool::Postgres(pool) = &self.pool else { return Ok(()) };
        let join = "with turn as (select pg_try_advisory_xact_lock($1) as mine),
                    gone as (delete from job_count
                             where (select count(*) > 64 from job_count)
                             and (select mine from turn)
                             returning status, n)
                    insert into job_count (status, n)
                    select status, sum(n)::bigint from gone group by status";
        sqlx::query(join).bind(Shared::Counts as i64).execute(pool).await?;
        Ok(())
    }
}
