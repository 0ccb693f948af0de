//! Pages of past recommendations.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::wire::answer::GainBody;
use crate::wire::deployment::is_name;
use crate::wire::field::named;
use crate::wire::job::Status;
use crate::wire::labels::Labels;
use crate::wire::names::{EngineName, PhaseName, StrategyName, VerdictName};
use crate::wire::outcome::MeasuredOutcome;
use crate::wire::question::{ASKED_PHASES, DEVICES};
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::advice::choose::Verdict;
use moe_gps_core::engines;
use moe_gps_core::strategies::Strategy;

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
    /// Who asked, where that is somebody else's token or one's own; absent without tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The labels of the ask.
    #[schema(value_type = Labels)]
    pub labels: Box<RawValue>,
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
    /// Devices in all.
    pub devices: Option<i64>,
    /// The engine of the question.
    #[schema(value_type = Option<EngineName>)]
    pub engine: Option<String>,
    /// The workload of the question.
    #[schema(value_type = Option<crate::wire::question::Workload>)]
    pub workload: Option<Box<RawValue>>,
    /// How sure the advice is, once there is one.
    #[schema(value_type = Option<VerdictName>)]
    pub verdict: Option<String>,
    /// What the advised strategy gains over the baseline.
    pub gain: Option<GainBody>,
    /// The traces it needs.
    #[schema(value_type = Vec<String>)]
    pub trace_ids: Box<RawValue>,
    /// The recommendation within the result; null while there is none.
    #[schema(value_type = Option<crate::wire::answer::Recommendation>)]
    pub recommendation: Option<Box<RawValue>>,
    /// What was measured, each beside its forecast; absent where nothing was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<MeasuredOutcome>,
}

/// What became of the asks that were to be withdrawn.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Withdrawal {
    /// Asks that are withdrawn; a recommendation whose last one it was is deleted.
    pub withdrawn: u64,
    /// Of these, recommendations that were queued or running and are canceled now; they stay in
    /// lists until they are withdrawn once more.
    pub canceled: u64,
    /// Whether the time was up before all were looked at; ask again.
    pub more: bool,
}

/// One page of traces.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TracePage {
    /// The summaries of this page.
    #[schema(value_type = Vec<crate::wire::trace::TraceSummary>)]
    pub items: Vec<Box<RawValue>>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Items on a page when the client does not say.
const DEFAULT_LIMIT: u32 = 50;
/// Most items that a page may have.
pub const MOST_ITEMS: u32 = 500;
/// Items a page may have.
const LIMIT: RangeInclusive<u32> = 1..=MOST_ITEMS;

/// Characters of a trace's id, a SHA-256 in hexadecimal.
const TRACE_ID_CHARS: usize = 64;

named! {
    /// How many items are wanted on a page.
    Limit: LIMIT
}

named! {
    /// How many devices a question is about.
    Devices: DEVICES
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

/// A page that means something.
#[derive(Debug, Clone, Default)]
pub struct CheckedPage {
    /// Items on the page.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// Reads the page of a list of traces, or tells all that means nothing.
    pub fn check(self) -> Result<CheckedPage, Vec<Violation>> {
        let mut violations = Vec::new();
        let is_hex = |text: &str| text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let cursor = read_cursor(self.cursor, &mut violations, |cursor| {
            cursor.len() == TRACE_ID_CHARS && is_hex(cursor)
        });
        let limit = read_limit(self.limit.as_deref(), &mut violations);
        if violations.is_empty() { Ok(CheckedPage { limit, cursor }) } else { Err(violations) }
    }
}

/// Which page of judgements is wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct JudgementQuery {
    /// Items on the page, 1 to 500; 50 when absent.
    #[param(value_type = Option<Limit>, inline)]
    pub limit: Option<String>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl JudgementQuery {
    /// Reads the page of a list of judgements, or tells all that means nothing.
    pub fn check(self) -> Result<CheckedPage, Vec<Violation>> {
        let mut violations = Vec::new();
        let is_id = |cursor: &str| uuid::Uuid::try_parse(cursor).is_ok();
        let cursor = read_cursor(self.cursor, &mut violations, is_id);
        let limit = read_limit(self.limit.as_deref(), &mut violations);
        if violations.is_empty() { Ok(CheckedPage { limit, cursor }) } else { Err(violations) }
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
    #[param(value_type = Option<StrategyName>, inline)]
    pub strategy: Option<String>,
    /// Where it stands.
    #[param(value_type = Option<Status>)]
    pub status: Option<String>,
    /// The engine of the question.
    #[param(value_type = Option<EngineName>, inline)]
    pub engine: Option<String>,
    /// The phase of the workload.
    #[param(value_type = Option<PhaseName>, inline)]
    pub phase: Option<String>,
    /// Devices in all.
    #[param(value_type = Option<Devices>, inline)]
    pub devices: Option<String>,
    /// The verdict of the recommendation.
    #[param(value_type = Option<VerdictName>, inline)]
    pub verdict: Option<String>,
    /// A label of the ask, `name:text`, or its `name` alone; several with commas between them.
    pub label: Option<String>,
    /// The deployment that it judges.
    pub deployment: Option<String>,
    /// Text within model, device, engine, strategy or labels; or an id.
    pub q: Option<String>,
    /// A trace it needs.
    pub trace_id: Option<String>,
    /// Asked after this moment, RFC 3339 or a date.
    #[param(format = DateTime)]
    pub created_after: Option<String>,
    /// Asked before this moment, RFC 3339 or a date.
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
    /// Id of the engine.
    pub engine: Option<String>,
    /// The phase of the workload.
    pub phase: Option<String>,
    /// Devices in all.
    pub devices: Option<u32>,
    /// The verdict.
    pub verdict: Option<String>,
    /// What must stand within the labels' JSON.
    pub labels: Vec<String>,
    /// Text to be found.
    pub q: Option<String>,
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
    /// Reads the filters of a deletion, of which there must be one and no page.
    pub fn check_deletion(self) -> Result<CheckedListQuery, Vec<Violation>> {
        let paged = [("limit", self.limit.is_some()), ("cursor", self.cursor.is_some())];
        let mut violations: Vec<Violation> = paged
            .iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| {
                let detail = format!("{name} is given; a deletion has no pages, leave it out");
                Violation::new(format!("/{name}"), "deletion", detail)
            })
            .collect();
        let filters = [
            &self.model,
            &self.device,
            &self.strategy,
            &self.status,
            &self.engine,
            &self.phase,
            &self.devices,
            &self.verdict,
            &self.label,
            &self.deployment,
            &self.q,
            &self.trace_id,
            &self.created_after,
            &self.created_before,
        ];
        if filters.iter().all(|filter| filter.as_deref().is_none_or(str::is_empty)) {
            let detail = "no filter is given; name what is to be withdrawn, such as \
                          created_before=2026-01-31 or status=failed";
            violations.push(Violation::new("", "required", detail));
        }
        let page = Self { limit: None, cursor: None, ..self };
        match page.check() {
            Ok(query) if violations.is_empty() => Ok(query),
            Ok(_) => Err(violations),
            Err(others) => Err(violations.into_iter().chain(others).collect()),
        }
    }

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
        let strategy = read(self.strategy.as_deref(), &mut violations, |text| {
            one_of("strategy", text, &Strategy::ALL.map(|(_, name)| name))
        });
        let engine = read(self.engine.as_deref(), &mut violations, |text| {
            let known = engines::by_framework(text).map(|engine| engine.id.to_owned());
            let names: Vec<&str> = engines::names().into_iter().map(|(_, name)| name).collect();
            known.map_or_else(|| one_of("engine", text, &names), Ok)
        });
        let phase = read(self.phase.as_deref(), &mut violations, |text| {
            one_of("phase", text, &ASKED_PHASES.0.iter().map(|(_, name)| *name).collect::<Vec<_>>())
        });
        let verdict = read(self.verdict.as_deref(), &mut violations, |text| {
            one_of("verdict", text, &Verdict::ALL.map(|(_, name)| name))
        });
        let devices = read(self.devices.as_deref(), &mut violations, |text| {
            text.parse().ok().filter(|devices| DEVICES.contains(devices)).ok_or_else(|| {
                let (least, most) = DEVICES.into_inner();
                let detail =
                    format!("devices is {text}; it must be a number from {least} to {most}");
                Violation::new("/devices", "range", detail)
            })
        });
        let labels = read(self.label.as_deref(), &mut violations, |text| {
            text.split(',').map(label).collect::<Result<Vec<_>, _>>()
        });
        let deployment = read(self.deployment.as_deref(), &mut violations, |name| {
            if is_name(name) {
                return label(&format!("deployment:{name}"));
            }
            let detail = format!("deployment is {name}, which no deployment is called");
            Err(Violation::new("/deployment", "name", detail))
        });
        let mut moment = |name: &str, text: Option<&str>| {
            read(text, &mut violations, |text| {
                Moment::parse_filter(text).ok_or_else(|| {
                    let detail = format!(
                        "{name} is {text}; it must be an RFC 3339 time such as \
                         2026-01-31T12:00:00Z, or a date such as 2026-01-31"
                    );
                    Violation::new(format!("/{name}"), "format", detail)
                })
            })
        };
        let created_after = moment("created_after", self.created_after.as_deref());
        let created_before = moment("created_before", self.created_before.as_deref());
        let is_id = |cursor: &str| uuid::Uuid::try_parse(cursor).is_ok();
        let cursor = read_cursor(self.cursor, &mut violations, is_id);
        let limit = read_limit(self.limit.as_deref(), &mut violations);
        if !violations.is_empty() {
            return Err(violations);
        }
        Ok(CheckedListQuery {
            model: self.model,
            device: self.device,
            strategy,
            status,
            engine,
            phase,
            devices,
            verdict,
            labels: labels.into_iter().flatten().chain(deployment).collect(),
            q: self.q.filter(|words| !words.is_empty()),
            trace_id: self.trace_id,
            created_after,
            created_before,
            limit,
            cursor,
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

/// What stands within the JSON of labels that have this one.
fn label(text: &str) -> Result<String, Violation> {
    let (name, value) = text.split_once(':').map_or((text, None), |(n, v)| (n, Some(v)));
    if !Labels::is_name(name) {
        let detail = format!("label is {text}; it must be name:text, or a name");
        return Err(Violation::new("/label", "format", detail));
    }
    let value = value.map(|value| Value::from(value).to_string());
    Ok(format!("\"{name}\":{}", value.unwrap_or_default()))
}

/// A name out of a closed list, or what else it might have been.
fn one_of(filter: &str, text: &str, names: &[&str]) -> Result<String, Violation> {
    if names.contains(&text) {
        return Ok(text.to_owned());
    }
    let detail = format!("{filter} is {text}; it must be one of {}", names.join(", "));
    Err(Violation::new(format!("/{filter}"), "one_of", detail))
}

/// The place after which a page begins, which only an earlier page can name.
fn read_cursor(
    cursor: Option<String>,
    violations: &mut Vec<Violation>,
    fits: impl Fn(&str) -> bool,
) -> Option<String> {
    if cursor.as_deref().is_some_and(|cursor| !fits(cursor)) {
        let detail = "cursor is none that a page has named; give its `next_cursor` as it is";
        violations.push(Violation::new("/cursor", "cursor", detail));
        return None;
    }
    cursor
}

fn read_limit(text: Option<&str>, violations: &mut Vec<Violation>) -> u32 {
    let Some(text) = text else { return DEFAULT_LIMIT };
    text.parse().ok().filter(|limit| LIMIT.contains(limit)).unwrap_or_else(|| {
        let (least, most) = LIMIT.into_inner();
        let detail = format!("limit is {text}; it must be a number from {least} to {most}");
        violations.push(Violation::new("/limit", "range", detail));
        DEFAULT_LIMIT
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
