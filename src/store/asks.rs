//! Asks: who asked for which recommendation, under which labels; and how one is withdrawn.

use crate::store::engine::{Row, Spelled, Transaction, reading, spelled, within, writing};
use crate::store::{Store, StoreError};
use crate::wire::job::Status;

/// An ask to be kept.
#[derive(Debug, Clone, Copy)]
pub struct NewAsk<'a> {
    /// A `UUIDv7` in text form.
    pub id: &'a str,
    /// Who asks.
    pub principal: &'a str,
    /// Labels, a JSON object; absent, those of an earlier ask stay.
    pub labels: Option<&'a str>,
    /// When.
    pub created_ms: i64,
    /// What lists show of the question.
    pub listed: &'a ListedQuestion,
}

/// What lists show of a question, and filter by.
#[derive(Debug, Clone, Default)]
pub struct ListedQuestion {
    /// Catalog id or name of the model.
    pub model: String,
    /// Catalog id or name of the device.
    pub device: String,
    /// Devices in all.
    pub devices: Option<i64>,
    /// Id of the engine.
    pub engine: Option<String>,
    /// Phase of the workload.
    pub phase: Option<String>,
    /// The workload, JSON.
    pub workload: Option<String>,
}

/// What became of the wish to withdraw an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawn {
    /// There is no such recommendation.
    Absent,
    /// Others asked for it, and this principal did not.
    NotAsked,
    /// The ask is gone; the recommendation stays for others.
    Ask,
    /// It was the last ask, and the recommendation has gone with it.
    Recommendation,
    /// It was the last ask, and the job, which had not ended, is canceled.
    Canceled,
}

/// Keeps an ask of a recommendation that is neither deleted nor ended meanwhile, of which the ask has a
/// copy.
const INSERT: Spelled = spelled!(
    "insert into ask (id, principal, recommendation_id, created_ms, labels, model, device,
                      devices, engine, phase, workload, status, strategy, verdict,
                      summary_crc)
     select $1, $2, id, $4, coalesce($5, '{}'), $6, $7, $8, $9, $10, $11, status, strategy,
            verdict, summary_crc
     from recommendation where id = $3",
    ["" | " for share"],
    " on conflict (principal, recommendation_id) do update
     set labels = coalesce($5, ask.labels)"
);

/// Keeps an ask, on a connection; the rows are none without its recommendation.
macro_rules! insert {
    ($db:expr, $text:expr, $recommendation_id:expr, $ask:expr) => {
        sqlx::query($text)
            .bind($ask.id)
            .bind($ask.principal)
            .bind($recommendation_id)
            .bind($ask.created_ms)
            .bind($ask.labels)
            .bind(&$ask.listed.model)
            .bind(&$ask.listed.device)
            .bind($ask.listed.devices)
            .bind(&$ask.listed.engine)
            .bind(&$ask.listed.phase)
            .bind(&$ask.listed.workload)
            .execute($db)
            .await?
            .rows_affected()
    };
}

impl Store {
    /// Notes that someone asked for a recommendation that was there before; false when it has gone.
    pub async fn join_ask(&self, id: &str, ask: NewAsk<'_>) -> Result<bool, StoreError> {
        let text = self.spell(INSERT);
        Ok(0 < writing!(self, db => insert!(db, text, id, ask)))
    }

    /// The labels under which someone asked for a recommendation, if they did.
    pub async fn find_labels(
        &self,
        principal: &str,
        id: &str,
    ) -> Result<Option<String>, StoreError> {
        let find = "select labels from ask where principal = $1 and recommendation_id = $2";
        Ok(reading!(self, db => {
            sqlx::query_scalar(find).bind(principal).bind(id).fetch_optional(db).await?
        }))
    }

    /// Replaces the labels of an ask; false when there is none.
    pub async fn put_labels(
        &self,
        principal: &str,
        id: &str,
        labels: &str,
    ) -> Result<bool, StoreError> {
        let put = "update ask set labels = $3 where principal = $1 and recommendation_id = $2";
        Ok(0 < writing!(self, db => {
            let put = sqlx::query(put).bind(principal).bind(id).bind(labels);
            put.execute(db).await?.rows_affected()
        }))
    }

    /// How many queued recommendations someone has asked for.
    pub async fn count_queued(&self, principal: &str) -> Result<i64, StoreError> {
        let count = "select count(*) from recommendation
             join ask on ask.recommendation_id = recommendation.id and ask.principal = $1
             where recommendation.status = 'queued'";
        Ok(reading!(self, db => {
            sqlx::query_scalar(count).bind(principal).fetch_one(db).await?
        }))
    }

    /// How many recommendations wait for a worker.
    pub async fn count_waiting(&self) -> Result<i64, StoreError> {
        let count = "select count(*) from recommendation where status = 'queued'";
        Ok(reading!(self, db => sqlx::query_scalar(count).fetch_one(db).await?))
    }

    /// Withdraws an ask, and with the last one the recommendation; `all` withdraws those of
    /// everybody where this principal has none.
    pub async fn withdraw(
        &self,
        principal: &str,
        id: &str,
        all: bool,
        now_ms: i64,
    ) -> Result<Withdrawn, StoreError> {
        let mut transaction = self.begin().await?;
        transaction.lock(Row::Recommendation, id).await?;
        let found: Option<(String, i64, i64)> = within!(&mut transaction, db => {
            sqlx::query_as(
                "select status,
                    (select count(*) from ask where recommendation_id = $1 and principal = $2),
                    (select count(*) from ask where recommendation_id = $1 and principal <> $2)
                 from recommendation where id = $1",
            )
            .bind(id)
            .bind(principal)
            .fetch_optional(db)
            .await?
        });
        let Some((status, own, others)) = found else { return Ok(Withdrawn::Absent) };
        let withdrawn = match (own, others) {
            (0, _) if !all => return Ok(Withdrawn::NotAsked),
            (1.., 1..) => {
                within!(&mut transaction, db => {
                    sqlx::query("delete from ask where recommendation_id = $1 and principal = $2")
                        .bind(id)
                        .bind(principal)
                        .execute(db)
                        .await?;
                });
                Withdrawn::Ask
            }
            _ => end(&mut transaction, id, Status::from_stored(&status), now_ms).await?,
        };
        transaction.commit().await?;
        Ok(withdrawn)
    }

    /// Withdraws asks, each named with its recommendation, in one transaction; what became of each
    /// that was still there.
    pub async fn withdraw_asks(
        &self,
        asks: &[(String, String)],
        now_ms: i64,
    ) -> Result<Vec<(String, Withdrawn)>, StoreError> {
        let mut transaction = self.begin().await?;
        let mut withdrawn = Vec::with_capacity(asks.len());
        let mut in_order: Vec<_> = asks.iter().collect();
        // As everybody locks several, so that no two wait for each other.
        in_order.sort_by(|one, next| one.1.cmp(&next.1));
        for (ask_id, id) in in_order {
            transaction.lock(Row::Recommendation, id).await?;
            let found: Option<(String, i64)> = within!(&mut transaction, db => {
                sqlx::query_as(
                    "select status,
                            (select count(*) from ask where recommendation_id = $1 and id <> $2)
                     from recommendation
                     where id = $1 and exists (select 1 from ask where id = $2)",
                )
                .bind(id)
                .bind(ask_id)
                .fetch_optional(db)
                .await?
            });
            let Some((status, others)) = found else { continue };
            let done = if others == 0 {
                end(&mut transaction, id, Status::from_stored(&status), now_ms).await?
            } else {
                within!(&mut transaction, db => {
                    sqlx::query("delete from ask where id = $1").bind(ask_id).execute(db).await?;
                });
                Withdrawn::Ask
            };
            withdrawn.push((id.clone(), done));
        }
        transaction.commit().await?;
        Ok(withdrawn)
    }
}

/// What becomes of a recommendation whose last ask is withdrawn.
async fn end(
    transaction: &mut Transaction,
    id: &str,
    status: Status,
    now_ms: i64,
) -> Result<Withdrawn, sqlx::Error> {
    if status.is_final() {
        within!(transaction, db => {
            sqlx::query("delete from recommendation where id = $1").bind(id).execute(db).await?;
        });
        return Ok(Withdrawn::Recommendation);
    }
    within!(transaction, db => {
        sqlx::query(
            "update recommendation
             set status = 'canceled', finished_ms = $2, phase = null, inputs = null,
                 inputs_crc = null, lease_owner = null, lease_until_ms = null
             where id = $1",
        )
        .bind(id)
        .bind(now_ms)
        .execute(db)
        .await?;
    });
    Ok(Withdrawn::Canceled)
}

/// Keeps an ask for a recommendation; false when there is none.
pub(super) async fn insert(
    transaction: &mut Transaction,
    recommendation_id: &str,
    ask: NewAsk<'_>,
) -> Result<bool, sqlx::Error> {
    let text = transaction.spell(INSERT);
    Ok(0 < within!(transaction, db => insert!(db, text, recommendation_id, ask)))
}
