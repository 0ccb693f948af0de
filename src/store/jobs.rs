//! Recommendations as jobs: insert, claim, extend, finish, fetch.
//!
//! A job is owned by a lease: the row says which instance works on it and until when.
//! Finishing names the owner and the attempt, so that a worker that lost its lease
//! changes nothing, and a result is stored once however often it was computed.

use crate::store::asks::{self, NewAsk};
use crate::store::checksum::{crc, whole};
use crate::store::engine::{Spelled, Transaction, reading, spelled, within, writing};
use crate::store::keys::{self, Key};
use crate::store::row::from_row;
use crate::store::{Store, StoreError};
use crate::wire::job::Status;

/// A recommendation as it is stored.
#[derive(Debug, Clone)]
pub struct JobRecord {
    /// A `UUIDv7` in text form.
    pub id: String,
    /// Digest of all that decides the answer.
    pub digest: Vec<u8>,
    /// Where it stands.
    pub status: Status,
    /// Catalog id or name of the model.
    pub model: String,
    /// Catalog id or name of the device.
    pub device: String,
    /// How often a worker has started on it; of two workers, which has it.
    pub attempt: i64,
    /// Share that is done, 0 to 1.
    pub progress: f64,
    /// What is being done.
    pub phase: Option<String>,
    /// When it was asked.
    pub created_ms: i64,
    /// When a worker first took it.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// The traces it needs, a JSON array.
    pub trace_ids: String,
    /// Why it failed, a JSON problem.
    pub problem: Option<String>,
    /// The question, JSON.
    pub request: String,
    /// The answer, JSON.
    pub result: Option<String>,
    /// What its names led to when it was accepted, JSON, until it ends.
    pub inputs: Option<String>,
    /// The span of the request that asked first, as a header names it, where spans are sent.
    pub traceparent: Option<String>,
    /// Memory that the computation takes by its estimate, bytes.
    pub memory_bytes: i64,
    /// Above 0 when a process has died while it ran, so that nothing may run beside it: 1 while it
    /// waits, 2 once it has begun.
    pub alone: i64,
}

from_row!(JobRecord, row => {
    let id: String = row.try_get("id")?;
    let text = |column: &'static str, crc: &'static str| {
        whole(row.try_get(column)?, row.try_get(crc)?, column, &id)
    };
    Ok(Self {
        digest: row.try_get("digest")?,
        status: Status::from_stored(&row.try_get::<String, _>("status")?),
        model: row.try_get("model")?,
        device: row.try_get("device")?,
        attempt: row.try_get("attempt")?,
        progress: row.try_get("progress")?,
        phase: row.try_get("phase")?,
        created_ms: row.try_get("created_ms")?,
        started_ms: row.try_get("started_ms")?,
        finished_ms: row.try_get("finished_ms")?,
        trace_ids: row.try_get("trace_ids")?,
        problem: text("problem", "problem_crc")?,
        request: text("request", "request_crc")?.unwrap_or_default(),
        result: text("result", "result_crc")?,
        inputs: text("inputs", "inputs_crc")?,
        traceparent: row.try_get("traceparent")?,
        memory_bytes: row.try_get("memory_bytes")?,
        alone: row.try_get("alone")?,
        id,
    })
});

/// The lease under which a job is worked on.
#[derive(Debug, Clone, Copy)]
pub struct Lease<'a> {
    /// The instance that holds it.
    pub owner: &'a str,
    /// Until when nobody else may take the job.
    pub until_ms: i64,
}

/// A job to be stored, with the ask that it answers.
#[derive(Debug, Clone, Copy)]
pub struct NewJob<'a> {
    /// The job.
    pub job: &'a JobRecord,
    /// Who asks; the ask has the id of the job.
    pub ask: NewAsk<'a>,
    /// The traces it needs.
    pub trace_ids: &'a [String],
    /// The client's own name for the request.
    pub key: Option<Key<'a>>,
    /// The lease, where a worker is on it already.
    pub lease: Option<Lease<'a>>,
    /// The revision of the numbers that its digest stands for.
    pub revision: u32,
    /// Questions that may wait.
    pub queue_limit: u32,
    /// Questions of one principal that may wait, where there is a bound.
    pub principal_limit: Option<u32>,
}

/// How a job ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `succeeded`, `failed` or `canceled`.
    pub status: Status,
    /// The recommended strategy.
    pub strategy: Option<String>,
    /// How sure the advice is.
    pub verdict: Option<String>,
    /// The part of the result that listings show, JSON.
    pub recommendation: Option<String>,
    /// The answer, JSON.
    pub result: Option<String>,
    /// The plan, JSON.
    pub placement: Option<String>,
    /// Why it failed, a JSON problem.
    pub problem: Option<String>,
}

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The job is stored.
    New,
    /// A live job has the same digest, or the queue is full; a look tells which.
    Not,
    /// A trace it needs has gone.
    TraceGone,
    /// Its key came with another request before.
    KeyUsed,
}

const INSERT: &str = "insert into recommendation
    (id, digest, status, model, device, attempt, lease_owner, lease_until_ms,
     created_ms, started_ms, trace_ids, request, inputs, request_crc, inputs_crc,
     memory_bytes, revision, traceparent)
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $17, $18, $19, $20, $21
    where $3 = 'running'
       or ((select count(*) from recommendation where status = 'queued') < $14
           and ($16 is null
                or (select count(*) from recommendation as waiting
                    join ask on ask.recommendation_id = waiting.id and ask.principal = $15
                    where waiting.status = 'queued') < $16))
    on conflict (digest) where status in ('queued', 'running', 'succeeded') do nothing";

/// While programs of two versions run side by side, an old one must not answer in numbers that the
/// question's digest does not stand for; a new one takes what old ones leave, after its own. One process
/// alone takes them as they come.
const CLAIM: Spelled = spelled!(
    "update recommendation
    set status = 'running', attempt = attempt + 1, lease_owner = $1, lease_until_ms = $2,
        started_ms = coalesce(started_ms, $3), progress = 0, phase = null,
        alone = case when alone = 2 then 1 else alone end
    where id = (select id from recommendation where status = 'queued' and ",
    ["$4 is not null order by id limit 1"
        | "revision <= $4 order by revision desc, id limit 1 for no key update skip locked"],
    ") returning *"
);

/// Links a trace that is not deleted meanwhile.
const LINK: Spelled = spelled!(
    "insert into recommendation_trace (trace_id, recommendation_id)
     select id, $2 from trace where id = $1",
    ["" | " for key share"],
    " on conflict (trace_id, recommendation_id) do nothing"
);

impl Store {
    /// Stores a new job, queued or, with a lease, already running, together with its ask and key.
    pub async fn insert_job(&self, new: NewJob<'_>) -> Result<Inserted, StoreError> {
        let job = new.job;
        let mut transaction = self.begin().await?;
        if !insert(&mut transaction, new).await? {
            return Ok(Inserted::Not);
        }
        asks::insert(&mut transaction, &job.id, new.ask).await?;
        for trace_id in new.trace_ids {
            let link = self.spell(LINK);
            let linked = within!(&mut transaction, db => {
                sqlx::query(link).bind(trace_id).bind(&job.id).execute(db).await?.rows_affected()
            });
            if linked == 0 {
                transaction.rollback().await?;
                return Ok(Inserted::TraceGone);
            }
        }
        if let Some(key) = new.key
            && !keys::insert(&mut transaction, key, &job.id, job.created_ms).await?
        {
            transaction.rollback().await?;
            return Ok(Inserted::KeyUsed);
        }
        transaction.commit().await?;
        Ok(Inserted::New)
    }

    /// The live or finished job that answers this digest.
    pub async fn find_job_by_digest(&self, digest: &[u8]) -> Result<Option<JobRecord>, StoreError> {
        let find = "select * from recommendation
             where digest = $1 and status in ('queued', 'running', 'succeeded')";
        Ok(reading!(self, db => sqlx::query_as(find).bind(digest).fetch_optional(db).await?))
    }

    /// The job with this id.
    pub async fn find_job(&self, id: &str) -> Result<Option<JobRecord>, StoreError> {
        let find = "select * from recommendation where id = $1";
        Ok(reading!(self, db => sqlx::query_as(find).bind(id).fetch_optional(db).await?))
    }

    /// The plan of a job: absent without such a job, empty without a plan.
    pub async fn find_placement(
        &self,
        id: &str,
    ) -> Result<Option<(Status, Option<String>)>, StoreError> {
        let find = "select status, placement, placement_crc from recommendation where id = $1";
        let found: Option<(String, Option<String>, Option<i64>)> = reading!(self, db => {
            sqlx::query_as(find).bind(id).fetch_optional(db).await?
        });
        let Some((status, plan, crc)) = found else { return Ok(None) };
        Ok(Some((Status::from_stored(&status), whole(plan, crc, "placement", id)?)))
    }

    /// What the names of all queued and running jobs led to.
    pub async fn needed_inputs(&self) -> Result<Vec<String>, StoreError> {
        let all = "select inputs from recommendation
             where status in ('queued', 'running') and inputs is not null";
        Ok(reading!(self, db => sqlx::query_scalar(all).fetch_all(db).await?))
    }

    /// Takes the oldest queued job under a lease; where programs of several versions share the database,
    /// of this revision of the numbers, else of an earlier one.
    pub async fn claim_job(
        &self,
        lease: Lease<'_>,
        revision: u32,
        now_ms: i64,
    ) -> Result<Option<JobRecord>, StoreError> {
        let claim = self.spell(CLAIM);
        Ok(writing!(self, db => {
            sqlx::query_as(claim)
                .bind(lease.owner)
                .bind(lease.until_ms)
                .bind(now_ms)
                .bind(i64::from(revision))
                .fetch_optional(db)
                .await?
        }))
    }

    /// Extends the lease and keeps the progress; false when the job is no longer ours.
    pub async fn extend_lease(
        &self,
        job: &JobRecord,
        lease: Lease<'_>,
        progress: f64,
        phase: &str,
    ) -> Result<bool, StoreError> {
        let extended = writing!(self, db => sqlx::query(
            "update recommendation set lease_until_ms = $4, progress = $5, phase = $6
             where id = $1 and lease_owner = $2 and attempt = $3 and status = 'running'",
        )
        .bind(&job.id)
        .bind(lease.owner)
        .bind(job.attempt)
        .bind(lease.until_ms)
        .bind(progress)
        .bind(phase)
        .execute(db)
        .await?
        .rows_affected());
        Ok(0 < extended)
    }

    /// Notes that a job begins now, and runs with nothing beside it.
    pub async fn mark_alone(&self, job: &JobRecord, owner: &str) -> Result<(), StoreError> {
        let mark = "update recommendation set alone = 2
             where id = $1 and attempt = $2 and lease_owner = $3 and status = 'running'";
        writing!(self, db => {
            sqlx::query(mark).bind(&job.id).bind(job.attempt).bind(owner).execute(db).await?;
        });
        Ok(())
    }

    /// Stores how a job ended; false when it was no longer ours to end.
    pub async fn finish_job(
        &self,
        job: &JobRecord,
        owner: &str,
        outcome: &Outcome,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let finished = writing!(self, db => sqlx::query(
            "update recommendation
             set status = $4, strategy = $5, recommendation = $6, result = $7, placement = $8,
                 problem = $9, finished_ms = $10, progress = 1, phase = null, inputs = null,
                 inputs_crc = null,
                 lease_owner = null, lease_until_ms = null, verdict = $11, summary_crc = $12,
                 result_crc = $13, placement_crc = $14, problem_crc = $15
             where id = $1 and lease_owner = $2 and attempt = $3 and status = 'running'",
        )
        .bind(&job.id)
        .bind(owner)
        .bind(job.attempt)
        .bind(outcome.status.as_str())
        .bind(&outcome.strategy)
        .bind(&outcome.recommendation)
        .bind(&outcome.result)
        .bind(&outcome.placement)
        .bind(&outcome.problem)
        .bind(now_ms)
        .bind(&outcome.verdict)
        .bind(outcome.recommendation.as_deref().map(crc))
        .bind(outcome.result.as_deref().map(crc))
        .bind(outcome.placement.as_deref().map(crc))
        .bind(outcome.problem.as_deref().map(crc))
        .execute(db)
        .await?
        .rows_affected());
        Ok(0 < finished)
    }

    /// Puts back every running job of ours, as if these attempts had not been.
    pub async fn requeue_all(&self, owner: &str) -> Result<u64, StoreError> {
        let requeued = writing!(self, db => sqlx::query(
            "update recommendation
             set status = 'queued', forgiven = forgiven + 1, lease_owner = null,
                 lease_until_ms = null, progress = 0, phase = null
             where status = 'running' and lease_owner = $1",
        )
        .bind(owner)
        .execute(db)
        .await?
        .rows_affected());
        Ok(requeued)
    }
}

async fn insert(transaction: &mut Transaction, new: NewJob<'_>) -> Result<bool, sqlx::Error> {
    let NewJob { job, lease, .. } = new;
    let inserted = within!(transaction, db => sqlx::query(INSERT)
        .bind(&job.id)
        .bind(&job.digest)
        .bind(job.status.as_str())
        .bind(&job.model)
        .bind(&job.device)
        .bind(job.attempt)
        .bind(lease.map(|lease| lease.owner))
        .bind(lease.map(|lease| lease.until_ms))
        .bind(job.created_ms)
        .bind(job.started_ms)
        .bind(&job.trace_ids)
        .bind(&job.request)
        .bind(&job.inputs)
        .bind(i64::from(new.queue_limit))
        .bind(new.ask.principal)
        .bind(new.principal_limit.map(i64::from))
        .bind(crc(&job.request))
        .bind(job.inputs.as_deref().map(crc))
        .bind(job.memory_bytes)
        .bind(i64::from(new.revision))
            .bind(&job.traceparent)
        .execute(db)
        .await?
        .rows_affected());
    Ok(0 < inserted)
}
