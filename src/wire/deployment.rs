//! Deployments: what is watched, the loads that are posted to it, and what its judgements come to.

#![expect(unused_qualifications, reason = "what utoipa writes for `params` is qualified")]

use std::borrow::Cow;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::{OneOfBuilder, RefOr};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::wire::answer::GainBody;
use crate::wire::field::{
    self, Field as _, FieldKind, Itself, Named, Object, OneOf, Readable, described, named, object,
    optional, required,
};
use crate::wire::labels::Labels;
use crate::wire::names::{StrategyName, VerdictName};
use crate::wire::question::{Current, PHASES, Question};
use crate::wire::read::{Fields, Located, Violations};
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::system::Phase;
use moe_gps_core::watch::Opinion;

/// Characters of a deployment's name, which is a label of metrics and a part of paths.
pub const LONGEST_NAME: usize = 63;
/// Least gain that may be asked for, as a share.
const MIN_GAIN: std::ops::RangeInclusive<f64> = 0.0..=10.0;
/// Windows that may be kept: one plans and one scores, and a question takes 64 traces.
const KEEP_WINDOWS: std::ops::RangeInclusive<u32> = 2..=64;
/// Longest time a policy may state, and longest stall.
const LONGEST: Duration = Duration::from_hours(30 * 24);
/// Seconds that a change may stop serving.
const STALL_S: std::ops::RangeInclusive<f64> = 0.0..=86_400.0;

object! {
    /// What a deployment is: a question without its routing, and when a change is to be said.
    pub struct DeploymentRequest {
        /// The question, without `routing`: the loads that are posted take its place.
        pub question: Option<DeployedQuestion> = required(Itself),
        /// Names with texts by which its judgements are found, beside the label `deployment`.
        pub labels: Option<Labels> = optional(Itself),
        /// The map in force; left out, the one that is known stays, and without one experts are in
        /// order.
        pub current: Option<Current> = optional(Itself),
        /// When a change is to be said.
        pub policy: Policy = field::filled(Itself),
    }
}

impl DeploymentRequest {
    /// Reads a deployment that is a whole body.
    pub fn read_body(body: &Value) -> Result<Self, Vec<Violation>> {
        let violations = Violations::default();
        let read = Self::read(&Located::root(body, &violations));
        if violations.is_empty() {
            Ok(read.unwrap_or_default())
        } else {
            Err(violations.into_vec())
        }
    }
}

/// A question whose routing is watched, not stated; it is read when it is checked.
#[derive(Debug, Clone, Default)]
pub struct DeployedQuestion(pub Map<String, Value>);

impl Readable for DeployedQuestion {
    fn read(place: &Located) -> Option<Self> {
        let Value::Object(fields) = place.value() else {
            place.note("type", "this must be a question, an object");
            return None;
        };
        for (name, instead) in [
            ("routing", "the loads that are posted take its place"),
            ("current", "state it beside `question`"),
            ("labels", "state them beside `question`"),
        ] {
            if fields.get(name).is_some_and(|value| !value.is_null()) {
                let detail = format!("`{name}` has no place in a deployment's question: {instead}");
                place.note_at(name, "unknown_field", detail);
            }
        }
        Some(Self(fields.clone()))
    }

    fn shown() -> RefOr<Schema> {
        Ref::from_schema_name("DeployedQuestion").into()
    }

    fn gather(found: &mut Named) {
        let mut schema = Question::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            for name in ["routing", "current", "labels"] {
                object.properties.shift_remove(name);
                object.required.retain(|required| required != name);
            }
            object.title = Some("DeployedQuestion".to_owned());
            object.description = Some("A question without its routing".to_owned());
        }
        found.push(("DeployedQuestion".to_owned(), schema));
        Question::schemas(found);
    }
}

/// When a change is to be said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// The least gain over the map in force.
    pub min_gain: f64,
    /// How long every judgement must have found it.
    pub hold: Duration,
    /// The shortest time between two judgements.
    pub every: Duration,
    /// Windows of loads that are kept.
    pub keep_windows: u32,
    /// How long serving stops when a map is replaced, seconds.
    pub stall_s: Option<f64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_gain: 0.05,
            hold: Duration::from_mins(30),
            every: Duration::from_mins(1),
            keep_windows: 24,
            stall_s: None,
        }
    }
}

/// The fields of a policy, each with what is said of it; `for` is no name that Rust admits.
const MIN_GAIN_DOC: &str = "The least gain for which anything is to be changed, as a share of the \
                            step, after the stall of the change; 0.05 where left out.";
const FOR_DOC: &str = "How long every judgement must have found a gain before it is said, and for how \
                       long a plan is taken to hold (never less than 10 min): `30m`, `90s`, `1h 30m`, \
                       or a number of seconds; 30m where left out.";
const EVERY_DOC: &str = "The shortest time between two judgements; 1m where left out.";
const KEEP_DOC: &str = "Windows of loads that are kept, of each phase; 24 where left out.";
const STALL_DOC: &str = "How long serving stops when a map is replaced, seconds, such as a restart of \
                         the engine; left out, the time in which experts move as measured in engines \
                         that renew plans while they serve.";

impl Object for Policy {
    fn read_fields(fields: &Fields) -> Self {
        let usual = Self::default();
        let keep = || -> Option<u32> { optional(KEEP_WINDOWS).read(fields, "keep_windows") };
        Self {
            min_gain: optional(MIN_GAIN).read(fields, "min_gain").unwrap_or(usual.min_gain),
            hold: optional(Span).read(fields, "for").unwrap_or(usual.hold),
            every: optional(Span).read(fields, "every").unwrap_or(usual.every),
            keep_windows: keep().unwrap_or(usual.keep_windows),
            stall_s: optional(STALL_S).read(fields, "stall_s"),
        }
    }
}

impl PartialSchema for Policy {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .title(Some("Policy"))
            .description(Some("When a change is to be said."));
        let object =
            field::with::<Option<f64>>(object, "min_gain", &[MIN_GAIN_DOC], &optional(MIN_GAIN));
        let object = field::with::<Option<Duration>>(object, "for", &[FOR_DOC], &optional(Span));
        let object =
            field::with::<Option<Duration>>(object, "every", &[EVERY_DOC], &optional(Span));
        let object = field::with::<Option<u32>>(
            object,
            "keep_windows",
            &[KEEP_DOC],
            &optional(KEEP_WINDOWS),
        );
        let object =
            field::with::<Option<f64>>(object, "stall_s", &[STALL_DOC], &optional(STALL_S));
        field::closed(object).into()
    }
}

impl ToSchema for Policy {
    fn name() -> Cow<'static, str> {
        "Policy".into()
    }
}

/// A time as people write it, or a number of seconds.
#[derive(Debug, Clone, Copy)]
struct Span;

impl FieldKind<Duration> for Span {
    fn read(&self, place: &Located) -> Option<Duration> {
        let read = match place.value() {
            Value::String(text) => span(text),
            value => value.as_f64().and_then(|s| Duration::try_from_secs_f64(s).ok()),
        };
        let read = read.filter(|span| *span <= LONGEST);
        if read.is_none() {
            let detail = format!(
                "{} is no time up to 30 days; write it as \"30m\", \"90s\", \"1h 30m\" or as a number \
                 of seconds",
                place.value()
            );
            place.note("duration", detail);
        }
        read
    }

    fn schema(&self) -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(64));
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Number)
            .minimum(Some(0))
            .maximum(Some(LONGEST.as_secs()));
        described(OneOfBuilder::new().item(text).item(seconds).into(), "")
    }
}

/// A time as people write it: `30m`, `90s`, `1h 30m`, `2 hours`, or ISO 8601; days are of 24 hours.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    let days = text.trim().strip_suffix('d').and_then(|days| days.trim().parse::<f64>().ok());
    if let Some(days) = days {
        return Duration::try_from_secs_f64(days * 86_400.0).ok();
    }
    let span = text.trim().parse::<SignedDuration>().ok()?;
    Duration::try_from(span).ok()
}

/// A time as it is shown, such as `30m` or `1h 30m`.
#[must_use]
pub fn shown(span: Duration) -> String {
    SignedDuration::try_from(span).map_or_else(|_| String::new(), |span| format!("{span:#}"))
}

/// Whether this can be the name of a deployment.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().all(fits)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

named! {
    /// What a condition is about.
    ConditionName: OneOf(&[((), "LoadsFresh"), ((), "Judged"), ((), "AdviceCurrent")])
}

named! {
    /// Whether a condition holds.
    ConditionStatus: OneOf(&[((), "True"), ((), "False"), ((), "Unknown")])
}

named! {
    /// What a judgement finds.
    OpinionName: OneOf(&Opinion::ALL)
}

named! {
    /// The phase that loads were recorded in.
    LoadsPhase: PHASES
}

/// One condition of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Condition)]
pub struct ConditionBody {
    /// `LoadsFresh`, `Judged` or `AdviceCurrent`.
    #[serde(rename = "type")]
    #[schema(value_type = ConditionName, inline)]
    pub kind: Cow<'static, str>,
    /// `True`, `False` or `Unknown`.
    #[schema(value_type = ConditionStatus, inline)]
    pub status: Cow<'static, str>,
    /// Why, in one word for programs; where `AdviceCurrent` is `False`, `ReplanPays`,
    /// `StrategyChanged` or `BalancingNoLongerPays`.
    pub reason: Cow<'static, str>,
    /// Why, for people.
    pub message: String,
    /// When `status` was last another one, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub last_transition_time: Moment,
}

/// A policy with everything filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PolicyInForce)]
pub struct PolicyBody {
    /// The least gain for which anything is to be changed, as a share of the step.
    pub min_gain: f64,
    /// How long every judgement must have found a gain before it is said.
    #[serde(rename = "for")]
    pub hold: String,
    /// The shortest time between two judgements.
    pub every: String,
    /// Windows of loads that are kept, of each phase.
    pub keep_windows: u32,
    /// How long serving stops when a map is replaced, seconds, where it is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_s: Option<f64>,
}

impl From<Policy> for PolicyBody {
    fn from(policy: Policy) -> Self {
        let Policy { min_gain, hold, every, keep_windows, stall_s } = policy;
        Self { min_gain, hold: shown(hold), every: shown(every), keep_windows, stall_s }
    }
}

/// The map in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = MapInForce)]
pub struct CurrentBody {
    /// The strategy that runs.
    #[schema(value_type = Option<StrategyName>)]
    pub strategy: Option<Cow<'static, str>>,
    /// Expert slots of every device and layer, where no map is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots_per_device: Option<u32>,
    /// The expert in every slot, layer by layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_to_logical: Option<Vec<Vec<u32>>>,
}

/// What a deployment was told to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentSpec)]
pub struct SpecBody {
    /// The question, without its routing.
    #[schema(value_type = Object)]
    pub question: Value,
    /// Names with texts by which its judgements are found, beside the label `deployment`.
    #[schema(value_type = Labels)]
    pub labels: std::collections::BTreeMap<String, String>,
    /// When a change is to be said.
    pub policy: PolicyBody,
    /// The map in force; null where none is known and experts are taken to be in order.
    pub current: Option<CurrentBody>,
}

/// Loads that were posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LoadsWindow)]
pub struct WindowBody {
    /// The stored trace.
    pub trace_id: String,
    /// The phase it was recorded in, where that is said.
    #[schema(value_type = Option<LoadsPhase>, inline)]
    pub phase: Option<String>,
    /// When its recording began, RFC 3339, where that is said.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub from: Option<Moment>,
    /// When it ended, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub to: Moment,
    /// When it was posted, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub posted_at: Moment,
}

/// One judgement: what an ordinary recommendation says of the map in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Judgement)]
pub struct JudgementBody {
    /// The recommendation it rests on.
    pub id: String,
    /// The recommendation about the same loads without the map in force, where that was asked to learn
    /// whether anything need be balanced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_order_id: Option<String>,
    /// The version of the deployment that was judged.
    pub version: i64,
    /// When it ended, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub judged_at: Moment,
    /// The end of the newest loads it rests on, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub loads_until: Moment,
    /// Windows of loads it rests on.
    pub windows: usize,
    /// Whether the recommendation `succeeded`, or `failed` or was `canceled`.
    pub status: crate::wire::job::Status,
    /// What it finds: `Keep`, `ReplanPays`, `StrategyChanged` or `BalancingNoLongerPays`; null where
    /// there is too little evidence or no recommendation.
    #[schema(value_type = Option<OpinionName>, inline)]
    pub finding: Option<Cow<'static, str>>,
    /// How sure the recommendation is; `keep` where the map in force is right.
    #[schema(value_type = Option<VerdictName>)]
    pub verdict: Option<Cow<'static, str>>,
    /// The strategy it advises.
    #[schema(value_type = Option<StrategyName>)]
    pub strategy: Option<Cow<'static, str>>,
    /// What the advice gains over the map in force; 1 where that is kept.
    pub gain: Option<GainBody>,
    /// How long serving stops while the plan takes the place of the map in force, seconds.
    pub stall_s: Option<f64>,
    /// The gain after that stall, over the time for which the plan is taken to hold.
    pub net_gain: Option<GainBody>,
    /// Busiest device over the mean with the map in force, mean over layers.
    pub imbalance: Option<f64>,
    /// What the condition `AdviceCurrent` was from then on; absent where an earlier version judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ConditionStatus>, inline)]
    pub advice_current: Option<Cow<'static, str>>,
    /// What it says, or why there is no recommendation.
    pub message: String,
}

/// A deployment that is watched.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Deployment)]
pub struct DeploymentBody {
    /// Names it in every later request.
    pub name: String,
    /// Counts what it was told to be.
    pub version: i64,
    /// Whose it is; absent without tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// When it was first told, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Moment,
    /// When it, or its map in force, was last told, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Moment,
    /// What it was told to be.
    pub spec: SpecBody,
    /// The windows of loads that are kept, the oldest first.
    pub windows: Vec<WindowBody>,
    /// The recommendation that judges it now.
    pub judging: Option<String>,
    /// The last judgement.
    pub last_judgement: Option<JudgementBody>,
    /// `LoadsFresh`, `Judged` and `AdviceCurrent`.
    pub conditions: Vec<ConditionBody>,
}

impl DeploymentBody {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&ConditionBody> {
        self.conditions.iter().find(|one| one.kind == kind)
    }
}

/// What a list shows of a deployment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeploymentItem {
    /// Names it in every later request.
    pub name: String,
    /// Counts what it was told to be.
    pub version: i64,
    /// Whose it is; absent without tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// When it was first told, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Moment,
    /// When it, or its map in force, was last told, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Moment,
    /// Names with texts by which its judgements are found, beside the label `deployment`.
    #[schema(value_type = Labels)]
    pub labels: std::collections::BTreeMap<String, String>,
    /// The last judgement.
    pub last_judgement: Option<JudgementBody>,
    /// `LoadsFresh`, `Judged` and `AdviceCurrent`.
    pub conditions: Vec<ConditionBody>,
}

/// All deployments by name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeploymentList {
    /// The deployments.
    pub items: Vec<DeploymentItem>,
}

/// One page of judgements, newest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JudgementPage {
    /// The judgements of this page.
    pub items: Vec<JudgementBody>,
    /// Give it as `cursor` to get the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// When loads were recorded, and in which phase.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LoadsQuery {
    /// When the recording began, RFC 3339.
    #[param(format = DateTime)]
    pub from: Option<String>,
    /// When it ended, RFC 3339; now where left out.
    #[param(format = DateTime)]
    pub to: Option<String>,
    /// The phase it was recorded in; left out, it stands for all that the question asks about.
    #[param(value_type = Option<LoadsPhase>, inline)]
    pub phase: Option<String>,
    /// The format, by the end of its file's name, as for an upload of a trace.
    pub format: Option<String>,
}

/// When and how loads were recorded, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedLoads {
    /// When the recording began.
    pub from: Option<Moment>,
    /// When it ended.
    pub to: Option<Moment>,
    /// The phase it was recorded in.
    pub phase: Option<Phase>,
}

impl LoadsQuery {
    /// Reads every parameter, or tells all that mean nothing.
    pub fn check(&self) -> Result<CheckedLoads, Vec<Violation>> {
        let mut violations = Vec::new();
        let mut moment = |name: &str, text: Option<&str>| {
            let text = text?;
            let read = Moment::parse_filter(text);
            if read.is_none() {
                let detail = format!(
                    "{name} is {text}; it must be an RFC 3339 time such as 2026-01-31T12:00:00Z"
                );
                violations.push(Violation::new(format!("/{name}"), "format", detail));
            }
            read
        };
        let (from, to) = (moment("from", self.from.as_deref()), moment("to", self.to.as_deref()));
        if let (Some(from), Some(to)) = (from, to)
            && to.0 < from.0
        {
            let detail = format!("from is {from}, after to, which is {to}");
            violations.push(Violation::new("/from", "order", detail));
        }
        let phase = self.phase.as_deref().and_then(|text| {
            let found = PHASES.0.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
            if found.is_none() {
                let names: Vec<&str> = PHASES.0.iter().map(|(_, name)| *name).collect();
                let detail = format!("phase is {text}; it must be one of {}", names.join(", "));
                violations.push(Violation::new("/phase", "one_of", detail));
            }
            found.map(|(phase, _)| *phase)
        });
        if violations.is_empty() { Ok(CheckedLoads { from, to, phase }) } else { Err(violations) }
    }
}

/// The name of a phase on the wire.
#[must_use]
pub fn phase_name(phase: Phase) -> &'static str {
    PHASES.0.iter().find(|(one, _)| *one == phase).map_or("", |(_, name)| name)
}

/// The phase of this name, where it is that of a step.
#[must_use]
pub fn phase_named(name: &str) -> Option<Phase> {
    PHASES.0.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(phase, _)| *phase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("30m", 1800.0),
            ("90s", 90.0),
            ("1h 30m", 5400.0),
            ("1h30m", 5400.0),
            ("PT2M", 120.0),
            ("500ms", 0.5),
            ("2d", 172_800.0),
            ("0s", 0.0),
        ] {
            assert_eq!(span(text).map(|span| span.as_secs_f64()), Some(seconds), "{text}");
        }
        for text in ["", "soon", "30", "-5m", "m"] {
            assert_eq!(span(text), None, "{text}");
        }
        assert_eq!(shown(Duration::from_mins(30)), "30m");
        assert_eq!(
            span(&shown(Duration::from_millis(5_400_500))),
            Some(Duration::from_millis(5_400_500))
        );
    }

    #[test]
    fn what_is_wrong_with_a_deployment_is_told_with_its_place() {
        let said = |body: Value| -> Vec<(String, String)> {
            let violations = DeploymentRequest::read_body(&body).unwrap_err();
            violations.into_iter().map(|one| (one.pointer, one.rule)).collect()
        };
        let pair = |pointer: &str, rule: &str| (pointer.to_owned(), rule.to_owned());
        assert_eq!(said(json!({})), [pair("", "required")]);
        assert_eq!(
            said(json!({
                "question": {"routing": {"skewness": 2}},
                "policy": {"for": "soon", "every": -1, "min_gain": -0.1, "keep_windows": 1, "until": 3},
                "label": {},
            })),
            [
                pair("/question/routing", "unknown_field"),
                pair("/policy/min_gain", "range"),
                pair("/policy/for", "duration"),
                pair("/policy/every", "duration"),
                pair("/policy/keep_windows", "range"),
                pair("/policy/until", "unknown_field"),
                pair("/label", "unknown_field"),
            ]
        );
        let read = DeploymentRequest::read_body(&json!({"question": {}, "policy": {"for": 90}}));
        let policy = read.unwrap().policy;
        assert_eq!((policy.hold, policy.every), (Duration::from_secs(90), Duration::from_mins(1)));
    }

    #[test]
    fn names_are_parts_of_paths_and_labels() {
        for name in ["a", "prod-eu.1", "R1_decode", &"x".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", ".a", "a b", "a/b", "ä", &"x".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn loads_say_when_and_in_which_phase() {
        let query = |from: &str, to: &str, phase: &str| LoadsQuery {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            phase: Some(phase.to_owned()),
            format: None,
        };
        let read = query("2026-01-31T12:00:00Z", "2026-01-31T12:01:00Z", "Decode").check().unwrap();
        assert_eq!(read.to.unwrap().0 - read.from.unwrap().0, 60_000);
        assert_eq!(read.phase, Some(Phase::Decode));
        let said: Vec<String> = query("yesterday", "2026-01-31", "serving")
            .check()
            .unwrap_err()
            .into_iter()
            .map(|one| one.pointer)
            .collect();
        assert_eq!(said, ["/from", "/phase"]);
        let turned = query("2026-02-01", "2026-01-31", "prefill").check().unwrap_err();
        assert_eq!(turned[0].pointer, "/from");
    }
}
