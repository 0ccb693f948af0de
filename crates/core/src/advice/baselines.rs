//! What is priced beside the strategies and never chosen: ways not to need balancing.

use crate::advice::pricing::Pricing;
use crate::pricing::layer::LayerCosts;
use crate::question::Question;
use crate::routing::sample::{Chances, Draws};
use crate::routing::{by_share, in_order};
use crate::system::{Communication, Dtype, Parallelism, Preset, System};
use crate::units::Seconds;

/// Time of a linear programme that balances a batch after the gate.
///
/// About 100 µs on a GPU: LPLB (DeepSeek), as its authors state.
const SOLVER: Seconds = Seconds::new(100e-6);

/// A priced reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Its id on the wire.
    pub id: &'static str,
    /// What it stands for.
    pub what: &'static str,
    /// Latency of one layer.
    pub layer_latency: Seconds,
}

/// The references of a question; none in paper mode, which has no formulas for them.
pub(crate) fn price(
    question: &Question,
    pricing: &Pricing,
    balanced: Option<Seconds>,
) -> Vec<Reference> {
    if question.system.assumptions.preset == Preset::Paper {
        return Vec::new();
    }
    let mut references = Vec::new();
    if let Some(layer_latency) = tensor_experts(question, pricing) {
        references.push(Reference {
            id: "tensor_experts",
            what: "no expert parallelism: every expert sharded over all devices, one all-reduce",
            layer_latency,
        });
    }
    if let Some(balanced) = balanced {
        references.push(Reference {
            id: "post_gate_split",
            what: "tokens split exactly after the gate, with the solver's time",
            layer_latency: balanced + SOLVER,
        });
        references.push(Reference {
            id: "balanced",
            what: "perfect balance at no cost: the ceiling",
            layer_latency: balanced,
        });
    }
    references
}

/// The narrowest shard of an expert that kernels multiply.
const NARROWEST: u32 = 64;
/// Columns that share a scale in block-wise 8-bit floats (DeepSeek-V3, section 3.3.2).
const SCALED_BLOCK: u32 = 128;

/// Whether an engine can shard every expert over so many devices: shards are whole and no narrower
/// than kernels take, 8-bit ones hold whole blocks of scales, and all devices reach each other over
/// the link inside a node.
fn is_built(system: &System, n_shards: u32) -> bool {
    let width = system.model.experts.intermediate;
    let shard = width / n_shards.max(1);
    let has_blocks = matches!(system.workload.dtypes.experts, Dtype::Fp8 | Dtype::Fp8Block);
    width.is_multiple_of(n_shards)
        && shard >= NARROWEST
        && (!has_blocks || shard.is_multiple_of(SCALED_BLOCK))
        && n_shards <= system.cluster.devices_per_node
}

/// Experts sharded over all devices: no imbalance, every device reads a part of every
/// active expert, an all-reduce combines.
fn tensor_experts(question: &Question, pricing: &Pricing) -> Option<Seconds> {
    let mut system = question.system.clone();
    let Parallelism { expert_parallel, expert_tensor, .. } = system.parallelism;
    if !is_built(&system, expert_parallel * expert_tensor) {
        return None;
    }
    system.parallelism.expert_parallel = 1;
    system.parallelism.expert_tensor = expert_parallel * expert_tensor;
    let tokens = system.workload.tokens_per_step as f64;
    let costs = LayerCosts::new(&system, Communication::Replicated, None, tokens)?;
    let top_k = system.model.experts.top_k;
    let layers = &pricing.layers;
    let mut sum = Seconds::ZERO;
    for (index, layer) in layers.iter().enumerate() {
        let mut counts = vec![0.0; layer.truth.len()];
        let draws = Draws::new(question.seed, index as u64, 2, counts.len());
        let shares = in_order(&layer.truth, &by_share(&layer.truth));
        draws.counts(0, &Chances::new(&shares, tokens, top_k), &mut counts);
        sum += costs.terms(&costs.one_device_step(&counts)).total();
    }
    (!layers.is_empty()).then(|| sum / layers.len() as f64)
}
