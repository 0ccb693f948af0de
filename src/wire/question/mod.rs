//! The question: what a client asks, as it stands in the request body.
//!
//! Every object declares its fields once, with their ranges and choices: [`read()`] and the API
//! description both follow from that. What needs several fields stands in `rules`; what needs
//! the catalog, a trace or two objects at once is checked in `app`.

mod rules;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};

use crate::wire::field::{
    FieldKind, Flag, Holding, Itself, List, Named, OneOf, Readable, Text, filled, object, optional,
    required,
};
use crate::wire::labels::Labels;
use crate::wire::read::{Located, Violations};
use moe_gps_core::engines;
use moe_gps_core::predict::metric::AccuracyMetric;
use moe_gps_core::strategies::Strategy;
use moe_gps_core::system::{
    Communication, CopyOverlap, Dtype, ErrorModel, MisrouteRepair, Overlap, Phase,
    PredictorOverlap, Preset, ReplicaSplit,
};

pub use moe_gps_core::question::{Algorithm, Grouping, PredictorKind, RebalanceMode};

/// Devices a cluster may have, and slots and copies on them.
pub const DEVICES: RangeInclusive<u32> = 1..=4096;
/// Tokens a step may have, and tokens a sequence may have.
pub const TOKENS: RangeInclusive<u64> = 1..=1 << 24;
/// Tokens of the hottest expert over the mean.
pub const SKEWNESS: RangeInclusive<f64> = 1.0..=65_536.0;
/// Bandwidth of one device's link per direction, bytes per second.
pub const BANDWIDTH: RangeInclusive<f64> = 1e6..=1e13;
/// Mean share of a token's experts that a predictor names.
pub const ACCURACY: RangeInclusive<f64> = 0.0..=1.0;
/// A time in seconds that a user may state.
pub const SECONDS: RangeInclusive<f64> = 0.0..=60.0;
/// Steps between two renewals, or steps a renewal looks back on.
const STEPS: RangeInclusive<u64> = 1..=1_000_000_000;
/// Layers a list may have.
const LAYERS: RangeInclusive<usize> = 1..=1024;
/// Experts or slots a list may have.
const LIST: RangeInclusive<usize> = 1..=65_536;
/// The phases of one step by name.
pub const PHASES: OneOf<Phase> = OneOf(&[(Phase::Prefill, "prefill"), (Phase::Decode, "decode")]);
/// What is asked about by name.
pub const ASKED_PHASES: OneOf<AskedPhase> = OneOf(&AskedPhase::ALL);
/// The number formats by name.
const DTYPES: Formats = Formats(&Dtype::ALL);
/// The number formats of weights by name.
const OF_WEIGHTS: Formats = Formats(&Dtype::OF_WEIGHTS);
const OF_INPUTS: Formats = Formats(&Dtype::OF_INPUTS);
/// Other spellings of number formats, as libraries and checkpoints have them.
const SPELLINGS: [(&str, Dtype); 9] = [
    ("bfloat16", Dtype::Bf16),
    ("float16", Dtype::Fp16),
    ("half", Dtype::Fp16),
    ("float32", Dtype::Fp32),
    ("float8", Dtype::Fp8),
    ("float8_e4m3", Dtype::Fp8),
    ("float8_e4m3fn", Dtype::Fp8),
    ("fp8_e4m3", Dtype::Fp8),
    ("fp8_e4m3fn", Dtype::Fp8),
];

/// Reads a question; what could not be read is `None` and noted.
pub fn read(request: &Value, violations: &Violations) -> Question {
    Question::read(&Located::root(request, violations)).unwrap_or_default()
}

object! {
    /// Which predictor strategy, if any, makes this deployment faster?
    pub struct Question {
        /// Catalog id of the model, or an object with the fields of a Hugging Face `config.json`.
        /// Example: `"deepseek-v3"`
        /// Changes: sizes of layers and experts, and so every term
        /// vLLM: `--model`
        /// SGLang: `--model-path`
        /// TensorRT-LLM: the model given to `trtllm-serve`
        pub model: Option<IdOrObject> = required(Itself),
        /// Devices and links.
        /// Changes: the laws of all operators, memory, and the length of every way
        pub cluster: Option<Cluster> = required(Itself),
        /// How the model is spread over the devices.
        /// Default: by model and cluster: attention tensor-parallel up to its KV heads, experts
        /// over all devices
        /// Changes: what each device computes, holds and sends
        pub parallelism: Parallelism = filled(Itself),
        /// What one step computes.
        /// Changes: tokens of a step, and with them every term
        pub workload: Option<Workload> = required(Itself),
        /// The serving engine.
        /// Default: no engine: kernels of the device's first stack, communication as most engines
        /// do
        /// Changes: kernels, communication pattern, how plans are loaded and renewed
        pub engine: Option<Engine> = optional(Itself),
        /// What is known of the routing: exactly one form.
        /// Changes: which device is the busiest, and what balancing can win
        pub routing: Option<Routing> = required(Itself),
        /// Predictors to price as `token_to_expert`.
        /// Default: three typical ones, marked `assumed`
        /// Example: `[{"name": "ffn", "accuracy": 0.85, "overhead_s": 0.000153}]`
        /// Changes: the entries of `token_to_expert`
        pub predictors: Option<Vec<Predictor>> = optional(List(0..=64, Itself)),
        /// Formulas on expected loads, or a replay of the trace.
        /// Default: `simulated` for a trace with steps in the calibrated preset, else `analytic`
        /// Example: `"analytic"`
        /// Changes: whether recorded steps are replayed one by one
        pub method: Option<Method> = optional(OneOf(&Method::ALL)),
        /// How far experts may be copied.
        /// Default: searched
        /// Changes: how many copies plans may hold and who makes them
        pub duplication: Duplication = filled(Itself),
        /// How plans are renewed.
        /// Default: as the engine does
        /// Changes: the term `rebalance_s`, and how old a plan is
        pub rebalance: Rebalance = filled(Itself),
        /// The placement in use now.
        /// Default: experts in order, without copies
        /// Changes: what is compared with (`keep` becomes possible), and what has to be moved
        pub current: Option<Current> = optional(Itself),
        /// The recommendation is taken from these strategies; all are priced.
        /// Default: all
        /// Example: `["none", "replace_only"]`
        /// Changes: what may be recommended; a `token_to_expert` that is named may, if its
        /// predictor is stated or fitted
        pub allowed_strategies: Option<Vec<Strategy>> =
            optional(List(1..=Strategy::ALL.len(), OneOf(&Strategy::ALL))),
        /// What is made small: step latency, or throughput at a time per output token.
        /// Default: `step_latency`
        /// Example: `"throughput_at_tpot"`
        /// Changes: what strategies are ranked by
        pub objective: Option<Objective> = optional(OneOf(&Objective::ALL)),
        /// Whether values are searched at which the advice changes; without them it answers sooner.
        /// Default: true
        /// Example: `false`
        /// Changes: whether `flip_points` are in the answer
        pub flip_points: Option<bool> = optional(Flag),
        /// Profiled times of one layer that replace the laws.
        /// Default: the laws
        /// Changes: the terms that were measured
        pub measured_layer: Option<MeasuredLayer> = optional(Itself),
        /// Measured time of a whole step without any strategy, to check the model by.
        /// Default: none
        /// Example: `0.042`
        /// Changes: `insufficient_evidence` where the computed step is more than a factor of two
        /// off
        pub measured_step_s: Option<f64> = optional(1e-9..=86_400.0),
        /// Time of a step outside the layers, seconds: LM head, sampling, scheduling.
        /// Default: 0
        /// Example: `0.002`
        /// Changes: `model_latency_s` only
        pub step_overhead_s: Option<f64> = optional(SECONDS),
        /// Switches of the cost model.
        /// Default: as `preset` says
        /// Changes: formulas and switches of the cost model
        pub assumptions: Assumptions = filled(Itself),
        /// Seed of every random draw.
        /// Default: 0
        /// Example: `7`
        /// Changes: the drawn steps and orders of experts, within the interval given
        pub seed: Option<u64> = optional(0..=u64::MAX),
        /// Names with texts by which the one who asks finds it again; no part of the question.
        /// Default: none
        /// Example: `{"fleet": "eu-1"}`
        /// Changes: nothing in the answer; `GET /v1/recommendations?label=` finds it
        pub labels: Option<Labels> = optional(Itself),
    }
}

/// A catalog id, or the thing itself.
#[derive(Debug, Clone)]
pub enum IdOrObject {
    /// An id of the catalog.
    Id(String),
    /// The fields of the thing.
    Object(Map<String, Value>),
}

object! {
    /// Devices and links.
    pub struct Cluster {
        /// Catalog id of the device, or a device profile.
        /// Example: `"h200-sxm"`
        /// Changes: rates, memory and kernels of every device
        pub device: Option<IdOrObject> = required(Itself),
        /// Devices in all.
        /// Example: `8`
        /// Changes: how many share the work
        /// vLLM: `--tensor-parallel-size` × `--data-parallel-size` × `--pipeline-parallel-size`
        /// SGLang: `--tp-size` × `--pp-size`
        /// TensorRT-LLM: `tensor_parallel_size` × `pipeline_parallel_size`
        pub devices: Option<u32> = required(DEVICES),
        /// Catalog id of the link inside a node, or its numbers.
        /// Default: none, where every device is alone in its node
        /// Example: `"nvlink4"`
        /// Changes: dispatch, combine, all-reduce and moves inside a node
        pub link: Option<Link> = optional(Itself),
        /// Nodes the devices are divided into.
        /// Default: 1, all devices in one node
        /// Example: `2`
        /// Changes: what has to cross `inter_node_link`
        /// vLLM: `--nnodes`
        /// SGLang: `--nnodes`
        pub nodes: Option<u32> = optional(DEVICES),
        /// Devices that reach each other over `link`; an alternative to `nodes`.
        /// Default: all devices
        /// Example: `72`
        /// Changes: the same, for racks whose nodes share one NVLink domain
        pub devices_per_nvlink_domain: Option<u32> = optional(DEVICES),
        /// Catalog id of the link between nodes, or its numbers.
        /// Default: none; needed where there are several nodes
        /// Example: `"ib400"`
        /// Changes: what crosses nodes
        pub inter_node_link: Option<Link> = optional(Itself),
    }
}

/// A link by id or by numbers.
#[derive(Debug, Clone)]
pub enum Link {
    /// An id of the catalog.
    Id(String),
    /// The link's own numbers.
    Numbers(LinkNumbers),
}

object! {
    /// A link by its numbers.
    #[check(rules::numbers_or_name)]
    pub struct LinkNumbers {
        /// Catalog id of the link that it is but for its numbers: what was measured over that one
        /// prices it, at this speed.
        /// Default: none; messages then take latency and bandwidth alone
        /// Example: `"pcie4"`
        /// Changes: the curve of messages, and its error band
        pub name: Option<String> = optional(Text),
        /// Bandwidth of one device's link per direction, bytes per second.
        /// Default: that of `name`; needed without it
        /// Example: `50000000000.0`
        /// Changes: the time of large messages
        pub bandwidth_bytes_per_s: Option<f64> = optional(BANDWIDTH),
        /// Latency of one message, seconds.
        /// Default: that of `name`; needed without it
        /// Example: `0.000005`
        /// Changes: the time of small messages
        pub latency_s: Option<f64> = optional(0.0..=1.0),
    }
}

object! {
    /// How the model is spread over the devices.
    #[derive(Copy)]
    pub struct Parallelism {
        /// Devices that share one set of attention heads.
        /// Default: as many as there are KV heads and devices in a node; 1 for latent attention
        /// from 8 devices on
        /// Example: `8`
        /// Changes: attention, its all-reduce, weights and KV cache of a device
        /// vLLM: `--tensor-parallel-size`
        /// SGLang: `--tp-size` over `--dp-size` with `--enable-dp-attention`, else `--tp-size`
        /// TensorRT-LLM: `tensor_parallel_size`, or 1 with `enable_attention_dp`
        pub attention_tensor: Option<u32> = optional(DEVICES),
        /// Replicas of attention, each with its own sequences.
        /// Default: the devices that `attention_tensor` leaves
        /// Example: `8`
        /// Changes: sequences stay on their replica: the busiest one sets the time; above 1 tokens
        /// must be sent to experts
        /// vLLM: `--data-parallel-size`
        /// SGLang: `--dp-size` with `--enable-dp-attention`
        /// TensorRT-LLM: `tensor_parallel_size` with `enable_attention_dp: true`
        pub attention_data: Option<u32> = optional(DEVICES),
        /// Expert-parallel size (EP).
        /// Default: all devices of a stage over `expert_tensor`
        /// Example: `8`
        /// Changes: over how many devices experts are spread, and so imbalance and exchange
        /// vLLM: all devices with `--enable-expert-parallel`, else 1
        /// SGLang: `--ep-size`
        /// TensorRT-LLM: `moe_expert_parallel_size`
        pub expert_parallel: Option<u32> = optional(DEVICES),
        /// Devices that share one expert.
        /// Default: 1
        /// Example: `1`
        /// Changes: the width of an expert on a device; an exchange among those that share it
        /// vLLM: all devices without `--enable-expert-parallel`, else 1
        /// SGLang: `--tp-size` over `--ep-size`
        /// TensorRT-LLM: `moe_tensor_parallel_size`
        pub expert_tensor: Option<u32> = optional(DEVICES),
        /// Pipeline stages.
        /// Default: 1
        /// Example: `1`
        /// Changes: layers of a device, in memory alone
        /// vLLM: `--pipeline-parallel-size`
        /// SGLang: `--pp-size`
        /// TensorRT-LLM: `pipeline_parallel_size`
        pub pipeline: Option<u32> = optional(DEVICES),
    }
}

object! {
    /// What one step computes, or what a running server is asked to do.
    #[derive(Copy)]
    pub struct Workload {
        /// `prefill`, a step of whole prompts; `decode`, one of a new token per sequence; or
        /// `serving`, all steps of a server in their proportion.
        /// Example: `"prefill"`
        /// Changes: which kernels run, and whether experts are computed or read
        pub phase: Option<AskedPhase> = required(ASKED_PHASES),
        /// Sequences in a step over all devices; or give `tokens_per_step`.
        /// Default: from `tokens_per_step`
        /// Example: `16`
        /// Changes: tokens of a step, KV cache
        /// vLLM: at most `--max-num-seqs` on every replica
        /// SGLang: at most `--max-running-requests`
        /// TensorRT-LLM: at most `max_batch_size`
        pub batch_size: Option<u64> = optional(TOKENS),
        /// New tokens of a sequence in prefill.
        /// Default: from `tokens_per_step` and `batch_size`
        /// Example: `4096`
        /// Changes: tokens of a step, and attention in prefill
        pub sequence_length: Option<u64> = optional(TOKENS),
        /// Tokens in the cache of a sequence in decode.
        /// Default: none; decode needs it
        /// Example: `4096`
        /// Changes: attention in decode, KV cache
        /// vLLM: at most `--max-model-len`
        /// SGLang: at most `--context-length`
        /// TensorRT-LLM: at most `max_seq_len`
        pub kv_length: Option<u64> = optional(TOKENS),
        /// New tokens of a step over all devices; or give `batch_size`.
        /// Default: `batch_size` times `sequence_length`; in decode `batch_size`
        /// Example: `8192`
        /// Changes: every term
        /// vLLM: at most `--max-num-batched-tokens` on every replica
        /// SGLang: at most `--chunked-prefill-size` on every replica
        /// TensorRT-LLM: at most `max_num_tokens` on every replica
        pub tokens_per_step: Option<u64> = optional(TOKENS),
        /// Tokens of a prompt, in the mean.
        /// Default: none; serving needs it
        /// Example: `1024`
        /// Changes: tokens of the steps that hold prompts, attention, KV cache
        pub input_tokens: Option<u64> = optional(TOKENS),
        /// Tokens of output of a request, in the mean, the first of which follows from the prompt.
        /// Default: none; serving needs it
        /// Example: `256`
        /// Changes: how many decode steps come to a prompt, KV cache
        pub output_tokens: Option<u64> = optional(TOKENS),
        /// Requests that are served at once, over all devices.
        /// Default: none; serving needs it
        /// Example: `64`
        /// Changes: tokens of a decode step, prompts that come together, KV cache
        /// vLLM: at most `--max-num-seqs` on every replica
        /// SGLang: at most `--max-running-requests`
        /// TensorRT-LLM: at most `max_batch_size`
        pub concurrency: Option<u64> = optional(TOKENS),
        /// The most new tokens of a step of a server, over all devices.
        /// Default: 8192 on every replica of attention, and twice the requests at least
        /// Example: `8192`
        /// Changes: into how many steps prompts are cut
        /// vLLM: `--max-num-batched-tokens` times the replicas
        /// SGLang: `--chunked-prefill-size`
        /// TensorRT-LLM: `max_num_tokens` times the replicas
        pub max_batched_tokens: Option<u64> = optional(TOKENS),
        /// Speculative decoding: tokens that are drafted for every sequence and verified in one step.
        /// Default: none
        /// Changes: tokens of a decode step, attention, weights of layers that draft, tokens a second
        pub speculative: Option<Speculative> = optional(Itself),
        /// Number format of the model: of everything where it has 16 or 32 bits, else short for
        /// `quantization`, with the cache and everything between operators in 16 bits.
        /// Default: `bf16`
        /// Example: `"bf16"`
        /// Changes: bytes and rates of everything that `dtypes` and `quantization` leave out
        /// vLLM: `--dtype`
        /// SGLang: `--dtype`
        /// TensorRT-LLM: `dtype`
        pub dtype: Option<Dtype> = optional(OF_WEIGHTS),
        /// Number formats one by one.
        /// Default: all as `dtype`
        /// Changes: see below
        pub dtypes: Dtypes = filled(Itself),
        /// Number format of the checkpoint's weights, of all or of experts and the rest apart.
        /// Default: `dtypes.weights` or `dtype`, else what the model's configuration says
        /// Example: `"fp8_block"`
        /// Changes: bytes of weights in memory and read, and the products they take part in
        /// vLLM: `--quantization`
        /// SGLang: `--quantization`
        /// TensorRT-LLM: the checkpoint
        pub quantization: Option<Quantization> = optional(Itself),
    }
}

object! {
    /// Speculative decoding, in decode and serving.
    #[derive(Copy)]
    #[check(rules::accepted_of_drafted)]
    pub struct Speculative {
        /// Tokens that are drafted for a sequence in a step.
        /// Example: `3`
        /// Changes: a step verifies one token more than these of every sequence
        /// vLLM: `num_speculative_tokens` of `--speculative-config`
        /// SGLang: `--speculative-num-draft-tokens` less one
        /// TensorRT-LLM: `speculative_config.max_draft_len`
        pub draft_tokens: Option<u32> = required(1..=64),
        /// Of which so many are accepted in the mean; engines' acceptance length counts the step's own
        /// token too and is one more.
        /// Example: `1.8`
        /// Changes: tokens of output that a step yields
        /// vLLM: mean acceptance length of its log, less one
        /// SGLang: `accept len` of its log, less one
        pub accepted: Option<f64> = required(0.0..=64.0),
        /// Time to draft them, seconds a step.
        /// Default: that of the model's own layers for multi-token prediction, else nothing
        /// Example: `0.0015`
        /// Changes: `other_s`, over which it is spread
        pub draft_s: Option<f64> = optional(SECONDS),
    }
}

/// Number formats of a checkpoint's weights.
#[derive(Debug, Clone, Copy)]
pub enum Quantization {
    /// One for all.
    All(Dtype),
    /// Experts and the rest apart.
    Apart(QuantizedParts),
}

object! {
    /// Number formats of a checkpoint's weights, experts and the rest apart.
    #[derive(Copy)]
    pub struct QuantizedParts {
        /// Routed experts.
        /// Default: as the whole
        /// Example: `"mxfp4"`
        /// Changes: bytes of experts in memory and read, and the products they take part in
        pub experts: Option<Dtype> = optional(OF_WEIGHTS),
        /// Projections, dense blocks and shared experts.
        /// Default: as the whole
        /// Example: `"bf16"`
        /// Changes: bytes of other matrices, and the products they take part in
        pub rest: Option<Dtype> = optional(OF_WEIGHTS),
    }
}

impl Readable for Quantization {
    fn read(place: &Located) -> Option<Self> {
        match place.value() {
            Value::Object(_) => QuantizedParts::read(place).map(Self::Apart),
            _ => OF_WEIGHTS.read(place).map(Self::All),
        }
    }

    fn shown() -> RefOr<Schema> {
        AnyOfBuilder::new().item(OF_WEIGHTS.schema()).item(QuantizedParts::shown()).into()
    }

    fn gather(found: &mut Named) {
        QuantizedParts::gather(found);
    }
}

object! {
    /// Number formats of what is stored, multiplied and sent.
    #[derive(Copy)]
    pub struct Dtypes {
        /// Weights.
        /// Default: `dtype`
        /// Example: `"fp8"`
        /// Changes: matrix products, experts, memory
        /// vLLM: `--quantization`
        /// SGLang: `--quantization`
        /// TensorRT-LLM: the checkpoint
        pub weights: Option<Dtype> = optional(OF_WEIGHTS),
        /// What multiplies quantised weights: `fp8` for W8A8, `bf16` for weights alone (W8A16).
        /// Default: 8-bit weights and nvfp4 their own format where the device has it, else 16 bits
        /// Example: `"bf16"`
        /// Changes: the rate of products with quantised weights
        pub activations: Option<Dtype> = optional(OF_INPUTS),
        /// Keys and values.
        /// Default: `dtype` where it has 16 or 32 bits, else `bf16`
        /// Example: `"fp8"`
        /// Changes: attention in decode, KV cache
        /// vLLM: `--kv-cache-dtype`
        /// SGLang: `--kv-cache-dtype`
        /// TensorRT-LLM: `kv_cache_config.dtype`
        pub kv: Option<Dtype> = optional(DTYPES),
        /// Tokens on their way to the experts.
        /// Default: `fp8` where the engine's all-to-all quantises first, else as `kv`
        /// Example: `"fp8"`
        /// Changes: the term `dispatch_s`
        pub dispatch: Option<Dtype> = optional(DTYPES),
        /// Expert outputs on their way back.
        /// Default: `dtype` where it has 16 or 32 bits, else `bf16`
        /// Example: `"bf16"`
        /// Changes: the term `combine_s`
        pub combine: Option<Dtype> = optional(DTYPES),
    }
}

object! {
    /// The serving engine and the settings that change its cost.
    pub struct Engine {
        /// Which engine.
        /// Default: no engine
        /// Example: `"vllm"`
        /// Changes: defaults, kernels, what can be run, and the launch settings
        pub name: Option<&'static engines::Engine> = required(EngineId),
        /// The engine's version.
        /// Default: the one whose kernels were measured
        /// Example: `"0.33.0"`
        /// Changes: the measured version that prices, and `warnings`
        pub version: Option<String> = optional(Text),
        /// The engine's own name of its all-to-all backend.
        /// Default: the engine's own
        /// Example: `"deepep_low_latency"`
        /// Changes: the communication pattern, and the kernels that go with it
        /// vLLM: `--all2all-backend`
        /// SGLang: `--moe-a2a-backend`
        pub all2all_backend: Option<String> = optional(Text),
        /// The engine's own name of its expert kernel.
        /// Default: by engine, backend, phase and format
        /// Example: `"triton"`
        /// Changes: the constants of the routed experts
        /// vLLM: `--moe-backend`
        /// SGLang: `--moe-runner-backend`
        /// TensorRT-LLM: `moe_config.backend`
        pub moe_kernel: Option<String> = optional(Text),
        /// Whether steps are replayed as CUDA graphs.
        /// Default: true in decode and in prefills that the engine captures
        /// Example: `true`
        /// Changes: launches, in `other_s`
        /// vLLM: false with `--enforce-eager`
        /// SGLang: false with `--disable-cuda-graph`
        /// TensorRT-LLM: `cuda_graph_config`
        pub cuda_graph: Option<bool> = optional(Flag),
    }
}

object! {
    /// What is known of the routing. Exactly one form: `skewness` (with or without
    /// `distribution_error` or `distribution_error_points`), `power_law`, `expert_shares`, `balancedness` with
    /// `at_devices`, `trace_id`, `trace_ids`, or `windows`.
    #[check(rules::only_one_form)]
    pub struct Routing {
        /// Tokens of the hottest expert over the mean, 1 to experts/top-k.
        /// Default: none
        /// Example: `1.6`
        /// Changes: a power law of that skewness; which expert is hot stays open
        pub skewness: Option<f64> = optional(SKEWNESS),
        /// Experts times the mean absolute error of the forecast shares.
        /// Default: the sampling error of 65,536 planning assignments
        /// Example: `0.02`
        /// Changes: how far plans miss the true load
        pub distribution_error: Option<f64> = optional(0.0..=2.0),
        /// The same error as it changes with skewness, log-linear between these points and held beyond
        /// them; in place of `distribution_error`.
        /// Default: none
        /// Example: `[{"skewness": 1.4, "distribution_error": 0.0098}, {"skewness": 1.99,
        /// "distribution_error": 0.16}]`
        /// Changes: how far plans miss the true load, in the answer at the question's skewness, along
        /// skewness in sweeps and flip points
        pub distribution_error_points: Option<Vec<ErrorPoint>> = optional(Holding(
            List(2..=64, Itself),
            |place, points: &Vec<ErrorPoint>| {
                rules::at_different_skewness(place, points.iter().map(|point| point.skewness))
            },
        )),
        /// Shares proportional to (rank + 1) to the power of minus `exponent`.
        /// Default: none
        /// Changes: the shares of the experts
        pub power_law: Option<PowerLaw> = optional(Itself),
        /// Share or count of every expert, per layer; each layer is divided by its sum.
        /// Default: none
        /// Example: `[[3, 2, 1, 1, 1, 1, 1, 1]]`
        /// Changes: the shares of the experts, layer by layer
        pub expert_shares: Option<Vec<Vec<f64>>> = optional(List(
            LAYERS,
            Holding(List(LIST, 0.0..=1e18), |layer, shares: &Vec<f64>| {
                rules::not_all_zero(layer, shares)
            }),
        )),
        /// Mean over maximum of device loads, as engines log it.
        /// Default: none
        /// Example: `0.71`
        /// Changes: a diagnosis and the ceiling only
        /// vLLM: `balancedness` of its log
        /// SGLang: `eplb_balancedness` of its metrics
        pub balancedness: Option<f64> = optional(1e-6..=1.0),
        /// Devices `balancedness` was logged at.
        /// Default: none; `balancedness` needs it
        /// Example: `8`
        /// Changes: how `balancedness` is read
        pub at_devices: Option<u32> = optional(DEVICES),
        /// An uploaded trace.
        /// Default: none
        /// Example: `"8f14e45fceea167a5a36dedd4bea2543d7a7a7c2d9f6f5c5c8f1e0d3b2a19087"`
        /// Changes: shares, drift, held-out scores; a replay
        pub trace_id: Option<String> = optional(Text),
        /// Several uploaded traces, one plan for all: ids, or for a server each with the phase it
        /// was recorded in.
        /// Default: none
        /// Example: `["8f14e45fceea167a5a36dedd4bea2543d7a7a7c2d9f6f5c5c8f1e0d3b2a19087"]`
        /// Changes: one plan for the worst load, and `transfer`; of a server's phases for their mean
        pub trace_ids: Option<Vec<NamedTrace>> = optional(List(1..=64, Itself)),
        /// Uploaded traces that follow each other in time, the oldest first, as windows of one load:
        /// those before the newest are joined and plan, the newest scores; for a server each may have
        /// the phase it was recorded in, and the newest of either phase scores.
        /// Default: none
        /// Example: `["8f14e45fceea167a5a36dedd4bea2543d7a7a7c2d9f6f5c5c8f1e0d3b2a19087",
        /// "45c48cce2e2d7fbdea1afc51c7c6ad26d7a7a7c2d9f6f5c5c8f1e0d3b2a19087"]`
        /// Changes: the load that is planned for, and the newest one that scores
        pub windows: Option<Vec<NamedTrace>> = optional(List(1..=64, Itself)),
        /// Share of the trace that plans; the rest scores.
        /// Default: 0.5
        /// Example: `0.5`
        /// Changes: what plans see and what scores them
        pub train_fraction: Option<f64> = optional(0.01..=0.99),
        /// A second trace that scores what `trace_id` has planned.
        /// Default: none: the rest of `trace_id` scores
        /// Example: `"45c48cce2e2d7fbdea1afc51c7c6ad26d7a7a7c2d9f6f5c5c8f1e0d3b2a19087"`
        /// Changes: what scores
        pub holdout_trace_id: Option<String> = optional(Text),
    }
}

/// An uploaded trace.
#[derive(Debug, Clone)]
pub enum NamedTrace {
    /// By its id.
    Id(String),
    /// With the phase that it was recorded in.
    OfPhase(PhaseTrace),
}

impl NamedTrace {
    /// Its id, where there is one.
    #[must_use]
    pub fn id(&self) -> Option<&String> {
        match self {
            Self::Id(id) => Some(id),
            Self::OfPhase(trace) => trace.id.as_ref(),
        }
    }

    /// The phase that it was recorded in, where that is said.
    #[must_use]
    pub const fn phase(&self) -> Option<Phase> {
        match self {
            Self::Id(_) => None,
            Self::OfPhase(trace) => trace.phase,
        }
    }
}

object! {
    /// An uploaded trace of one phase.
    pub struct PhaseTrace {
        /// Its id.
        /// Example: `"8f14e45fceea167a5a36dedd4bea2543d7a7a7c2d9f6f5c5c8f1e0d3b2a19087"`
        /// Changes: the load of that phase
        pub id: Option<String> = required(Text),
        /// The phase that it was recorded in.
        /// Example: `"decode"`
        /// Changes: which steps draw from it
        pub phase: Option<Phase> = required(PHASES),
    }
}

object! {
    /// A forecast's error at one skewness.
    #[derive(Copy)]
    pub struct ErrorPoint {
        /// Tokens of the hottest expert over the mean.
        /// Example: `1.4`
        /// Changes: where the error holds
        pub skewness: Option<f64> = required(SKEWNESS),
        /// Experts times the mean absolute error of the forecast shares; above 0, since points are
        /// joined on its logarithm.
        /// Example: `0.0098`
        /// Changes: how far plans miss the true load
        pub distribution_error: Option<f64> = required(1e-9..=2.0),
    }
}

object! {
    /// A power law of expert popularity.
    #[derive(Copy)]
    pub struct PowerLaw {
        /// The exponent, 0 for uniform routing.
        /// Example: `0.6`
        /// Changes: how much hotter the hottest expert is
        pub exponent: Option<f64> = required(0.0..=16.0),
    }
}

object! {
    /// A predictor: a stated point, a curve of points, or one to fit on the trace.
    #[check(rules::one_way_of_stating)]
    pub struct Predictor {
        /// Its name in the answer.
        /// Default: the kind, where it is fitted; else it must be given
        /// Example: `"ffn"`
        /// Changes: the name in the answer
        pub name: Option<String> = optional(Text),
        /// Mean share of a token's experts it names.
        /// Default: none
        /// Example: `0.85`
        /// Changes: how far the plan of a step misses its load
        pub accuracy: Option<f64> = optional(ACCURACY),
        /// The same as it changes with skewness, log-linear between these points and held beyond them; in
        /// place of `accuracy`.
        /// Default: none
        /// Example: `[{"skewness": 1.4, "accuracy": 0.7}, {"skewness": 2.6, "accuracy": 0.8}]`
        /// Changes: how far the plan of a step misses its load, in the answer at the skewness of the
        /// routing, along skewness in sweeps and flip points
        pub accuracy_points: Option<Vec<AccuracyPoint>> = optional(Holding(
            List(2..=64, Itself),
            |place, points: &Vec<AccuracyPoint>| {
                rules::at_different_skewness(place, points.iter().map(|point| point.skewness))
            },
        )),
        /// What the stated accuracies count: `per_choice`, right choices; `exact_set`, tokens all of
        /// whose experts are named, whose k-th root is taken; `top1`, tokens whose first expert is
        /// named, taken as the share of right choices.
        /// Default: `per_choice`
        /// Example: `"exact_set"`
        /// Changes: the accuracy per choice, by which predictors are priced and which answers show
        pub metric: Option<AccuracyMetric> = optional(OneOf(&AccuracyMetric::ALL)),
        /// Its time per layer and step, seconds; beside `fit`, measured and in place of the laws.
        /// Default: none; beside `fit` the laws
        /// Example: `0.000153`
        /// Changes: the term `predictor_s`
        pub overhead_s: Option<f64> = optional(SECONDS),
        /// Points of a family of predictors, two or more.
        /// Default: none
        /// Example: `[{"accuracy": 0.6, "overhead_s": 0.00001}, {"accuracy": 0.9, "overhead_s":
        /// 0.0002}]`
        /// Changes: a curve through them; its best point answers
        pub points: Option<Vec<PredictorPoint>> = optional(List(2..=1000, Itself)),
        /// Kind of predictor to fit on a token trace.
        /// Default: none
        /// Example: `"by_token"`
        /// Changes: accuracy and cost are found on the trace
        pub fit: Option<PredictorKind> = optional(OneOf(&PredictorKind::ALL)),
    }
}

object! {
    /// One predictor of a family.
    #[derive(Copy)]
    pub struct PredictorPoint {
        /// Mean share of a token's experts it names.
        /// Example: `0.85`
        /// Changes: the curve
        pub accuracy: Option<f64> = required(ACCURACY),
        /// Its time per layer and step, seconds; above 0, since the curve is fitted on its logarithm.
        /// Example: `0.000153`
        /// Changes: the curve
        pub overhead_s: Option<f64> = required(1e-12..=60.0),
    }
}

object! {
    /// A predictor's accuracy at one skewness.
    #[derive(Copy)]
    pub struct AccuracyPoint {
        /// Tokens of the hottest expert over the mean.
        /// Example: `1.4`
        /// Changes: where the accuracy holds
        pub skewness: Option<f64> = required(SKEWNESS),
        /// What `metric` counts; above 0, since points are joined on its logarithm.
        /// Example: `0.7`
        /// Changes: how far the plan of a step misses its load
        pub accuracy: Option<f64> = required(1e-6..=1.0),
    }
}

object! {
    /// How far experts may be copied.
    #[derive(Copy)]
    pub struct Duplication {
        /// Expert slots of every device and layer.
        /// Default: searched up to twice the experts of a device
        /// Example: `33`
        /// Changes: copies, replica memory, and what decode reads
        /// vLLM: `num_redundant_experts` of `--eplb-config` is slots × devices − experts
        /// SGLang: `--ep-num-redundant-experts` is slots × devices − experts
        /// TensorRT-LLM: `num_slots` of `moe_config.load_balancer` is slots × devices
        pub slots_per_device: Option<u32> = optional(DEVICES),
        /// Copies an expert may have, the original included.
        /// Default: the number of devices
        /// Example: `4`
        /// Changes: how thin the load of one expert may be spread
        pub max_copies: Option<u32> = optional(DEVICES),
        /// Which planner.
        /// Default: `best`
        /// Example: `"eplb"`
        /// Changes: the maps of plans
        /// SGLang: `--eplb-algorithm`
        pub algorithm: Option<Algorithm> = optional(OneOf(&Algorithm::ALL)),
        /// Whether one device may hold an expert twice.
        /// Default: false
        /// Example: `false`
        /// Changes: plans with more slots than experts
        pub allow_duplicates: Option<bool> = optional(Flag),
        /// Where copies of a group of experts may be, in models with groups on several nodes:
        /// `hard`, all on the group's node, as engines plan prefill; `soft`, one of every expert on it,
        /// further ones anywhere; `none`, anywhere.
        /// Default: `hard` in prefill, `none` in decode
        /// Example: `"none"`
        /// Changes: balance between nodes in models with groups of experts
        /// SGLang: `--eplb-algorithm deepseek_hierarchical` or `deepseek`
        pub groups: Option<Grouping> = optional(OneOf(&Grouping::ALL)),
    }
}

object! {
    /// How plans are renewed.
    #[derive(Copy)]
    pub struct Rebalance {
        /// `startup_map` (once), `sync` (stalls) or `async` (in the background).
        /// Default: as the engine does: vLLM and vllm-ascend `async`, SGLang `sync`, others
        /// `startup_map`
        /// Example: `"sync"`
        /// Changes: whether serving stops, and how late plans take effect
        /// vLLM: `use_async` of `--eplb-config`
        /// SGLang: `sync` with `--enable-eplb`, `startup_map` with `--init-expert-location`
        /// TensorRT-LLM: `layer_updates_per_iter` 0 is `startup_map`
        pub mode: Option<RebalanceMode> = optional(OneOf(&RebalanceMode::ALL)),
        /// Steps between two renewals.
        /// Default: as the engine does (vLLM 3000, SGLang and TensorRT-LLM 1000, vllm-ascend 650);
        /// searched in a replay
        /// Example: `1000`
        /// Changes: over how many steps a renewal is spread, and how old a plan grows
        /// vLLM: `step_interval` of `--eplb-config`
        /// SGLang: `--eplb-rebalance-num-iterations`
        pub interval_steps: Option<u64> = optional(STEPS),
        /// Steps of load a renewed plan looks back on, as engines' windows do.
        /// Default: all steps so far
        /// Example: `1000`
        /// Changes: the load that renewed plans of a replay are made for
        /// vLLM: `window_size` of `--eplb-config`
        /// SGLang: `--expert-distribution-recorder-buffer-size`
        pub window_steps: Option<u64> = optional(STEPS),
    }
}

object! {
    /// The placement in use now.
    pub struct Current {
        /// The strategy in use.
        /// Default: `none`
        /// Example: `"distribution_only"`
        /// Changes: the baseline of every gain
        pub strategy: Option<Strategy> = optional(OneOf(&Strategy::ALL)),
        /// Per layer, the expert in every slot.
        /// Default: the plan of `strategy`
        /// Example: `[[0, 1, 2, 3, 4, 5, 6, 7]]`
        /// Changes: the load of the baseline, and how much a new plan moves
        /// SGLang: `physical_to_logical_map` of `--init-expert-location`
        /// TensorRT-LLM: `initial_global_assignments` of `moe_config.load_balancer`
        pub physical_to_logical: Option<Vec<Vec<u32>>> =
            optional(List(LAYERS, List(LIST, 0..=65_535))),
        /// Expert slots of every device and layer.
        /// Default: those of the map, else of the plan
        /// Example: `9`
        /// Changes: the baseline where no map is given
        pub slots_per_device: Option<u32> = optional(DEVICES),
    }
}

object! {
    /// Profiled times of one layer.
    #[derive(Copy)]
    pub struct MeasuredLayer {
        /// Attention of one layer, seconds.
        /// Example: `0.000246`
        /// Changes: the term `attention_s`
        pub attention_s: Option<f64> = required(SECONDS),
        /// All-reduce of one layer, seconds.
        /// Example: `0.0000546`
        /// Changes: the term `all_reduce_s`
        pub all_reduce_s: Option<f64> = required(SECONDS),
        /// Expert FFN of one device under balanced load, seconds.
        /// Example: `0.000591`
        /// Changes: the term `expert_ffn_s`, scaled by the law from balanced load
        pub expert_ffn_balanced_s: Option<f64> = required(SECONDS),
    }
}

object! {
    /// Switches of the cost model; what is left out follows `preset`.
    #[derive(Copy)]
    pub struct Assumptions {
        /// Fitted laws, or the formulas of the paper.
        /// Default: `calibrated`
        /// Example: `"paper"`
        /// Changes: formulas of MoE-GPS, or laws fitted to measurements
        pub preset: Option<Preset> = optional(OneOf(&Preset::ALL)),
        /// How forecast errors load the busiest device.
        /// Default: `typical`
        /// Example: `"pessimistic"`
        /// Changes: how a forecast error loads the busiest device, in the paper preset
        pub error_model: Option<ErrorModel> = optional(OneOf(&ErrorModel::ALL)),
        /// Never load the busiest device more than without a strategy.
        /// Default: false
        /// Example: `true`
        /// Changes: the same
        pub cap_at_baseline: Option<bool> = optional(Flag),
        /// How tokens reach their experts.
        /// Default: by engine, backend and attention parallelism
        /// Example: `"all_to_all_normal"`
        /// Changes: the terms `dispatch_s` and `combine_s`
        pub communication: Option<Communication> = optional(OneOf(&Communication::ALL)),
        /// Whether token-to-expert prediction saves the dispatch.
        /// Default: false; true in the paper preset
        /// Example: `false`
        /// Changes: `dispatch_s` of `token_to_expert`
        pub t2e_skips_scatter: Option<bool> = optional(Flag),
        /// How tokens that a predictor has sent to a wrong device reach their experts, where the dispatch
        /// is saved: at no cost as in the paper (`none`), sent once more (`wrong_tokens`), or with the
        /// whole dispatch (`full_exchange`).
        /// Default: `none`
        /// Example: `"wrong_tokens"`
        /// Changes: `dispatch_s` of `token_to_expert`
        pub misroute_repair: Option<MisrouteRepair> = optional(OneOf(&MisrouteRepair::ALL)),
        /// What the copies of experts run beside that are made in every step: nothing (`none`),
        /// `attention`, so that only what is longer is seen, or anything (`free`). By the paper's
        /// formulas those of `distribution_only` and `token_to_expert`, one expert to every device; else
        /// those of `token_to_expert`.
        /// Default: `none`; `free` in the paper preset
        /// Example: `"attention"`
        /// Changes: the term `rebalance_s`; with `attention` also `flip_points`, which then say from
        /// where on one copy is hidden
        pub copy_overlap: Option<CopyOverlap> = optional(OneOf(&CopyOverlap::ALL)),
        /// What a predictor runs beside.
        /// Default: `none`
        /// Example: `"attention"`
        /// Changes: how much of the predictor's time is seen
        pub predictor_overlap: Option<PredictorOverlap> = optional(OneOf(&PredictorOverlap::ALL)),
        /// What runs beside what.
        /// Default: `none`
        /// Example: `"two_batch"`
        /// Changes: the term `overlap_hidden_s`
        /// vLLM: `--enable-dbo` is `two_batch`
        /// SGLang: `--enable-two-batch-overlap` is `two_batch`
        pub overlap: Option<Overlap> = optional(OneOf(&Overlap::ALL)),
        /// Copies of a token an all-to-all of the paper sends.
        /// Default: 1
        /// Example: `2.0`
        /// Changes: the exchange of the paper's formulas
        pub k_comm: Option<f64> = optional(0.0..=64.0),
        /// Host time per kernel launch, seconds.
        /// Default: as measured on the device's host; 0 under CUDA graphs
        /// Example: `0.00001`
        /// Changes: the term `other_s`
        pub launch_s: Option<f64> = optional(0.0..=1.0),
        /// Slowest over mean attention time of data-parallel replicas.
        /// Default: 1
        /// Example: `1.1`
        /// Changes: the term `attention_s`
        pub attention_imbalance: Option<f64> = optional(1.0..=100.0),
        /// How an expert's tokens are split over its replicas.
        /// Default: as the engine does
        /// Example: `"nearest_first"`
        /// Changes: the load of devices that hold copies
        /// SGLang: `--ep-dispatch-algorithm static` is `nearest_first`
        pub replica_split: Option<ReplicaSplit> = optional(OneOf(&ReplicaSplit::ALL)),
        /// Seed of every random draw; the same as `seed` of the question.
        /// Default: 0
        /// Example: `7`
        /// Changes: as `seed`
        pub seed: Option<u64> = optional(0..=u64::MAX),
    }
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedPhase {
    /// One kind of step.
    Step(Phase),
    /// A running server.
    Serving,
}

impl AskedPhase {
    /// Every choice with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Step(Phase::Prefill), "prefill"),
        (Self::Step(Phase::Decode), "decode"),
        (Self::Serving, "serving"),
    ];
}

/// How the answer is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Laws on expected and sampled loads.
    Analytic,
    /// A replay of the trace, step by step.
    Simulated,
}

impl Method {
    /// Every method with its name on the wire.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Analytic, "analytic"), (Self::Simulated, "simulated")];
}

/// What is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// The latency of a step.
    StepLatency,
    /// Throughput at the same time per output token, after the memory of replicas.
    ThroughputAtTpot,
}

impl Objective {
    /// Every objective with its name on the wire.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::StepLatency, "step_latency"), (Self::ThroughputAtTpot, "throughput_at_tpot")];
}

/// A number format, by its name or another spelling of it.
#[derive(Debug, Clone, Copy)]
struct Formats(&'static [(Dtype, &'static str)]);

impl FieldKind<Dtype> for Formats {
    fn read(&self, place: &Located) -> Option<Dtype> {
        let spelled = place.value().as_str().map(str::to_ascii_lowercase).unwrap_or_default();
        let spelled = spelled.trim_start_matches("torch.");
        let known = SPELLINGS.iter().find(|(name, _)| *name == spelled);
        known.map(|(_, dtype)| *dtype).or_else(|| OneOf(self.0).read(place))
    }

    fn schema(&self) -> RefOr<Schema> {
        OneOf(self.0).schema()
    }
}

/// The id of an engine.
#[derive(Debug, Clone, Copy)]
struct EngineId;

impl FieldKind<&'static engines::Engine> for EngineId {
    fn read(&self, place: &Located) -> Option<&'static engines::Engine> {
        let known = place.value().as_str().and_then(engines::by_framework);
        known.or_else(|| OneOf(&engines::names()).read(place))
    }

    fn schema(&self) -> RefOr<Schema> {
        OneOf(&engines::names()).schema()
    }
}

impl Readable for IdOrObject {
    fn read(place: &Located) -> Option<Self> {
        match place.value() {
            Value::String(_) => Some(Self::Id(place.text()?.to_owned())),
            Value::Object(map) => Some(Self::Object(map.clone())),
            _ => {
                place.note("type", "this must be an id of the catalog (a string) or an object");
                None
            }
        }
    }

    fn shown() -> RefOr<Schema> {
        id_or(ObjectBuilder::new().schema_type(Type::Object).into())
    }

    fn gather(_found: &mut Named) {}
}

impl Readable for NamedTrace {
    fn read(place: &Located) -> Option<Self> {
        match place.value() {
            Value::String(_) => Some(Self::Id(place.text()?.to_owned())),
            Value::Object(_) => PhaseTrace::read(place).map(Self::OfPhase),
            _ => {
                place.note("type", "this must be the id of a trace, or {\"id\", \"phase\"}");
                None
            }
        }
    }

    fn shown() -> RefOr<Schema> {
        id_or(PhaseTrace::shown())
    }

    fn gather(found: &mut Named) {
        PhaseTrace::gather(found);
    }
}

impl Readable for Link {
    fn read(place: &Located) -> Option<Self> {
        match IdOrObject::read(place)? {
            IdOrObject::Id(id) => Some(Self::Id(id)),
            IdOrObject::Object(_) => LinkNumbers::read(place).map(Self::Numbers),
        }
    }

    fn shown() -> RefOr<Schema> {
        id_or(LinkNumbers::shown())
    }

    fn gather(found: &mut Named) {
        LinkNumbers::gather(found);
    }
}

/// An id, or something else.
fn id_or(other: RefOr<Schema>) -> RefOr<Schema> {
    AnyOfBuilder::new().item(Text.schema()).item(other).into()
}
