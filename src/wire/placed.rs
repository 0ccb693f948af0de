//! What `place LOADS --json` prints.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::wire::answer::EnginePlanBody;

/// A plan made without a question, what it is worth, and how engines load it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlacedBody {
    /// The algorithm that made it.
    pub algorithm: Cow<'static, str>,
    /// Expert-parallel size (EP).
    pub devices: u32,
    /// Slots of every device.
    pub slots_per_device: u32,
    /// Slots per layer beyond one of every expert.
    pub redundant_experts: u32,
    /// The layers' indices in the model.
    pub layers: Vec<u32>,
    /// The slot map of every layer.
    pub physical_to_logical: Vec<Vec<u32>>,
    /// Max/mean GPU load, mean over the layers.
    pub balance_mean: f64,
    /// The same of the worst layer.
    pub balance_worst: f64,
    /// The mean without a plan; null where experts do not fill the devices evenly.
    pub balance_without: Option<f64>,
    /// The mean with the map in force, where one is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_in_force: Option<f64>,
    /// Max/mean GPU load of every layer.
    pub balance_per_layer: Vec<f64>,
    /// The same without a plan.
    pub balance_without_per_layer: Option<Vec<f64>>,
    /// The same with the map in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_in_force_per_layer: Option<Vec<f64>>,
    /// Slots that repeat an expert their device holds already.
    pub same_device_duplicates: usize,
    /// Copies that enter devices, against the maps in force or the static placement.
    pub moves: u64,
    /// Time to plan all layers one after the other, seconds.
    pub plan_s: f64,
    /// How to run the plan in every engine.
    pub engines: Vec<EnginePlanBody>,
    /// What Algorithm 1 of MoE-GPS itself leaves behind in every layer, for `paper_greedy`: the map fills
    /// its free slots and drops who takes which tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithm_1: Vec<GreedyLayer>,
    /// What it is worth on held-out loads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<HeldOutBalance>,
    /// Copies outside the node of their group, where there are groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_node_replicas: Option<usize>,
    /// Share of the dispatched tokens that crosses nodes with the plan, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_node_share: Option<f64>,
    /// The same with the map in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_node_share_in_force: Option<f64>,
    /// What is doubtful about the recording or the map in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One layer of Algorithm 1, device by device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GreedyLayer {
    /// The experts of every device: its first ones, then copies in the order they were made.
    pub experts: Vec<Vec<u32>>,
    /// The dispatch map: tokens of each of these experts that the device takes.
    pub tokens: Vec<Vec<u64>>,
    /// Slots of every device that hold nothing: its free memory, in experts.
    pub free_slots: Vec<u32>,
}

/// Max/mean GPU load on loads that the plan was not made for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldOutBalance {
    /// Mean over the layers.
    pub balance_mean: f64,
    /// Of the worst layer.
    pub balance_worst: f64,
    /// The mean without a plan; null where experts do not fill the devices evenly.
    pub balance_without: Option<f64>,
    /// The mean with the map in force, where one is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_in_force: Option<f64>,
    /// The same of every layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_in_force_per_layer: Option<Vec<f64>>,
    /// The mean with the plan that EPLB makes of the same loads.
    pub eplb_balance_mean: f64,
    /// The same of the worst layer.
    pub eplb_balance_worst: f64,
}

/// What a placement is worth, as `place LOADS --score MAP --json` prints it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScoredBody {
    /// Expert-parallel size (EP).
    pub devices: u32,
    /// Slots of every device, layer by layer.
    pub slots_per_device: Vec<u32>,
    /// The layers' places in the recording.
    pub layers: Vec<u16>,
    /// Max/mean GPU load, mean over the layers.
    pub balance_mean: f64,
    /// The same of the worst layer.
    pub balance_worst: f64,
    /// The mean without a plan; null where experts do not fill the devices evenly.
    pub balance_without: Option<f64>,
    /// Max/mean GPU load of every layer.
    pub balance_per_layer: Vec<f64>,
    /// Max/mean GPU load on held-out loads, layer by layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout_per_layer: Option<Vec<f64>>,
    /// Share of the dispatched tokens that crosses nodes, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_node_share: Option<f64>,
    /// Slots that repeat an expert their device holds already.
    pub same_device_duplicates: usize,
    /// What is doubtful about the recording or the placement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
