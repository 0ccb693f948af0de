//! Checksums of what is stored, so that a disk that forgets gives no wrong answer.

use crate::store::StoreError;
use crate::telemetry::metrics as names;

/// CRC-32 of a text, as it is stored beside it.
pub(super) fn crc(text: &str) -> i64 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    i64::from(crc.sum())
}

/// The text if it is what was written; a row of an earlier version has no checksum.
pub(super) fn whole(
    text: Option<String>,
    stored: Option<i64>,
    what: &'static str,
    of: &str,
) -> Result<Option<String>, sqlx::Error> {
    match stored {
        Some(stored) if text.as_deref().map(crc) != Some(stored) => {
            metrics::counter!(names::STORE_ERRORS, "kind" => "damaged").increment(1);
            let altered = StoreError::Altered { what, of: of.to_owned() };
            Err(sqlx::Error::Decode(Box::new(altered)))
        }
        _ => Ok(text),
    }
}
