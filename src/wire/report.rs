//! What the service finds in a trace before any strategy.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Ceiling and diagnosis of a trace on a number of devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceReport {
    /// The trace.
    pub id: String,
    /// Name given at the upload.
    pub name: Option<String>,
    /// Expert-parallel size (EP).
    pub devices: u32,
    /// Experts of a layer.
    pub experts: u32,
    /// Experts per token, where known.
    pub top_k: Option<u32>,
    /// Tokens, where recorded.
    pub tokens: Option<u64>,
    /// The layers, by their place in the recording.
    pub layers: Vec<u16>,
    /// The finding in one sentence.
    pub finding: String,
    /// Device imbalance of the whole trace when experts lie contiguously.
    pub imbalance: Imbalance,
    /// What no balancing can exceed.
    pub ceiling: ReportCeiling,
    /// Best plans with no slot more than needed, one more per device, and two; made on the
    /// first part of the trace and scored on the rest.
    pub slots: Vec<Slots>,
    /// How uneven single steps are; absent for fewer than two steps.
    pub steps: Option<Steps>,
    /// How far parts of the trace are from each other; absent for a single step.
    pub drift: Option<DriftBody>,
    /// Errors of distribution forecasts on the held-out steps, by age.
    pub forecasts: Vec<ForecastBody>,
    /// Share of each layer's assignments that each expert takes.
    pub expert_shares: Vec<Vec<f64>>,
    /// What makes the recording doubtful, in plain words.
    pub warnings: Vec<String>,
}

/// The same imbalance in the three conventions engines print.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Imbalance {
    /// Busiest over mean, 1 if even.
    pub max_over_mean: Convention,
    /// Mean over busiest, 1 if even (vLLM and SGLang: balancedness).
    pub mean_over_max: Convention,
    /// (Busiest − mean) over mean, 0 if even (TensorRT-LLM).
    pub excess: Convention,
}

/// One convention over layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Convention {
    /// Over layers, weighted with their tokens.
    pub mean: f64,
    /// The most uneven layer.
    pub worst: f64,
    /// Each layer.
    pub per_layer: Vec<f64>,
}

/// What no balancing can exceed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReportCeiling {
    /// Largest speed-up of the expert computation, where its time grows with tokens.
    pub expert_speedup_at_most: f64,
    /// Largest share of the expert computation's time that balance can save.
    pub expert_time_saved_at_most: f64,
    /// What this rests on.
    pub because: String,
}

/// A plan with a number of slots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Slots {
    /// `contiguous` or `best`.
    pub plan: Cow<'static, str>,
    /// Slots more than one per expert (rounded up to whole devices) needs, over all devices.
    pub extra_slots: u64,
    /// Slots of every device and layer.
    pub slots_per_device: u32,
    /// Busiest over mean device on the part it was planned on.
    pub in_sample: Over,
    /// The same on the part held out.
    pub held_out: Over,
    /// Share of the expert computation's time it saves against the contiguous placement on
    /// the part held out, where time grows with tokens.
    pub expert_time_saved: f64,
    /// Busiest over mean device of every layer on the part held out.
    pub per_layer: Vec<f64>,
}

/// Over layers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Over {
    /// Weighted with tokens.
    pub mean: f64,
    /// The most uneven layer.
    pub worst: f64,
}

/// How uneven single steps are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Steps {
    /// Tokens of a step; absent for recorded steps.
    pub tokens_per_step: Option<u64>,
    /// Recorded steps taken together; absent for tokens.
    pub recorded_steps_per_step: Option<u64>,
    /// Held-out steps.
    pub steps: u64,
    /// Busiest over mean device of a step, each plan of `slots` in its order.
    pub plans: Vec<StepsOfPlan>,
}

/// The steps under one plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepsOfPlan {
    /// Mean over steps.
    pub mean: f64,
    /// 95th percentile.
    pub p95: f64,
}

/// How far parts of the trace are from each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftBody {
    /// Equal parts the trace was cut into.
    pub parts: u32,
    /// Distribution error of a plan for the row on the load of the column.
    pub distribution_error: Vec<Vec<f64>>,
    /// Mean between different parts.
    pub mean: f64,
    /// The largest.
    pub most: f64,
    /// What the mean would be by chance alone, if tokens were independent.
    pub by_chance: f64,
}

/// One forecast's errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ForecastBody {
    /// `mle`, `window` or `exponential_average`.
    pub kind: Cow<'static, str>,
    /// Steps the window spans.
    pub window_steps: Option<u64>,
    /// Steps after which a step counts half.
    pub half_life_steps: Option<f64>,
    /// Errors on the held-out steps, fresh first.
    pub errors: Vec<LagBody>,
}

/// The error of a forecast of one age.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LagBody {
    /// Steps between the last one seen and the one forecast.
    pub lag_steps: u64,
    /// Mean over held-out steps of E·mean|p̂ − p|, itself the mean over layers.
    pub distribution_error: f64,
}
