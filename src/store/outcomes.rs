//! Outcomes: what was measured after an answer.

use sqlx::QueryBuilder;

use crate::store::engine::{reading, writing};
use crate::store::row::record_from_row;
use crate::store::{Store, StoreError};

/// An outcome as it is stored.
#[derive(Debug, Clone)]
pub struct OutcomeRecord {
    /// A `UUIDv7` in text form.
    pub id: String,
    /// The recommendation that said how long it would take.
    pub recommendation_id: String,
    /// Who measured.
    pub principal: String,
    /// When it was reported.
    pub created_ms: i64,
    /// The strategy that ran.
    pub strategy: String,
    /// What was measured: `step_s` or `tpot_s`.
    pub quantity: String,
    /// How long it took, seconds.
    pub measured_s: f64,
    /// How long it was to take, seconds.
    pub forecast_s: Option<f64>,
    /// Steps that were measured.
    pub steps: Option<i64>,
    /// What else is to be known.
    pub note: Option<String>,
}

record_from_row!(OutcomeRecord {
    id,
    recommendation_id,
    principal,
    created_ms,
    strategy,
    quantity,
    measured_s,
    forecast_s,
    steps,
    note
});

impl Store {
    /// Keeps an outcome unless its recommendation has gone or has `most` already; false if so.
    pub async fn insert_outcome(
        &self,
        outcome: &OutcomeRecord,
        most: u32,
    ) -> Result<bool, StoreError> {
        let inserted = writing!(self, db => sqlx::query(
            "insert into outcome (id, recommendation_id, principal, created_ms, strategy, quantity,
                                  measured_s, forecast_s, steps, note)
             select $1, recommendation.id, $3, $4, $5, $6, $7, $8, $9, $10 from recommendation
             where recommendation.id = $2
             and (select count(*) from outcome where recommendation_id = $2) < $11",
        )
        .bind(&outcome.id)
        .bind(&outcome.recommendation_id)
        .bind(&outcome.principal)
        .bind(outcome.created_ms)
        .bind(&outcome.strategy)
        .bind(&outcome.quantity)
        .bind(outcome.measured_s)
        .bind(outcome.forecast_s)
        .bind(outcome.steps)
        .bind(&outcome.note)
        .bind(i64::from(most))
        .execute(db)
        .await?
        .rows_affected());
        Ok(0 < inserted)
    }

    /// Whether there are any.
    pub async fn has_outcomes(&self) -> Result<bool, StoreError> {
        let any = "select exists (select 1 from outcome)";
        Ok(reading!(self, db => sqlx::query_scalar(any).fetch_one(db).await?))
    }

    /// The outcomes of these recommendations, in the order in which they were reported.
    pub async fn find_outcomes(&self, ids: &[&str]) -> Result<Vec<OutcomeRecord>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(reading!(self, db => {
            let mut query =
                QueryBuilder::new("select * from outcome where recommendation_id in (");
            let mut listed = query.separated(", ");
            for id in ids {
                listed.push_bind(*id);
            }
            query.push(") order by id");
            query.build_query_as().fetch_all(db).await?
        }))
    }
}
