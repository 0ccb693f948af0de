//! What clients register, device profiles and models: kept, found, listed and deleted.

use crate::store::engine::{Shared, reading, within, writing};
use crate::store::row::record_from_row;
use crate::store::{Store, StoreError};

/// A kind of thing that clients register; each has a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Device profiles.
    Device,
    /// Models.
    Model,
}

/// The statements on one table.
struct Statements {
    find: &'static str,
    count: &'static str,
    insert: &'static str,
    list: &'static str,
    delete: &'static str,
}

macro_rules! statements {
    ($table:literal) => {
        Statements {
            find: concat!("select * from ", $table, " where id = $1"),
            count: concat!("select count(*) from ", $table),
            insert: concat!(
                "insert into ",
                $table,
                " (id, digest, created_ms, document) values ($1, $2, $3, $4)"
            ),
            list: concat!("select * from ", $table, " order by id"),
            delete: concat!("delete from ", $table, " where id = $1"),
        }
    };
}

impl Kind {
    const fn statements(self) -> Statements {
        match self {
            Self::Device => statements!("device"),
            Self::Model => statements!("model"),
        }
    }
}

/// A registered device profile or model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Names it in questions.
    pub id: String,
    /// SHA-256 of the document.
    pub digest: Vec<u8>,
    /// When it was registered.
    pub created_ms: i64,
    /// What was registered, JSON.
    pub document: String,
}

record_from_row!(DeviceRecord { id, digest, created_ms, document });

/// What became of the wish to register something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// It is kept.
    New,
    /// This one has the id already, whatever it says.
    Taken(DeviceRecord),
    /// As many are kept as may be.
    Full,
}

impl Store {
    /// Keeps what is registered unless its id is taken or `limit` of the kind are kept.
    pub async fn insert_registered(
        &self,
        kind: Kind,
        device: &DeviceRecord,
        limit: u32,
    ) -> Result<Registration, StoreError> {
        let statements = kind.statements();
        let mut transaction = self.begin().await?;
        transaction.alone(Shared::Registered).await?;
        within!(&mut transaction, db => {
            let find = sqlx::query_as(statements.find).bind(&device.id);
            if let Some(taken) = find.fetch_optional(&mut *db).await? {
                return Ok(Registration::Taken(taken));
            }
            let kept: i64 = sqlx::query_scalar(statements.count).fetch_one(&mut *db).await?;
            if i64::from(limit) <= kept {
                return Ok(Registration::Full);
            }
            sqlx::query(statements.insert)
                .bind(&device.id)
                .bind(&device.digest)
                .bind(device.created_ms)
                .bind(&device.document)
                .execute(db)
                .await?;
        });
        transaction.commit().await?;
        Ok(Registration::New)
    }

    /// What is registered under this id.
    pub async fn find_registered(
        &self,
        kind: Kind,
        id: &str,
    ) -> Result<Option<DeviceRecord>, StoreError> {
        let find = kind.statements().find;
        Ok(reading!(self, db => sqlx::query_as(find).bind(id).fetch_optional(db).await?))
    }

    /// All of a kind by id; their number is bounded.
    pub async fn list_registered(&self, kind: Kind) -> Result<Vec<DeviceRecord>, StoreError> {
        let list = kind.statements().list;
        Ok(reading!(self, db => sqlx::query_as(list).fetch_all(db).await?))
    }

    /// Deletes what is registered, of which accepted jobs have a copy; false when there is none.
    pub async fn delete_registered(&self, kind: Kind, id: &str) -> Result<bool, StoreError> {
        let delete = kind.statements().delete;
        let deleted = writing!(self, db => {
            sqlx::query(delete).bind(id).execute(db).await?.rows_affected()
        });
        Ok(0 < deleted)
    }
}
