//! From a JSON value to the question's types, noting every violation.

use serde_json::Value;

use crate::wire::read::{Fields, Place, Violations};
use moe_gps_core::engines;
use moe_gps_core::strategies::Strategy;
use moe_gps_core::system::{
    Communication, Dtype, ErrorModel, Overlap, Phase, PredictorOverlap, Preset, ReplicaSplit,
};

use crate::wire::question::{
    Algorithm, Assumptions, Cluster, Current, Dtypes, Duplication, Engine, Grouping, IdOrObject,
    Link, LinkNumbers, MeasuredLayer, Method, Objective, Parallelism, PowerLaw, Predictor,
    PredictorKind, PredictorPoint, Question, Rebalance, RebalanceMode, Routing, Workload,
};

/// Devices a cluster may have.
const DEVICES: std::ops::RangeInclusive<u32> = 1..=4096;
/// Tokens a step may have, and tokens a sequence may have.
const TOKENS: std::ops::RangeInclusive<u64> = 1..=1 << 24;
/// A time in seconds that a user may state.
const SECONDS: std::ops::RangeInclusive<f64> = 0.0..=60.0;
/// Layers, experts or slots a list may have.
const LIST: std::ops::RangeInclusive<usize> = 1..=65_536;

/// Reads a question; what could not be read is `None` and noted.
pub fn read(request: &Value, violations: &Violations) -> Question {
    let Some(fields) = Place::root(request, violations).object() else {
        return Question::default();
    };
    let question = Question {
        model: fields.require("model").and_then(|place| id_or_object(&place)),
        cluster: fields.require("cluster").and_then(|place| object(&place, cluster)),
        parallelism: optional(&fields, "parallelism", parallelism),
        workload: fields.require("workload").and_then(|place| object(&place, workload)),
        engine: fields.get("engine").and_then(|place| object(&place, engine)),
        routing: fields.require("routing").and_then(|place| object(&place, routing)),
        predictors: fields.get("predictors").and_then(|place| list(&place, 0..=64, predictor)),
        method: fields.get("method").and_then(|place| {
            place.one_of(&[(Method::Analytic, "analytic"), (Method::Simulated, "simulated")])
        }),
        duplication: optional(&fields, "duplication", duplication),
        rebalance: optional(&fields, "rebalance", rebalance),
        current: fields.get("current").and_then(|place| object(&place, current)),
        allowed_strategies: fields.get("allowed_strategies").and_then(|place| {
            let items = place.items(1..=Strategy::ALL.len())?;
            let read: Vec<_> = items.iter().map(|item| item.one_of(&Strategy::ALL)).collect();
            read.into_iter().collect()
        }),
        objective: fields.get("objective").and_then(|place| {
            place.one_of(&[
                (Objective::StepLatency, "step_latency"),
                (Objective::ThroughputAtTpot, "throughput_at_tpot"),
            ])
        }),
        measured_layer: fields
            .get("measured_layer")
            .and_then(|place| object(&place, measured_layer)),
        measured_step_s: fields
            .get("measured_step_s")
            .and_then(|place| place.number(1e-9..=86_400.0)),
        assumptions: optional(&fields, "assumptions", assumptions),
        seed: fields.get("seed").and_then(|place| place.integer(0..=u64::MAX)),
    };
    fields.finish();
    question
}

/// Reads an object's fields with `read`, then notes the unknown ones.
fn object<T>(place: &Place, read: impl Fn(&Fields) -> T) -> Option<T> {
    let fields = place.object()?;
    let value = read(&fields);
    fields.finish();
    Some(value)
}

/// Reads an object that may be left out.
fn optional<T: Default>(fields: &Fields, name: &'static str, read: impl Fn(&Fields) -> T) -> T {
    fields.get(name).and_then(|place| object(&place, read)).unwrap_or_default()
}

/// Reads an array of objects.
fn list<T>(
    place: &Place,
    length: std::ops::RangeInclusive<usize>,
    read: impl Fn(&Fields) -> T,
) -> Option<Vec<T>> {
    let items = place.items(length)?;
    let read: Vec<Option<T>> = items.iter().map(|item| object(item, &read)).collect();
    read.into_iter().collect()
}

fn id_or_object(place: &Place) -> Option<IdOrObject> {
    match place.value() {
        Value::String(_) => Some(IdOrObject::Id(place.text()?.to_owned())),
        Value::Object(map) => Some(IdOrObject::Object(map.clone())),
        _ => {
            place.note("type", "this must be an id of the catalog (a string) or an object");
            None
        }
    }
}

fn cluster(fields: &Fields) -> Cluster {
    Cluster {
        device: fields.require("device").and_then(|place| id_or_object(&place)),
        devices: fields.require("devices").and_then(|place| place.small_integer(DEVICES)),
        link: fields.require("link").and_then(|place| link(&place)),
        nodes: fields.get("nodes").and_then(|place| place.small_integer(DEVICES)),
        devices_per_nvlink_domain: fields
            .get("devices_per_nvlink_domain")
            .and_then(|place| place.small_integer(DEVICES)),
        inter_node_link: fields.get("inter_node_link").and_then(|place| link(&place)),
    }
}

fn link(place: &Place) -> Option<Link> {
    match id_or_object(place)? {
        IdOrObject::Id(id) => Some(Link::Id(id)),
        IdOrObject::Object(_) => object(place, |fields| LinkNumbers {
            bandwidth_bytes_per_s: fields
                .require("bandwidth_bytes_per_s")
                .and_then(|place| place.number(1e6..=1e13)),
            latency_s: fields.require("latency_s").and_then(|place| place.number(0.0..=1.0)),
        })
        .map(Link::Numbers),
    }
}

fn parallelism(fields: &Fields) -> Parallelism {
    let devices = |name| fields.get(name).and_then(|place: Place| place.small_integer(DEVICES));
    Parallelism {
        attention_tensor: devices("attention_tensor"),
        attention_data: devices("attention_data"),
        expert_parallel: devices("expert_parallel"),
        expert_tensor: devices("expert_tensor"),
        pipeline: devices("pipeline"),
    }
}

fn workload(fields: &Fields) -> Workload {
    let tokens = |name| fields.get(name).and_then(|place: Place| place.integer(TOKENS));
    Workload {
        phase: fields.require("phase").and_then(|place| {
            place.one_of(&[(Phase::Prefill, "prefill"), (Phase::Decode, "decode")])
        }),
        batch_size: tokens("batch_size"),
        sequence_length: tokens("sequence_length"),
        kv_length: tokens("kv_length"),
        tokens_per_step: tokens("tokens_per_step"),
        dtype: fields.get("dtype").and_then(|place| place.one_of(&Dtype::ALL)),
        dtypes: optional(fields, "dtypes", |fields| {
            let dtype = |name| fields.get(name).and_then(|place: Place| place.one_of(&Dtype::ALL));
            Dtypes {
                weights: dtype("weights"),
                activations: dtype("activations"),
                kv: dtype("kv"),
                dispatch: dtype("dispatch"),
                combine: dtype("combine"),
            }
        }),
    }
}

fn engine(fields: &Fields) -> Engine {
    let text = |name| fields.get(name).and_then(|place: Place| place.text().map(ToOwned::to_owned));
    Engine {
        name: fields.require("name").and_then(|place| place.one_of(&engines::names())),
        version: text("version"),
        all2all_backend: text("all2all_backend"),
        moe_kernel: text("moe_kernel"),
        cuda_graph: fields.get("cuda_graph").and_then(|place| place.boolean()),
    }
}

fn routing(fields: &Fields) -> Routing {
    let text = |name| fields.get(name).and_then(|place: Place| place.text().map(ToOwned::to_owned));
    let routing = Routing {
        skewness: fields.get("skewness").and_then(|place| place.number(1.0..=65_536.0)),
        distribution_error: fields
            .get("distribution_error")
            .and_then(|place| place.number(0.0..=2.0)),
        power_law: fields.get("power_law").and_then(|place| {
            object(&place, |fields| PowerLaw {
                exponent: fields.require("exponent").and_then(|place| place.number(0.0..=16.0)),
            })
        }),
        expert_shares: fields.get("expert_shares").and_then(|place| expert_shares(&place)),
        balancedness: fields.get("balancedness").and_then(|place| place.number(1e-6..=1.0)),
        at_devices: fields.get("at_devices").and_then(|place| place.small_integer(DEVICES)),
        trace_id: text("trace_id"),
        trace_ids: fields.get("trace_ids").and_then(|place| {
            let items = place.items(1..=64)?;
            let read: Vec<_> = items.iter().map(|i| i.text().map(ToOwned::to_owned)).collect();
            read.into_iter().collect()
        }),
        train_fraction: fields.get("train_fraction").and_then(|place| place.number(0.01..=0.99)),
        holdout_trace_id: text("holdout_trace_id"),
    };
    only_one_form(fields, &routing);
    routing
}

/// Notes a routing that has no form, several, or a companion of another form.
fn only_one_form(fields: &Fields, routing: &Routing) {
    let has = |name: &'static str| fields.get(name).is_some();
    let forms = ["skewness", "power_law", "expert_shares", "balancedness", "trace_id", "trace_ids"];
    let given: Vec<&str> = forms.into_iter().filter(|form| has(form)).collect();
    if given.len() != 1 {
        let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        fields.note(
            "exactly_one",
            format!("exactly one of {} must be given; found {found}", forms.join(", ")),
        );
        return;
    }
    let form = given[0];
    for (companion, of) in [
        ("distribution_error", "skewness"),
        ("at_devices", "balancedness"),
        ("train_fraction", "trace_id"),
        ("holdout_trace_id", "trace_id"),
    ] {
        if has(companion) && form != of && !(companion == "train_fraction" && form == "trace_ids") {
            fields.note("exactly_one", format!("`{companion}` goes with `{of}`, not `{form}`"));
        }
    }
    if form == "balancedness" && !has("at_devices") {
        fields.note("required", "`balancedness` needs `at_devices`: the devices it was logged at");
    }
    if routing.train_fraction.is_some() && routing.holdout_trace_id.is_some() {
        fields.note("exactly_one", "give `train_fraction` or `holdout_trace_id`, not both");
    }
}

fn expert_shares(place: &Place) -> Option<Vec<Vec<f64>>> {
    let layers = place.items(1..=1024)?;
    let read: Vec<Option<Vec<f64>>> = layers
        .iter()
        .map(|layer| {
            let shares = layer.numbers(LIST, &(0.0..=1e18))?;
            if shares.iter().sum::<f64>() > 0.0 {
                Some(shares)
            } else {
                layer.note("sum", "the shares of a layer must not all be zero");
                None
            }
        })
        .collect();
    read.into_iter().collect()
}

fn predictor(fields: &Fields) -> Predictor {
    let predictor = Predictor {
        name: fields.get("name").and_then(|place| place.text().map(ToOwned::to_owned)),
        accuracy: fields.get("accuracy").and_then(|place| place.number(0.0..=1.0)),
        overhead_s: fields.get("overhead_s").and_then(|place| place.number(SECONDS)),
        points: fields.get("points").and_then(|place| {
            list(&place, 2..=1000, |fields| PredictorPoint {
                accuracy: fields.require("accuracy").and_then(|place| place.number(0.0..=1.0)),
                overhead_s: fields
                    .require("overhead_s")
                    .and_then(|place| place.number(1e-12..=60.0)),
            })
        }),
        fit: fields.get("fit").and_then(|place| place.one_of(&PredictorKind::ALL)),
    };
    let has = |name: &'static str| fields.get(name).is_some();
    // Beside `fit`, a time that was measured takes the place of the laws.
    let point = has("accuracy") || (has("overhead_s") && !has("fit"));
    if u8::from(point) + u8::from(has("points")) + u8::from(has("fit")) != 1 {
        fields.note(
            "exactly_one",
            "a predictor is a stated point (`accuracy` and `overhead_s`), a curve (`points`), or \
             `fit`; give exactly one",
        );
    } else if point && !(has("accuracy") && has("overhead_s")) {
        fields.note("required", "a stated point needs both `accuracy` and `overhead_s`");
    }
    if has("fit") && has("name") {
        fields.note("exactly_one", "a fitted predictor is named by its kind; leave `name` out");
    } else if (point || has("points")) && !has("name") {
        fields.note("required", "`name` is missing");
    }
    predictor
}

fn duplication(fields: &Fields) -> Duplication {
    Duplication {
        slots_per_device: fields
            .get("slots_per_device")
            .and_then(|place| place.small_integer(1..=4096)),
        max_copies: fields.get("max_copies").and_then(|place| place.small_integer(1..=4096)),
        algorithm: fields.get("algorithm").and_then(|place| place.one_of(&Algorithm::ALL)),
        allow_duplicates: fields.get("allow_duplicates").and_then(|place| place.boolean()),
        groups: fields.get("groups").and_then(|place| place.one_of(&Grouping::ALL)),
    }
}

fn rebalance(fields: &Fields) -> Rebalance {
    Rebalance {
        mode: fields.get("mode").and_then(|place| place.one_of(&RebalanceMode::ALL)),
        interval_steps: fields
            .get("interval_steps")
            .and_then(|place| place.integer(1..=1_000_000_000)),
        window_steps: fields.get("window_steps").and_then(|place| place.integer(1..=1_000_000_000)),
    }
}

fn current(fields: &Fields) -> Current {
    Current {
        strategy: fields.get("strategy").and_then(|place| place.one_of(&Strategy::ALL)),
        physical_to_logical: fields.get("physical_to_logical").and_then(|place| {
            let layers = place.items(1..=1024)?;
            let row = |layer: &Place| -> Option<Vec<u32>> {
                let slots = layer.items(LIST)?;
                let read: Vec<_> =
                    slots.iter().map(|slot| slot.small_integer(0..=65_535)).collect();
                read.into_iter().collect()
            };
            let read: Vec<_> = layers.iter().map(row).collect();
            read.into_iter().collect()
        }),
        slots_per_device: fields
            .get("slots_per_device")
            .and_then(|place| place.small_integer(1..=4096)),
    }
}

fn measured_layer(fields: &Fields) -> MeasuredLayer {
    let seconds = |name| fields.require(name).and_then(|place: Place| place.number(SECONDS));
    MeasuredLayer {
        attention_s: seconds("attention_s"),
        all_reduce_s: seconds("all_reduce_s"),
        expert_ffn_balanced_s: seconds("expert_ffn_balanced_s"),
    }
}

fn assumptions(fields: &Fields) -> Assumptions {
    Assumptions {
        preset: fields.get("preset").and_then(|place| place.one_of(&Preset::ALL)),
        error_model: fields.get("error_model").and_then(|place| place.one_of(&ErrorModel::ALL)),
        cap_at_baseline: fields.get("cap_at_baseline").and_then(|place| place.boolean()),
        communication: fields
            .get("communication")
            .and_then(|place| place.one_of(&Communication::ALL)),
        t2e_skips_scatter: fields.get("t2e_skips_scatter").and_then(|place| place.boolean()),
        predictor_overlap: fields
            .get("predictor_overlap")
            .and_then(|place| place.one_of(&PredictorOverlap::ALL)),
        overlap: fields.get("overlap").and_then(|place| place.one_of(&Overlap::ALL)),
        k_comm: fields.get("k_comm").and_then(|place| place.number(0.0..=64.0)),
        launch_s: fields.get("launch_s").and_then(|place| place.number(0.0..=1.0)),
        attention_imbalance: fields
            .get("attention_imbalance")
            .and_then(|place| place.number(1.0..=100.0)),
        replica_split: fields
            .get("replica_split")
            .and_then(|place| place.one_of(&ReplicaSplit::ALL)),
        seed: fields.get("seed").and_then(|place| place.integer(0..=u64::MAX)),
    }
}
