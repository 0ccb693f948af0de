//! The shape of every error: a problem of RFC 9457.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::violation::{self, Violation, ViolationBody};

/// What went wrong, for programs (`type`) and for people (`detail`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable name of the kind of problem; not an address to fetch.
    #[serde(rename = "type")]
    #[schema(examples("urn:moe-gps:problem:invalid-question"))]
    pub kind: String,
    /// The kind in words; the same for every problem of this type.
    pub title: String,
    /// The HTTP status code.
    pub status: u16,
    /// What happened this time, and the way out.
    pub detail: String,
    /// The path that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The id under which the log tells more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Every rule the body breaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "violation")]
    #[schema(value_type = Vec<ViolationBody>)]
    pub violations: Vec<Violation>,
}

impl Problem {
    /// A problem of the kind `slug`.
    pub fn new(slug: &str, title: &str, status: u16, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:moe-gps:problem:{slug}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            instance: None,
            request_id: None,
            violations: Vec::new(),
        }
    }

    /// The same problem with every broken rule.
    #[must_use]
    pub fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.violations = violations;
        self
    }
}
