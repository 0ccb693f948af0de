//! A recommendation as a job: where it stands and, in time, its answer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::wire::outcome::MeasuredOutcome;
use crate::wire::time::Moment;

/// Where a recommendation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for a worker.
    Queued,
    /// A worker computes it.
    Running,
    /// The result is there and will not change.
    Succeeded,
    /// There is no result; `error` says why.
    Failed,
    /// Ended on request.
    Canceled,
}

impl Status {
    /// The stored and shown name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Reads the stored name; the table admits no other.
    #[must_use]
    pub fn from_stored(name: &str) -> Self {
        match name {
            "queued" => Self::Queued,
            "running" => Self::Running,
            "succeeded" => Self::Succeeded,
            "canceled" => Self::Canceled,
            _ => Self::Failed,
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// A recommendation: the job and, when it has finished, the result.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = RecommendationJob)]
pub struct JobView<'a> {
    /// Names it in every later request.
    #[schema(examples("019ab1c2-0000-7000-8000-000000000000"))]
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Where it stands.
    pub status: Status,
    /// The labels of the caller's own ask; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::wire::labels::Labels>)]
    #[serde(borrow)]
    pub labels: Option<&'a RawValue>,
    /// When it was first asked, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Moment,
    /// When a worker first took it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Moment>,
    /// When it ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Moment>,
    /// While running: the share that is done, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// While running: what is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(borrow)]
    pub phase: Option<Cow<'a, str>>,
    /// The question as it was understood.
    #[schema(value_type = crate::wire::question::Question)]
    #[serde(borrow)]
    pub request: &'a RawValue,
    /// The answer, once `succeeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::wire::answer::ResultBody>)]
    #[serde(borrow)]
    pub result: Option<&'a RawValue>,
    /// Why there is none, once `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::wire::problem::Problem>)]
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    /// What was measured since, each beside its forecast; absent where nothing was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<MeasuredOutcome>,
}
