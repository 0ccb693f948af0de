//! The plan of a recommendation: as it is answered, and as the files engines load.

use serde::Deserialize;

use crate::app::error::AppError;
use crate::app::question::{Answerable, AskedRouting};
use crate::wire::answer as wire;
use moe_gps_core::advice::Advised;
use moe_gps_core::engines::settings::{Deployment, settings};
use moe_gps_core::formats::placement::{Format, PlanFile, PlannedLayer};
use moe_gps_core::model::Model;
use moe_gps_core::placement::moves::Moves;
use moe_gps_core::placement::{Shape, SlotMap};
use moe_gps_core::question::RebalanceMode;
use moe_gps_core::strategies;

/// The plan of the chosen strategy, layer by layer; `None` in paper mode.
///
/// `places` are those of the planned layers in a recording; none without one.
pub(super) fn placement(
    asked: &Answerable,
    advised: &Advised,
    places: &[u16],
) -> Option<wire::PlacementBody> {
    let strategy = advised.chosen()?.strategy;
    let plan = advised.plan(strategy)?;
    let before = advised.plan(strategies::NONE)?;
    let model = &asked.question.system.model;
    let shape = plan.layers.first()?.shape();
    let layer = |index: usize, map: &SlotMap, old: &SlotMap| wire::PlacementLayer {
        layer: index,
        model_layer: model_layer(index, places, model),
        physical_to_logical: map.physical_to_logical().to_vec(),
        replicas: map.replicas(),
        moves: Moves::between(old, map).total(),
        planned_imbalance: plan.imbalance.get(index).map_or(1.0, |layer| layer.planned),
    };
    let rebalance = asked.question.rebalance;
    let deployment = Deployment {
        shape,
        groups: model.experts.groups.map(|groups| groups.groups),
        interval_steps: (rebalance.mode != RebalanceMode::StartupMap)
            .then_some(rebalance.interval_steps),
        window_steps: rebalance.window_steps,
    };
    Some(wire::PlacementBody {
        format: "json".into(),
        strategy: strategy.id().into(),
        n_logical_experts: shape.n_experts(),
        n_physical_experts: shape.n_slots(),
        devices: shape.n_devices(),
        slots_per_device: shape.slots_per_device(),
        layers_are_exact: plan.layers.len() == model.moe_layers as usize,
        expert_ids_are_real: matches!(
            asked.routing,
            AskedRouting::Trace(_) | AskedRouting::Shares(_)
        ),
        n_model_layers: model.layers(),
        engines: settings(&deployment).into_iter().map(wire::EnginePlanBody::from).collect(),
        layers: plan
            .layers
            .iter()
            .zip(&before.layers)
            .enumerate()
            .map(|(index, (map, old))| layer(index, map, old))
            .collect(),
    })
}

/// The index among all layers of the model of its `nth` planned layer.
///
/// A recording that leaves layers out has a row for every layer of the model, so its places
/// are the model's. Otherwise dense layers are taken to come first (DeepSeek, Kimi, GLM), or
/// to alternate with the others where there are as many (Llama 4 Maverick).
fn model_layer(nth: usize, places: &[u16], model: &Model) -> u32 {
    let at = u32::try_from(nth).unwrap_or(u32::MAX);
    let skips = |layers: &[u16]| layers.iter().zip(0..).any(|(layer, nth)| *layer != nth);
    let fits = |layers: &[u16]| layers.last().is_some_and(|last| u32::from(*last) < model.layers());
    match places.get(nth).filter(|_| skips(places) && fits(places)) {
        Some(place) => u32::from(*place),
        None if model.dense_layers == model.moe_layers => 2 * at + 1,
        None => model.dense_layers + at,
    }
}

/// What is read of a stored plan; plans of older versions lack some of it.
#[derive(Deserialize)]
struct Stored {
    n_logical_experts: u32,
    n_physical_experts: u32,
    devices: u32,
    #[serde(default = "yes")]
    expert_ids_are_real: bool,
    #[serde(default)]
    n_model_layers: Option<u32>,
    layers: Vec<StoredLayer>,
}

#[derive(Deserialize)]
struct StoredLayer {
    #[serde(rename = "layer")]
    nth: u32,
    #[serde(default, rename = "model_layer")]
    index: Option<u32>,
    physical_to_logical: Vec<u32>,
}

fn yes() -> bool {
    true
}

/// A stored plan as a file of the given format; JSON is what was stored.
pub(super) fn written(plan: &str, format: &Format) -> Result<String, AppError> {
    if format.id == "json" {
        return Ok(plan.to_owned());
    }
    let stored: Stored = serde_json::from_str(plan)
        .map_err(|error| AppError::Internal(format!("a stored plan cannot be read: {error}")))?;
    if !stored.expert_ids_are_real {
        return Err(AppError::Conflict(format!(
            "there is no {} file: the routing was stated as a number, so which expert is hot was \
             made up for the estimate; ask with a trace or with expert_shares",
            format.id
        )));
    }
    let conflict = |error: &dyn std::fmt::Display| AppError::Conflict(error.to_string());
    let shape = Shape::new(stored.n_logical_experts, stored.devices, stored.n_physical_experts)
        .map_err(|error| conflict(&error))?;
    let layers: Vec<PlannedLayer> = stored
        .layers
        .into_iter()
        .map(|layer| PlannedLayer {
            index: layer.index.unwrap_or(layer.nth),
            physical_to_logical: layer.physical_to_logical,
        })
        .collect();
    let last = layers.last().map_or(0, |layer| layer.index + 1);
    let n_model_layers = stored.n_model_layers.unwrap_or(last);
    let plan = PlanFile::new(shape, n_model_layers, layers).map_err(|error| conflict(&error))?;
    (format.write)(&plan).map_err(|error| conflict(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use moe_gps_core::comm::fixtures::system;

    #[test]
    fn layers_are_found_by_their_place_in_the_recording_or_by_rule() {
        let mut model = system(4, 4, 512).model;
        (model.moe_layers, model.dense_layers) = (4, 2);
        let at = |places: &[u16], model: &Model| {
            (0..2).map(|nth| model_layer(nth, places, model)).collect::<Vec<_>>()
        };
        assert_eq!(at(&[], &model), [2, 3]);
        assert_eq!(at(&[0, 1, 2, 3], &model), [2, 3], "rows for these layers only");
        assert_eq!(at(&[1, 3, 4, 5], &model), [1, 3], "rows for every layer");
        assert_eq!(at(&[1, 7], &model), [2, 3], "rows of another model");
        model.dense_layers = 4;
        assert_eq!(at(&[], &model), [1, 3], "every other layer");
    }
}
