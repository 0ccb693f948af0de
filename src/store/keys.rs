//! Idempotency keys: which recommendation answered a request that is sent again.

use sqlx::{Executor, Row, Sqlite};

use crate::store::{Store, StoreError};

/// What a key was first used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// Digest of the body that came with it.
    pub body_digest: Vec<u8>,
    /// The recommendation it led to.
    pub recommendation_id: String,
}

/// A client's own name for a request.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Whose name it is.
    pub principal: &'a str,
    /// The name.
    pub key: &'a str,
    /// Digest of the body it came with.
    pub body_digest: &'a [u8; 32],
}

impl Store {
    /// What the key was used for, if it was.
    pub async fn find_key(&self, key: Key<'_>) -> Result<Option<KeyUse>, StoreError> {
        let row = sqlx::query(
            "select body_digest, recommendation_id from ask_key where principal = $1 and key = $2",
        )
        .bind(key.principal)
        .bind(key.key)
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| {
            Ok(KeyUse { body_digest: row.try_get(0)?, recommendation_id: row.try_get(1)? })
        })
        .transpose()
    }

    /// Notes that a key led to a job that was there; false if it has been used before.
    pub async fn insert_key(
        &self,
        key: Key<'_>,
        id: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        Ok(insert(&self.writer, key, id, now_ms).await?)
    }
}

/// Notes which job a key leads to; false if it leads to another one. A key whose job has been
/// deleted leads to a new one for the same body.
pub(super) async fn insert<'c>(
    executor: impl Executor<'c, Database = Sqlite>,
    Key { principal, key, body_digest }: Key<'_>,
    id: &str,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "insert into ask_key (principal, key, body_digest, recommendation_id, created_ms)
         select $1, $2, $3, id, $5 from recommendation where id = $4
         on conflict (principal, key) do update
         set recommendation_id = excluded.recommendation_id
         where ask_key.body_digest = excluded.body_digest
           and not exists (select 1 from recommendation where id = ask_key.recommendation_id)",
    )
    .bind(principal)
    .bind(key)
    .bind(&body_digest[..])
    .bind(id)
    .bind(now_ms)
    .execute(executor)
    .await?;
    Ok(0 < inserted.rows_affected())
}
