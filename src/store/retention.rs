//! What may go by age and number, and its deletion.

use crate::store::engine::{Row, reading, within};
use crate::store::listing::first_id;
use crate::store::{Store, StoreError};

/// Rows deleted in one statement, so that no other write waits long.
const BATCH: i64 = 200;

/// An ask with the label `keep`. Within the text of a label quotes are escaped, so that this is a name.
macro_rules! is_kept {
    () => {
        "replace(ask.labels, '\"keep\":', '') <> ask.labels"
    };
}

impl Store {
    /// Deletes some of the oldest ended recommendations that are beyond `most` or were last asked
    /// for before `cutoff_ms`, and are not labelled `keep`; says how many.
    pub async fn delete_old_recommendations(
        &self,
        cutoff_ms: Option<i64>,
        most: Option<i64>,
    ) -> Result<u64, StoreError> {
        let count = "select cast(coalesce(sum(n), 0) as bigint) from job_count
                     where status not in ('queued', 'running')";
        let ended: i64 = reading!(self, db => sqlx::query_scalar(count).fetch_one(db).await?);
        let beyond = most.map_or(0, |most| (ended - most).clamp(0, BATCH));
        let mut ids: Vec<String> = Vec::new();
        if 0 < beyond {
            ids = self.old_recommendations(i64::MAX, beyond).await?;
        } else if let Some(cutoff_ms) = cutoff_ms {
            ids = self.old_recommendations(cutoff_ms, BATCH).await?;
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let mut deleted = 0;
        let cutoff_ms = cutoff_ms.filter(|_| beyond == 0).unwrap_or(i64::MAX);
        let mut transaction = self.begin().await?;
        for id in &ids {
            // It may have been asked for anew, or labelled, since it was looked up.
            transaction.lock(Row::Recommendation, id).await?;
            deleted += within!(&mut transaction, db => {
                sqlx::query(concat!(
                    "delete from recommendation where id = $1
                     and status not in ('queued', 'running')
                     and not exists (select 1 from ask where ask.recommendation_id = $1
                                     and (ask.created_ms >= $2 or ",
                    is_kept!(),
                    "))"
                ))
                .bind(id)
                .bind(cutoff_ms)
                .execute(db)
                .await?
                .rows_affected()
            });
        }
        transaction.commit().await?;
        Ok(deleted)
    }

    /// The oldest ended recommendations that nobody asked for since and nobody keeps.
    async fn old_recommendations(
        &self,
        cutoff_ms: i64,
        most: i64,
    ) -> Result<Vec<String>, StoreError> {
        Ok(reading!(self, db => {
            sqlx::query_scalar(concat!(
                "select id from recommendation
                 where id < $1 and status not in ('queued', 'running')
                 and coalesce(finished_ms, created_ms) < $2
                 and not exists (select 1 from ask where ask.recommendation_id = recommendation.id
                                 and (ask.created_ms >= $2 or ",
                is_kept!(),
                ")) order by id limit $3"
            ))
            .bind(first_id(cutoff_ms))
            .bind(cutoff_ms)
            .bind(most)
            .fetch_all(db)
            .await?
        }))
    }

    /// Some of the oldest traces that are beyond `most`, or were uploaded and last asked about
    /// before `cutoff_ms`; none that a queued, running or kept recommendation needs.
    pub async fn find_old_traces(
        &self,
        cutoff_ms: Option<i64>,
        most: Option<i64>,
    ) -> Result<Vec<String>, StoreError> {
        let count = "select count(*) from trace";
        let traces: i64 = reading!(self, db => sqlx::query_scalar(count).fetch_one(db).await?);
        let beyond = most.map_or(0, |most| (traces - most).clamp(0, BATCH));
        let (cutoff_ms, limit) = match cutoff_ms {
            _ if 0 < beyond => (i64::MAX, beyond),
            Some(cutoff_ms) => (cutoff_ms, BATCH),
            None => return Ok(Vec::new()),
        };
        Ok(reading!(self, db => {
            sqlx::query_scalar(concat!(
                "select id from trace where created_ms < $1
                 and not exists (
                     select 1 from recommendation_trace as needed
                     join recommendation on recommendation.id = needed.recommendation_id
                     where needed.trace_id = trace.id
                     and (recommendation.status in ('queued', 'running')
                          or recommendation.created_ms >= $1
                          or exists (select 1 from ask
                                     where ask.recommendation_id = recommendation.id and ",
                is_kept!(),
                "))) order by created_ms, id limit $2"
            ))
            .bind(cutoff_ms)
            .bind(limit)
            .fetch_all(db)
            .await?
        }))
    }

    /// Forgets some of the oldest keys that are beyond `most` or older than `cutoff_ms`; none whose
    /// recommendation is queued or running.
    pub async fn forget_old_keys(
        &self,
        cutoff_ms: Option<i64>,
        most: Option<i64>,
    ) -> Result<u64, StoreError> {
        let mut cutoff_ms = cutoff_ms.unwrap_or(i64::MIN);
        if let Some(most) = most {
            let last = "select created_ms from ask_key order by created_ms desc limit 1 offset $1";
            let beyond: Option<i64> = reading!(self, db => {
                sqlx::query_scalar(last).bind(most).fetch_optional(db).await?
            });
            cutoff_ms = cutoff_ms.max(beyond.map_or(i64::MIN, |ms| ms.saturating_add(1)));
        }
        let old: Vec<(String, String)> = reading!(self, db => {
            sqlx::query_as(
                "select principal, key from ask_key where created_ms < $1
                 and not exists (select 1 from recommendation where id = ask_key.recommendation_id
                                 and status in ('queued', 'running'))
                 order by created_ms limit $2",
            )
            .bind(cutoff_ms)
            .bind(BATCH)
            .fetch_all(db)
            .await?
        });
        if old.is_empty() {
            return Ok(0);
        }
        let mut transaction = self.begin().await?;
        for (principal, key) in &old {
            within!(&mut transaction, db => {
                sqlx::query("delete from ask_key where principal = $1 and key = $2")
                    .bind(principal)
                    .bind(key)
                    .execute(db)
                    .await?;
            });
        }
        transaction.commit().await?;
        Ok(old.len() as u64)
    }
}
