//! The plan of a recommendation: as it is answered, and as the files engines load.

use serde::Deserialize;

use crate::app::error::AppError;
use crate::app::question::{Answerable, AskedRouting};
use crate::wire::answer as wire;
use crate::wire::violation::Violation;
use moe_gps_core::advice::{Advised, PlanSummary};
use moe_gps_core::engines::LIST;
use moe_gps_core::engines::settings::{Balancing, Deployment, Launch, settings};
use moe_gps_core::formats::placement::{FORMATS, Format, PlanFile, PlannedLayer};
use moe_gps_core::model::Model;
use moe_gps_core::placement::moves::Moves;
use moe_gps_core::placement::{Shape, SlotMap};
use moe_gps_core::question::RebalanceMode;
use moe_gps_core::strategies;
use moe_gps_core::units::Seconds;

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
    let choice = advised.choice.as_ref()?;
    let expert_ids_are_real =
        matches!(asked.routing, AskedRouting::Trace(_) | AskedRouting::Shares(_));
    let current = asked.question.current.as_ref();
    let balancing = match (choice.chosen == choice.baseline, current) {
        (true, Some(_)) => Balancing::Keep,
        _ if strategy == strategies::NONE => Balancing::Off,
        _ => Balancing::Plan,
    };
    let map_is_stated = current.is_some_and(|current| current.physical_to_logical.is_some());
    let deployment = Deployment {
        balancing,
        has_map: if balancing == Balancing::Keep { map_is_stated } else { expert_ids_are_real },
        renew_below: renew_below(asked, advised, plan),
        shape,
        groups: model.experts.groups.map(|groups| groups.groups),
        interval_steps: (rebalance.mode != RebalanceMode::StartupMap)
            .then_some(rebalance.interval_steps),
        window_steps: rebalance.window_steps,
    };
    let mut engines = settings(&deployment);
    // What runs now stays as it is.
    let options = advised.options.iter().filter(|_| balancing != Balancing::Keep);
    for option in options.filter(|option| option.gains_surely()) {
        for support in &option.support {
            let told = engines.iter_mut().filter(|told| told.engine == support.engine.id);
            told.for_each(|told| {
                told.launch.args.extend(support.arguments.iter().map(ToString::to_string));
            });
        }
    }
    Some(wire::PlacementBody {
        format: "json".into(),
        strategy: strategy.id().into(),
        verdict: choice.verdict.id().into(),
        engine: asked.question.system.engine.as_ref().map(|engine| engine.kind.id.into()),
        n_logical_experts: shape.n_experts(),
        n_physical_experts: shape.n_slots(),
        devices: shape.n_devices(),
        slots_per_device: shape.slots_per_device(),
        layers_are_exact: plan.layers.len() == model.moe_layers as usize,
        expert_ids_are_real,
        n_model_layers: model.depth,
        engines: engines.into_iter().map(wire::EnginePlanBody::from).collect(),
        layers: plan
            .layers
            .iter()
            .zip(&before.layers)
            .enumerate()
            .map(|(index, (map, old))| layer(index, map, old))
            .collect(),
    })
}

/// Mean over largest device load above which a renewal costs more than it saves.
///
/// ```text
/// i* = i₁ + R / (dT/di),  dT/di = (T₀ − T₁) / (i₀ − i₁),  threshold = 1 / i*
/// ```
///
/// T: time of a layer; i: largest over mean device load; 0 without the plan, 1 with it; R: stall and
/// slowdown of a renewal per layer and step of the interval. Between the two a layer's time is
/// taken as linear in i. Worked number: i from 2.0 to 1.2 saves 80 of 400 µs, a renewal costs 1 µs
/// per layer and step: i* = 1.21, threshold 0.826.
fn renew_below(asked: &Answerable, advised: &Advised, plan: &PlanSummary) -> Option<f64> {
    let none = advised.plan(strategies::NONE)?;
    let mean = |plan: &PlanSummary| {
        plan.imbalance.iter().map(|layer| layer.drawn).sum::<f64>() / plan.imbalance.len() as f64
    };
    let steps = asked.question.rebalance.interval_steps as f64;
    let layers = f64::from(asked.question.system.model.moe_layers);
    let renewal = (plan.renewal.stall + plan.renewal.slowdown) / (steps * layers);
    let even =
        break_even((mean(none), none.latency), (mean(plan), plan.latency - renewal), renewal)?;
    Some(1.0 / even)
}

/// The imbalance at which a renewal breaks even, from imbalance and time without and with the plan.
fn break_even((i0, t0): (f64, Seconds), (i1, t1): (f64, Seconds), renewal: Seconds) -> Option<f64> {
    let gains = i0 > i1 && t0 > t1;
    gains.then(|| i1 + renewal / (t0 - t1) * (i0 - i1))
}

/// The index among all layers of the model of its `nth` planned layer.
///
/// A recording that leaves layers out has a row for every layer of the model, so its places
/// are the model's. Otherwise they are those of its configuration; of an encoder-decoder, dense layers
/// are taken to alternate with the others where there are as many, else to come first.
pub(super) fn model_layer(nth: usize, places: &[u16], model: &Model) -> u32 {
    let at = u32::try_from(nth).unwrap_or(u32::MAX);
    let skips = |layers: &[u16]| layers.iter().zip(0..).any(|(layer, nth)| *layer != nth);
    let fits = |layers: &[u16]| layers.last().is_some_and(|last| u32::from(*last) < model.depth);
    match places.get(nth).filter(|_| skips(places) && fits(places)) {
        Some(place) => u32::from(*place),
        None => match model.moe_at.get(nth) {
            Some(at) => *at,
            None if model.dense_layers == model.moe_layers => 2 * at + 1,
            None => model.dense_layers + at,
        },
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

/// What is read of a stored plan to start an engine.
#[derive(Deserialize)]
struct StoredLaunch {
    strategy: String,
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    engine: Option<String>,
    engines: Vec<wire::EnginePlanBody>,
}

/// How to start `engine`, or that of the question, so that it follows a stored plan; `url` is where
/// files of the plan are answered, `path` where the engine finds its own.
pub fn launch(
    plan: &str,
    engine: Option<&str>,
    url: &str,
    path: &str,
) -> Result<wire::LaunchBody, AppError> {
    let stored = StoredLaunch::read(plan)?;
    let known = || stored.engines.iter().map(|one| &*one.engine).collect::<Vec<_>>().join(", ");
    let refused = |detail| AppError::Refused(vec![Violation::new("/engine", "one_of", detail)]);
    let Some(asked) = engine.or(stored.engine.as_deref()) else {
        let detail = format!("the question names no engine; ask for one of {}", known());
        return Err(refused(detail));
    };
    let is_asked = |one: &&wire::EnginePlanBody| one.engine.eq_ignore_ascii_case(asked);
    let Some(told) = stored.engines.iter().find(is_asked) else {
        return Err(refused(format!("{asked:?} is no engine known here; known are: {}", known())));
    };
    Ok(stored.launch(told, url, path))
}

/// How to start every engine so that it follows a stored plan, that of the question first.
pub fn launches(plan: &str, url: &str, path: &str) -> Result<Vec<wire::LaunchBody>, AppError> {
    let stored = StoredLaunch::read(plan)?;
    let mut engines: Vec<&wire::EnginePlanBody> = stored.engines.iter().collect();
    engines.sort_by_key(|one| Some(&*one.engine) != stored.engine.as_deref());
    Ok(engines.into_iter().map(|told| stored.launch(told, url, path)).collect())
}

impl StoredLaunch {
    fn read(plan: &str) -> Result<Self, AppError> {
        serde_json::from_str(plan)
            .map_err(|error| AppError::Internal(format!("a stored plan cannot be read: {error}")))
    }

    fn launch(&self, told: &wire::EnginePlanBody, url: &str, path: &str) -> wire::LaunchBody {
        let at = |text: &String| text.replace("FILE", path);
        let argv: Vec<String> = told.argv.iter().map(at).collect();
        let yaml: Vec<String> = told.yaml.iter().map(at).collect();
        let loads = told.argv.iter().chain(&told.yaml).any(|text| text.contains("FILE"));
        let format = told.format.as_deref().filter(|_| loads);
        let line = Launch { args: argv.clone(), env: told.env.clone(), ..Launch::default() };
        let mut notes = vec![told.ignores.to_string()];
        notes.extend(told.limits.iter().cloned());
        wire::LaunchBody {
            engine: told.engine.clone(),
            strategy: self.strategy.clone().into(),
            verdict: self.verdict.clone().into(),
            shell: line.shell(),
            argv,
            env: told.env.clone(),
            yaml: (!yaml.is_empty()).then(|| yaml.join("\n") + "\n"),
            placement: format.map(|format| wire::MountedPlacement {
                url: format!("{url}?format={format}"),
                path: path.to_owned(),
            }),
            notes,
        }
    }
}

/// The placement file that an engine loads of a stored plan.
pub fn of_engine(plan: &str, engine: &str) -> Result<String, AppError> {
    let of = LIST.iter().find(|one| one.id == engine).and_then(|one| one.plan_format);
    let format = of.and_then(|id| FORMATS.iter().find(|format| format.id == id));
    let none = || AppError::Conflict(format!("{engine} loads no placement file"));
    written(plan, format.ok_or_else(none)?)
}

/// Where engines expect their placement file unless told otherwise.
pub const MOUNT: &str = "/etc/moe-gps/placement";

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
    fn a_renewal_breaks_even_where_it_saves_what_it_costs() {
        let us = |value: f64| Seconds::new(value * 1e-6);
        let even = break_even((2.0, us(400.0)), (1.2, us(320.0)), us(1.0)).unwrap();
        assert!((even - 1.21).abs() < 1e-12 && (1.0 / even - 0.826).abs() < 5e-4);
        assert_eq!(break_even((1.2, us(320.0)), (1.2, us(320.0)), us(1.0)), None);
    }

    #[test]
    fn layers_are_found_by_their_place_in_the_recording_or_by_rule() {
        let mut model = system(4, 4, 512).model;
        (model.moe_layers, model.dense_layers, model.depth) = (4, 2, 6);
        let at = |places: &[u16], model: &Model| {
            (0..2).map(|nth| model_layer(nth, places, model)).collect::<Vec<_>>()
        };
        assert_eq!(at(&[], &model), [2, 3]);
        assert_eq!(at(&[0, 1, 2, 3], &model), [2, 3], "rows for these layers only");
        assert_eq!(at(&[1, 3, 4, 5], &model), [1, 3], "rows for every layer");
        assert_eq!(at(&[1, 7], &model), [2, 3], "rows of another model");
        model.dense_layers = 4;
        assert_eq!(at(&[], &model), [1, 3], "every other layer");
        model.moe_at = vec![1, 6, 8];
        assert_eq!(at(&[], &model), [1, 6], "as the configuration says");
    }
}
