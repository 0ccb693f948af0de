//! What fits into the memory of one device, and what replicas take from the KV cache.
//!
//! ```text
//! weights  = layers/pp · (attention + other mixers + dense + shared)/tp + experts held + embeddings/tp + small parts
//! kv/token = layers/pp · width; grouped: 2 · ceil(g/tp) · w, latent: rank + rotary; index keys whole
//! sequence = context · kv/token + windows + states/tp
//! reserve  = max(10 % of capacity, activations + buffers)
//! free     = capacity − reserve − weights − replicas − double buffer
//! ```
//!
//! `tp` devices share one attention, `pp` pipeline stages share the layers, `g` KV heads
//! of width `w`: with more devices than heads each device keeps a copy of one head, and
//! the latent stream is kept whole on every device. Windowed layers hold at most their
//! window. Source: the layouts of vLLM and SGLang; the reserve of 10 % is an assumption (graphs,
//! fragmentation, the activations of small steps); `memory/working.rs` has the rest. SGLang sizes a static
//! pool beforehand, whose complement activations and buffers must fit into. Valid for experts divided evenly. Worked number:
//! Mixtral 8x7B, bf16, on 4 devices: 23.5 GB of weights and 32 KiB of KV per token.

mod working;

use crate::model::parameters::ParameterCounts;
use crate::model::{Attention, Model};
use crate::system::{Dtype, Parallelism, Quantization, Running, System};
use crate::units::Bytes;

/// Share of the memory kept free for graphs, fragmentation and the activations of small steps.
pub const RESERVE: f64 = 0.1;

/// What a strategy wants to keep on every device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Expert slots of every device and layer; fewer than E/N counts as E/N.
    pub slots_per_device: u32,
    /// Whether the next layer's copies arrive beside those in use (`token_to_expert`).
    pub double_buffer: bool,
}

/// The memory of one device under a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryBudget {
    /// Memory of the device.
    pub capacity: Bytes,
    /// Kept free: activations and buffers of the step, or a tenth where they are less.
    pub reserve: Bytes,
    /// Weights without any replica.
    pub weights: Bytes,
    /// Replicas of experts, over all layers.
    pub replicas: Bytes,
    /// Room for the copies of one more layer.
    pub double_buffer: Bytes,
    /// KV cache that the workload needs.
    pub kv_needed: Bytes,
    /// What is lacking for all of it; zero if it fits.
    pub missing: Bytes,
    /// KV cache of one token at the workload's context, on one device.
    pub kv_bytes_per_token: Bytes,
    /// Tokens of KV cache that fit beside weights and replicas, per device.
    pub kv_tokens_capacity: f64,
    /// Tokens of KV cache given up for replicas and double buffer, per device.
    pub kv_tokens_lost_to_replicas: f64,
    /// Sequences of the workload's context that fit at once, over all devices, without
    /// replicas.
    pub max_concurrent_sequences_before: u64,
    /// The same with the plan's replicas.
    pub max_concurrent_sequences_after: u64,
}

/// What of a budget no plan changes.
#[derive(Debug, Clone, Copy)]
pub struct SystemMemory {
    capacity: Bytes,
    activations: Bytes,
    buffers_per_slot: Bytes,
    /// Slots of all devices, over the slots of one.
    devices: f64,
    /// What is left beside a pool of static size, where the engine has one.
    beside_pool: Option<Bytes>,
    weights: Bytes,
    /// A routed expert of one layer.
    expert: Bytes,
    moe_layers: f64,
    base_slots: f64,
    kv_per_sequence: Bytes,
    kv_needed: Bytes,
    kv_bytes_per_token: Bytes,
    attention_data: f64,
}

impl SystemMemory {
    /// The memory of `system` on devices of `capacity` bytes.
    #[must_use]
    pub fn new(system: &System, capacity: Bytes) -> Self {
        let counts = system.model.parameters();
        let kv_per_sequence = kv_bytes_per_sequence(system);
        Self {
            capacity,
            activations: working::activations(system),
            buffers_per_slot: working::buffers_per_slot(system),
            devices: f64::from(system.parallelism.expert_parallel),
            beside_pool: system.engine_kind().static_pool.map(|pool| capacity * (1.0 - pool)),
            weights: weights(system, &counts),
            expert: bytes_of_expert(system, &counts),
            moe_layers: moe_layers_per_device(system),
            base_slots: base_slots(system),
            kv_per_sequence,
            kv_needed: kv_per_sequence * sequences_per_device(system),
            kv_bytes_per_token: kv_per_sequence / (system.workload.held().1.max(1) as f64),
            attention_data: f64::from(system.parallelism.attention_data),
        }
    }

    /// The budget under `plan`.
    #[must_use]
    pub fn under(&self, plan: MemoryPlan) -> MemoryBudget {
        let Self { capacity, weights, kv_needed, kv_bytes_per_token, .. } = *self;
        let slots = f64::from(plan.slots_per_device).max(self.base_slots);
        let working = self.activations + self.buffers_per_slot * (slots * self.devices);
        let reserve = working.max(capacity * RESERVE);
        let extra_slots = (f64::from(plan.slots_per_device) - self.base_slots).max(0.0);
        let one_layer = self.expert * extra_slots;
        let replicas = one_layer * self.moe_layers;
        let double_buffer = if plan.double_buffer { one_layer } else { Bytes::ZERO };
        let without = capacity - reserve - weights;
        let with = without - replicas - double_buffer;
        let fit = |free: Bytes, each: Bytes| {
            if each.get() > 0.0 { (free.max(Bytes::ZERO) / each).floor() } else { 0.0 }
        };
        let tokens = |free: Bytes| fit(free, kv_bytes_per_token);
        let sequences = |free: Bytes| whole(fit(free, self.kv_per_sequence) * self.attention_data);
        MemoryBudget {
            capacity,
            reserve,
            weights,
            replicas,
            double_buffer,
            kv_needed,
            missing: (kv_needed - with)
                .max(self.beside_pool.map_or(Bytes::ZERO, |room| working - room))
                .max(Bytes::ZERO),
            kv_bytes_per_token,
            kv_tokens_capacity: tokens(with),
            kv_tokens_lost_to_replicas: tokens(without) - tokens(with),
            max_concurrent_sequences_before: sequences(without),
            max_concurrent_sequences_after: sequences(with),
        }
    }
}

impl MemoryBudget {
    /// Whether everything fits.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.missing <= Bytes::ZERO
    }
}

/// What would fit where `system` does not, in words: the largest batch on its devices, attention cut
/// over more of them in place of replicas, and the fewest devices for its batch.
///
/// Devices are added as whole multiples, as replicas of attention and to the group of experts.
#[must_use]
pub fn way_out(system: &System) -> String {
    let length = system.workload.tokens_per_step as f64 / system.workload.sequences.max(1) as f64;
    let with_batch = |sequences: u64| {
        let mut smaller = system.clone();
        smaller.workload.sequences = sequences;
        smaller.workload.running =
            system.workload.running.map(|running| Running { held: sequences, ..running });
        smaller.workload.tokens_per_step = whole(sequences as f64 * length).max(1);
        smaller
    };
    // The largest batch that fits lies in [fits, too_many).
    let (mut fits, mut too_many) = (0, system.workload.sequences);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        if holds(&with_batch(middle)) { fits = middle } else { too_many = middle }
    }
    let batch = match fits {
        0 => "no batch fits on these devices".to_owned(),
        _ => format!("the largest batch that fits is {fits} sequences"),
    };
    let cut_over = |times: u32| {
        let mut cut = system.clone();
        cut.parallelism.attention_tensor *= times;
        cut.parallelism.attention_data /= times;
        cut
    };
    let is_built = |cut: &System| {
        let Parallelism { attention_tensor: tensor, attention_data: replicas, .. } =
            cut.parallelism;
        tensor <= system.cluster.devices_per_node
            && system.model.attention.heads().is_multiple_of(tensor)
            && (replicas == 1 || system.engine_kind().layouts.mixes_attention)
    };
    // Weights of attention are held once a replica of it.
    let cut = (2..=system.parallelism.attention_data)
        .filter(|times| system.parallelism.attention_data.is_multiple_of(*times))
        .map(cut_over)
        .find(|cut| is_built(cut) && holds(cut))
        .map_or_else(String::new, |cut| {
            format!(
                "; this one fits with `attention_tensor` {} and `attention_data` {}",
                cut.parallelism.attention_tensor, cut.parallelism.attention_data
            )
        });
    let batch = format!("{batch}{cut}");
    let with_devices = |times: u32| {
        let mut larger = system.clone();
        larger.cluster.n_devices *= times;
        larger.parallelism.attention_data *= times;
        larger.parallelism.expert_parallel *= times;
        larger
    };
    let experts = system.model.experts.routed;
    let devices = (2..=experts)
        .filter(|times| experts.is_multiple_of(system.parallelism.expert_parallel * times))
        .map(with_devices)
        .find(holds);
    match devices {
        Some(larger) => {
            format!("{batch}; this one fits from {} devices on", larger.cluster.n_devices)
        }
        None => {
            format!("{batch}; more devices do not help while a replica of attention is as small")
        }
    }
}

/// Whether a system fits without any replica.
fn holds(system: &System) -> bool {
    let plan = MemoryPlan { slots_per_device: 0, double_buffer: false };
    SystemMemory::new(system, system.cluster.device.memory).under(plan).fits()
}

/// Bytes of one routed expert on one device (a part of it if its matrices are shared).
#[must_use]
pub fn expert_bytes(system: &System) -> Bytes {
    bytes_of_expert(system, &system.model.parameters())
}

fn bytes_of_expert(system: &System, counts: &ParameterCounts) -> Bytes {
    let shared_by = f64::from(system.parallelism.expert_tensor);
    Bytes::new(bytes_of_one_expert(counts, system.workload.dtypes.experts.stored) / shared_by)
}

/// Bytes of one whole routed expert; its biases keep 16 bits.
fn bytes_of_one_expert(counts: &ParameterCounts, format: Dtype) -> f64 {
    let small = counts.routed_expert_small;
    let matrices = (counts.routed_expert - small) as f64;
    matrices * format.bytes() + small as f64 * format.bytes().max(Dtype::Bf16.bytes())
}

/// Bytes of all weights on one device, without replicas.
fn weights(system: &System, counts: &ParameterCounts) -> Bytes {
    let model = &system.model;
    let Parallelism { attention_tensor, pipeline, .. } = system.parallelism;
    let (tp, pp) = (f64::from(attention_tensor), f64::from(pipeline));
    let matrices = system.workload.dtypes.weights.stored.bytes();
    // Routers, norms and embeddings are not quantised below 16 bits.
    let small = matrices.max(Dtype::Bf16.bytes());
    let layers = f64::from(model.layers());
    let moe_layers = f64::from(model.moe_layers);
    let sharded = f64::from(model.attention_layers) * counts.attention_per_layer as f64
        + counts.other_mixers as f64
        + f64::from(model.cross_attention_layers) * counts.cross_attention_per_layer as f64
        + moe_layers * counts.shared_experts_per_layer as f64
        + f64::from(model.dense_layers) * counts.dense_ffn_per_layer as f64;
    let replicated =
        layers * counts.norms_per_layer as f64 + moe_layers * counts.router_per_layer as f64;
    let outside = counts.embeddings as f64 / tp + counts.outside_layers as f64;
    let drafting = f64::from(drafting_layers(system));
    let experts = base_slots(system) * (moe_layers / pp + drafting);
    // Layers that draft are on the last stage.
    let drafting = drafting * model.drafting_layer(0) as f64 / tp;
    Bytes::new((sharded / tp / pp + drafting) * matrices + (replicated / pp + outside) * small)
        + bytes_of_expert(system, counts) * experts
}

/// Layers that are kept to draft tokens.
fn drafting_layers(system: &System) -> u32 {
    system.workload.speculation.map_or(0, |_| system.model.mtp_layers)
}

/// Bytes of all weights of a model in these formats, over all devices that hold one of each; routers,
/// norms and embeddings keep 16 bits.
#[must_use]
pub fn weight_bytes(model: &Model, formats: Quantization) -> Bytes {
    let counts = model.parameters();
    let experts = f64::from(model.moe_layers) * f64::from(model.experts.routed);
    let small = counts.embeddings
        + counts.outside_layers
        + u64::from(model.layers()) * counts.norms_per_layer
        + u64::from(model.moe_layers) * counts.router_per_layer;
    let all = counts.total as f64 - experts * counts.routed_expert as f64 - small as f64;
    let wide = formats.rest.bytes().max(Dtype::Bf16.bytes());
    Bytes::new(
        experts * bytes_of_one_expert(&counts, formats.experts)
            + all * formats.rest.bytes()
            + small as f64 * wide,
    )
}

/// What one sequence of the workload's context keeps on one device: keys and values, index keys,
/// windows and states.
#[must_use]
pub fn kv_bytes_per_sequence(system: &System) -> Bytes {
    let model = &system.model;
    let tp = system.parallelism.attention_tensor;
    let width = |shape: &Attention| match shape {
        Attention::Grouped { kv_heads, head_dim, v_head_dim, .. } => {
            f64::from(kv_heads.div_ceil(tp)) * (f64::from(*head_dim) + f64::from(*v_head_dim))
        }
        Attention::Latent { .. } | Attention::Shared { .. } => shape.kv_width() as f64,
    };
    let context = system.workload.held().1 as f64;
    // The encoder's keys and values are kept as well where a decoder attends to them, and those of
    // layers that draft.
    let crossed = f64::from(model.cross_attention_layers + drafting_layers(system))
        * context
        * width(&model.attention);
    let values: f64 = model
        .keeps()
        .map(|kept| {
            let (near, growing) = kept.tokens(context);
            f64::from(kept.layers) * (near + growing) * width(kept.shape)
        })
        .sum();
    let pp = f64::from(system.parallelism.pipeline);
    // Every device scores with all keys of an index; states are shared like heads.
    let besides = model.index_bytes_per_token() * context
        + model.recurrent_bytes_per_sequence() / f64::from(tp);
    Bytes::new(((values + crossed) * system.workload.dtypes.kv.bytes() + besides) / pp)
}

/// Sequences whose KV cache one device holds: the largest data-parallel share.
fn sequences_per_device(system: &System) -> f64 {
    system.workload.held().0.div_ceil(u64::from(system.parallelism.attention_data)) as f64
}

fn base_slots(system: &System) -> f64 {
    f64::from(system.model.experts.routed.div_ceil(system.parallelism.expert_parallel))
}

fn moe_layers_per_device(system: &System) -> f64 {
    f64::from(system.model.moe_layers) / f64::from(system.parallelism.pipeline)
}

/// A count that is already whole and not negative.
fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is a floor of a non-negative quotient"
    )]
    let count = value as u64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::system;
    use proptest::prelude::*;

    fn budget(slots: u32, double_buffer: bool) -> MemoryBudget {
        let plan = MemoryPlan { slots_per_device: slots, double_buffer };
        SystemMemory::new(&system(4, 4, 512), Bytes::new(80e9)).under(plan)
    }

    #[test]
    fn mixtral_on_four_devices_comes_out() {
        let plain = budget(2, false);
        // Experts 2·32·176,160,768; attention 32·41,943,040/4; embeddings 262,144,000/4;
        // routers 32·32,768; two bytes each.
        let expected =
            2.0 * (64.0 * 176_160_768.0 + 8.0 * 41_943_040.0 + 65_536_000.0 + 1_048_576.0);
        assert!((plain.weights.get() - expected).abs() < 1.0, "{:?}", plain.weights);
        assert!((plain.kv_bytes_per_token.get() - 32_768.0).abs() < 1e-9);
        assert!(plain.fits());
        assert!(plain.kv_tokens_lost_to_replicas <= 0.0);
        let copies = budget(3, false);
        // One more slot in 32 layers of 352 MB each: 11.27 GB, 344,064 tokens of 32 KiB.
        assert!((copies.replicas.get() - 32.0 * 352_321_536.0).abs() < 1.0);
        assert!((copies.kv_tokens_lost_to_replicas - 344_064.0).abs() <= 1.0);
        assert!(copies.max_concurrent_sequences_after < copies.max_concurrent_sequences_before);
        let buffered = budget(3, true);
        assert!((buffered.double_buffer.get() - 352_321_536.0).abs() < 1.0);
    }

    #[test]
    fn what_does_not_fit_says_what_is_missing() {
        let plan = MemoryPlan { slots_per_device: 2, double_buffer: false };
        let small = SystemMemory::new(&system(4, 4, 512), Bytes::new(20e9)).under(plan);
        let lacking = small.weights + small.kv_needed - Bytes::new(18e9);
        assert!((small.missing.get() - lacking.get()).abs() < 1.0);
        assert_eq!(small.max_concurrent_sequences_after, 0);
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        // 8 devices as one replica, 4,096 sequences of 4,096 tokens: 128 KiB of KV cache a token
        // over eight heads, 16 KiB on each.
        let mut many = system(8, 8, 4096);
        many.workload.phase = crate::system::Phase::Decode;
        (many.workload.sequences, many.workload.tokens_per_step) = (4096, 4096);
        many.cluster.device.memory = Bytes::new(80e9);
        assert!(!holds(&many));
        let said = way_out(&many);
        let words: Vec<&str> = said.split(' ').collect();
        let batch: u64 = words[6].parse().unwrap();
        (many.workload.sequences, many.workload.tokens_per_step) = (batch, batch);
        assert!(holds(&many), "{said}");
        (many.workload.sequences, many.workload.tokens_per_step) = (batch + 1, batch + 1);
        assert!(!holds(&many), "{said}");
        // Eight experts cannot be divided further.
        assert!(said.ends_with("as small"), "{said}");
        let mut two = system(2, 2, 512);
        two.cluster.device.memory = Bytes::new(60e9);
        assert!(way_out(&two).ends_with("this one fits from 4 devices on"), "{}", way_out(&two));
    }

    #[test]
    fn more_devices_than_kv_heads_keep_copies_of_a_head() {
        let mut wide = system(16, 16, 512);
        wide.parallelism.attention_tensor = 16;
        wide.parallelism.attention_data = 1;
        let mut eight = wide.clone();
        eight.parallelism.attention_tensor = 8;
        assert_eq!(kv_bytes_per_sequence(&wide), kv_bytes_per_sequence(&eight));
    }

    #[test]
    fn a_window_caps_the_cache_of_its_layers() {
        let mut windowed = system(4, 4, 8192);
        let all = kv_bytes_per_sequence(&windowed).get();
        if let Attention::Grouped { sliding_window, windowed_layers, .. } =
            &mut windowed.model.attention
        {
            *sliding_window = Some(1024);
            *windowed_layers = 16;
        }
        let capped = kv_bytes_per_sequence(&windowed).get();
        assert!((capped / all - (16.0 + 16.0 / 8.0) / 32.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn more_slots_never_leave_more_room(slots in 2u32..9, more in 1u32..4) {
            let few = budget(slots, false);
            let many = budget(slots + more, false);
            prop_assert!(many.missing >= few.missing);
            prop_assert!(many.kv_tokens_capacity <= few.kv_tokens_capacity);
            prop_assert!(many.kv_tokens_lost_to_replicas >= few.kv_tokens_lost_to_replicas);
        }
    }
}
