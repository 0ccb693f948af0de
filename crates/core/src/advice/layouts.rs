//! Other layouts of the same devices that the engine can build, priced without any balancing.
//!
//! A layout spreads attention over tensor-parallel groups and replicas of them, and experts over
//! expert-parallel groups and shards. An engine builds a layout if heads, experts and the width of
//! an expert divide, if shards are no narrower than kernels take, 8-bit ones hold whole blocks of
//! scales, and tensor-parallel groups and shards stay inside a node; which mixed ones it builds is
//! [`Engine::layouts`](crate::engines::Engine::layouts). Experts stand in order, as engines start.

use crate::advice::pricing::{Pricing, kept};
use crate::engines;
use crate::evaluate::sampled_steps::Effort;
use crate::memory::{MemoryBudget, MemoryPlan, SystemMemory};
use crate::pricing::kinds::{Kind, kinds};
use crate::pricing::layer::LayerCosts;
use crate::pricing::planner::Planner;
use crate::pricing::slot_shares::SlotShares;
use crate::question::Question;
use crate::routing::LayerRouting;
use crate::serving::Serving;
use crate::system::{Communication, Dtype, Parallelism, System};
use crate::units::Seconds;

/// One layout with what it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// How the model is spread.
    pub parallelism: Parallelism,
    /// Latency of one layer, experts in order.
    pub layer_latency: Seconds,
    /// Latency of a step of the whole model.
    pub model_latency: Seconds,
    /// Memory of one device.
    pub memory: MemoryBudget,
}

/// Layers that a layout is priced on, evenly spaced, and steps drawn of each.
const LAYERS: usize = 8;
const STEPS: Effort = Effort { steps: 16, per_layer: 2 };

/// Every layout of the question's devices that its engine can build, those that fit first, the
/// fastest first.
pub(crate) fn all(question: &Question, pricing: &Pricing) -> Vec<Layout> {
    let n_layers = pricing.layers.len();
    let n = n_layers.min(LAYERS);
    let layers: Vec<LayerRouting> =
        (0..n).map(|index| pricing.layers[index * n_layers / n].clone()).collect();
    let mut asked = question.clone();
    asked.current = None;
    let mut found: Vec<Layout> = buildable(&question.system)
        .into_iter()
        .filter_map(|parallelism| {
            asked.system.parallelism = parallelism;
            let replicas = u64::from(parallelism.attention_data);
            if let Some(serving) = asked.serving {
                asked.serve(Serving { replicas, ..serving });
            }
            priced(&asked, &layers)
        })
        .collect();
    found.sort_by(|a, b| {
        let key = |layout: &Layout| (!layout.memory.fits(), layout.model_latency.get());
        let ((a_lacks, a), (b_lacks, b)) = (key(a), key(b));
        a_lacks.cmp(&b_lacks).then(a.total_cmp(&b))
    });
    found
}

/// The layouts that the engine of `system` can build of its devices.
fn buildable(system: &System) -> Vec<Parallelism> {
    let Parallelism { pipeline, .. } = system.parallelism;
    let stage = system.cluster.n_devices / pipeline.max(1);
    let mixes = system.engine_kind().layouts;
    let model = &system.model;
    let divisors = || (1..=stage).filter(|part| stage.is_multiple_of(*part));
    let is_pure = |part: u32| part == 1 || part == stage;
    let tensor = |tensor: &u32| {
        *tensor <= system.cluster.devices_per_node
            && model.attention.heads().is_multiple_of(*tensor)
            && (is_pure(*tensor) || mixes.mixes_attention)
    };
    let spread = |group: &u32| {
        model.experts.routed.is_multiple_of(*group)
            && is_sharded(system, stage / group)
            && (is_pure(*group) || mixes.mixes_experts)
    };
    let of = |attention_tensor: u32| {
        divisors().filter(spread).map(move |expert_parallel| Parallelism {
            attention_tensor,
            attention_data: stage / attention_tensor,
            expert_parallel,
            expert_tensor: stage / expert_parallel,
            pipeline,
        })
    };
    divisors().filter(tensor).flat_map(of).collect()
}

/// The narrowest shard of an expert that kernels multiply.
const NARROWEST: u32 = 64;
/// Columns that share a scale in block-wise 8-bit floats (DeepSeek-V3, section 3.3.2).
const SCALED_BLOCK: u32 = 128;

/// Whether every expert can be sharded over so many devices.
fn is_sharded(system: &System, n_shards: u32) -> bool {
    let width = system.model.experts.intermediate;
    let shard = width / n_shards.max(1);
    let has_blocks = matches!(system.workload.dtypes.experts.stored, Dtype::Fp8 | Dtype::Fp8Block);
    n_shards == 1
        || (width.is_multiple_of(n_shards)
            && shard >= NARROWEST
            && (!has_blocks || shard.is_multiple_of(SCALED_BLOCK))
            && n_shards <= system.cluster.devices_per_node)
}

fn priced(question: &Question, layers: &[LayerRouting]) -> Option<Layout> {
    let system = &question.system;
    let Parallelism { attention_data, expert_parallel, .. } = system.parallelism;
    let pattern = engines::defaults::communication(system).pattern;
    let sharded = match attention_data {
        1 => Communication::Replicated,
        _ => Communication::AllgatherReducescatter,
    };
    let planner = Planner::new(question);
    let map = planner.trivial().ok()?;
    let placed: Vec<SlotShares> =
        layers.iter().map(|layer| planner.placed(map.clone(), &layer.forecast)).collect();
    let (mut layer_latency, mut dense_layer) = (Seconds::ZERO, Seconds::ZERO);
    for Kind { share, question, pattern } in kinds(question, pattern) {
        let pattern = if expert_parallel == 1 { sharded } else { pattern };
        let tokens = question.system.workload.tokens_per_step as f64;
        let costs = LayerCosts::new(&question.system, pattern, None, tokens)?;
        layer_latency += kept(&question, &costs, layers, placed.clone(), STEPS) * share;
        dense_layer += costs.dense_layer * share;
    }
    let plan = MemoryPlan { slots_per_device: planner.base_slots, double_buffer: false };
    Some(Layout {
        parallelism: system.parallelism,
        layer_latency,
        model_latency: question.whole_step(layer_latency, dense_layer),
        memory: SystemMemory::new(system, system.cluster.device.memory).under(plan),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::system;
    use crate::engines::{Engine, sglang, tensorrt_llm, vllm};
    use crate::system::ServingEngine;

    fn layouts(system: &System, kind: &'static Engine) -> Vec<[u32; 4]> {
        let engine = ServingEngine {
            kind,
            version: None,
            all2all_backend: None,
            moe_kernel: None,
            cuda_graph: None,
        };
        buildable(&System { engine: Some(engine), ..system.clone() })
            .iter()
            .map(|layout| {
                [
                    layout.attention_tensor,
                    layout.attention_data,
                    layout.expert_parallel,
                    layout.expert_tensor,
                ]
            })
            .collect()
    }

    #[test]
    fn engines_mix_layouts_as_their_flags_allow() {
        let four = system(4, 4, 512);
        let pure = [[1, 4, 1, 4], [1, 4, 4, 1], [4, 1, 1, 4], [4, 1, 4, 1]];
        assert_eq!(
            layouts(&four, &vllm::ENGINE),
            [&pure[..2], &[[2, 2, 1, 4], [2, 2, 4, 1]], &pure[2..]].concat()
        );
        let tensorrt = layouts(&four, &tensorrt_llm::ENGINE);
        assert!(tensorrt.contains(&[4, 1, 2, 2]) && !tensorrt.contains(&[2, 2, 4, 1]));
        assert_eq!(layouts(&four, &sglang::ENGINE).len(), 9);
    }

    #[test]
    fn shards_are_whole_wide_enough_and_inside_a_node() {
        let mut two_nodes = system(16, 8, 512);
        assert!(layouts(&two_nodes, &vllm::ENGINE).iter().all(|layout| layout[3] == 1));
        two_nodes.cluster.devices_per_node = 16;
        assert!(layouts(&two_nodes, &vllm::ENGINE).contains(&[16, 1, 1, 16]));
        two_nodes.model.experts.intermediate = 1408;
        two_nodes.workload.dtypes.experts.stored = Dtype::Fp8;
        two_nodes.cluster.n_devices = 4;
        assert!(layouts(&two_nodes, &vllm::ENGINE).iter().all(|layout| layout[3] == 1));
    }
}
