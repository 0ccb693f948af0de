//! How many slots were tried, and which number was taken.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The search for the number of slots per device (only where `duplication.slots_per_device`
/// was left out).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DuplicationSearch {
    /// Every number of slots tried, fewest first.
    pub slots: Vec<SlotsTried>,
    /// Slots of the fastest plan that fits into memory.
    pub best_slots_per_device: u32,
    /// Fewest slots whose plan is not surely slower than the fastest.
    pub chosen_slots_per_device: u32,
    /// Why, in plain words.
    pub because: String,
}

/// One number of slots per device, with what it costs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SlotsTried {
    /// `replace_only` with no slot more than needed, else `distribution_only`.
    pub strategy: Cow<'static, str>,
    /// Expert slots of every device and layer.
    pub slots_per_device: u32,
    /// Slots beyond one per expert, per layer over all devices.
    pub redundant_experts: u32,
    /// Latency of one mixture-of-experts layer by the formulas, renewals included, seconds.
    pub layer_latency_s: f64,
    /// That latency over the fastest one, minus 1.
    pub behind_best: f64,
    /// How far behind it would not be surely slower, by what both prices rest on.
    pub error_band: f64,
    /// Whether it fits into memory.
    pub fits: bool,
    /// Bytes of replicas on every device.
    pub replica_bytes: f64,
    /// Tokens of KV cache given up on every device.
    pub kv_tokens_lost_per_device: f64,
    /// Bytes of experts that change devices when the plan first takes effect.
    pub moved_bytes: f64,
    /// How long serving stops at the first renewal, seconds; not part of the prices.
    #[serde(default)]
    pub first_stall_s: f64,
    /// How long serving stops at every later renewal, seconds.
    pub stall_s: f64,
    /// Stall and slow-down of renewals in `layer_latency_s`, seconds.
    pub rebalance_s: f64,
}
