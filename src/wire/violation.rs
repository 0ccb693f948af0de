//! One reason why a request body was refused, as JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

pub use moe_gps_core::violation::Violation;

/// What is wrong with one place of a request, and how to mend it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(remote = "Violation")]
#[schema(as = Violation)]
pub struct ViolationBody {
    /// JSON pointer (RFC 6901) to the offending place.
    #[schema(examples("/cluster/devices"))]
    pub pointer: String,
    /// Stable name of the rule that is broken, for programs.
    #[schema(examples("range"))]
    pub rule: String,
    /// What was found and what would be accepted, for people.
    #[schema(examples("devices is 0; it must be from 1 to 4096"))]
    pub detail: String,
}

/// Writes violations as a list of [`ViolationBody`].
pub(super) fn serialize<S: Serializer>(
    violations: &[Violation],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Body<'a>(#[serde(with = "ViolationBody")] &'a Violation);
    serializer.collect_seq(violations.iter().map(Body))
}

/// Reads what [`serialize`] writes.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Violation>, D::Error> {
    #[derive(Deserialize)]
    struct Body(#[serde(with = "ViolationBody")] Violation);
    Ok(Vec::<Body>::deserialize(deserializer)?.into_iter().map(|body| body.0).collect())
}
