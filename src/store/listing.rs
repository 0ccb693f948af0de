//! Past recommendations by their asks, newest first, and how many there are of each status.

use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::store::checksum::whole;
use crate::store::engine::{Spelled, reading};
use crate::store::row::record_from_row;
use crate::store::{Store, StoreError};
use crate::wire::job::Status;
use crate::wire::listing::CheckedListQuery;
use crate::wire::time::Moment;

/// What a listing shows of an ask and its recommendation.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The ask, a `UUIDv7` in text form.
    pub ask_id: String,
    /// Who asked.
    pub principal: String,
    /// When.
    pub created_ms: i64,
    /// The labels, a JSON object.
    pub labels: String,
    /// The recommendation, a `UUIDv7` in text form.
    pub id: String,
    /// Where it stands, as stored.
    pub status: String,
    /// Catalog id or name of the model.
    pub model: String,
    /// Catalog id or name of the device.
    pub device: String,
    /// Devices in all.
    pub devices: Option<i64>,
    /// Id of the engine.
    pub engine: Option<String>,
    /// The workload, JSON.
    pub workload: Option<String>,
    /// When it ended.
    pub finished_ms: Option<i64>,
    /// The traces it needs, a JSON array.
    pub trace_ids: String,
    /// The recommendation within the result, JSON.
    pub recommendation: Option<String>,
    /// Its checksum, where there is one.
    pub summary_crc: Option<i64>,
}

record_from_row!(Listed {
    ask_id,
    principal,
    created_ms,
    labels,
    id,
    status,
    model,
    device,
    devices,
    engine,
    workload,
    finished_ms,
    trace_ids,
    recommendation,
    summary_crc
});

/// A page of asks, and where the next one begins.
#[derive(Debug, Clone)]
pub struct Page {
    /// The asks, newest first.
    pub items: Vec<Listed>,
    /// The last ask that was looked at, where there may be more.
    pub next: Option<String>,
}

/// A day, by which times of ids and of rows cannot differ, milliseconds.
const SLACK_MS: i64 = 24 * 3600 * 1000;

impl Store {
    /// The asks of one principal, or of all, that pass the filters, newest first. At most `scan` of
    /// them are looked at, so that a filter nothing passes ends soon; a page may then have fewer items than there are, or none, and
    /// tells where to go on.
    pub async fn list_asks(
        &self,
        principal: Option<&str>,
        filter: &CheckedListQuery,
        scan: u32,
    ) -> Result<Page, StoreError> {
        let scan = i64::from(scan);
        let mut items: Vec<Listed> = reading!(self, db => {
        let mut query = QueryBuilder::new(
            "select ask.id as ask_id, ask.principal, ask.created_ms, ask.labels,
                    ask.model, ask.device, ask.devices, ask.engine, ask.workload,
                    recommendation.id, ask.status, finished_ms, trace_ids, recommendation,
                    ask.summary_crc
             from (select * from ask where true",
        );
        push_range(&mut query, principal, filter);
        query.push(" order by id desc limit ").push_bind(scan);
        query.push(
            ") as ask join recommendation on recommendation.id = ask.recommendation_id where true",
        );
        push_filters(&mut query, filter, self.spell(LIKE));
        query.push(" order by ask.id desc limit ").push_bind(i64::from(filter.limit) + 1);
        query.build_query_as().fetch_all(db).await?
        });
        for item in &mut items {
            let summary = item.recommendation.take();
            item.recommendation = whole(summary, item.summary_crc, "recommendation", &item.id)?;
        }
        if (filter.limit as usize) < items.len() {
            items.truncate(filter.limit as usize);
            let next = items.last().map(|last| last.ask_id.clone());
            return Ok(Page { items, next });
        }
        let last: Vec<(String,)> = reading!(self, db => {
            let mut last = QueryBuilder::new("select id from ask where true");
            push_range(&mut last, principal, filter);
            last.push(" order by id desc limit 2 offset ").push_bind((scan - 1).max(0));
            last.build_query_as().fetch_all(db).await?
        });
        // The last one that was looked at, if another one follows.
        let next = (last.len() == 2).then(|| last.into_iter().next().map(|(id,)| id)).flatten();
        Ok(Page { items, next })
    }

    /// The asks that pass the filters, of at most `scan` that are looked at, newest first, each with
    /// its recommendation; and where to go on.
    pub async fn find_asked(
        &self,
        principal: Option<&str>,
        filter: &CheckedListQuery,
        scan: u32,
    ) -> Result<(Vec<(String, String)>, Option<String>), StoreError> {
        let scan = i64::from(scan);
        let last: Option<(String,)> = reading!(self, db => {
            let mut query = QueryBuilder::new("select id from ask where true");
            push_range(&mut query, principal, filter);
            query.push(" order by id desc limit 1 offset ").push_bind((scan - 1).max(0));
            query.build_query_as().fetch_optional(db).await?
        });
        let found = reading!(self, db => {
        let mut query =
            QueryBuilder::new("select id, recommendation_id from (select * from ask where true");
        push_range(&mut query, principal, filter);
        query.push(" order by id desc limit ").push_bind(scan).push(") as ask where true");
        push_filters(&mut query, filter, self.spell(LIKE));
        query.build_query_as().fetch_all(db).await?
        });
        Ok((found, last.map(|(id,)| id)))
    }

    /// How many recommendations there are of each status.
    pub async fn count_jobs(&self) -> Result<Vec<(Status, i64)>, StoreError> {
        // In PostgreSQL a status has several rows, so that writers do not wait for each other.
        let count = "select status, cast(sum(n) as bigint) from job_count group by status";
        let counts: Vec<(String, i64)> =
            reading!(self, db => sqlx::query_as(count).fetch_all(db).await?);
        Ok(counts.into_iter().map(|(status, n)| (Status::from_stored(&status), n)).collect())
    }
}

/// Takes Latin letters of either case for the same.
const LIKE: Spelled = Spelled { sqlite: " like ", postgres: " ilike " };

/// What an ask must say besides, in columns of its own.
fn push_filters<DB: Database>(
    query: &mut QueryBuilder<DB>,
    filter: &CheckedListQuery,
    like: &'static str,
) where
    String: for<'q> Encode<'q, DB> + Type<DB>,
    i64: for<'q> Encode<'q, DB> + Type<DB>,
{
    let equal = [
        ("ask.model", &filter.model),
        ("ask.device", &filter.device),
        ("ask.engine", &filter.engine),
        ("ask.phase", &filter.phase),
        ("ask.strategy", &filter.strategy),
        ("ask.verdict", &filter.verdict),
    ];
    for (column, value) in equal {
        if let Some(value) = value {
            query.push(" and ").push(column).push(" = ").push_bind(value.clone());
        }
    }
    if let Some(status) = filter.status {
        query.push(" and ask.status = ").push_bind(status.as_str().to_owned());
    }
    if let Some(devices) = filter.devices {
        query.push(" and ask.devices = ").push_bind(i64::from(devices));
    }
    if let Some(id) = &filter.trace_id {
        query.push(
            " and exists (select 1 from recommendation_trace as needed
                   where needed.recommendation_id = ask.recommendation_id and needed.trace_id = ",
        );
        query.push_bind(id.clone()).push(")");
    }
    if let Some(Moment(ms)) = filter.created_after {
        query.push(" and ask.created_ms > ").push_bind(ms);
    }
    if let Some(Moment(ms)) = filter.created_before {
        query.push(" and ask.created_ms < ").push_bind(ms);
    }
    for label in &filter.labels {
        // Without its text, a label is found by its name.
        query.push(" and replace(ask.labels, ").push_bind(label.clone());
        query.push(", '') <> ask.labels");
    }
    if let Some(words) = &filter.q {
        let pattern = format!("%{}%", escaped(words));
        query.push(" and (false");
        for column in ["ask.model", "ask.device", "ask.engine", "ask.labels", "ask.strategy"] {
            query.push(" or ").push(column).push(like).push_bind(pattern.clone());
            query.push(" escape '!'");
        }
        query.push(" or ask.recommendation_id = ").push_bind(words.clone()).push(")");
    }
}

/// Whose asks are looked at, and between which; with those of all, by a status that few have, by
/// model or by device.
fn push_range<DB: Database>(
    query: &mut QueryBuilder<DB>,
    principal: Option<&str>,
    filter: &CheckedListQuery,
) where
    String: for<'q> Encode<'q, DB> + Type<DB>,
    i64: for<'q> Encode<'q, DB> + Type<DB>,
{
    // One term that an index answers; the others are looked at one by one.
    if let Some(principal) = principal {
        query.push(" and principal = ").push_bind(principal.to_owned());
    } else if let Some(status) = filter.status.filter(|status| *status != Status::Succeeded) {
        // The index has no others, which the planner must be told.
        query
            .push(" and status <> 'succeeded' and status = ")
            .push_bind(status.as_str().to_owned());
    } else if let Some(model) = &filter.model {
        query.push(" and model = ").push_bind(model.clone());
    } else if let Some(device) = &filter.device {
        query.push(" and device = ").push_bind(device.clone());
    }
    if let Some(cursor) = &filter.cursor {
        query.push(" and id < ").push_bind(cursor.clone());
    }
    if let Some(Moment(ms)) = filter.created_before {
        query.push(" and id < ").push_bind(first_id(ms.saturating_add(SLACK_MS)));
    }
    if let Some(Moment(ms)) = filter.created_after {
        query.push(" and id > ").push_bind(first_id(ms.saturating_sub(SLACK_MS)));
    }
}

/// The beginning of the ids of a moment: a `UUIDv7` starts with its milliseconds.
pub(super) fn first_id(ms: i64) -> String {
    const LAST: u64 = (1 << 48) - 1;
    let hex = format!("{:012x}", u64::try_from(ms).unwrap_or_default().min(LAST));
    format!("{}-{}", &hex[..8], &hex[8..])
}

/// Text that stands for itself in a pattern.
fn escaped(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}
