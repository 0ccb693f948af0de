//! What plans made on one trace are worth on the others.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Plans × loads, where a question names several traces. A plan is loaded once: its latency
/// holds no renewals.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TransferBody {
    /// The traces; lists over loads follow this order.
    pub trace_ids: Vec<String>,
    /// Slots of every device and layer in all plans.
    pub slots_per_device: u32,
    /// Recorded steps of every trace's held-out part that were replayed; where it is absent,
    /// steps were drawn from that part's shares (`method: analytic`, or a trace that is one
    /// count matrix).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed_steps: Option<Vec<u64>>,
    /// The placement in use, without any plan.
    pub none: PlanOnLoads,
    /// The plan made on each trace's planning part, in the order of `trace_ids`.
    pub plans: Vec<PlanOnLoads>,
    /// The plan whose worst load is best: the one that is recommended.
    pub worst_case: PlanOnLoads,
}

/// One plan on the part held out of every trace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlanOnLoads {
    /// Busiest device over mean on the load it was planned on (the worst of several), mean
    /// over layers.
    pub in_sample_imbalance: f64,
    /// The same on the planning part of every trace.
    pub planned_imbalance: Vec<f64>,
    /// The same on the held-out part of every trace.
    pub imbalance: Vec<f64>,
    /// Mean over single held-out steps of the busiest device over the mean.
    pub step_imbalance: Vec<f64>,
    /// Latency of one layer in those steps, seconds.
    pub layer_latency_s: Vec<f64>,
    /// Layer latency of `none` on the same load over this one.
    pub speedup_over_none: Vec<f64>,
}
