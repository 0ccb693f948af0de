//! Jobs whose worker is gone: found, put back into the queue, or given up.

use crate::store::checksum::crc;
use crate::store::engine::{Shared, Transaction, reading, within};
use crate::store::{Store, StoreError};

/// What became of the jobs whose worker is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Put back into the queue.
    pub requeued: u64,
    /// Given up after too many attempts.
    pub given_up: u64,
}

/// When a job is given up, and what its `error` then says.
#[derive(Debug, Clone, Copy)]
pub struct GiveUp<'a> {
    /// Attempts after which there is no further one.
    pub max_attempts: u32,
    /// A JSON problem.
    pub problem: &'a str,
}

impl Store {
    /// Takes over what any other owner held: right when this process alone has the database. Where
    /// others may have it too, only what nobody keeps alive is taken.
    pub async fn take_over(
        &self,
        owner: &str,
        give_up: GiveUp<'_>,
        now_ms: i64,
    ) -> Result<Recovered, StoreError> {
        if self.is_shared() {
            return self.free_expired(give_up, now_ms).await;
        }
        let mut transaction = self.begin().await?;
        // No lease ends before the epoch, so the owner alone decides.
        suspect(&mut transaction, 0, Some(owner)).await?;
        let recovered = recover(&mut transaction, 0, Some(owner), give_up, now_ms).await?;
        transaction.commit().await?;
        Ok(recovered)
    }

    /// Frees the jobs whose lease has run out, whoever held it.
    pub async fn free_expired(
        &self,
        give_up: GiveUp<'_>,
        now_ms: i64,
    ) -> Result<Recovered, StoreError> {
        // Looking needs no writer, and almost always finds nothing.
        let count =
            "select count(*) from recommendation where status = 'running' and lease_until_ms < $1";
        let expired: i64 = reading!(self, db => {
            sqlx::query_scalar(count).bind(now_ms).fetch_one(db).await?
        });
        if expired == 0 {
            return Ok(Recovered::default());
        }
        let mut transaction = self.begin().await?;
        if self.is_shared() {
            transaction.alone(Shared::Leases).await?;
            suspect(&mut transaction, now_ms, None).await?;
        }
        let recovered = recover(&mut transaction, now_ms, None, give_up, now_ms).await?;
        transaction.commit().await?;
        Ok(recovered)
    }
}

/// Says of jobs whose owner is dead whether they may have killed it: the one that ran alone, the only
/// one, or nobody knows which. The one that it was has had an attempt, and runs alone next time, as do
/// all of which nobody knows; the others have lost none. A job that was to run alone and had not begun
/// is innocent.
async fn suspect(
    transaction: &mut Transaction,
    expired_before_ms: i64,
    owner: Option<&str>,
) -> Result<(), sqlx::Error> {
    let orphaned = "select id, alone, lease_owner from recommendation
         where status = 'running' and (lease_until_ms < $1 or lease_owner <> $2)
         order by lease_owner, id";
    let orphaned: Vec<(String, i64, String)> = within!(&mut *transaction, db => {
        sqlx::query_as(orphaned).bind(expired_before_ms).bind(owner).fetch_all(db).await?
    });
    for running in orphaned.chunk_by(|one, next| one.2 == next.2) {
        let known = running.iter().any(|(_, alone, _)| *alone == 2);
        for (id, alone, _) in running {
            let suspected = !known || *alone == 2;
            let has_had_one = *alone == 2 || (*alone == 0 && running.len() == 1);
            within!(&mut *transaction, db => {
                sqlx::query(
                    "update recommendation set alone = $2, attempt = attempt - $3 where id = $1",
                )
                .bind(id)
                .bind(if suspected { 1 } else { *alone })
                .bind(i64::from(!has_had_one))
                .execute(db)
                .await?;
            });
        }
    }
    Ok(())
}

async fn recover(
    transaction: &mut Transaction,
    expired_before_ms: i64,
    owner: Option<&str>,
    give_up: GiveUp<'_>,
    now_ms: i64,
) -> Result<Recovered, StoreError> {
    let given_up = within!(&mut *transaction, db => sqlx::query(
        "update recommendation
         set status = 'failed', problem = $4, problem_crc = $6, finished_ms = $5, phase = null, inputs = null,
             inputs_crc = null,
             lease_owner = null, lease_until_ms = null
         where status = 'running' and (lease_until_ms < $1 or lease_owner <> $2)
           and $3 <= attempt",
    )
    .bind(expired_before_ms)
    .bind(owner)
    .bind(i64::from(give_up.max_attempts))
    .bind(give_up.problem)
    .bind(now_ms)
    .bind(crc(give_up.problem))
    .execute(db)
    .await?
    .rows_affected());
    let requeued = within!(transaction, db => sqlx::query(
        "update recommendation
         set status = 'queued', lease_owner = null, lease_until_ms = null,
             progress = 0, phase = null
         where status = 'running' and (lease_until_ms < $1 or lease_owner <> $2)",
    )
    .bind(expired_before_ms)
    .bind(owner)
    .execute(db)
    .await?
    .rows_affected());
    Ok(Recovered { requeued, given_up })
}
