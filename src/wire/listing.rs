//! Pages of past recommendations.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::wire::field::named;
use crate::wire::job::Status;
use crate::wire::time::Moment;
use crate::wire::violation::Violation;

/// One page, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RecommendationPage {
    /// The recommendations of this page.
    pub items: Vec<RecommendationItem>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// What a listing shows of a recommendation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RecommendationItem {
    /// Names it in every later request.
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// When it was asked, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Moment,
    /// When it ended, RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Moment>,
    /// Catalog id or name of the model.
    pub model: String,
    /// Catalog id or name of the device.
    pub device: String,
    /// The traces it needs.
    #[schema(value_type = Vec<String>)]
    pub trace_ids: Box<RawValue>,
    /// The recommendation within the result; null while there is none.
    #[schema(value_type = Option<Object>)]
    pub recommendation: Option<Box<RawValue>>,
}

/// One page of traces.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TracePage {
    /// The summaries of this page.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<Box<RawValue>>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Items on a page when the client does not say.
const DEFAULT_LIMIT: u32 = 50;
/// Items a page may have.
const LIMIT: RangeInclusive<u32> = 1..=500;

named! {
    /// How many items are wanted on a page.
    Limit: LIMIT
}

/// Which page is wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Items on the page, 1 to 500; 50 when absent.
    #[param(value_type = Option<Limit>, inline)]
    pub limit: Option<String>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// The number of items, if it means something.
    pub fn limit(&self) -> Result<u32, Vec<Violation>> {
        read_limit(self.limit.as_deref()).map_err(|violation| vec![violation])
    }
}

/// Which recommendations are wanted; an absent filter lets all through.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Catalog id, alias or name of the model.
    pub model: Option<String>,
    /// Catalog id, alias or name of the device.
    pub device: Option<String>,
    /// The recommended strategy.
    pub strategy: Option<String>,
    /// Where it stands.
    #[param(value_type = Option<Status>)]
    pub status: Option<String>,
    /// A trace it needs.
    pub trace_id: Option<String>,
    /// Asked after this moment, RFC 3339.
    #[param(format = DateTime)]
    pub created_after: Option<String>,
    /// Asked before this moment, RFC 3339.
    #[param(format = DateTime)]
    pub created_before: Option<String>,
    /// Items on the page, 1 to 500; 50 when absent.
    #[param(value_type = Option<Limit>, inline)]
    pub limit: Option<String>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A listing that means something.
#[derive(Debug, Clone, Default)]
pub struct CheckedListQuery {
    /// Catalog id or name of the model.
    pub model: Option<String>,
    /// Catalog id or name of the device.
    pub device: Option<String>,
    /// The recommended strategy.
    pub strategy: Option<String>,
    /// Where it stands.
    pub status: Option<Status>,
    /// A trace it needs.
    pub trace_id: Option<String>,
    /// Asked after this moment.
    pub created_after: Option<Moment>,
    /// Asked before this moment.
    pub created_before: Option<Moment>,
    /// Items on the page.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl ListQuery {
    /// Reads every filter, or tells all that mean nothing.
    pub fn check(self) -> Result<CheckedListQuery, Vec<Violation>> {
        let mut violations = Vec::new();
        let status = read(self.status.as_deref(), &mut violations, |text| {
            let status = Status::from_stored(text);
            (status.as_str() == text).then_some(status).ok_or_else(|| {
                let detail = format!(
                    "status is {text}; it must be queued, running, succeeded, failed or canceled"
                );
                Violation::new("/status", "one_of", detail)
            })
        });
        let mut moment = |name: &str, text: Option<&str>| {
            read(text, &mut violations, |text| {
                Moment::parse(text).ok_or_else(|| {
                    let detail = format!("{name} is {text}; it must be an RFC 3339 time");
                    Violation::new(format!("/{name}"), "format", detail)
                })
            })
        };
        let created_after = moment("created_after", self.created_after.as_deref());
        let created_before = moment("created_before", self.created_before.as_deref());
        let limit = read_limit(self.limit.as_deref()).unwrap_or_else(|violation| {
            violations.push(violation);
            DEFAULT_LIMIT
        });
        if !violations.is_empty() {
            return Err(violations);
        }
        Ok(CheckedListQuery {
            model: self.model,
            device: self.device,
            strategy: self.strategy,
            status,
            trace_id: self.trace_id,
            created_after,
            created_before,
            limit,
            cursor: self.cursor,
        })
    }
}

fn read<T>(
    text: Option<&str>,
    violations: &mut Vec<Violation>,
    read: impl Fn(&str) -> Result<T, Violation>,
) -> Option<T> {
    match read(text?) {
        Ok(value) => Some(value),
        Err(violation) => {
            violations.push(violation);
            None
        }
    }
}

fn read_limit(text: Option<&str>) -> Result<u32, Violation> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    text.parse().ok().filter(|limit| LIMIT.contains(limit)).ok_or_else(|| {
        let (least, most) = LIMIT.into_inner();
        let detail = format!("limit is {text}; it must be a number from {least} to {most}");
        Violation::new("/limit", "range", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_filters_that_mean_nothing_are_told_at_once() {
        let query = ListQuery {
            status: Some("done".to_owned()),
            created_before: Some("now".to_owned()),
            limit: Some("0".to_owned()),
            ..ListQuery::default()
        };
        let violations = query.check().unwrap_err();
        let pointers: Vec<_> = violations.iter().map(|v| v.pointer.as_str()).collect();
        assert_eq!(pointers, ["/status", "/created_before", "/limit"]);
        assert_eq!(ListQuery::default().check().unwrap().limit, DEFAULT_LIMIT);
    }
}
