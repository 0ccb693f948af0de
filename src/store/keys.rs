//! Idempotency keys: which recommendation answered a request that is sent again.

use sqlx::Row;

use crate::store::{Store, StoreError};

/// What a key was first used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// Digest of the body that came with it.
    pub body_digest: Vec<u8>,
    /// The recommendation it led to.
    pub recommendation_id: String,
}

impl Store {
    /// What the key was used for, if it was.
    pub async fn find_key(&self, key: &str) -> Result<Option<KeyUse>, StoreError> {
        let row = sqlx::query(
            "select body_digest, recommendation_id from idempotency_key where key = $1",
        )
        .bind(key)
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| {
            Ok(KeyUse { body_digest: row.try_get(0)?, recommendation_id: row.try_get(1)? })
        })
        .transpose()
    }

    /// Notes what a key is used for, unless it has been used before.
    pub async fn insert_key(
        &self,
        key: &str,
        used: &KeyUse,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "insert into idempotency_key (key, body_digest, recommendation_id, created_ms)
             select $1, $2, id, $4 from recommendation where id = $3
             on conflict (key) do nothing",
        )
        .bind(key)
        .bind(&used.body_digest)
        .bind(&used.recommendation_id)
        .bind(now_ms)
        .execute(&self.writer)
        .await?;
        Ok(0 < inserted.rows_affected())
    }

    /// Forgets the keys that are older than their keep.
    pub async fn forget_keys(&self, created_before_ms: i64) -> Result<(), StoreError> {
        sqlx::query("delete from idempotency_key where created_ms < $1")
            .bind(created_before_ms)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
