//! The map in force, as it is told: in the form of a question, or as a placement file of any engine.

use serde_json::Value;

use crate::app::context::App;
use crate::app::deployments::{Spec, asked};
use crate::app::error::AppError;
use crate::app::plan_file::model_layer;
use crate::app::question::as_asked;
use crate::app::recommendations::refusal;
use crate::app::references;
use crate::wire::deployment::CurrentBody;
use crate::wire::field::Readable as _;
use crate::wire::question::Current;
use crate::wire::read::{Located, Violations};
use crate::wire::violation::Violation;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::placement::{Deployed, Maps, PlannedLayer, read_any};

/// Fields by which a map is told as in a question.
const FIELDS: [&str; 3] = ["strategy", "slots_per_device", "physical_to_logical"];

/// Reads the map in force.
pub(super) async fn read(app: &App, spec: &Spec, body: &[u8]) -> Result<CurrentBody, AppError> {
    let value = serde_json::from_slice::<Value>(body).ok();
    let fields = value.as_ref().and_then(Value::as_object);
    let is_stated = |fields: &serde_json::Map<String, Value>| {
        fields.contains_key("physical_to_logical")
            || fields.keys().all(|name| FIELDS.contains(&name.as_str()))
    };
    if let Some(value) = value.as_ref().filter(|_| fields.is_some_and(is_stated)) {
        let violations = Violations::default();
        let read = Current::read(&Located::root(value, &violations));
        let found = violations.into_vec();
        if !found.is_empty() {
            return Err(AppError::Refused(found));
        }
        let Current { strategy, physical_to_logical, slots_per_device } = read.unwrap_or_default();
        return Ok(CurrentBody {
            strategy: strategy.map(|strategy| strategy.id().into()),
            slots_per_device,
            physical_to_logical,
        });
    }
    of_file(app, spec, body, value.as_ref()).await
}

/// The maps of a placement file, one for every layer with experts.
async fn of_file(
    app: &App,
    spec: &Spec,
    body: &[u8],
    value: Option<&Value>,
) -> Result<CurrentBody, AppError> {
    let refused = |detail: String| AppError::Refused(vec![Violation::new("", "placement", detail)]);
    let asked = asked(spec);
    let references = references::look_up(app, &asked).await?.open().map_err(refusal)?;
    let catalog = Catalog::embedded();
    let model = as_asked(&asked, catalog, &references)
        .ok_or_else(|| refused("the model of the question cannot be read".to_owned()))?;
    let devices = asked.parallelism.expert_parallel.or_else(|| asked.cluster.as_ref()?.devices);
    let at = Deployed { experts: model.experts.routed, devices: devices.unwrap_or(1) };
    let maps = read_any(body, at).map_err(|error| {
        refused(format!(
            "the body is neither {{\"strategy\", \"physical_to_logical\", \"slots_per_device\"}} nor a \
             placement file: {error}"
        ))
    })?;
    let Maps { layers, others, .. } = maps;
    let wanted = model.moe_layers as usize;
    let by_index = |nth: usize| -> Option<Vec<u32>> {
        let index = model_layer(nth, &[], &model);
        let found = layers.iter().find(|layer| layer.index == index);
        found.map(|layer| layer.physical_to_logical.clone()).or_else(|| others.clone())
    };
    // A file of as many layers as have experts counts only those, whatever their numbers.
    let rows: Option<Vec<Vec<u32>>> = if layers.len() == wanted {
        Some(layers.iter().map(|layer: &PlannedLayer| layer.physical_to_logical.clone()).collect())
    } else {
        (0..wanted).map(by_index).collect()
    };
    let rows = rows.ok_or_else(|| {
        refused(format!(
            "the file has maps of {} layers; the model has {wanted} layers with experts",
            layers.len()
        ))
    })?;
    // A plan of this service says which strategy it is of.
    let strategy = value.and_then(|value| value["strategy"].as_str().map(ToOwned::to_owned));
    Ok(CurrentBody {
        strategy: strategy.map(Into::into),
        slots_per_device: None,
        physical_to_logical: Some(rows),
    })
}
