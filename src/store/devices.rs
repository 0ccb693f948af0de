//! Registered device profiles: kept, found, listed and deleted.

use crate::store::row::record_from_row;
use crate::store::{Store, StoreError};

/// A registered device profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Names it in questions.
    pub id: String,
    /// SHA-256 of the document.
    pub digest: Vec<u8>,
    /// When it was registered.
    pub created_ms: i64,
    /// The profile, JSON.
    pub document: String,
}

record_from_row!(DeviceRecord { id, digest, created_ms, document });

/// What became of the wish to register a profile.
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
    /// Keeps a profile unless its id is taken or `limit` are kept.
    pub async fn insert_device(
        &self,
        device: &DeviceRecord,
        limit: u32,
    ) -> Result<Registration, StoreError> {
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let taken = sqlx::query_as("select * from device where id = $1")
            .bind(&device.id)
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(taken) = taken {
            return Ok(Registration::Taken(taken));
        }
        let kept: i64 =
            sqlx::query_scalar("select count(*) from device").fetch_one(&mut *transaction).await?;
        if i64::from(limit) <= kept {
            return Ok(Registration::Full);
        }
        sqlx::query(
            "insert into device (id, digest, created_ms, document) values ($1, $2, $3, $4)",
        )
        .bind(&device.id)
        .bind(&device.digest)
        .bind(device.created_ms)
        .bind(&device.document)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Registration::New)
    }

    /// The profile with this id.
    pub async fn find_device(&self, id: &str) -> Result<Option<DeviceRecord>, StoreError> {
        Ok(sqlx::query_as("select * from device where id = $1")
            .bind(id)
            .fetch_optional(&self.readers)
            .await?)
    }

    /// All profiles by id; their number is bounded.
    pub async fn list_devices(&self) -> Result<Vec<DeviceRecord>, StoreError> {
        Ok(sqlx::query_as("select * from device order by id").fetch_all(&self.readers).await?)
    }

    /// Deletes a profile, of which accepted jobs have a copy; false when there is none.
    pub async fn delete_device(&self, id: &str) -> Result<bool, StoreError> {
        let deleted =
            sqlx::query("delete from device where id = $1").bind(id).execute(&self.writer).await?;
        Ok(0 < deleted.rows_affected())
    }
}
