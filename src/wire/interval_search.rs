//! How often the plan is renewed, and what else was tried.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The search for the interval of renewal (only where `rebalance.interval_steps` was left
/// out and plans are renewed at all).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct IntervalSearch {
    /// Every interval tried, shortest first.
    pub intervals: Vec<IntervalTried>,
    /// Steps of the planning part that were replayed for it; 0 without a recording.
    pub replayed_steps: u64,
    /// The interval taken.
    pub chosen_interval_steps: u64,
    /// Why, in plain words.
    pub because: String,
}

/// One interval with what it costs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct IntervalTried {
    /// Steps between renewals.
    pub interval_steps: u64,
    /// Latency of one layer over the replayed steps, renewals included, seconds; null where
    /// nothing was replayed.
    pub layer_latency_s: Option<f64>,
    /// What of it renewals cost, seconds.
    pub rebalance_s: f64,
    /// Renewals within the replayed steps.
    pub renewals: u64,
}
