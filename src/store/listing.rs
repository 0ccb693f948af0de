//! Past recommendations, newest first, and how many there are of each status.

use sqlx::Row;

use crate::store::row::record_from_row;
use crate::store::{Store, StoreError};
use crate::wire::job::Status;
use crate::wire::listing::CheckedListQuery;
use crate::wire::time::Moment;

/// What a listing shows of a recommendation.
#[derive(Debug, Clone)]
pub struct Listed {
    /// A `UUIDv7` in text form.
    pub id: String,
    /// Where it stands, as stored.
    pub status: String,
    /// Catalog id or name of the model.
    pub model: String,
    /// Catalog id or name of the device.
    pub device: String,
    /// When it was asked.
    pub created_ms: i64,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// The traces it needs, a JSON array.
    pub trace_ids: String,
    /// The recommendation within the result, JSON.
    pub recommendation: Option<String>,
}

record_from_row!(Listed {
    id,
    status,
    model,
    device,
    created_ms,
    finished_ms,
    trace_ids,
    recommendation
});

impl Store {
    /// The recommendations that pass the filters, newest first, one more than a page.
    pub async fn list_jobs(&self, filter: &CheckedListQuery) -> Result<Vec<Listed>, StoreError> {
        Ok(sqlx::query_as(
            "select id, status, model, device, created_ms, finished_ms, trace_ids, recommendation
             from recommendation
             where ($1 is null or model = $1)
               and ($2 is null or device = $2)
               and ($3 is null or strategy = $3)
               and ($4 is null or status = $4)
               and ($5 is null or id in (select recommendation_id from recommendation_trace
                                         where trace_id = $5))
               and ($6 is null or created_ms > $6)
               and ($7 is null or created_ms < $7)
               and ($8 is null or id < $8)
             order by id desc limit $9",
        )
        .bind(&filter.model)
        .bind(&filter.device)
        .bind(&filter.strategy)
        .bind(filter.status.map(Status::as_str))
        .bind(&filter.trace_id)
        .bind(filter.created_after.map(|Moment(ms)| ms))
        .bind(filter.created_before.map(|Moment(ms)| ms))
        .bind(&filter.cursor)
        .bind(filter.limit + 1)
        .fetch_all(&self.readers)
        .await?)
    }

    /// How many recommendations there are of each status.
    pub async fn count_jobs(&self) -> Result<Vec<(Status, i64)>, StoreError> {
        let rows = sqlx::query("select status, count(*) from recommendation group by status")
            .fetch_all(&self.readers)
            .await?;
        let mut counts = Vec::with_capacity(rows.len());
        for row in rows {
            counts.push((Status::from_stored(row.try_get(0)?), row.try_get(1)?));
        }
        Ok(counts)
    }
}
