//! What is done about a full disk: what is left of it is for deletions.

use crate::app::context::App;
use crate::store::StoreError;

/// Free beside the reserve below which nothing new is taken, bytes.
const FLOOR_BYTES: u64 = 1 << 20;
/// Left of what the database may grow to below which nothing new is taken, bytes: an answer or two.
const DATABASE_FLOOR_BYTES: u64 = 64 << 10;

/// Whether a deletion that failed should be tried again, with the room that was kept for it.
pub(super) fn made<T>(app: &App, deleted: &Result<T, StoreError>) -> bool {
    let made = matches!(deleted, Err(StoreError::Full(_))) && app.reserve.release();
    if made {
        tracing::warn!("the disk is full; the room kept for deletions is used");
    }
    made
}

/// Refuses what would take the room that is left for deletions.
pub(super) fn taking(app: &App) -> Result<(), StoreError> {
    app.reserve.keep();
    if app.reserve.is_held() { Ok(()) } else { Err(StoreError::NoRoom) }
}

/// Why nothing new can be kept, if so.
pub(super) async fn shortage(app: &App) -> Result<Option<String>, StoreError> {
    let taking = taking(app);
    let space = app.store.space().await?;
    if taking.is_err() || space.disk_free_bytes < FLOOR_BYTES {
        let left = space.disk_free_bytes;
        return Ok(Some(format!("{}; {left} bytes are left", StoreError::NoRoom)));
    }
    Ok(space.database_left_bytes.filter(|left| *left < DATABASE_FLOOR_BYTES).map(|left| {
        format!(
            "the database has {left} bytes left of --max-database-bytes; delete recommendations, or \
             raise it"
        )
    }))
}
