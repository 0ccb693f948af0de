//! Outcomes: what was measured after an answer, beside what it had said.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::wire::field::{OneOf, Readable as _, Text, object, optional, required};
use crate::wire::names::StrategyName;
use crate::wire::read::{Fields, Located, Violations};
use crate::wire::time::Moment;
use crate::wire::violation::Violation;
use moe_gps_core::strategies::Strategy;

/// Time of a step or of a token, seconds: from a nanosecond to a day.
const MEASURED_S: std::ops::RangeInclusive<f64> = 1e-9..=86_400.0;
/// Steps that can have been measured.
const STEPS: std::ops::RangeInclusive<u64> = 1..=1_000_000_000_000;

object! {
    /// What was measured: `step_s` or `tpot_s`, one of the two.
    #[check(one_quantity)]
    pub struct Outcome {
        /// The strategy that ran.
        pub strategy: Option<Strategy> = required(OneOf(&Strategy::ALL)),
        /// Mean time between two tokens of a sequence, seconds.
        pub tpot_s: Option<f64> = optional(MEASURED_S),
        /// Mean time of a step, seconds.
        pub step_s: Option<f64> = optional(MEASURED_S),
        /// Steps that were measured.
        pub steps: Option<u64> = optional(STEPS),
        /// What else is to be known, such as versions and load.
        pub note: Option<String> = optional(Text),
    }
}

fn one_quantity(fields: &Fields, outcome: &Outcome) {
    // One that is there and cannot be read has been told.
    match (fields.get("tpot_s").is_some(), fields.get("step_s").is_some()) {
        (true, true) => fields.note("choice", "tpot_s and step_s are both given; give one"),
        (false, false) if outcome.step_s.is_none() => {
            fields.note("required", "neither tpot_s nor step_s is given; give what was measured");
        }
        _ => {}
    }
}

impl Outcome {
    /// Reads an outcome that is a whole body.
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

/// What was measured, beside what was forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasuredOutcome {
    /// The strategy that ran.
    #[schema(value_type = StrategyName)]
    pub strategy: Cow<'static, str>,
    /// Measured mean time between two tokens of a sequence, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpot_s: Option<f64>,
    /// Measured mean time of a step, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_s: Option<f64>,
    /// What the answer says of the same quantity, seconds; null where it says nothing.
    pub forecast_s: Option<f64>,
    /// By which share the forecast is above what was measured; below 0 it is under it.
    pub forecast_error: Option<f64>,
    /// Steps that were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<i64>,
    /// What else is to be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Who measured; absent without tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// When it was reported, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Moment,
}
