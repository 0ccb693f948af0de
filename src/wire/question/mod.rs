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
use crate::wire::read::{Located, Violations};
use moe_gps_core::engines;
use moe_gps_core::strategies::Strategy;
use moe_gps_core::system::{
    Communication, Dtype, ErrorModel, Overlap, Phase, PredictorOverlap, Preset, ReplicaSplit,
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
/// The phases by name.
const PHASES: OneOf<Phase> = OneOf(&[(Phase::Prefill, "prefill"), (Phase::Decode, "decode")]);
/// The number formats by name.
const DTYPES: Formats = Formats(&Dtype::ALL);
/// The number formats of weights by name.
const OF_WEIGHTS: Formats = Formats(&Dtype::OF_WEIGHTS);
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
        pub model: Option<IdOrObject> = required(Itself),
        /// Devices and links.
        pub cluster: Option<Cluster> = required(Itself),
        /// How the model is spread over the devices; defaults follow model and cluster.
        pub parallelism: Parallelism = filled(Itself),
        /// What one step computes.
        pub workload: Option<Workload> = required(Itself),
        /// The serving engine.
        pub engine: Option<Engine> = optional(Itself),
        /// What is known of the routing: exactly one form.
        pub routing: Option<Routing> = required(Itself),
        /// Predictors to price as `token_to_expert`; left out, three typical ones are assumed.
        pub predictors: Option<Vec<Predictor>> = optional(List(0..=64, Itself)),
        /// Formulas on expected loads, or a replay of the trace.
        pub method: Option<Method> = optional(OneOf(&Method::ALL)),
        /// How far experts may be copied; left out, searched.
        pub duplication: Duplication = filled(Itself),
        /// How plans are renewed; left out, as the engine does.
        pub rebalance: Rebalance = filled(Itself),
        /// The placement in use now.
        pub current: Option<Current> = optional(Itself),
        /// The recommendation is taken from these strategies; all are priced.
        pub allowed_strategies: Option<Vec<Strategy>> =
            optional(List(1..=Strategy::ALL.len(), OneOf(&Strategy::ALL))),
        /// What is made small: step latency, or throughput at a time per output token.
        pub objective: Option<Objective> = optional(OneOf(&Objective::ALL)),
        /// Whether values are searched at which the advice changes, true if left out; false
        /// answers sooner.
        pub flip_points: Option<bool> = optional(Flag),
        /// Profiled times of one layer that replace the laws.
        pub measured_layer: Option<MeasuredLayer> = optional(Itself),
        /// Measured time of a whole step without any strategy, to check the model by.
        pub measured_step_s: Option<f64> = optional(1e-9..=86_400.0),
        /// Time of a step outside the layers, seconds: LM head, sampling, scheduling. Part of
        /// `model_latency_s` only, 0 if left out.
        pub step_overhead_s: Option<f64> = optional(SECONDS),
        /// Switches of the cost model.
        pub assumptions: Assumptions = filled(Itself),
        /// Seed of every random draw, 0 if left out.
        pub seed: Option<u64> = optional(0..=u64::MAX),
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
        pub device: Option<IdOrObject> = required(Itself),
        /// Devices in all.
        pub devices: Option<u32> = required(DEVICES),
        /// Catalog id of the link inside a node, or its numbers.
        pub link: Option<Link> = required(Itself),
        /// Nodes the devices are divided into.
        pub nodes: Option<u32> = optional(DEVICES),
        /// Devices that reach each other over `link`; an alternative to `nodes`.
        pub devices_per_nvlink_domain: Option<u32> = optional(DEVICES),
        /// Catalog id of the link between nodes, or its numbers.
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
    #[derive(Copy)]
    pub struct LinkNumbers {
        /// Bandwidth of one device's link per direction, bytes per second.
        pub bandwidth_bytes_per_s: Option<f64> = required(BANDWIDTH),
        /// Latency of one message, seconds.
        pub latency_s: Option<f64> = required(0.0..=1.0),
    }
}

object! {
    /// How the model is spread over the devices.
    #[derive(Copy)]
    pub struct Parallelism {
        /// Devices that share one set of attention heads.
        pub attention_tensor: Option<u32> = optional(DEVICES),
        /// Replicas of attention, each with its own sequences.
        pub attention_data: Option<u32> = optional(DEVICES),
        /// Expert-parallel size (EP).
        pub expert_parallel: Option<u32> = optional(DEVICES),
        /// Devices that share one expert.
        pub expert_tensor: Option<u32> = optional(DEVICES),
        /// Pipeline stages.
        pub pipeline: Option<u32> = optional(DEVICES),
    }
}

object! {
    /// What one step computes.
    #[derive(Copy)]
    pub struct Workload {
        /// Whole prompts, or one new token per sequence.
        pub phase: Option<Phase> = required(PHASES),
        /// Sequences in a step over all devices; or give `tokens_per_step`.
        pub batch_size: Option<u64> = optional(TOKENS),
        /// New tokens of a sequence in prefill.
        pub sequence_length: Option<u64> = optional(TOKENS),
        /// Tokens in the cache of a sequence in decode.
        pub kv_length: Option<u64> = optional(TOKENS),
        /// New tokens of a step over all devices; or give `batch_size`.
        pub tokens_per_step: Option<u64> = optional(TOKENS),
        /// Number format of everything: `bf16` (default), `fp16`, `fp8` or `fp32`.
        pub dtype: Option<Dtype> = optional(DTYPES),
        /// Number formats one by one; what is left out is `dtype`.
        pub dtypes: Dtypes = filled(Itself),
        /// Number format of the checkpoint's weights, of all or of experts and the rest apart; left
        /// out, `dtypes.weights` or `dtype`, else what the model's configuration says.
        pub quantization: Option<Quantization> = optional(Itself),
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
        pub experts: Option<Dtype> = optional(OF_WEIGHTS),
        /// Projections, dense blocks and shared experts.
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
    /// Number formats of what is stored and sent.
    #[derive(Copy)]
    pub struct Dtypes {
        /// Weights.
        pub weights: Option<Dtype> = optional(DTYPES),
        /// Activations.
        pub activations: Option<Dtype> = optional(DTYPES),
        /// Keys and values.
        pub kv: Option<Dtype> = optional(DTYPES),
        /// Tokens on their way to the experts.
        pub dispatch: Option<Dtype> = optional(DTYPES),
        /// Expert outputs on their way back.
        pub combine: Option<Dtype> = optional(DTYPES),
    }
}

object! {
    /// The serving engine and the settings that change its cost.
    pub struct Engine {
        /// Which engine.
        pub name: Option<&'static engines::Engine> = required(EngineId),
        /// The engine's version.
        pub version: Option<String> = optional(Text),
        /// The engine's own name of its all-to-all backend.
        pub all2all_backend: Option<String> = optional(Text),
        /// The engine's own name of its expert kernel.
        pub moe_kernel: Option<String> = optional(Text),
        /// Whether steps are replayed as CUDA graphs.
        pub cuda_graph: Option<bool> = optional(Flag),
    }
}

object! {
    /// What is known of the routing. Exactly one form: `skewness` (with or without
    /// `distribution_error`), `power_law`, `expert_shares`, `balancedness` with
    /// `at_devices`, `trace_id`, or `trace_ids`.
    #[check(rules::only_one_form)]
    pub struct Routing {
        /// Tokens of the hottest expert over the mean, 1 to experts/top-k.
        pub skewness: Option<f64> = optional(SKEWNESS),
        /// Experts times the mean absolute error of the forecast shares.
        pub distribution_error: Option<f64> = optional(0.0..=2.0),
        /// Shares proportional to (rank + 1) to the power of minus `exponent`.
        pub power_law: Option<PowerLaw> = optional(Itself),
        /// Share or count of every expert, per layer; each layer is divided by its sum.
        pub expert_shares: Option<Vec<Vec<f64>>> = optional(List(
            LAYERS,
            Holding(List(LIST, 0.0..=1e18), |layer, shares: &Vec<f64>| {
                rules::not_all_zero(layer, shares)
            }),
        )),
        /// Mean over maximum of device loads, as engines log it.
        pub balancedness: Option<f64> = optional(1e-6..=1.0),
        /// Devices `balancedness` was logged at.
        pub at_devices: Option<u32> = optional(DEVICES),
        /// An uploaded trace.
        pub trace_id: Option<String> = optional(Text),
        /// Several uploaded traces, one plan for all.
        pub trace_ids: Option<Vec<String>> = optional(List(1..=64, Text)),
        /// Share of the trace that plans; the rest scores. 0.5 if left out.
        pub train_fraction: Option<f64> = optional(0.01..=0.99),
        /// A second trace that scores what `trace_id` has planned.
        pub holdout_trace_id: Option<String> = optional(Text),
    }
}

object! {
    /// A power law of expert popularity.
    #[derive(Copy)]
    pub struct PowerLaw {
        /// The exponent, 0 for uniform routing.
        pub exponent: Option<f64> = required(0.0..=16.0),
    }
}

object! {
    /// A predictor: a stated point, a curve of points, or one to fit on the trace.
    #[check(rules::one_way_of_stating)]
    pub struct Predictor {
        /// Its name in the answer.
        pub name: Option<String> = optional(Text),
        /// Mean share of a token's experts it names.
        pub accuracy: Option<f64> = optional(ACCURACY),
        /// Its time per layer and step, seconds; beside `fit`, measured and in place of the laws.
        pub overhead_s: Option<f64> = optional(SECONDS),
        /// Points of a family of predictors, two or more.
        pub points: Option<Vec<PredictorPoint>> = optional(List(2..=1000, Itself)),
        /// Kind of predictor to fit on a token trace.
        pub fit: Option<PredictorKind> = optional(OneOf(&PredictorKind::ALL)),
    }
}

object! {
    /// One predictor of a family.
    #[derive(Copy)]
    pub struct PredictorPoint {
        /// Mean share of a token's experts it names.
        pub accuracy: Option<f64> = required(ACCURACY),
        /// Its time per layer and step, seconds; above 0, since the curve is fitted on its logarithm.
        pub overhead_s: Option<f64> = required(1e-12..=60.0),
    }
}

object! {
    /// How far experts may be copied.
    #[derive(Copy)]
    pub struct Duplication {
        /// Expert slots of every device and layer.
        pub slots_per_device: Option<u32> = optional(DEVICES),
        /// Copies an expert may have, the original included.
        pub max_copies: Option<u32> = optional(DEVICES),
        /// Which planner: `best` (default), `eplb` or `paper_greedy`.
        pub algorithm: Option<Algorithm> = optional(OneOf(&Algorithm::ALL)),
        /// Whether one device may hold an expert twice.
        pub allow_duplicates: Option<bool> = optional(Flag),
        /// Where copies of a group of experts may be, in models with groups on several nodes:
        /// `hard`, all on the group's node (default in prefill, as engines plan); `soft`, one of
        /// every expert on it, further ones anywhere; `none`, anywhere (default in decode).
        pub groups: Option<Grouping> = optional(OneOf(&Grouping::ALL)),
    }
}

object! {
    /// How plans are renewed.
    #[derive(Copy)]
    pub struct Rebalance {
        /// `startup_map` (once), `sync` (stalls) or `async` (in the background).
        pub mode: Option<RebalanceMode> = optional(OneOf(&RebalanceMode::ALL)),
        /// Steps between two renewals.
        pub interval_steps: Option<u64> = optional(STEPS),
        /// Steps of load a renewed plan looks back on, as engines' windows do; in a replay all
        /// steps so far if left out.
        pub window_steps: Option<u64> = optional(STEPS),
    }
}

object! {
    /// The placement in use now.
    pub struct Current {
        /// The strategy in use.
        pub strategy: Option<Strategy> = optional(OneOf(&Strategy::ALL)),
        /// Per layer, the expert in every slot.
        pub physical_to_logical: Option<Vec<Vec<u32>>> =
            optional(List(LAYERS, List(LIST, 0..=65_535))),
        /// Expert slots of every device and layer.
        pub slots_per_device: Option<u32> = optional(DEVICES),
    }
}

object! {
    /// Profiled times of one layer.
    #[derive(Copy)]
    pub struct MeasuredLayer {
        /// Attention of one layer, seconds.
        pub attention_s: Option<f64> = required(SECONDS),
        /// All-reduce of one layer, seconds.
        pub all_reduce_s: Option<f64> = required(SECONDS),
        /// Expert FFN of one device under balanced load, seconds.
        pub expert_ffn_balanced_s: Option<f64> = required(SECONDS),
    }
}

object! {
    /// Switches of the cost model; what is left out follows `preset`.
    #[derive(Copy)]
    pub struct Assumptions {
        /// `calibrated` (default) or `paper`.
        pub preset: Option<Preset> = optional(OneOf(&Preset::ALL)),
        /// How forecast errors load the busiest device: `optimistic`, `typical`, `pessimistic`.
        pub error_model: Option<ErrorModel> = optional(OneOf(&ErrorModel::ALL)),
        /// Never load the busiest device more than without a strategy.
        pub cap_at_baseline: Option<bool> = optional(Flag),
        /// How tokens reach their experts.
        pub communication: Option<Communication> = optional(OneOf(&Communication::ALL)),
        /// Whether token-to-expert prediction saves the dispatch.
        pub t2e_skips_scatter: Option<bool> = optional(Flag),
        /// `none` (serial) or `attention`.
        pub predictor_overlap: Option<PredictorOverlap> = optional(OneOf(&PredictorOverlap::ALL)),
        /// `none`, `shared_expert` or `two_batch`.
        pub overlap: Option<Overlap> = optional(OneOf(&Overlap::ALL)),
        /// Copies of a token an all-to-all of the paper sends.
        pub k_comm: Option<f64> = optional(0.0..=64.0),
        /// Host time per kernel launch, seconds.
        pub launch_s: Option<f64> = optional(0.0..=1.0),
        /// Slowest over mean attention time of data-parallel replicas.
        pub attention_imbalance: Option<f64> = optional(1.0..=100.0),
        /// How an expert's tokens are split over its replicas: `hashed`, `nearest_first`, `optimal`.
        pub replica_split: Option<ReplicaSplit> = optional(OneOf(&ReplicaSplit::ALL)),
        /// Seed of every random draw; the same as `seed` of the question.
        pub seed: Option<u64> = optional(0..=u64::MAX),
    }
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

/// An id of the catalog, or something else.
fn id_or(other: RefOr<Schema>) -> RefOr<Schema> {
    AnyOfBuilder::new().item(Text.schema()).item(other).into()
}
