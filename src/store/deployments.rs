//! Deployments: what they are told to be, their windows of loads, and their judgements.

use crate::store::engine::{reading, within, writing};
use crate::store::row::record_from_row;
use crate::store::{Store, StoreError};

/// A deployment as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// Names it in requests.
    pub name: String,
    /// Whose asks its judgements are.
    pub principal: String,
    /// Counts what it was told to be.
    pub version: i64,
    /// When it was first told.
    pub created_ms: i64,
    /// When it was last told.
    pub updated_ms: i64,
    /// Whether it changed since it was last judged.
    pub is_due: bool,
    /// The recommendation that judges it now.
    pub judging: Option<String>,
    /// The same without the map in force, where that is asked.
    pub judging_in_order: Option<String>,
    /// When the last judgement began.
    pub judging_ms: Option<i64>,
    /// The newest window that a judgement has seen.
    pub judged_window: i64,
    /// Question, labels and policy, JSON.
    pub spec: String,
    /// The map in force, JSON.
    pub current: Option<String>,
    /// Conditions, what they rest on, and the last judgement, JSON.
    pub state: String,
    /// The newest of its windows; 0 without any.
    pub newest_window: i64,
    /// When its newest loads ended.
    pub loads_until_ms: Option<i64>,
}

record_from_row!(DeploymentRecord {
    name,
    principal,
    version,
    created_ms,
    updated_ms,
    is_due,
    judging,
    judging_in_order,
    judging_ms,
    judged_window,
    spec,
    current,
    state,
    newest_window,
    loads_until_ms
});

/// A deployment with what its windows tell.
macro_rules! with_windows {
    () => {
        "select deployment.*,
                coalesce((select max(id) from deployment_window where deployment = name), 0)
                    as newest_window,
                (select max(to_ms) from deployment_window where deployment = name)
                    as loads_until_ms
         from deployment where "
    };
}

/// A window of loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRecord {
    /// Counts the windows as they are posted.
    pub id: i64,
    /// The deployment.
    pub deployment: String,
    /// The stored trace.
    pub trace_id: String,
    /// Whether the trace goes with it.
    pub is_own: bool,
    /// The phase it was recorded in, where that is said.
    pub phase: Option<String>,
    /// When its recording began, where that is said.
    pub from_ms: Option<i64>,
    /// When it ended.
    pub to_ms: i64,
    /// When it was posted.
    pub posted_ms: i64,
}

record_from_row!(WindowRecord {
    id,
    deployment,
    trace_id,
    is_own,
    phase,
    from_ms,
    to_ms,
    posted_ms
});

/// A judgement as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgementRecord {
    /// A `UUIDv7` in text form.
    pub id: String,
    /// The recommendation it rests on.
    pub recommendation_id: String,
    /// The judgement, JSON.
    pub body: String,
}

record_from_row!(JudgementRecord { id, recommendation_id, body });

impl Store {
    /// All deployments of one principal, or of all, by name.
    pub async fn list_deployments(
        &self,
        principal: Option<&str>,
    ) -> Result<Vec<DeploymentRecord>, StoreError> {
        let all = concat!(with_windows!(), "$1 is null or principal = $1 order by name");
        Ok(reading!(self, db => sqlx::query_as(all).bind(principal).fetch_all(db).await?))
    }

    /// The deployment of this name.
    pub async fn find_deployment(
        &self,
        name: &str,
    ) -> Result<Option<DeploymentRecord>, StoreError> {
        let find = concat!(with_windows!(), "name = $1");
        Ok(reading!(self, db => sqlx::query_as(find).bind(name).fetch_optional(db).await?))
    }

    /// Keeps a deployment in place of what was kept under its name; false where it is new and there
    /// are `most` already.
    pub async fn put_deployment(
        &self,
        record: &DeploymentRecord,
        most: u32,
    ) -> Result<bool, StoreError> {
        let put = writing!(self, db => sqlx::query(
            "insert into deployment (name, principal, version, created_ms, updated_ms, is_due, judging,
                                     judging_in_order, judging_ms, judged_window, spec, current, state)
             select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
             where exists (select 1 from deployment where name = $1)
                or (select count(*) from deployment) < $14
             on conflict (name) do update
             set version = excluded.version, updated_ms = excluded.updated_ms,
                 is_due = excluded.is_due, judging = excluded.judging,
                 judging_in_order = excluded.judging_in_order, judging_ms = excluded.judging_ms,
                 judged_window = excluded.judged_window, spec = excluded.spec,
                 current = excluded.current, state = excluded.state",
        )
        .bind(&record.name)
        .bind(&record.principal)
        .bind(record.version)
        .bind(record.created_ms)
        .bind(record.updated_ms)
        .bind(record.is_due)
        .bind(&record.judging)
        .bind(&record.judging_in_order)
        .bind(record.judging_ms)
        .bind(record.judged_window)
        .bind(&record.spec)
        .bind(&record.current)
        .bind(&record.state)
        .bind(i64::from(most))
        .execute(db)
        .await?
        .rows_affected());
        Ok(0 < put)
    }

    /// Deletes a deployment with its windows and judgements; false where there is none.
    pub async fn delete_deployment(&self, name: &str) -> Result<bool, StoreError> {
        let delete = "delete from deployment where name = $1";
        Ok(0 < writing!(self, db => {
            sqlx::query(delete).bind(name).execute(db).await?.rows_affected()
        }))
    }

    /// Keeps a window of loads; the same trace again becomes the newest. False where the deployment
    /// has gone.
    pub async fn insert_window(&self, window: &WindowRecord) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let before: Option<bool> = within!(&mut transaction, db => sqlx::query_scalar(
            "delete from deployment_window where deployment = $1 and trace_id = $2 returning is_own",
        )
        .bind(&window.deployment)
        .bind(&window.trace_id)
        .fetch_optional(db)
        .await?);
        let inserted = within!(&mut transaction, db => sqlx::query(
            "insert into deployment_window (deployment, trace_id, is_own, phase, from_ms, to_ms,
                                            posted_ms)
             select name, $2,
                    $3 or exists (select 1 from deployment_window
                                  where trace_id = $2 and is_own),
                    $4, $5, $6, $7
             from deployment where name = $1",
        )
        .bind(&window.deployment)
        .bind(&window.trace_id)
        .bind(before.unwrap_or(window.is_own))
        .bind(&window.phase)
        .bind(window.from_ms)
        .bind(window.to_ms)
        .bind(window.posted_ms)
        .execute(db)
        .await?
        .rows_affected());
        transaction.commit().await?;
        Ok(0 < inserted)
    }

    /// The windows of a deployment whose trace is kept, the oldest first.
    pub async fn list_windows(&self, deployment: &str) -> Result<Vec<WindowRecord>, StoreError> {
        let all = "select * from deployment_window
             where deployment = $1 and exists (select 1 from trace where trace.id = trace_id)
             order by to_ms, id";
        Ok(reading!(self, db => sqlx::query_as(all).bind(deployment).fetch_all(db).await?))
    }

    /// Forgets a window.
    pub async fn delete_window(&self, id: i64) -> Result<(), StoreError> {
        let delete = "delete from deployment_window where id = $1";
        writing!(self, db => {
            sqlx::query(delete).bind(id).execute(db).await?;
        });
        Ok(())
    }

    /// How many windows have this trace.
    pub async fn count_windows_of(&self, trace_id: &str) -> Result<i64, StoreError> {
        let count = "select count(*) from deployment_window where trace_id = $1";
        Ok(reading!(self, db => sqlx::query_scalar(count).bind(trace_id).fetch_one(db).await?))
    }

    /// Keeps a judgement.
    pub async fn insert_judgement(
        &self,
        deployment: &str,
        judgement: &JudgementRecord,
    ) -> Result<(), StoreError> {
        writing!(self, db => sqlx::query(
            "insert into deployment_judgement (id, deployment, recommendation_id, body)
             select $1, name, $3, $4 from deployment where name = $2",
        )
        .bind(&judgement.id)
        .bind(deployment)
        .bind(&judgement.recommendation_id)
        .bind(&judgement.body)
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// The judgements of a deployment before `before`, the newest first.
    pub async fn list_judgements(
        &self,
        deployment: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<JudgementRecord>, StoreError> {
        let page = "select id, recommendation_id, body from deployment_judgement
             where deployment = $1 and ($2 is null or id < $2) order by id desc limit $3";
        let limit = i64::from(limit);
        Ok(reading!(self, db => {
            sqlx::query_as(page).bind(deployment).bind(before).bind(limit).fetch_all(db).await?
        }))
    }

    /// Forgets the judgements of a deployment beyond the newest `most`; the recommendations they
    /// rest on.
    pub async fn forget_judgements(
        &self,
        deployment: &str,
        most: u32,
    ) -> Result<Vec<String>, StoreError> {
        let forget = "delete from deployment_judgement where id in (
                 select id from deployment_judgement where deployment = $1
                 order by id desc limit $3 offset $2)
             returning recommendation_id";
        let most = i64::from(most);
        Ok(writing!(self, db => {
            sqlx::query_scalar(forget)
                .bind(deployment)
                .bind(most)
                .bind(i64::MAX)
                .fetch_all(db)
                .await?
        }))
    }
}
