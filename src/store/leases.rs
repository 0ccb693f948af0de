//! Jobs whose worker is gone: found, put back into the queue, or given up.

use crate::store::checksum::crc;
use crate::store::engine::{Shared, Spelled, Transaction, reading, spelled, within};
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
    /// others may have it too, they may live, and their leases decide.
    pub async fn take_over(
        &self,
        owner: &str,
        give_up: GiveUp<'_>,
        now_ms: i64,
    ) -> Result<Recovered, StoreError> {
        if self.is_shared() {
            return Ok(Recovered::default());
        }
        let mut transaction = self.begin().await?;
        // No lease ends before the epoch, so the owner alone decides.
        let recovered = free(&mut transaction, 0, Some(owner), true, give_up, now_ms).await?;
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
        // In turn, so that all jobs of a dead owner are looked at together.
        transaction.alone(Shared::Leases).await?;
        let suspects = self.is_shared();
        let recovered = free(&mut transaction, now_ms, None, suspects, give_up, now_ms).await?;
        transaction.commit().await?;
        Ok(recovered)
    }
}

/// Running jobs that nobody keeps alive, with the attempts that count; locked until the end.
const ORPHANS: Spelled = spelled!(
    "select id, alone, attempt - forgiven, lease_owner from recommendation
     where status = 'running' and (lease_until_ms < $1 or lease_owner <> $2)
     order by lease_owner, id",
    ["" | " for update skip locked"],
    ""
);

const REQUEUE: &str = "update recommendation
    set status = 'queued', lease_owner = null, lease_until_ms = null, progress = 0, phase = null,
        alone = $2, forgiven = forgiven + $3
    where id = $1";

const GIVE_UP: &str = "update recommendation
    set status = 'failed', problem = $2, problem_crc = $3, finished_ms = $4, phase = null,
        inputs = null, inputs_crc = null, lease_owner = null, lease_until_ms = null
    where id = $1";

/// Puts back, or gives up, what nobody keeps alive.
///
/// With suspicion: its owner is dead, perhaps by one of the jobs it ran: by the one that ran alone, by
/// the only one, or nobody knows by which. The one that it was has had an attempt, and runs alone next
/// time, as do all of which nobody knows; the others have lost none. A job that was to run alone and
/// had not begun is innocent.
async fn free(
    transaction: &mut Transaction,
    expired_before_ms: i64,
    owner: Option<&str>,
    suspects: bool,
    give_up: GiveUp<'_>,
    now_ms: i64,
) -> Result<Recovered, sqlx::Error> {
    let mut recovered = Recovered::default();
    let orphans = transaction.spell(ORPHANS);
    let orphans: Vec<(String, i64, i64, String)> = within!(&mut *transaction, db => {
        sqlx::query_as(orphans).bind(expired_before_ms).bind(owner).fetch_all(db).await?
    });
    for running in orphans.chunk_by(|one, next| one.3 == next.3) {
        let known = running.iter().any(|(_, alone, ..)| *alone == 2);
        for (id, alone, attempts, _) in running {
            let suspected = suspects && (!known || *alone == 2);
            let has_had_one = !suspects || *alone == 2 || (*alone == 0 && running.len() == 1);
            let forgiven = i64::from(!has_had_one);
            if i64::from(give_up.max_attempts) <= attempts - forgiven {
                within!(&mut *transaction, db => {
                    sqlx::query(GIVE_UP)
                        .bind(id)
                        .bind(give_up.problem)
                        .bind(crc(give_up.problem))
                        .bind(now_ms)
                        .execute(db)
                        .await?;
                });
                recovered.given_up += 1;
            } else {
                let alone = if suspected { 1 } else { *alone };
                within!(&mut *transaction, db => {
                    let requeue = sqlx::query(REQUEUE).bind(id).bind(alone).bind(forgiven);
                    requeue.execute(db).await?;
                });
                recovered.requeued += 1;
            }
        }
    }
    Ok(recovered)
}
