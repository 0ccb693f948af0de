//! Whole servers: the steps they make ([`Serving`]), each priced at the loads that recordings show.
//!
//! ```text
//! step = Σ MoE layers + Σ dense layers + norm and product of the vocabulary
//! ```
//!
//! Mapping and exclusions are those of `docs/accuracy-serving.md`, which says why nothing is charged between steps.

use crate::validate::measured::{Op, ServerCase};
use crate::validate::price::{Estimate, Unpriced};
use crate::validate::profiles::Profiles;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::engines::defaults;
use moe_gps_core::formats::model_toml::ModelSheet;
use moe_gps_core::hardware::Device;
use moe_gps_core::pricing::layer::LayerCosts;
use moe_gps_core::routing::normalised;
use moe_gps_core::seed::{Purpose, stream};
use moe_gps_core::serving::{ServedStep, Serving};
use moe_gps_core::system::{
    Assumptions, Cluster, Dtype, Dtypes, Operands, Parallelism, Preset, ServingEngine, System,
    Workload,
};
use moe_gps_core::units::Seconds;
use rand_distr::{Distribution, StandardNormal};

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
    let times: Option<Vec<Seconds>> = steps.iter().map(|step| time_of(&mut system, step)).collect();
    let times = times.ok_or_else(|| Unpriced::Stack(device.name.clone()))?;
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
    let experts = &model.experts;
    let shares = recorded_shares(experts.routed);
    let groups = system.parallelism.expert_parallel;
    let terms = layer.at_expected_loads(&shares, experts.top_k, groups);
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

/// Shares of the experts of a layer, none recorded: log-normal, in an order of their own.
///
/// σ is that of recordings, √ln(1 + (standard deviation over mean)²), mean over layers: 0.69 in DeepSeek-V3's decode
/// of 1,000 tokens after 1,000 (sgl-project/sglang, issue 6017), the one recording of decode that there is; 0.2 for
/// Mixtral-8x7B on MMLU. Of 4, 16, 32 and 64 tokens DeepSeek's reach 0.97, 0.91, 0.88 and 0.89 times as many experts
/// as under even routing; these shares say 0.97, 0.91, 0.87 and 0.88.
fn recorded_shares(experts: u32) -> Vec<f64> {
    let spread = if experts <= 16 { 0.2 } else { 0.69 };
    let mut rng = stream(0, Purpose::ExpertOrder, u64::from(experts));
    let drawn = |_| f64::exp(spread * Distribution::<f64>::sample(&StandardNormal, &mut rng));
    normalised(&(0..experts).map(drawn).collect::<Vec<_>>())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_reach_as_many_experts_as_recorded_ones() {
        let shares = recorded_shares(256);
        let reached = |tokens: i32| -> f64 {
            let even = 256.0 * (1.0 - (1.0 - 8.0 / 256.0_f64).powi(tokens));
            shares.iter().map(|share| 1.0 - (1.0 - 8.0 * share).powi(tokens)).sum::<f64>() / even
        };
        for (tokens, recorded) in [(4, 0.97), (16, 0.91), (32, 0.88), (64, 0.89)] {
            let ours = reached(tokens);
            assert!((ours - recorded).abs() < 0.02, "{tokens}: {ours} for {recorded}");
        }
    }
}
