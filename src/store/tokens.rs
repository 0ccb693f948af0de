//! Tokens: who may ask. Only their digests are kept.

use crate::store::engine::{reading, writing};
use crate::store::row::record_from_row;
use crate::store::{Store, StoreError};

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The part of it that is no secret.
    pub id: String,
    /// SHA-256 of the whole token.
    pub digest: Vec<u8>,
    /// Who holds it.
    pub principal: String,
    /// What it may do.
    pub scope: String,
    /// When it was made.
    pub created_ms: i64,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

record_from_row!(TokenRecord { id, digest, principal, scope, created_ms, revoked_ms });

impl Store {
    /// Keeps a token.
    pub async fn insert_token(&self, token: &TokenRecord) -> Result<(), StoreError> {
        writing!(self, db => {
            sqlx::query(
                "insert into token (id, digest, principal, scope, created_ms)
                 values ($1, $2, $3, $4, $5)",
            )
            .bind(&token.id)
            .bind(&token.digest)
            .bind(&token.principal)
            .bind(&token.scope)
            .bind(token.created_ms)
            .execute(db)
            .await?;
        });
        Ok(())
    }

    /// All tokens, also revoked ones, in the order in which they were made.
    pub async fn list_tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        let all = "select * from token order by created_ms, id";
        Ok(reading!(self, db => sqlx::query_as(all).fetch_all(db).await?))
    }

    /// Revokes a token; false when there is none, or it is revoked already.
    pub async fn revoke_token(&self, id: &str, now_ms: i64) -> Result<bool, StoreError> {
        let revoke = "update token set revoked_ms = $2 where id = $1 and revoked_ms is null";
        let revoked = writing!(self, db => {
            sqlx::query(revoke).bind(id).bind(now_ms).execute(db).await?.rows_affected()
        });
        Ok(0 < revoked)
    }
}
