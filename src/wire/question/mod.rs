//! The question: what a client asks, as it stands in the request body.
//!
//! These types are the documentation of the body (they make its schema) and what
//! [`read`] returns. Ranges of single values are checked while reading; what needs the
//! catalog, a trace or two fields at once is checked in `app`.

mod read;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use moe_gps_core::engines;
use moe_gps_core::strategies::Strategy;
use moe_gps_core::system::{
    Communication, Dtype, ErrorModel, Overlap, Phase, PredictorOverlap, Preset, ReplicaSplit,
};

pub use read::read;

/// Which predictor strategy, if any, makes this deployment faster?
#[derive(Debug, Clone, Default, ToSchema)]
#[schema(title = "Question")]
pub struct Question {
    /// Catalog id of the model, or an object with the fields of a Hugging Face `config.json`.
    #[schema(required = true, schema_with = schema::id_or_object)]
    pub model: Option<IdOrObject>,
    /// Devices and links.
    #[schema(nullable = false, required = true)]
    pub cluster: Option<Cluster>,
    /// How the model is spread over the devices; defaults follow model and cluster.
    #[schema(nullable = false, required = false)]
    pub parallelism: Parallelism,
    /// What one step computes.
    #[schema(nullable = false, required = true)]
    pub workload: Option<Workload>,
    /// The serving engine.
    #[schema(nullable = false, required = false)]
    pub engine: Option<Engine>,
    /// What is known of the routing: exactly one form.
    #[schema(nullable = false, required = true)]
    pub routing: Option<Routing>,
    /// Predictors to price as `token_to_expert`; left out, three typical ones are assumed.
    #[schema(nullable = false, required = false, max_items = 64)]
    pub predictors: Option<Vec<Predictor>>,
    /// Formulas on expected loads, or a replay of the trace.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(analytic|simulated)$")]
    pub method: Option<Method>,
    /// How far experts may be copied; left out, searched.
    #[schema(nullable = false, required = false)]
    pub duplication: Duplication,
    /// How plans are renewed; left out, as the engine does.
    #[schema(nullable = false, required = false)]
    pub rebalance: Rebalance,
    /// The placement in use now.
    #[schema(nullable = false, required = false)]
    pub current: Option<Current>,
    /// The recommendation is taken from these strategies; all are priced.
    #[schema(nullable = false, required = false, value_type = Vec<String>)]
    pub allowed_strategies: Option<Vec<Strategy>>,
    /// What is made small: step latency, or throughput at a time per output token.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(step_latency|throughput_at_tpot)$")]
    pub objective: Option<Objective>,
    /// Profiled times of one layer that replace the laws.
    #[schema(nullable = false, required = false)]
    pub measured_layer: Option<MeasuredLayer>,
    /// Measured time of a whole step without any strategy, to check the model by.
    #[schema(nullable = false, required = false, value_type = f64)]
    pub measured_step_s: Option<f64>,
    /// Switches of the cost model.
    #[schema(nullable = false, required = false)]
    pub assumptions: Assumptions,
    /// Seed of every random draw, 0 if left out.
    #[schema(nullable = false, required = false, value_type = u64)]
    pub seed: Option<u64>,
}

/// A catalog id, or the thing itself.
#[derive(Debug, Clone)]
pub enum IdOrObject {
    /// An id of the catalog.
    Id(String),
    /// The fields of the thing.
    Object(Map<String, Value>),
}

/// Devices and links.
#[derive(Debug, Clone, Default, ToSchema)]
#[schema(title = "Cluster")]
pub struct Cluster {
    /// Catalog id of the device, or a device profile.
    #[schema(required = true, schema_with = schema::id_or_object)]
    pub device: Option<IdOrObject>,
    /// Devices in all.
    #[schema(value_type = u32, minimum = 1, maximum = 4096)]
    pub devices: Option<u32>,
    /// Catalog id of the link inside a node, or its numbers.
    #[schema(schema_with = schema::id_or_link)]
    pub link: Option<Link>,
    /// Nodes the devices are divided into.
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub nodes: Option<u32>,
    /// Devices that reach each other over `link`; an alternative to `nodes`.
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub devices_per_nvlink_domain: Option<u32>,
    /// Catalog id of the link between nodes, or its numbers.
    #[schema(required = false, schema_with = schema::id_or_link)]
    pub inter_node_link: Option<Link>,
}

/// A link by id or by numbers.
#[derive(Debug, Clone)]
pub enum Link {
    /// An id of the catalog.
    Id(String),
    /// The link's own numbers.
    Numbers(LinkNumbers),
}

/// A link by its numbers.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
pub struct LinkNumbers {
    /// Bandwidth of one device's link per direction, bytes per second.
    #[schema(value_type = f64, minimum = 1e6, maximum = 1e13)]
    pub bandwidth_bytes_per_s: Option<f64>,
    /// Latency of one message, seconds.
    #[schema(value_type = f64, minimum = 0, maximum = 1)]
    pub latency_s: Option<f64>,
}

/// How the model is spread over the devices.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
#[schema(title = "Parallelism")]
pub struct Parallelism {
    /// Devices that share one set of attention heads.
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub attention_tensor: Option<u32>,
    /// Replicas of attention, each with its own sequences.
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub attention_data: Option<u32>,
    /// Expert-parallel size (EP).
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub expert_parallel: Option<u32>,
    /// Devices that share one expert.
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub expert_tensor: Option<u32>,
    /// Pipeline stages.
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub pipeline: Option<u32>,
}

/// What one step computes.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
#[schema(title = "Workload")]
pub struct Workload {
    /// Whole prompts, or one new token per sequence.
    #[schema(value_type = String, pattern = "^(prefill|decode)$")]
    pub phase: Option<Phase>,
    /// Sequences in a step over all devices; or give `tokens_per_step`.
    #[schema(nullable = false, required = false, value_type = u64, minimum = 1, maximum = 16_777_216)]
    pub batch_size: Option<u64>,
    /// New tokens of a sequence in prefill.
    #[schema(nullable = false, required = false, value_type = u64, minimum = 1, maximum = 16_777_216)]
    pub sequence_length: Option<u64>,
    /// Tokens in the cache of a sequence in decode.
    #[schema(nullable = false, required = false, value_type = u64, minimum = 1, maximum = 16_777_216)]
    pub kv_length: Option<u64>,
    /// New tokens of a step over all devices; or give `batch_size`.
    #[schema(nullable = false, required = false, value_type = u64, minimum = 1, maximum = 16_777_216)]
    pub tokens_per_step: Option<u64>,
    /// Number format of everything: `bf16` (default), `fp16`, `fp8` or `fp32`.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(bf16|fp16|fp8|fp32)$")]
    pub dtype: Option<Dtype>,
    /// Number formats one by one; what is left out is `dtype`.
    #[schema(nullable = false, required = false)]
    pub dtypes: Dtypes,
}

/// Number formats of what is stored and sent.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
pub struct Dtypes {
    /// Weights.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(bf16|fp16|fp8|fp32)$")]
    pub weights: Option<Dtype>,
    /// Activations.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(bf16|fp16|fp8|fp32)$")]
    pub activations: Option<Dtype>,
    /// Keys and values.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(bf16|fp16|fp8|fp32)$")]
    pub kv: Option<Dtype>,
    /// Tokens on their way to the experts.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(bf16|fp16|fp8|fp32)$")]
    pub dispatch: Option<Dtype>,
    /// Expert outputs on their way back.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(bf16|fp16|fp8|fp32)$")]
    pub combine: Option<Dtype>,
}

/// The serving engine and the settings that change its cost.
#[derive(Debug, Clone, Default, ToSchema)]
#[schema(title = "Engine")]
pub struct Engine {
    /// Which engine.
    #[schema(required = true, schema_with = schema::engine)]
    pub name: Option<&'static engines::Engine>,
    /// The engine's version.
    #[schema(nullable = false, required = false, value_type = String, min_length = 1, max_length = 256)]
    pub version: Option<String>,
    /// The engine's own name of its all-to-all backend.
    #[schema(nullable = false, required = false, value_type = String, min_length = 1, max_length = 256)]
    pub all2all_backend: Option<String>,
    /// The engine's own name of its expert kernel.
    #[schema(nullable = false, required = false, value_type = String, min_length = 1, max_length = 256)]
    pub moe_kernel: Option<String>,
    /// Whether steps are replayed as CUDA graphs.
    #[schema(nullable = false, required = false, value_type = bool)]
    pub cuda_graph: Option<bool>,
}

/// What is known of the routing. Exactly one form: `skewness` (with or without
/// `distribution_error`), `power_law`, `expert_shares`, `balancedness` with
/// `at_devices`, `trace_id`, or `trace_ids`.
#[derive(Debug, Clone, Default, ToSchema)]
#[schema(title = "Routing")]
pub struct Routing {
    /// Tokens of the hottest expert over the mean, 1 to experts/top-k.
    #[schema(nullable = false, required = false, value_type = f64, minimum = 1)]
    pub skewness: Option<f64>,
    /// Experts times the mean absolute error of the forecast shares.
    #[schema(nullable = false, required = false, value_type = f64, minimum = 0, maximum = 2)]
    pub distribution_error: Option<f64>,
    /// Shares proportional to (rank + 1) to the power of minus `exponent`.
    #[schema(nullable = false, required = false)]
    pub power_law: Option<PowerLaw>,
    /// Share or count of every expert, per layer; each layer is divided by its sum.
    #[schema(nullable = false, required = false)]
    pub expert_shares: Option<Vec<Vec<f64>>>,
    /// Mean over maximum of device loads, as engines log it.
    #[schema(nullable = false, required = false, value_type = f64, minimum = 0, maximum = 1)]
    pub balancedness: Option<f64>,
    /// Devices `balancedness` was logged at.
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub at_devices: Option<u32>,
    /// An uploaded trace.
    #[schema(nullable = false, required = false, value_type = String)]
    pub trace_id: Option<String>,
    /// Several uploaded traces, one plan for all.
    #[schema(nullable = false, required = false, value_type = Vec<String>)]
    pub trace_ids: Option<Vec<String>>,
    /// Share of the trace that plans; the rest scores. 0.5 if left out.
    #[schema(nullable = false, required = false, value_type = f64, minimum = 0, maximum = 1)]
    pub train_fraction: Option<f64>,
    /// A second trace that scores what `trace_id` has planned.
    #[schema(nullable = false, required = false, value_type = String)]
    pub holdout_trace_id: Option<String>,
}

/// A power law of expert popularity.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
pub struct PowerLaw {
    /// The exponent, 0 for uniform routing.
    #[schema(value_type = f64, minimum = 0, maximum = 16)]
    pub exponent: Option<f64>,
}

/// A predictor: a stated point, a curve of points, or one to fit on the trace.
#[derive(Debug, Clone, Default, ToSchema)]
#[schema(title = "Predictor")]
pub struct Predictor {
    /// Its name in the answer.
    #[schema(nullable = false, required = false, value_type = String)]
    pub name: Option<String>,
    /// Mean share of a token's experts it names.
    #[schema(nullable = false, required = false, value_type = f64, minimum = 0, maximum = 1)]
    pub accuracy: Option<f64>,
    /// Its time per layer and step, seconds; beside `fit`, measured and in place of the laws.
    #[schema(nullable = false, required = false, value_type = f64, minimum = 0, maximum = 60)]
    pub overhead_s: Option<f64>,
    /// Points of a family of predictors, two or more.
    #[schema(nullable = false, required = false, min_items = 2, max_items = 1000)]
    pub points: Option<Vec<PredictorPoint>>,
    /// Kind of predictor to fit on a token trace.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(most_frequent|by_token|by_position|ffn|lstm)$")]
    pub fit: Option<PredictorKind>,
}

/// One predictor of a family.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
pub struct PredictorPoint {
    /// Mean share of a token's experts it names.
    #[schema(value_type = f64, minimum = 0, maximum = 1)]
    pub accuracy: Option<f64>,
    /// Its time per layer and step, seconds; above 0, since the curve is fitted on its logarithm.
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 60)]
    pub overhead_s: Option<f64>,
}

/// How far experts may be copied.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
#[schema(title = "Duplication")]
pub struct Duplication {
    /// Expert slots of every device and layer.
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub slots_per_device: Option<u32>,
    /// Copies an expert may have, the original included.
    #[schema(nullable = false, required = false, value_type = u32, minimum = 1, maximum = 4096)]
    pub max_copies: Option<u32>,
    /// Which planner: `best` (default), `eplb` or `paper_greedy`.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(best|eplb|paper_greedy)$")]
    pub algorithm: Option<Algorithm>,
    /// Whether one device may hold an expert twice.
    #[schema(nullable = false, required = false, value_type = bool)]
    pub allow_duplicates: Option<bool>,
    /// Where copies of a group of experts may be, in models with groups on several nodes:
    /// `hard`, all on the group's node (default in prefill, as engines plan); `soft`, one of
    /// every expert on it, further ones anywhere; `none`, anywhere (default in decode).
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(hard|soft|none)$")]
    pub groups: Option<Grouping>,
}

/// How plans are renewed.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
#[schema(title = "Rebalance")]
pub struct Rebalance {
    /// `startup_map` (once), `sync` (stalls) or `async` (in the background).
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(startup_map|sync|async)$")]
    pub mode: Option<RebalanceMode>,
    /// Steps between two renewals.
    #[schema(nullable = false, required = false, value_type = u64, minimum = 1, maximum = 1_000_000_000)]
    pub interval_steps: Option<u64>,
    /// Steps of load a renewed plan looks back on, as engines' windows do; in a replay all
    /// steps so far if left out.
    #[schema(nullable = false, required = false, value_type = u64, minimum = 1, maximum = 1_000_000_000)]
    pub window_steps: Option<u64>,
}

/// The placement in use now.
#[derive(Debug, Clone, Default, ToSchema)]
#[schema(title = "Current")]
pub struct Current {
    /// The strategy in use.
    #[schema(nullable = false, required = false, value_type = String)]
    pub strategy: Option<Strategy>,
    /// Per layer, the expert in every slot.
    #[schema(nullable = false, required = false)]
    pub physical_to_logical: Option<Vec<Vec<u32>>>,
    /// Expert slots of every device and layer.
    #[schema(nullable = false, required = false, value_type = u32)]
    pub slots_per_device: Option<u32>,
}

/// Profiled times of one layer.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
#[schema(title = "MeasuredLayer")]
pub struct MeasuredLayer {
    /// Attention of one layer, seconds.
    #[schema(value_type = f64, minimum = 0, maximum = 60)]
    pub attention_s: Option<f64>,
    /// All-reduce of one layer, seconds.
    #[schema(value_type = f64, minimum = 0, maximum = 60)]
    pub all_reduce_s: Option<f64>,
    /// Expert FFN of one device under balanced load, seconds.
    #[schema(value_type = f64, minimum = 0, maximum = 60)]
    pub expert_ffn_balanced_s: Option<f64>,
}

/// Switches of the cost model; what is left out follows `preset`.
#[derive(Debug, Clone, Copy, Default, ToSchema)]
#[schema(title = "Assumptions")]
pub struct Assumptions {
    /// `calibrated` (default) or `paper`.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(calibrated|paper)$")]
    pub preset: Option<Preset>,
    /// How forecast errors load the busiest device: `optimistic`, `typical`, `pessimistic`.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(optimistic|typical|pessimistic)$")]
    pub error_model: Option<ErrorModel>,
    /// Never load the busiest device more than without a strategy.
    #[schema(nullable = false, required = false, value_type = bool)]
    pub cap_at_baseline: Option<bool>,
    /// How tokens reach their experts.
    #[schema(nullable = false, required = false, value_type = String,
        pattern = "^(replicated|allgather_reducescatter|all_to_all_normal|all_to_all_low_latency|paper)$")]
    pub communication: Option<Communication>,
    /// Whether token-to-expert prediction saves the dispatch.
    #[schema(nullable = false, required = false, value_type = bool)]
    pub t2e_skips_scatter: Option<bool>,
    /// `none` (serial) or `attention`.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(none|attention)$")]
    pub predictor_overlap: Option<PredictorOverlap>,
    /// `none`, `shared_expert` or `two_batch`.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(none|shared_expert|two_batch)$")]
    pub overlap: Option<Overlap>,
    /// Copies of a token an all-to-all of the paper sends.
    #[schema(nullable = false, required = false, value_type = f64, minimum = 0, maximum = 64)]
    pub k_comm: Option<f64>,
    /// Host time per kernel launch, seconds.
    #[schema(nullable = false, required = false, value_type = f64, minimum = 0, maximum = 1)]
    pub launch_s: Option<f64>,
    /// Slowest over mean attention time of data-parallel replicas.
    #[schema(nullable = false, required = false, value_type = f64, minimum = 1, maximum = 100)]
    pub attention_imbalance: Option<f64>,
    /// How an expert's tokens are split over its replicas: `hashed`, `nearest_first`, `optimal`.
    #[schema(nullable = false, required = false, value_type = String, pattern = "^(hashed|nearest_first|optimal)$")]
    pub replica_split: Option<ReplicaSplit>,
    /// Seed of every random draw; the same as `seed` of the question.
    #[schema(nullable = false, required = false, value_type = u64)]
    pub seed: Option<u64>,
}

/// How the answer is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Laws on expected and sampled loads.
    Analytic,
    /// A replay of the trace, step by step.
    Simulated,
}

/// What is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// The latency of a step.
    StepLatency,
    /// Throughput at the same time per output token, after the memory of replicas.
    ThroughputAtTpot,
}

pub use moe_gps_core::question::{Algorithm, Grouping, PredictorKind, RebalanceMode};

/// Schemas that a derive cannot express.
mod schema {
    use moe_gps_core::engines;
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Ref, Schema, SchemaType, Type};

    fn id() -> ObjectBuilder {
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .min_length(Some(1))
            .description(Some("An id of the catalog."))
    }

    pub(super) fn id_or_object() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(id())
            .item(ObjectBuilder::new().schema_type(SchemaType::new(Type::Object)))
            .into()
    }

    pub(super) fn engine() -> ObjectBuilder {
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .description(Some("Which engine."))
            .enum_values(Some(engines::LIST.iter().map(|engine| engine.id)))
    }

    pub(super) fn id_or_link() -> RefOr<Schema> {
        AnyOfBuilder::new().item(id()).item(Ref::from_schema_name("LinkNumbers")).into()
    }
}
