//! Idempotency keys: which recommendation answered a request that is sent again.

use crate::store::engine::{Transaction, reading, within};
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
        let find =
            "select body_digest, recommendation_id from ask_key where principal = $1 and key = $2";
        let found: Option<(Vec<u8>, String)> = reading!(self, db => {
            sqlx::query_as(find).bind(key.principal).bind(key.key).fetch_optional(db).await?
        });
        Ok(found.map(|(body_digest, recommendation_id)| KeyUse { body_digest, recommendation_id }))
    }

    /// Notes that a key led to a job that was there; false if it has been used before.
    pub async fn insert_key(
        &self,
        key: Key<'_>,
        id: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let kept = insert(&mut transaction, key, id, now_ms).await?;
        transaction.commit().await?;
        Ok(kept)
    }
}

/// Notes which job a key leads to; false if it leads to another one. A key whose job has been deleted
/// leads to a new one for the same body.
pub(super) async fn insert(
    transaction: &mut Transaction,
    key: Key<'_>,
    id: &str,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    // Who waits here looks afterwards, and sees what the one before has kept.
    transaction.alone_with(&format!("{}\n{}", key.principal, key.key)).await?;
    let inserted = within!(transaction, db => {
        sqlx::query(
            "insert into ask_key (principal, key, body_digest, recommendation_id, created_ms)
             select $1, $2, $3, id, $5 from recommendation where id = $4
             on conflict (principal, key) do update
             set recommendation_id = excluded.recommendation_id
             where ask_key.body_digest = excluded.body_digest
               and not exists (select 1 from recommendation where id = ask_key.recommendation_id)",
        )
        .bind(key.principal)
        .bind(key.key)
        .bind(&key.body_digest[..])
        .bind(id)
        .bind(now_ms)
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(0 < inserted)
}
