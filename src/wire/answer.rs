//! The answer: what a finished recommendation holds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use moe_gps_core::engines::settings::EngineSettings;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::wire::duplication_search::DuplicationSearch;
use crate::wire::interval_search::IntervalSearch;
use crate::wire::names::{
    BaselineName, BasisName, CommunicationName, CopiesName, EngineName, FlipParameterName,
    MethodName, RebalanceModeName, SourceName, StrategyName, VerdictName,
};
use crate::wire::transfer::TransferBody;

/// The result of a recommendation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(title = "Result")]
pub struct ResultBody {
    /// What to run, and how sure that is.
    pub recommendation: Recommendation,
    /// Every strategy with its price; one `token_to_expert` entry per predictor.
    pub strategies: Vec<StrategyBody>,
    /// Priced beside the strategies, never recommended.
    pub references: Vec<ReferenceBody>,
    /// Other layouts of the same devices that the engine can build, with experts in order: those
    /// that fit first, the fastest first. None is ever recommended.
    #[serde(default)]
    pub layouts: Vec<LayoutBody>,
    /// Options of engines beside the strategies, each priced off and on under the recommended strategy
    /// and on its own: gains do not add up. None is part of a strategy's price. Empty where nothing
    /// can be run, and by the paper's formulas.
    #[serde(default)]
    pub options: Vec<OptionBody>,
    /// What perfect balance at no cost would give.
    pub ceiling: CeilingBody,
    /// Where the recommended strategy changes, all else held; the nearest change below and
    /// above, nearer first; one entry with null where it does not change to what gains 2 % or
    /// more. Empty where they were not asked for, or where a replay advises another strategy than
    /// the drawn steps on which they are searched.
    pub flip_points: Vec<FlipPoint>,
    /// The routing the answer rests on.
    pub routing: RoutingBody,
    /// The plan to load, where the strategy has one; the maps are at `/placement`.
    pub plan: Option<PlanBody>,
    /// How many slots were tried for copies (calibrated mode, number of slots left out).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplication_search: Option<DuplicationSearch>,
    /// How often to renew the plan, and what else was tried (calibrated mode, interval left
    /// out, engines that renew).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_search: Option<IntervalSearch>,
    /// What a plan made on one trace is worth on the others (`trace_ids` of two or more).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferBody>,
    /// A run that tells whether the ceiling is real.
    pub confirm: String,
    /// What the user should know besides.
    pub warnings: Vec<String>,
    /// Where the answer comes from.
    pub provenance: Provenance,
}

/// What to run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Recommendation {
    /// `none`, `replace_only`, `distribution_only` or `token_to_expert`; null if nothing runs.
    #[schema(value_type = Option<StrategyName>)]
    pub strategy: Option<Cow<'static, str>>,
    /// The predictor of `token_to_expert`.
    pub predictor: Option<PredictorBody>,
    /// How sure it is that the strategy is right against `baseline`: `recommended`, `keep` (what
    /// runs now), `tie`, `insufficient_evidence` or `cannot_run`.
    #[schema(value_type = VerdictName)]
    pub verdict: Cow<'static, str>,
    /// What the verdict is against: `current` where the question gives it, else `none`.
    #[serde(default)]
    #[schema(value_type = BaselineName)]
    pub baseline: Cow<'static, str>,
    /// What the strategy gains over `baseline`; 1 where it is the baseline.
    #[serde(default)]
    pub gain: Option<GainBody>,
    /// What `runner_up` gains over `baseline`.
    #[serde(default)]
    pub runner_up_gain: Option<GainBody>,
    /// Strategies that can be run and are not known to be faster or slower than this one.
    #[serde(default)]
    #[schema(value_type = Vec<StrategyName>)]
    pub equivalent: Vec<Cow<'static, str>>,
    /// What may make the gain another one, the widest first; of the runner-up where the strategy
    /// is the baseline.
    #[serde(default)]
    pub doubts: Vec<DoubtBody>,
    /// Layer latency of `none` over that of the strategy.
    pub speedup_over_none: Option<f64>,
    /// The same over the current placement, where one is given.
    pub speedup_over_current: Option<f64>,
    /// Second fastest strategy over the fastest, minus 1, of those that can be run.
    pub margin_over_runner_up: Option<f64>,
    /// How much less that margin may be.
    pub margin_error_band: Option<f64>,
    /// The best other strategy.
    #[schema(value_type = Option<StrategyName>)]
    pub runner_up: Option<Cow<'static, str>>,
    /// The best strategy that the engine (without one, any engine) runs today.
    #[schema(value_type = Option<StrategyName>)]
    pub best_runnable: Option<Cow<'static, str>>,
    /// What is missing for a surer answer.
    pub missing: Vec<String>,
    /// Why, in plain words.
    pub reason: String,
}

/// A ratio of costs, above 1 where the strategy is the faster, as an interval from priced doubts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GainBody {
    /// The least it may be.
    pub low: f64,
    /// As priced.
    pub mid: f64,
    /// The most it may be.
    pub high: f64,
}

/// Something that a price rests on and that may be otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DoubtBody {
    /// What it is, such as `expert_memory_traffic`, `forecast_error` or `other_expert_kernel`.
    pub id: Cow<'static, str>,
    /// The least the gain may be for this reason alone.
    pub low: f64,
    /// The most it may be for this reason alone.
    pub high: f64,
}

/// A strategy with its price.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StrategyBody {
    /// The strategy.
    #[schema(value_type = StrategyName)]
    pub strategy: Cow<'static, str>,
    /// The predictor of `token_to_expert`.
    pub predictor: Option<PredictorBody>,
    /// Whether it can be run.
    pub feasible: bool,
    /// Why not.
    pub infeasible_reason: Option<String>,
    /// Which engines run it, and how.
    pub engine_support: Vec<EngineSupportBody>,
    /// Latency of one mixture-of-experts layer, seconds.
    pub layer_latency_s: Option<f64>,
    /// Latency of all layers of the model, seconds.
    pub model_latency_s: Option<f64>,
    /// Layer latency of `none` over this one's.
    pub speedup_over_none: Option<f64>,
    /// What it gains over the baseline of the recommendation; null where it has no price, or rests
    /// on a predictor whose figures are assumed.
    #[serde(default)]
    pub gain: Option<GainBody>,
    /// Where the time goes; adds up to `layer_latency_s`.
    pub terms: Option<TermsBody>,
    /// What it serves at the step of `none` (objective `throughput_at_tpot`), or what a server gives
    /// its users (phases `serving` and `decode`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<ServingBody>,
    /// Every kind of step of a server (phase `serving`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseBody>,
    /// Seconds a step takes, over replayed steps (simulated).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_latency_s: Option<StepLatency>,
    /// 95 % interval of the speed-up over `none`, over the replayed steps: sampling alone, with no
    /// doubt of the laws in it (simulated).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speedup_interval_95: Option<[f64; 2]>,
    /// Device imbalance (max/mean) per layer without the strategy (simulated).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imbalance_before: Option<Vec<f64>>,
    /// The same with the strategy (simulated).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imbalance_after: Option<Vec<f64>>,
    /// Bytes of experts moved between devices over the replay (simulated), or when the
    /// plan first takes effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_bytes: Option<f64>,
    /// Bytes of replicas on every device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_bytes: Option<f64>,
    /// Tokens of KV cache given up on every device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_tokens_lost_per_device: Option<f64>,
}

/// What a strategy serves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ServingBody {
    /// At a given time per output token.
    AtTpot(AtTpot),
    /// By a server that is asked about.
    Server(ServerBody),
}

/// What a server gives its users; of a step of decode alone what its sequences get.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerBody {
    /// Seconds to the first token of output, without queueing (phase `serving`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_s: Option<f64>,
    /// Seconds between two tokens of output; null where there is only one.
    pub tpot_s: Option<f64>,
    /// Tokens of output a second, over the devices.
    pub tokens_per_s_per_device: f64,
    /// By how many devices fewer than the baseline needs the same is served; below 0, by how many
    /// more. Null where `gain` is.
    pub devices_saved: Option<GainBody>,
}

/// A kind of step of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PhaseBody {
    /// `prefill`, `mixed` (prompts beside sequences that decode) or `decode`.
    pub phase: Cow<'static, str>,
    /// Its share of all steps.
    pub share_of_steps: f64,
    /// Its share of the time of all steps.
    pub share_of_time: f64,
    /// New tokens of a step, over all devices.
    pub tokens_per_step: u64,
    /// Latency of one mixture-of-experts layer, seconds.
    pub layer_latency_s: f64,
    /// Latency of all layers of the model, seconds.
    pub step_latency_s: f64,
    /// Layer latency of `none` over this one's.
    pub speedup_over_none: Option<f64>,
}

/// What a strategy serves in steps no longer than that of `none` at the batch asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AtTpot {
    /// Sequences at once, over all devices, that fit beside the plan's replicas.
    pub sequences: u64,
    /// Tokens a second, over all devices.
    pub tokens_per_s: f64,
    /// Seconds a step of the model takes with that many.
    pub step_latency_s: f64,
}

/// Step latency over replayed steps, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepLatency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// A predictor as priced.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = PricedPredictor)]
pub struct PredictorBody {
    /// Its name.
    pub name: String,
    /// Its kind, where known.
    pub kind: Option<Cow<'static, str>>,
    /// Mean share of a token's experts it names.
    pub accuracy: f64,
    /// The same per layer, where fitted.
    pub accuracy_per_layer: Option<Vec<f64>>,
    /// Its time per layer and step, seconds.
    pub overhead_s: f64,
    /// `stated`, `fitted` or `assumed`.
    #[schema(value_type = SourceName)]
    pub source: Cow<'static, str>,
    /// The exponential through the stated points, for a curve.
    pub fit: Option<CurveBody>,
}

/// Overhead over accuracy: t = `a_s` · exp(c · accuracy).
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct CurveBody {
    /// Time at accuracy 0, seconds.
    pub a_s: f64,
    /// Growth.
    pub c: f64,
}

/// Whether an engine runs a strategy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EngineSupportBody {
    /// The engine.
    #[schema(value_type = EngineName)]
    pub engine: Cow<'static, str>,
    /// Whether it runs it in this configuration.
    pub runnable: bool,
    /// Why, and how it is switched on.
    pub because: String,
    /// Whether its balancer moves the experts of the model's class; null where nobody read it.
    pub balances_model: Option<bool>,
}

/// Where the time of a layer goes, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TermsBody {
    /// Attention with projections and norms.
    pub attention_s: f64,
    /// All-reduce after tensor-parallel attention.
    pub all_reduce_s: f64,
    /// Router and top-k.
    pub router_s: f64,
    /// Tokens to the experts.
    pub dispatch_s: f64,
    /// Experts of the slowest device.
    pub expert_ffn_s: f64,
    /// Outputs back.
    pub combine_s: f64,
    /// The predictor, as far as it is exposed.
    pub predictor_s: f64,
    /// Rebalancing and copies, spread over steps.
    pub rebalance_s: f64,
    /// What runs beside something else: zero or negative.
    pub overlap_hidden_s: f64,
    /// Kernel launches and the like.
    pub other_s: f64,
}

/// A reference.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReferenceBody {
    /// `tensor_experts`, `post_gate_split` or `balanced`.
    pub id: Cow<'static, str>,
    /// What it stands for.
    pub description: Cow<'static, str>,
    /// Latency of one layer, seconds.
    pub layer_latency_s: f64,
}

/// A way to spread the model over the same devices.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct LayoutBody {
    /// Devices that share the heads of attention.
    pub attention_tensor: u32,
    /// Replicas of attention.
    pub attention_data: u32,
    /// Devices, or groups of them, over which experts are spread; 1: no expert parallelism.
    pub expert_parallel: u32,
    /// Devices that share every expert.
    pub expert_tensor: u32,
    /// Latency of one mixture-of-experts layer, seconds.
    pub layer_latency_s: f64,
    /// Latency of a step of the whole model, seconds.
    pub model_latency_s: f64,
    /// Whether it fits into memory.
    pub fits: bool,
    /// Weights, KV cache of the batch asked for, and what is kept free, on every device, bytes.
    pub needed_bytes: f64,
    /// What of it is missing on every device, bytes.
    pub missing_bytes: f64,
}

/// An option of an engine under the recommended strategy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OptionBody {
    /// What it sets: `replica_split` or `shared_expert`.
    pub id: Cow<'static, str>,
    /// To what: `lp` or `waterfill`.
    pub value: Cow<'static, str>,
    /// Which of its modes: `conservative` or `all_ranks`; null where it has one only.
    pub mode: Option<Cow<'static, str>>,
    /// What it does.
    pub description: Cow<'static, str>,
    /// Which engines have it, and how they are told.
    pub engine_support: Vec<OptionSupportBody>,
    /// What it is worth; null where it does nothing here.
    pub price: Option<OptionPriceBody>,
    /// Why it has no price.
    pub not_priced_reason: Option<String>,
}

/// Whether an engine has an option.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OptionSupportBody {
    /// The engine.
    #[schema(value_type = EngineName)]
    pub engine: Cow<'static, str>,
    /// Whether it has it in this configuration.
    pub runnable: bool,
    /// Why, and from which version on.
    pub because: String,
    /// The arguments that switch it on; empty where none are known. They are among those of `launch`
    /// where even the least gain is one.
    pub argv: Vec<String>,
}

/// What an option is worth, on drawn steps under the plan of the recommended strategy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OptionPriceBody {
    /// Latency of one mixture-of-experts layer without it, seconds.
    pub layer_latency_off_s: f64,
    /// The same with it, seconds.
    pub layer_latency_on_s: f64,
    /// What of that it costs whatever it balances, seconds.
    pub overhead_s: f64,
    /// Layer latency without it over that with it.
    pub gain: GainBody,
    /// Work of the busiest GPU over the mean of the routed work, without it: routed tokens and, where
    /// the option moves it, the shared expert's.
    pub busiest_off: f64,
    /// The same with it.
    pub busiest_on: f64,
}

/// The ceiling of balancing.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct CeilingBody {
    /// Layer latency of `none` over the ceiling's.
    pub speedup_over_none: Option<f64>,
    /// Layer latency at the ceiling, seconds.
    pub layer_latency_s: Option<f64>,
}

/// Where the recommended strategy changes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FlipPoint {
    /// The quantity that is varied.
    #[schema(value_type = FlipParameterName)]
    pub parameter: Cow<'static, str>,
    /// Where the strategy changes, in two or three digits; null if it does not in `range`, or for
    /// `communication`.
    pub value: Option<f64>,
    /// The change lies between these; asked with a value beyond either end, the service answers
    /// what is said here. Null where `value` is.
    #[serde(default)]
    pub interval: Option<[f64; 2]>,
    /// The strategy it changes to.
    #[schema(value_type = Option<StrategyName>)]
    pub becomes: Option<Cow<'static, str>>,
    /// The range searched; null for `communication`.
    pub range: Option<[f64; 2]>,
    /// The other pattern, for `communication`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<CommunicationName>)]
    pub communication: Option<Cow<'static, str>>,
    /// With `copy_overlap` `attention`: no change of the strategy, but of its copies, one expert's
    /// weights, which become `hidden` behind attention or `exposed`; what they are in all of `range`
    /// where `value` is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<CopiesName>)]
    pub copies: Option<Cow<'static, str>>,
}

/// The routing behind an answer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = RoutingBehind)]
pub struct RoutingBody {
    /// Hottest expert over the mean; null where only device balance is known. Of several
    /// traces, layer after layer of the first, then of the next.
    pub skewness: Option<Summary>,
    /// Experts times the mean absolute error of the forecast shares, mean over layers.
    pub distribution_error: Option<f64>,
    /// Busiest device over the mean, for the placement without and with the plan.
    pub device_imbalance: Option<DeviceImbalance>,
    /// The layer whose devices are the most uneven without the plan (calibrated preset).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busiest_layer: Option<BusiestLayer>,
}

/// One layer, expert by expert and slot by slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BusiestLayer {
    /// Index among the mixture-of-experts layers.
    pub layer: usize,
    /// Devices that its slots lie on, equally many on each, one device after another.
    pub devices: u32,
    /// Share of the layer's assignments that each expert takes.
    pub expert_shares: Vec<f64>,
    /// The expert in every slot, as it is.
    pub slots_before: Vec<u32>,
    /// The expert in every slot, with the plan; null where none is advised.
    pub slots_after: Option<Vec<u32>>,
}

/// Mean, largest and per-layer values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// Mean over layers.
    pub mean: f64,
    /// Largest of the layers.
    pub max: f64,
    /// Every layer.
    pub per_layer: Vec<f64>,
}

impl Summary {
    /// Summarises per-layer values; `None` of none.
    pub fn of(per_layer: Vec<f64>) -> Option<Self> {
        let mean = per_layer.iter().sum::<f64>() / per_layer.len() as f64;
        let max = per_layer.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (!per_layer.is_empty()).then_some(Self { mean, max, per_layer })
    }
}

/// Device imbalance before and after, in the conventions engines use.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeviceImbalance {
    /// Without the plan: max over mean of device loads in a step.
    pub before: Summary,
    /// With it.
    pub after: Option<Summary>,
    /// Mean over max without the plan, as engines log it.
    pub balancedness_before: f64,
    /// Mean over max with the plan.
    pub balancedness_after: Option<f64>,
    /// What remains with the plan, by cause.
    pub residual: Option<Residual>,
    /// 5 % and 95 % of the imbalance over expert orders, where only a scalar is known.
    pub range_over_orders: Option<[f64; 2]>,
}

/// Why devices are still uneven under the plan: parts of max/mean − 1, mean over layers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct Residual {
    /// The plan itself: experts are not divisible at will.
    pub plan: f64,
    /// The forecast was not the truth.
    pub forecast_error: f64,
    /// Finite batches scatter.
    pub sampling: f64,
    /// The load moved on after planning (simulated).
    pub drift: f64,
}

/// The plan of the recommended strategy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlanBody {
    /// Expert slots of every device and layer.
    pub slots_per_device: u32,
    /// Slots beyond one per expert, per layer over all devices.
    pub redundant_experts: u32,
    /// Latency of one layer with this plan, by the formulas. The price of the strategy is that
    /// of the fastest plan of `duplication_search`, at most the error band below.
    pub layer_latency_s: f64,
    /// `startup_map`, `sync` or `async`.
    #[schema(value_type = RebalanceModeName)]
    pub rebalance_mode: Cow<'static, str>,
    /// Steps between renewals.
    pub interval_steps: u64,
    /// How long serving stops in the first renewal, which maps memory and allocates buffers,
    /// seconds. It is stated, not part of the prices.
    #[serde(default)]
    pub first_stall_s: f64,
    /// How long serving stops in every later renewal if it moves as many experts, seconds; the
    /// prices hold it, spread over the interval.
    #[serde(default)]
    pub stall_s: f64,
    /// How long serving stops while the plan takes the place of the map in force (`current`), once and
    /// whatever the mode, seconds: experts move as in a first renewal. It is stated, not part of the
    /// prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_s: Option<f64>,
    /// Steps after which one later renewal has paid for itself; null if never.
    pub break_even_steps: Option<f64>,
    /// Expert copies that change devices when the plan first takes effect.
    pub moved_experts: u64,
    /// Busiest device over mean on the part of the traces it was planned on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sample_imbalance: Option<Summary>,
    /// The same on the part held out; absent where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_imbalance: Option<Summary>,
    /// Memory of one device, bytes.
    pub memory: MemoryBody,
}

/// Memory of one device under a plan, bytes unless said otherwise.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct MemoryBody {
    /// Memory of the device.
    pub capacity_bytes: f64,
    /// Kept free.
    pub reserve_bytes: f64,
    /// Weights without replicas.
    pub weights_bytes: f64,
    /// Replicas of experts.
    pub replica_bytes: f64,
    /// KV cache the workload needs.
    pub kv_needed_bytes: f64,
    /// What is lacking, 0 if it fits.
    pub missing_bytes: f64,
    /// Tokens of KV cache given up for replicas.
    pub kv_tokens_lost_per_device: f64,
    /// Sequences that fit at once without replicas, over all devices.
    pub max_concurrent_sequences_before: u64,
    /// The same with them.
    pub max_concurrent_sequences_after: u64,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Provenance {
    /// Version of the program.
    pub version: Cow<'static, str>,
    /// SHA-256 of the catalog.
    pub catalog_digest: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// `analytic` or `simulated`.
    #[schema(value_type = MethodName)]
    pub method: Cow<'static, str>,
    /// Every switch in force.
    #[schema(value_type = Object)]
    pub assumptions: BTreeMap<Cow<'static, str>, Value>,
    /// The system as priced: parallelism and number formats.
    #[schema(value_type = Object)]
    pub system: BTreeMap<Cow<'static, str>, Value>,
    /// The model as it was read.
    pub model: ModelProvenance,
    /// Every term's basis (`measured`, `fitted`, `roofline`, `paper`) and relative error band.
    pub terms: BTreeMap<String, TermProvenance>,
    /// Fields of an inline model that nothing here depends on.
    pub ignored_model_fields: Vec<String>,
    /// Traces the answer rests on.
    pub trace_ids: Vec<String>,
}

/// A model as it was read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelProvenance {
    /// The family by which it was read.
    pub family: String,
    /// Layers as its configuration counts them.
    pub layers: u32,
    /// Layers with routed experts.
    pub moe_layers: u32,
    /// Routed experts of a layer.
    pub experts: u32,
    /// Choices of a token, those that cost nothing included.
    pub top_k: u32,
    /// Experts with weights among them, on average.
    pub effective_top_k: u32,
    /// Parameters of the language model, without multi-token prediction.
    pub parameters: u64,
    /// Those that one token uses; both embeddings count.
    pub active_per_token: u64,
    /// What every further token adds to the caches of keys and values, at 2 bytes a value.
    pub kv_bytes_per_token: f64,
    /// What it adds to the keys of an index, at 1 byte a value.
    pub index_bytes_per_token: f64,
    /// What a sequence keeps whatever its length: full windows, at 2 bytes a value, and states.
    pub state_bytes_per_sequence: f64,
    /// All weights in the formats below, held once.
    pub weight_bytes: f64,
    /// Number formats of routed experts, of the rest, of activations and of the cache.
    #[schema(value_type = Object)]
    pub formats: BTreeMap<Cow<'static, str>, Cow<'static, str>>,
    /// What it has and no law prices.
    pub not_priced: Vec<String>,
}

/// How far a term can be trusted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TermProvenance {
    /// `measured`, `fitted`, `roofline` or `paper`.
    #[schema(value_type = BasisName)]
    pub basis: Cow<'static, str>,
    /// Relative error band.
    pub error_band: f64,
}

/// The plan of a recommendation, layer by layer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlacementBody {
    /// Always `json`.
    pub format: Cow<'static, str>,
    /// The strategy the plan belongs to.
    #[schema(value_type = StrategyName)]
    pub strategy: Cow<'static, str>,
    /// The verdict of the recommendation.
    #[serde(default)]
    #[schema(value_type = VerdictName)]
    pub verdict: Cow<'static, str>,
    /// The engine of the question, where it names one.
    #[serde(default)]
    #[schema(value_type = Option<EngineName>)]
    pub engine: Option<Cow<'static, str>>,
    /// Routed experts per layer.
    pub n_logical_experts: u32,
    /// Slots per layer over all devices.
    pub n_physical_experts: u32,
    /// Expert-parallel size (EP): devices that share the routed experts.
    pub devices: u32,
    /// Slots of every device; device r owns slots r·n to (r+1)·n − 1.
    pub slots_per_device: u32,
    /// Whether every layer has a map of its own, or one stands for all.
    pub layers_are_exact: bool,
    /// Whether the experts' ids are the model's: false where the routing was a scalar, and
    /// which expert is hot was made up. Only then is there no file for engines.
    pub expert_ids_are_real: bool,
    /// Layers of the model, dense ones included.
    pub n_model_layers: u32,
    /// What to set in each engine, and what it ignores.
    pub engines: Vec<EnginePlanBody>,
    /// The layers.
    pub layers: Vec<PlacementLayer>,
}

/// How to run a plan in one engine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EnginePlanBody {
    /// The engine.
    #[schema(value_type = EngineName)]
    pub engine: Cow<'static, str>,
    /// `format=` of the file it loads; null where it loads none.
    pub format: Option<Cow<'static, str>>,
    /// Flags, variables and configuration keys as a person types them; `FILE` stands for the plan.
    pub set: Vec<String>,
    /// The same as arguments of the engine's command line, each on its own.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The same as lines of the engine's YAML configuration.
    #[serde(default)]
    pub yaml: Vec<String>,
    /// What it ignores or does otherwise.
    pub ignores: Cow<'static, str>,
    /// Limits of the engine the plan comes close to or breaks.
    pub limits: Vec<String>,
}

impl From<EngineSettings> for EnginePlanBody {
    fn from(settings: EngineSettings) -> Self {
        let EngineSettings { engine, format, launch, ignores, limits } = settings;
        Self {
            engine: engine.into(),
            format: format.map(Into::into),
            set: launch.lines(),
            argv: launch.args,
            env: launch.env,
            yaml: launch.yaml,
            ignores: ignores.into(),
            limits,
        }
    }
}

/// How to start an engine so that it follows a recommendation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(title = "Launch")]
pub struct LaunchBody {
    /// The engine.
    #[schema(value_type = EngineName)]
    pub engine: Cow<'static, str>,
    /// The strategy that is followed.
    #[schema(value_type = StrategyName)]
    pub strategy: Cow<'static, str>,
    /// The verdict of the recommendation: follow `insufficient_evidence` with care.
    #[schema(value_type = VerdictName)]
    pub verdict: Cow<'static, str>,
    /// Arguments of the engine's command line, each on its own; empty where nothing changes.
    pub argv: Vec<String>,
    /// The same, with `env` before them, as one quoted line for a shell.
    pub shell: String,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// A fragment of the engine's YAML configuration, where it is configured so.
    pub yaml: Option<String>,
    /// The file that is loaded, and from where; null where none is.
    pub placement: Option<MountedPlacement>,
    /// What the engine ignores, and limits that the plan comes close to.
    pub notes: Vec<String>,
}

/// A placement file to mount.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MountedPlacement {
    /// Where the service answers the file.
    pub url: String,
    /// Where the arguments expect it.
    pub path: String,
}

/// The plan of one layer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlacementLayer {
    /// Index among the mixture-of-experts layers.
    pub layer: usize,
    /// Index among all layers of the model.
    pub model_layer: u32,
    /// The expert in every slot.
    pub physical_to_logical: Vec<u32>,
    /// Copies of every expert.
    pub replicas: Vec<u32>,
    /// Expert copies that enter devices, against the current map.
    pub moves: u64,
    /// Busiest device over the mean under the planned load.
    pub planned_imbalance: f64,
}

/// What `/placement` answers in JSON: the plan, or the file that an engine loads.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PlacementFile {
    /// `json`: the plan.
    Plan(Box<PlacementBody>),
    /// `sglang`.
    Sglang {
        /// The expert in every slot, layer by layer.
        physical_to_logical_map: Vec<Vec<u32>>,
    },
    /// `vllm_ascend`.
    Ascend {
        /// Layers with experts.
        moe_layer_count: u32,
        /// The layers.
        layer_list: Vec<AscendLayer>,
    },
}

/// A layer of `vllm_ascend`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AscendLayer {
    /// Counted among layers with experts.
    pub layer_id: u32,
    /// Devices of the layer.
    pub device_count: u32,
    /// The devices.
    pub device_list: Vec<AscendDevice>,
}

/// A device of `vllm_ascend`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AscendDevice {
    /// The device.
    pub device_id: u32,
    /// The expert in every slot.
    pub device_expert: Vec<u32>,
}
