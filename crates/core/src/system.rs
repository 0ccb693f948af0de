//! Where and how the model is served: cluster, parallelism, workload, engine and
//! the assumptions under which its time is priced.
//!
//! Values of these types have been checked at the API boundary (`wire`): the laws below may
//! rely on non-zero counts and on divisibility.

use crate::engines::{Engine, unnamed};
use crate::hardware::{Device, Link};
use crate::model::Model;
use crate::named::name_of;
use crate::units::Seconds;

/// Everything but the routing that decides how long a layer takes.
#[derive(Debug, Clone, PartialEq)]
pub struct System {
    /// The model.
    pub model: Model,
    /// The devices and their links.
    pub cluster: Cluster,
    /// How the model is spread over the devices.
    pub parallelism: Parallelism,
    /// What one step computes.
    pub workload: Workload,
    /// The serving engine, where stated.
    pub engine: Option<ServingEngine>,
    /// Switches of the cost model in force.
    pub assumptions: Assumptions,
}

impl System {
    /// The engine, or what is assumed where none is named.
    #[must_use]
    pub fn engine_kind(&self) -> &'static Engine {
        self.engine.as_ref().map_or(&unnamed::ENGINE, |engine| engine.kind)
    }

    /// Whole sequences of the busiest replica of attention, ⌈B / replicas⌉: a sequence is never
    /// split over replicas, since its KV cache is on one (data-parallel attention of vLLM, SGLang
    /// and TensorRT-LLM). Worked: 9 sequences on 8 replicas are 2 on the busiest.
    #[must_use]
    pub fn busiest_sequences(&self) -> u64 {
        self.workload.sequences.div_ceil(u64::from(self.parallelism.attention_data)).max(1)
    }

    /// Share of the step's tokens that the busiest replica of attention holds: ⌈B / replicas⌉ / B.
    /// Worked: 2/9 for 9 sequences on 8 replicas.
    #[must_use]
    pub fn busiest_share(&self) -> f64 {
        let of_prompts = self.busiest_sequences() as f64 / self.workload.sequences.max(1) as f64;
        let decoding = self.workload.decoding();
        if decoding == 0 {
            return of_prompts;
        }
        let verified = self.workload.verified() as f64;
        let tokens = self.workload.tokens_per_step as f64 / verified;
        let beside = decoding as f64 / tokens;
        of_prompts * (1.0 - beside) + self.busiest_decoding() as f64 / tokens
    }

    /// Sequences that decode beside prompts on the busiest replica of attention.
    #[must_use]
    pub fn busiest_decoding(&self) -> u64 {
        self.workload.decoding().div_ceil(u64::from(self.parallelism.attention_data))
    }

    /// Tokens of the busiest replica over the mean of the replicas, 1 where sequences divide evenly.
    #[must_use]
    pub fn padding(&self) -> f64 {
        self.busiest_share() * f64::from(self.parallelism.attention_data)
    }
}

/// Devices, and what connects them.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The one kind of device.
    pub device: Device,
    /// Devices in all, over every node.
    pub n_devices: u32,
    /// Devices that reach each other over `link`; divides `n_devices`.
    pub devices_per_node: u32,
    /// The link inside a node.
    pub link: Link,
    /// The link between nodes, where there is more than one node.
    pub inter_node_link: Option<Link>,
}

impl Cluster {
    /// So many devices of one node.
    #[must_use]
    pub const fn of_one_node(device: Device, n_devices: u32, link: Link) -> Self {
        Self { device, n_devices, devices_per_node: n_devices, link, inter_node_link: None }
    }

    /// Nodes: groups of devices joined by the inner link.
    #[must_use]
    pub const fn n_nodes(&self) -> u32 {
        self.n_devices / self.devices_per_node
    }
}

/// How the model is spread over the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parallelism {
    /// Devices that share one attention head set (tensor parallelism of attention).
    pub attention_tensor: u32,
    /// Replicas of attention, each with its own sequences.
    pub attention_data: u32,
    /// Expert-parallel size (EP), N: devices that share the routed experts.
    pub expert_parallel: u32,
    /// Devices that share one expert's matrices.
    pub expert_tensor: u32,
    /// Pipeline stages; each holds a part of the layers.
    pub pipeline: u32,
}

/// What one step of the engine computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workload {
    /// Prefill or decode.
    pub phase: Phase,
    /// Sequences in the step, over all devices, B.
    pub sequences: u64,
    /// New tokens in the step, over all devices, T.
    pub tokens_per_step: u64,
    /// Tokens a new token attends to at most: the sequence length in prefill, the KV
    /// length in decode.
    pub context: u64,
    /// Number formats.
    pub dtypes: Dtypes,
    /// The sequences of the server besides; none where the step stands alone.
    pub running: Option<Running>,
    /// What is drafted for sequences that decode; they get one token a step without.
    pub speculation: Option<Speculation>,
}

impl Workload {
    /// Whole prompts of one length, everything in one number format.
    #[must_use]
    pub const fn prefill(sequences: u64, length: u64, dtype: Dtype) -> Self {
        let dtypes = Dtypes::all(dtype);
        let tokens_per_step = sequences * length;
        let phase = Phase::Prefill;
        Self {
            phase,
            sequences,
            tokens_per_step,
            context: length,
            dtypes,
            running: None,
            speculation: None,
        }
    }

    /// New tokens of a sequence that decodes, 1 + n: its own, and those that were drafted.
    #[must_use]
    pub fn verified(&self) -> u64 {
        self.speculation.map_or(1, |speculation| 1 + u64::from(speculation.drafted))
    }

    /// Tokens of output that a sequence gets of a step in the mean, 1 + a.
    #[must_use]
    pub fn gained(&self) -> f64 {
        self.speculation.map_or(1.0, |speculation| 1.0 + speculation.accepted)
    }

    /// Tokens that decode, drafted ones among them.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        match self.phase {
            Phase::Prefill => self.decoding() * self.verified(),
            Phase::Decode => self.tokens_per_step,
        }
    }

    /// The step that drafts one token for every sequence that decodes.
    #[must_use]
    pub fn drafting(&self) -> Self {
        let sequences = match self.phase {
            Phase::Prefill => self.decoding(),
            Phase::Decode => self.sequences,
        };
        Self {
            phase: Phase::Decode,
            sequences,
            tokens_per_step: sequences,
            context: self.held().1,
            dtypes: self.dtypes,
            running: None,
            speculation: None,
        }
    }

    /// Sequences that decode beside the prompts of the step.
    #[must_use]
    pub fn decoding(&self) -> u64 {
        self.running.map_or(0, |running| running.decoding)
    }

    /// Sequences whose keys and values are held, over all devices, and tokens of each.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        self.running
            .map_or((self.sequences, self.context), |running| (running.held, running.length))
    }
}

/// Tokens that are drafted for every sequence that decodes, and verified together in its next step.
///
/// A step computes 1 + n tokens of a sequence and yields 1 + a of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speculation {
    /// Tokens that are drafted, n.
    pub drafted: u32,
    /// Of which so many are accepted in the mean, a.
    pub accepted: f64,
    /// Time to draft them, of a step; that of the model's own layers for it where not stated.
    pub draft: Option<Seconds>,
}

/// The sequences of a running server during one of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Those that decode beside the prompts of the step.
    pub decoding: u64,
    /// All whose keys and values are held, over all devices.
    pub held: u64,
    /// Tokens of each of them, in the mean over their time.
    pub length: u64,
}

/// The two phases of inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Whole prompts at once.
    Prefill,
    /// One new token per sequence.
    Decode,
}

/// Number formats of what is stored, multiplied and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dtypes {
    /// Projections, dense blocks and shared experts.
    pub weights: Operands,
    /// Routed experts.
    pub experts: Operands,
    /// Activations between operators: norms, routers, attention, all-reduce.
    pub stream: Dtype,
    /// Keys and values in the cache.
    pub kv: Dtype,
    /// Tokens on their way to the experts.
    pub dispatch: Dtype,
    /// Expert outputs on their way back.
    pub combine: Dtype,
}

impl Dtypes {
    /// Everything in one format.
    #[must_use]
    pub const fn all(dtype: Dtype) -> Self {
        let products = Operands::of(dtype, dtype);
        Self {
            weights: products,
            experts: products,
            stream: dtype,
            kv: dtype,
            dispatch: dtype,
            combine: dtype,
        }
    }

    /// What attention reads and computes.
    #[must_use]
    pub const fn attention(&self) -> Operands {
        Operands::of(self.kv, self.stream)
    }
}

/// Number formats of an operator's operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operands {
    /// What is kept in memory: weights, or keys and values.
    pub stored: Dtype,
    /// What it is multiplied in: that of the other operand.
    pub computed: Dtype,
}

impl Operands {
    /// 16-bit floats.
    pub const BF16: Self = Self::of(Dtype::Bf16, Dtype::Bf16);

    /// Operands of these formats; scales for blocks of a matrix are no format to multiply in.
    #[must_use]
    pub const fn of(stored: Dtype, computed: Dtype) -> Self {
        let computed = if matches!(computed, Dtype::Fp8Block) { Dtype::Fp8 } else { computed };
        Self { stored, computed }
    }

    /// Whether both are floats of 16 or 32 bits.
    #[must_use]
    pub const fn are_wide(self) -> bool {
        self.stored.is_wide() && self.computed.is_wide()
    }

    /// Their name: one format, or `stored/computed` where those differ.
    #[must_use]
    pub fn name(self) -> String {
        let name = |dtype| name_of(&Dtype::OF_WEIGHTS, &dtype);
        if Self::of(self.stored, self.stored) == self {
            name(self.stored).to_owned()
        } else {
            format!("{}/{}", name(self.stored), name(self.computed))
        }
    }

    /// The operands of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let known = |name: &str| {
            let found = Dtype::OF_WEIGHTS.iter().find(|(_, known)| *known == name);
            found.map(|(dtype, _)| *dtype)
        };
        let (stored, computed) = name.split_once('/').unwrap_or((name, name));
        Some(Self::of(known(stored)?, known(computed)?))
    }
}

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dtype {
    /// 32-bit float.
    Fp32,
    /// 16-bit brain float.
    Bf16,
    /// 16-bit float.
    Fp16,
    /// 8-bit float, one scale for a matrix or a row.
    Fp8,
    /// 8-bit float with a scale for every 128 × 128 weights.
    Fp8Block,
    /// 4-bit float with an 8-bit scale for every 16 weights.
    Nvfp4,
    /// 4-bit float with an 8-bit scale for every 32 weights.
    Mxfp4,
    /// 4-bit integer with a 16-bit scale for every 32 weights.
    Int4,
}

/// Number formats of a checkpoint's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// Routed experts.
    pub experts: Dtype,
    /// Other matrices; routers, norms and embeddings keep 16 bits.
    pub rest: Dtype,
}

impl Dtype {
    /// Formats of anything, with their names on the wire, in the order shown to users.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Bf16, "bf16"), (Self::Fp16, "fp16"), (Self::Fp8, "fp8"), (Self::Fp32, "fp32")];

    /// Formats of what multiplies weights, with their names on the wire.
    pub const OF_INPUTS: [(Self, &'static str); 4] =
        [(Self::Bf16, "bf16"), (Self::Fp16, "fp16"), (Self::Fp8, "fp8"), (Self::Nvfp4, "nvfp4")];

    /// Formats of weights with their names on the wire.
    pub const OF_WEIGHTS: [(Self, &'static str); 8] = [
        (Self::Bf16, "bf16"),
        (Self::Fp16, "fp16"),
        (Self::Fp8, "fp8"),
        (Self::Fp8Block, "fp8_block"),
        (Self::Nvfp4, "nvfp4"),
        (Self::Mxfp4, "mxfp4"),
        (Self::Int4, "int4"),
        (Self::Fp32, "fp32"),
    ];

    /// Bytes of one element, scales included: a 32-bit one of 128 × 128 weights, an 8-bit one of 16
    /// (nvfp4) or 32 (mxfp4), a 16-bit one of 32 (int4).
    #[must_use]
    pub const fn bytes(self) -> f64 {
        match self {
            Self::Fp32 => 4.0,
            Self::Bf16 | Self::Fp16 => 2.0,
            Self::Fp8 => 1.0,
            Self::Fp8Block => 1.0 + 4.0 / (128.0 * 128.0),
            Self::Nvfp4 | Self::Int4 => 0.5625,
            Self::Mxfp4 => 0.53125,
        }
    }

    /// Whether it is a float of 16 or 32 bits.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        matches!(self, Self::Fp32 | Self::Bf16 | Self::Fp16)
    }

    /// The format of the other operand where nothing else is said of weights in this one: 8-bit
    /// floats and nvfp4 have kernels for their own format, mxfp4 and int4 checkpoints are published
    /// for 16-bit activations (gpt-oss, Kimi-K2.5: `README.md` of each).
    #[must_use]
    pub const fn usual_input(self) -> Self {
        match self {
            Self::Fp8 | Self::Fp8Block => Self::Fp8,
            Self::Mxfp4 | Self::Int4 => Self::Bf16,
            own => own,
        }
    }
}

/// The serving engine and the settings that change its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingEngine {
    /// Which engine.
    pub kind: &'static Engine,
    /// Its version, as the user wrote it.
    pub version: Option<String>,
    /// Its all-to-all backend, as the engine names it.
    pub all2all_backend: Option<String>,
    /// Its expert kernel, as the engine names it.
    pub moe_kernel: Option<String>,
    /// Whether steps are replayed as CUDA graphs.
    pub cuda_graph: Option<bool>,
}

/// Switches of the cost model; presets set them all, a question may override each.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumptions {
    /// The preset the others started from.
    pub preset: Preset,
    /// How forecast errors load the busiest device (paper mode).
    pub error_model: ErrorModel,
    /// Never load the busiest device more than without a strategy (paper mode).
    pub cap_at_baseline: bool,
    /// How tokens reach the experts; `None` follows the engine and attention.
    pub communication: Option<Communication>,
    /// Whether token-to-expert prediction saves the dispatch.
    pub t2e_skips_scatter: bool,
    /// What becomes of tokens that a predictor has sent to a wrong device.
    pub misroute_repair: MisrouteRepair,
    /// Whether the predictor runs beside attention.
    pub predictor_overlap: PredictorOverlap,
    /// What the copies of experts that are made in every step run beside.
    pub copy_overlap: CopyOverlap,
    /// What runs beside communication.
    pub overlap: Overlap,
    /// Copies of a token that an all-to-all sends (paper mode), 1 in the paper.
    pub k_comm: f64,
    /// Host time per kernel launch; `None` follows the engine (CUDA graphs: 0).
    pub launch: Option<Seconds>,
    /// Slowest over mean attention time of data-parallel replicas, at least 1.
    pub attention_imbalance: f64,
    /// How tokens are split over replicas; `None` follows the engine.
    pub replica_split: Option<ReplicaSplit>,
}

impl Assumptions {
    /// The switches of a preset, before any is overridden (`cost-model` §3 and §4).
    #[must_use]
    pub const fn preset(preset: Preset) -> Self {
        let paper = matches!(preset, Preset::Paper);
        Self {
            preset,
            error_model: ErrorModel::Typical,
            cap_at_baseline: false,
            communication: if paper { Some(Communication::Paper) } else { None },
            t2e_skips_scatter: paper,
            misroute_repair: MisrouteRepair::None,
            predictor_overlap: PredictorOverlap::Serial,
            copy_overlap: if paper { CopyOverlap::Free } else { CopyOverlap::Exposed },
            overlap: Overlap::None,
            k_comm: 1.0,
            launch: None,
            attention_imbalance: 1.0,
            replica_split: None,
        }
    }
}

/// The preset of assumptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// What really happens, with fitted laws.
    Calibrated,
    /// The formulas of the MoE-GPS paper.
    Paper,
}

impl Preset {
    /// Every value with its name on the wire.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Calibrated, "calibrated"), (Self::Paper, "paper")];
}

/// How forecast errors load the busiest device, as the paper distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorModel {
    /// Errors do not disturb the balance: load 1.
    Optimistic,
    /// Errors spread evenly: load 1 + e.
    Typical,
    /// Errors meet on one device: load 1 + (N − 1)·e.
    Pessimistic,
}

impl ErrorModel {
    /// Every value with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Optimistic, "optimistic"),
        (Self::Typical, "typical"),
        (Self::Pessimistic, "pessimistic"),
    ];
}

/// How tokens reach their experts and come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Communication {
    /// Every device holds every token after attention; an all-reduce combines.
    Replicated,
    /// All tokens gathered on every device, outputs reduce-scattered.
    AllgatherReducescatter,
    /// One copy of a token per distinct device (DeepEP normal and alike).
    AllToAllNormal,
    /// One copy per token and expert (DeepEP low latency).
    AllToAllLowLatency,
    /// The paper's all-to-all.
    Paper,
}

impl Communication {
    /// Every value with its name on the wire.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Replicated, "replicated"),
        (Self::AllgatherReducescatter, "allgather_reducescatter"),
        (Self::AllToAllNormal, "all_to_all_normal"),
        (Self::AllToAllLowLatency, "all_to_all_low_latency"),
        (Self::Paper, "paper"),
    ];
}

/// Whether the predictor's time is exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictorOverlap {
    /// Before the layer, on the critical path.
    Serial,
    /// Beside attention; only what is longer is exposed.
    Attention,
}

impl PredictorOverlap {
    /// Every value with its name on the wire.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Serial, "none"), (Self::Attention, "attention")];

    /// The part of a predictor's time that is exposed.
    #[must_use]
    pub fn exposed(self, overhead: Seconds, attention: Seconds) -> Seconds {
        match self {
            Self::Serial => overhead,
            Self::Attention => (overhead - attention).max(Seconds::ZERO),
        }
    }
}

/// How tokens that a predictor has sent to a wrong device reach their experts, where the dispatch is
/// skipped because tokens are already there.
///
/// ```text
/// dispatch = 0 | ε·a2a | a2a        none | wrong tokens | the full exchange
/// ```
///
/// ε share of wrong choices, a2a the dispatch that is skipped: balanced for the wrong tokens, as uneven
/// as the routing for the full exchange (by the paper's formulas), the plan's own (calibrated). The
/// MoE-GPS paper says nothing of them, as if they were free. Worked number: 0.15 of 11.54144 µs
/// (Mixtral, 512 tokens on four devices at 300 GB/s, balanced) are 1.731 µs a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MisrouteRepair {
    /// They cost nothing.
    None,
    /// They are sent once more.
    WrongTokens,
    /// All tokens are dispatched, as without a forecast.
    FullExchange,
}

impl MisrouteRepair {
    /// Every value with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::None, "none"),
        (Self::WrongTokens, "wrong_tokens"),
        (Self::FullExchange, "full_exchange"),
    ];

    /// The share of a dispatch that a predictor of this accuracy leaves.
    #[must_use]
    pub fn share(self, accuracy: f64) -> f64 {
        match self {
            Self::None => 0.0,
            Self::WrongTokens => 1.0 - accuracy,
            Self::FullExchange => 1.0,
        }
    }
}

/// What the copies of experts that are made in every step run beside.
///
/// ```text
/// exposed = max(0, n·B/W − attention)        beside attention; n·B/W alone; 0 where they are free
/// ```
///
/// n copies that the busiest device receives, B bytes of an expert, W bandwidth of its link. The MoE-GPS
/// paper takes them for hidden behind attention, and its formulas leave them out. Worked number: one
/// Mixtral expert (352.3 MB) over 32 GB/s takes 11.010 ms, of which attention of 0.246 ms hides 2 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyOverlap {
    /// Nothing: all of their time is seen.
    Exposed,
    /// Attention; only what is longer is seen.
    Attention,
    /// They cost nothing, however long they take.
    Free,
}

impl CopyOverlap {
    /// Every value with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Exposed, "none"), (Self::Attention, "attention"), (Self::Free, "free")];

    /// The part of the copies' time that is seen.
    #[must_use]
    pub fn exposed(self, copying: Seconds, attention: Seconds) -> Seconds {
        match self {
            Self::Exposed => copying,
            Self::Attention => (copying - attention).max(Seconds::ZERO),
            Self::Free => Seconds::ZERO,
        }
    }
}

/// What runs beside communication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing.
    None,
    /// The shared expert.
    SharedExpert,
    /// The other half of the batch.
    TwoBatch,
}

impl Overlap {
    /// Every value with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::None, "none"),
        (Self::SharedExpert, "shared_expert"),
        (Self::TwoBatch, "two_batch"),
    ];
}

/// How an expert's tokens are split over its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaSplit {
    /// Evenly, by a hash of the token (vLLM).
    Hashed,
    /// To the nearest replica first (SGLang static).
    NearestFirst,
    /// So that the busiest device is as light as possible.
    Optimal,
}

impl ReplicaSplit {
    /// Every value with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Hashed, "hashed"),
        (Self::NearestFirst, "nearest_first"),
        (Self::Optimal, "optimal"),
    ];
}
