//! Two recommendations side by side: what differs in the question, the terms and the choice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::wire::answer::GainBody;
use crate::wire::names::{StrategyName, VerdictName};

/// Which two are compared.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CompareQuery {
    /// Id of the one.
    #[param(required = true)]
    pub a: Option<String>,
    /// Id of the other.
    #[param(required = true)]
    pub b: Option<String>,
}

/// Two recommendations side by side.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// Id of the one.
    pub a: String,
    /// Id of the other.
    pub b: String,
    /// Whether they advise different strategies or predictors.
    pub choice_differs: bool,
    /// What is advised.
    pub choice: ComparedChoice,
    /// Where the questions differ.
    pub question: Vec<Difference>,
    /// Where what they rest on differs: version, catalog, method, switches, system.
    pub provenance: Vec<Difference>,
    /// The strategies that either has a price for, term by term.
    pub strategies: Vec<ComparedStrategy>,
}

/// A place at which two documents differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// What the one says; absent where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<Value>,
    /// What the other says; absent where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<Value>,
}

/// What two recommendations advise.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ComparedChoice {
    /// The one.
    pub a: Choice,
    /// The other.
    pub b: Choice,
}

/// What is advised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Choice {
    /// The strategy; null if nothing runs.
    #[schema(value_type = Option<StrategyName>)]
    pub strategy: Option<String>,
    /// The predictor of `token_to_expert`.
    pub predictor: Option<String>,
    /// How sure it is.
    #[schema(value_type = VerdictName)]
    pub verdict: String,
    /// What it gains over its baseline.
    pub gain: Option<GainBody>,
    /// Why.
    pub reason: String,
}

/// A strategy in both recommendations.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ComparedStrategy {
    /// The strategy.
    #[schema(value_type = StrategyName)]
    pub strategy: String,
    /// The predictor of `token_to_expert`.
    pub predictor: Option<String>,
    /// Latency of one layer, seconds.
    pub layer_latency_s: ComparedNumber,
    /// Latency of all layers of the model, seconds.
    pub model_latency_s: ComparedNumber,
    /// Layer latency of `none` over this one's.
    pub speedup_over_none: ComparedNumber,
    /// Where the time goes, seconds.
    pub terms: BTreeMap<String, ComparedNumber>,
}

/// A number in both recommendations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparedNumber {
    /// In the one; null where it has none.
    pub a: Option<f64>,
    /// In the other; null where it has none.
    pub b: Option<f64>,
    /// The other over the one; null where either has none, or the one is 0.
    pub ratio: Option<f64>,
}

impl ComparedNumber {
    /// Both numbers.
    #[must_use]
    pub fn of(a: Option<f64>, b: Option<f64>) -> Self {
        let ratio = a.zip(b).filter(|(a, _)| *a != 0.0).map(|(a, b)| b / a);
        Self { a, b, ratio }
    }
}
