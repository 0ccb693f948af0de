//! Uploaded traces: what is known of each, and when one may go.

use crate::store::checksum::{crc, whole};
use crate::store::engine::{Row, reading, within, writing};
use crate::store::row::from_row;
use crate::store::{Store, StoreError};

/// A stored trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRecord {
    /// Names it in requests; derived from the digest.
    pub id: String,
    /// SHA-256 of its content.
    pub digest: Vec<u8>,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Catalog id of the model it was recorded from.
    pub model: Option<String>,
    /// Routed tokens; 0 where they are not known.
    pub tokens: i64,
    /// Sequences; 0 where only counts are known.
    pub sequences: i64,
    /// Recorded steps; 0 for routes, which any step size may cut.
    pub steps: i64,
    /// Layers with routed experts.
    pub layers: i64,
    /// Experts per layer.
    pub experts: i64,
    /// Experts per token; 0 where only counts are known.
    pub top_k: i64,
    /// Whether it says which token was routed.
    pub has_token_ids: bool,
    /// SHA-256 of the embedding that was uploaded for it.
    pub embedding_digest: Option<Vec<u8>>,
    /// Which stored form is in force; absent where an earlier version kept it.
    pub version: Option<String>,
    /// Size of the stored form, bytes.
    pub stored_bytes: i64,
    /// When it was first uploaded.
    pub created_ms: i64,
    /// The public summary, JSON.
    pub summary: String,
}

from_row!(TraceRecord, row => {
    let id: String = row.try_get("id")?;
    let summary = whole(row.try_get("summary")?, row.try_get("summary_crc")?, "summary", &id)?;
    Ok(Self {
        summary: summary.unwrap_or_default(),
        digest: row.try_get("digest")?,
        name: row.try_get("name")?,
        model: row.try_get("model")?,
        tokens: row.try_get("tokens")?,
        sequences: row.try_get("sequences")?,
        steps: row.try_get("steps")?,
        layers: row.try_get("layers")?,
        experts: row.try_get("experts")?,
        top_k: row.try_get("top_k")?,
        has_token_ids: row.try_get("has_token_ids")?,
        embedding_digest: row.try_get("embedding_digest")?,
        version: row.try_get("version")?,
        stored_bytes: row.try_get("stored_bytes")?,
        created_ms: row.try_get("created_ms")?,
        id,
    })
});

/// What became of the wish to delete a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceDeletion {
    /// It is gone; its file may follow.
    Done,
    /// There is none.
    Absent,
    /// So many queued or running recommendations need it.
    Needed(i64),
}

impl Store {
    /// Stores what is known of a trace, in place of what was known before.
    pub async fn put_trace(&self, trace: &TraceRecord) -> Result<(), StoreError> {
        writing!(self, db => sqlx::query(
            "insert into trace (id, digest, name, model, tokens, sequences, steps, layers,
                                experts, top_k, has_token_ids, embedding_digest, stored_bytes,
                                created_ms, summary, summary_crc, version)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
             on conflict (id) do update
             set name = excluded.name, model = excluded.model, tokens = excluded.tokens,
                 sequences = excluded.sequences, steps = excluded.steps,
                 layers = excluded.layers, experts = excluded.experts, top_k = excluded.top_k,
                 has_token_ids = excluded.has_token_ids,
                 embedding_digest = excluded.embedding_digest,
                 stored_bytes = excluded.stored_bytes, summary = excluded.summary,
                 summary_crc = excluded.summary_crc,
                 version = excluded.version",
        )
        .bind(&trace.id)
        .bind(&trace.digest)
        .bind(&trace.name)
        .bind(&trace.model)
        .bind(trace.tokens)
        .bind(trace.sequences)
        .bind(trace.steps)
        .bind(trace.layers)
        .bind(trace.experts)
        .bind(trace.top_k)
        .bind(trace.has_token_ids)
        .bind(&trace.embedding_digest)
        .bind(trace.stored_bytes)
        .bind(trace.created_ms)
        .bind(&trace.summary)
        .bind(crc(&trace.summary))
            .bind(&trace.version)
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// The trace with this id.
    pub async fn find_trace(&self, id: &str) -> Result<Option<TraceRecord>, StoreError> {
        let find = "select * from trace where id = $1";
        Ok(reading!(self, db => sqlx::query_as(find).bind(id).fetch_optional(db).await?))
    }

    /// The digests of the embeddings that were put beside traces, with the traces' ids.
    pub async fn list_embeddings(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let all = "select id, embedding_digest from trace where embedding_digest is not null";
        Ok(reading!(self, db => sqlx::query_as(all).fetch_all(db).await?))
    }

    /// The ids of all traces, with the stored form in force.
    pub async fn list_trace_ids(&self) -> Result<Vec<(String, Option<String>)>, StoreError> {
        let all = "select id, version from trace";
        Ok(reading!(self, db => sqlx::query_as(all).fetch_all(db).await?))
    }

    /// Traces by id, from just after `after`.
    pub async fn list_traces(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<TraceRecord>, StoreError> {
        let page = "select * from trace where ($1 is null or id > $1) order by id limit $2";
        let limit = i64::from(limit);
        Ok(reading!(self, db => {
            sqlx::query_as(page).bind(after).bind(limit).fetch_all(db).await?
        }))
    }

    /// Deletes a trace unless a queued or running recommendation needs it.
    pub async fn delete_trace(&self, id: &str) -> Result<TraceDeletion, StoreError> {
        let mut transaction = self.begin().await?;
        transaction.lock(Row::Trace, id).await?;
        let needed: i64 = within!(&mut transaction, db => {
            sqlx::query_scalar(
                "select count(*) from recommendation_trace
                 join recommendation on recommendation.id = recommendation_trace.recommendation_id
                 where recommendation_trace.trace_id = $1
                   and recommendation.status in ('queued', 'running')",
            )
            .bind(id)
            .fetch_one(db)
            .await?
        });
        if 0 < needed {
            return Ok(TraceDeletion::Needed(needed));
        }
        let delete = "delete from trace where id = $1";
        let deleted = within!(&mut transaction, db => {
            sqlx::query(delete).bind(id).execute(db).await?.rows_affected()
        });
        transaction.commit().await?;
        Ok(match deleted {
            0 => TraceDeletion::Absent,
            _ => TraceDeletion::Done,
        })
    }
}
