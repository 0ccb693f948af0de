//! One reason why a request body was refused.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is wrong with one place of a request, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Violation {
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

impl Violation {
    /// A violation of `rule` at `pointer`.
    pub fn new(pointer: impl Into<String>, rule: &str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), rule: rule.to_owned(), detail: detail.into() }
    }
}
