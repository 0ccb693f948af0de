//! Whole servers: the steps they make ([`Serving`]), each priced at even loads of its experts.
//!
//! ```text
//! step = Σ MoE layers + Σ dense layers + norm and product of the vocabulary + t_e
//! ```
//!
//! `t_e` is what an engine takes between steps: scheduling, sampling, detokenising. Mapping, exclusions
//! and the constants are those of `docs/accuracy-serving.md`.

use crate::validate::measured::{Op, ServerCase};
use crate::validate::price::{Estimate, Unpriced};
use crate::validate::profiles::Profiles;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::engines::{Engine, defaults, sglang, tensorrt_llm, vllm};
use moe_gps_core::formats::model_toml::ModelSheet;
use moe_gps_core::hardware::Device;
use moe_gps_core::pricing::layer::LayerCosts;
use moe_gps_core::serving::{ServedStep, Serving};
use moe_gps_core::system::{
    Assumptions, Cluster, Dtype, Dtypes, Operands, Parallelism, Preset, ServingEngine, System,
    Workload,
};
use moe_gps_core::units::Seconds;

/// What an engine takes between two steps.
///
/// Source: the median of what the rows of `nvidia_end_to_end_moe.csv` take beyond the laws at 1 to 8
/// requests, by engine.
fn between_steps(engine: &Engine) -> Seconds {
    let overheads = [(&vllm::ENGINE, 0.0), (&sglang::ENGINE, 0.0), (&tensorrt_llm::ENGINE, 0.0)];
    let found = overheads.iter().find(|(of, _)| *of == engine);
    Seconds::new(found.map_or(0.0, |(_, time)| *time))
}

/// Prices the first token or the time between two.
pub fn price(
    case: &ServerCase,
    op: Op,
    device: &Device,
    profiles: &Profiles,
) -> Result<Estimate, Unpriced> {
    let model = sheet(&case.model).ok_or(Unpriced::NoLaw("a model that is not in the catalog"))?;
    let link = |id: &str| profiles.link(id).cloned().ok_or_else(|| Unpriced::Link(id.to_owned()));
    let [tensor, replicas] = case.attention;
    let [sharded, groups] = case.experts;
    let devices = tensor * replicas;
    if devices != sharded * groups || case.pipeline != 1 {
        return Err(Unpriced::NoLaw("attention and experts on different numbers of devices"));
    }
    let profile = device.collectives.as_deref();
    let inner = link(profile.map_or("nvlink4", |profile| &profile.link))?;
    let per_node = devices.min(8);
    let outer = profile.and_then(|profile| profile.inter_node_link.as_deref());
    let outer = (devices > per_node).then(|| link(outer.unwrap_or("ib400"))).transpose()?;
    let serving = Serving {
        input_tokens: case.tokens[0],
        output_tokens: case.tokens[1],
        concurrency: case.concurrency,
        max_batched_tokens: (case.engine.batched_tokens * u64::from(replicas))
            .max(2 * case.concurrency),
        replicas: u64::from(replicas),
        scheduling: case.engine.scheduling,
        speculation: None,
    };
    let [weights, experts] = case.products.map(|operands| settled(device, operands));
    let dtypes = Dtypes { weights, experts, ..Dtypes::all(Dtype::Bf16) };
    let steps = serving.steps(dtypes);
    let mut system = System {
        model: model.model.clone(),
        cluster: Cluster {
            device: device.clone(),
            n_devices: devices,
            devices_per_node: per_node,
            link: inner,
            inter_node_link: outer,
        },
        parallelism: Parallelism {
            attention_tensor: tensor,
            attention_data: replicas,
            expert_parallel: groups,
            expert_tensor: sharded,
            pipeline: 1,
        },
        workload: Workload::prefill(1, 1, Dtype::Bf16),
        engine: Some(ServingEngine {
            kind: case.engine,
            version: None,
            all2all_backend: None,
            moe_kernel: None,
            cuda_graph: None,
        }),
        assumptions: Assumptions::preset(Preset::Calibrated),
    };
    let mut times = Vec::new();
    for step in &steps {
        let time =
            time_of(&mut system, step).ok_or_else(|| Unpriced::Stack(device.name.clone()))?;
        times.push(time + between_steps(case.engine));
    }
    let served = serving.times(&steps, &times);
    let time = match op {
        Op::Ttft => served.first_token,
        _ => served.per_output_token,
    };
    let time = time.ok_or(Unpriced::NoLaw("one token of output has no time between two"))?;
    Ok(Estimate::of(time))
}

fn time_of(system: &mut System, step: &ServedStep) -> Option<Seconds> {
    system.workload = step.workload;
    let pattern = defaults::communication(system).pattern;
    let tokens = system.workload.tokens_per_step as f64;
    let layer = LayerCosts::new(system, pattern, None, tokens)?;
    let model = &system.model;
    let groups = f64::from(system.parallelism.expert_parallel);
    let terms = layer.at_even_loads(&model.experts, f64::from(model.experts.routed) / groups);
    // One row of logits for every sequence that gets a token, the vocabulary spread over attention.
    let share = f64::from(system.parallelism.attention_data);
    let rows = ((step.workload.sequences + step.workload.decoding()) as f64 / share).max(1.0);
    let columns = f64::from(model.vocabulary) / f64::from(system.parallelism.attention_tensor);
    let logits = layer.laws.router_gemm.time(rows, columns, f64::from(model.hidden_size));
    Some(
        terms.total() * f64::from(model.moe_layers)
            + layer.dense_layer * f64::from(model.dense_layers)
            + logits,
    )
}

/// The catalog's model of a Hugging Face id; a quantised repository is that of the model.
fn sheet(id: &str) -> Option<&'static ModelSheet> {
    let catalog = Catalog::embedded();
    let plain = ["-FP8", "-fp8", "-NVFP4", "-FP4", "-AWQ", "-INT4"]
        .into_iter()
        .find_map(|suffix| id.strip_suffix(suffix))
        .unwrap_or(id);
    let last = plain.rsplit('/').next().unwrap_or(plain).to_lowercase();
    let found = [id, plain, &last].into_iter().find_map(|id| catalog.model(id).ok());
    found.map(|entry| &entry.value)
}

/// Formats that a device without such products multiplies in 16 bits.
fn settled(device: &Device, operands: Operands) -> Operands {
    if device.peak.has(operands.computed) {
        return operands;
    }
    Operands::of(operands.stored, Dtype::Bf16)
}
