//! One measurement of one operator, whatever table it comes from.

use moe_gps_core::comm::profile::{Collective, CollectiveKernel, DeepEpMode, Way};
use moe_gps_core::cost::attention::{Heads, Span};
use moe_gps_core::engines::Engine;
use moe_gps_core::named::name_of;
use moe_gps_core::system::{Dtype, Operands, Phase};
use moe_gps_core::units::{Bytes, Seconds};

use crate::validate::draws::Drawn;

/// A kind of operator, as reports name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// A dense matrix product.
    Gemm,
    /// Causal attention of whole prompts.
    AttentionPrefill,
    /// Attention of one new token per sequence.
    AttentionDecode,
    /// The kernel of latent attention over whole prompts.
    LatentAttentionPrefill,
    /// The kernel of latent attention of one new token per sequence.
    LatentAttentionDecode,
    /// The whole module of latent attention over whole prompts.
    LatentAttentionPrefillBlock,
    /// The whole module of latent attention of one new token per sequence.
    LatentAttentionDecodeBlock,
    /// The routed experts of one device in grouped kernels.
    GroupedExpertFfn,
    /// The same as separate dense products, expert after expert.
    LoopedExpertFfn,
    /// Normalisation of rows.
    RmsNorm,
    /// The activation between an expert's matrices.
    SiluMul,
    /// Softmax and top-k over the router's scores.
    SoftmaxTopk,
    /// A feed-forward predictor.
    PredictorFfn,
    /// A predictor of two products without activation.
    PredictorLinear,
    /// A recurrent predictor.
    PredictorLstm,
    /// A predictor that looks tokens up.
    PredictorLookup,
    /// Attention with its projections.
    AttentionBlock,
    /// A predictor and then attention with its projections.
    FfnBeforeAttention,
    /// A predictor on a second stream beside attention with its projections.
    FfnBesideAttention,
    /// A predictor of two products and then attention.
    LinearBeforeAttention,
    /// A predictor of two products beside attention.
    LinearBesideAttention,
    /// A recurrent predictor and then attention.
    LstmBeforeAttention,
    /// A recurrent predictor beside attention.
    LstmBesideAttention,
    /// A copy of memory.
    Copy,
    /// From a request to its first token, in a server.
    Ttft,
    /// Between two tokens of output, in a server.
    Tpot,
    /// Everyone gets everyone's part.
    AllGather,
    /// Everyone gets the sum.
    AllReduce,
    /// Everyone gets its part of the sum.
    ReduceScatter,
    /// Everyone sends a part to everyone.
    Alltoall,
    /// Everyone sends parts of stated sizes to everyone.
    AlltoallSplit,
    /// What an all-to-all counts before it sends.
    AlltoallPrepare,
    /// Tokens to experts.
    Dispatch,
    /// Outputs back.
    Combine,
    /// The start of a kernel, on the host or inside a graph.
    Launch,
    /// A term of a whole layer.
    LayerTerm,
}

impl Op {
    /// Every operator with its name in reports.
    pub const ALL: [(Self, &'static str); 36] = [
        (Self::Gemm, "gemm"),
        (Self::AttentionPrefill, "attention_prefill"),
        (Self::AttentionDecode, "attention_decode"),
        (Self::LatentAttentionPrefill, "latent_attention_prefill"),
        (Self::LatentAttentionDecode, "latent_attention_decode"),
        (Self::LatentAttentionPrefillBlock, "latent_attention_prefill_block"),
        (Self::LatentAttentionDecodeBlock, "latent_attention_decode_block"),
        (Self::GroupedExpertFfn, "grouped_expert_ffn"),
        (Self::LoopedExpertFfn, "looped_expert_ffn"),
        (Self::RmsNorm, "rms_norm"),
        (Self::SiluMul, "silu_mul"),
        (Self::SoftmaxTopk, "softmax_topk"),
        (Self::PredictorFfn, "predictor_ffn"),
        (Self::PredictorLinear, "predictor_linear"),
        (Self::PredictorLstm, "predictor_lstm"),
        (Self::PredictorLookup, "predictor_lookup"),
        (Self::AttentionBlock, "attention_block"),
        (Self::FfnBeforeAttention, "predictor_ffn_before_attention"),
        (Self::FfnBesideAttention, "predictor_ffn_beside_attention"),
        (Self::LinearBeforeAttention, "predictor_linear_before_attention"),
        (Self::LinearBesideAttention, "predictor_linear_beside_attention"),
        (Self::LstmBeforeAttention, "predictor_lstm_before_attention"),
        (Self::LstmBesideAttention, "predictor_lstm_beside_attention"),
        (Self::Copy, "copy"),
        (Self::Ttft, "ttft"),
        (Self::Tpot, "tpot"),
        (Self::AllGather, "all_gather"),
        (Self::AllReduce, "all_reduce"),
        (Self::ReduceScatter, "reduce_scatter"),
        (Self::Alltoall, "alltoall"),
        (Self::AlltoallSplit, "alltoall_split"),
        (Self::AlltoallPrepare, "alltoall_prepare"),
        (Self::Dispatch, "dispatch"),
        (Self::Combine, "combine"),
        (Self::Launch, "launch"),
        (Self::LayerTerm, "layer"),
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(&Self::ALL, &self)
    }
}

/// Which part of an operator's measurements a row belongs to; every row to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subset {
    /// Equal loads of experts.
    Balanced,
    /// Loads drawn from a power law, unseeded: reported, not judged.
    PowerLaw,
    /// Communication of less than 1 MiB.
    Below1Mib,
    /// Communication of 1 MiB and more.
    From1Mib,
    /// Known to be wrong.
    Excluded,
    /// Everything, where nothing is distinguished.
    All,
}

impl Subset {
    /// The subset of a communication of that size.
    #[must_use]
    pub fn of_size(size: Bytes) -> Self {
        if size.get() < 1_048_576.0 { Self::Below1Mib } else { Self::From1Mib }
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::PowerLaw => "power_law",
            Self::Below1Mib => "lt_1mib",
            Self::From1Mib => "ge_1mib",
            Self::Excluded => "excluded",
            Self::All => "all",
        }
    }
}

/// The software that was measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Software {
    /// Framework or library.
    pub framework: String,
    /// Its version; empty where not distinguished.
    pub version: String,
    /// The kernel, as the measurements name it; empty where not distinguished.
    pub kernel: String,
}

impl Software {
    /// Framework, version and kernel in one line.
    #[must_use]
    pub fn label(&self) -> String {
        let parts = [&self.framework, &self.version, &self.kernel];
        let parts: Vec<&str> = parts.into_iter().map(String::as_str).collect();
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// One row of a table of measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The line of its table, the header being line 1.
    pub line: u64,
    /// The device, as the table names it.
    pub device: String,
    /// The software.
    pub software: Software,
    /// The number format as the table names it, `attention/cache` where there are two; empty where
    /// it does not matter.
    pub format: String,
    /// The operands in that format.
    pub operands: Operands,
    /// The operator.
    pub op: Op,
    /// The part of the operator's rows it belongs to.
    pub subset: Subset,
    /// What was done.
    pub case: Case,
    /// How long it took.
    pub time: Seconds,
    /// Host time per kernel launch that the time contains, known beforehand.
    pub launch: Launch,
    /// What a published simulator says of the same work.
    pub simulated: Option<Seconds>,
}

/// What of a kernel's launch a measured time contains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Launch {
    /// Nothing: kernels were replayed from a graph or timed on the device.
    None,
    /// A time stated with the measurement.
    Stated(Seconds),
}

/// What was measured, as the laws take it.
#[derive(Debug, Clone, PartialEq)]
pub enum Case {
    /// `C[m,n] = A[m,k]·B[k,n]`.
    Gemm {
        /// Rows of A.
        m: f64,
        /// Columns of B.
        n: f64,
        /// Depth.
        k: f64,
    },
    /// Causal attention of whole prompts.
    Prefill(Heads, Span),
    /// Attention of one new token per sequence.
    Decode(Heads, Span),
    /// The whole module of DeepSeek-V3's latent attention.
    LatentBlock(LatentBlockCase),
    /// The experts of one device.
    Experts(ExpertCase),
    /// Rows normalised.
    Norm {
        /// How many.
        rows: f64,
        /// Their width.
        width: f64,
    },
    /// A gated activation.
    GatedActivation {
        /// Rows.
        rows: f64,
        /// Width of a row of the output.
        width: f64,
    },
    /// An activation of one operand.
    PlainActivation {
        /// Elements.
        elements: f64,
    },
    /// Softmax and top-k.
    TopK {
        /// Tokens.
        tokens: f64,
        /// Experts each has a score for.
        experts: f64,
    },
    /// A softmax over rows.
    Softmax {
        /// Rows.
        rows: f64,
        /// Their width.
        width: f64,
    },
    /// A copy within the device.
    Copy(Bytes),
    /// A predictor by table.
    Lookup {
        /// Tokens looked up.
        tokens: f64,
        /// Experts found for each.
        top_k: f64,
    },
    /// A feed-forward predictor.
    PredictorFfn {
        /// Tokens.
        tokens: f64,
        /// Widths, the input first.
        widths: Vec<f64>,
    },
    /// A predictor of products alone.
    PredictorLinear {
        /// Tokens.
        tokens: f64,
        /// Widths, the input first.
        widths: Vec<f64>,
    },
    /// A recurrent predictor.
    PredictorLstm {
        /// Sequences side by side.
        sequences: f64,
        /// Tokens of each.
        tokens: f64,
        /// Width of the input.
        input: f64,
        /// Width of a layer.
        width: f64,
        /// Recurrent layers.
        layers: f64,
    },
    /// Attention with its projections.
    AttentionBlock(BlockCase),
    /// A predictor, and then attention with its projections.
    BeforeAttention(Box<Case>, BlockCase),
    /// A predictor on a second stream beside attention with its projections.
    BesideAttention(Box<Case>, BlockCase),
    /// A collective inside a node.
    Collective {
        /// The library.
        kernel: CollectiveKernel,
        /// The operation.
        operation: Collective,
        /// Devices that take part.
        devices: u32,
        /// The operation's size.
        size: Bytes,
    },
    /// Dispatch or combine of a DeepEP-like library, uniform routing.
    Exchange(ExchangeCase),
    /// A whole server.
    Server(ServerCase),
    /// Something no law covers, and why.
    NoLaw(&'static str),
}

/// A server as it was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerCase {
    /// The model's Hugging Face id.
    pub model: String,
    /// The engine.
    pub engine: &'static Engine,
    /// Devices that share one attention, and replicas of it.
    pub attention: [u32; 2],
    /// Devices that share an expert's matrices, and groups of experts.
    pub experts: [u32; 2],
    /// Pipeline stages.
    pub pipeline: u32,
    /// Tokens of a prompt and of output.
    pub tokens: [u64; 2],
    /// Requests served at once.
    pub concurrency: u64,
    /// Formats of dense products, and of routed experts.
    pub products: [Operands; 2],
}

/// Attention with the projections around it, on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockCase {
    /// Whole prompts, or one new token per sequence.
    pub phase: Phase,
    /// Width of the residual stream.
    pub hidden: f64,
    /// The heads on the device.
    pub heads: Heads,
    /// Which tokens attend to which.
    pub span: Span,
}

/// Latent attention with its projections and norms, on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentBlockCase {
    /// Whole prompts, or one new token per sequence.
    pub phase: Phase,
    /// Query heads on the device.
    pub heads: f64,
    /// Which tokens attend to which.
    pub span: Span,
    /// Formats of the projections.
    pub projections: Operands,
}

/// The routed experts of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertCase {
    /// The model, as the table names it.
    pub model: String,
    /// Width of the residual stream.
    pub hidden: f64,
    /// Width of one expert on this device.
    pub intermediate: f64,
    /// Three matrices instead of two.
    pub gated: bool,
    /// Tokens of the group that the kernel walks over, where it sees them all.
    pub group_tokens: Option<f64>,
    /// Pairs of those tokens and an expert.
    pub group_pairs: f64,
    /// Tokens of each expert.
    pub loads: Loads,
    /// Expert after expert in dense products instead of grouped ones.
    pub looped: bool,
}

/// Tokens per expert of the measured device.
#[derive(Debug, Clone, PartialEq)]
pub enum Loads {
    /// Known.
    Counts {
        /// Tokens of each local expert.
        tokens: Vec<f64>,
        /// Exponent of the Zipf law they follow; 0 where they are equal.
        zipf: f64,
    },
    /// The heaviest device under loads that were drawn at random.
    Drawn(Drawn),
}

/// Dispatch or combine as it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExchangeCase {
    /// The engine whose build was measured.
    pub engine: &'static Engine,
    /// The mode, or the nearest one there is a law for.
    pub mode: DeepEpMode,
    /// Which way.
    pub way: Way,
    /// Nodes.
    pub nodes: u32,
    /// Devices of each.
    pub per_node: u32,
    /// Hidden size.
    pub hidden: u32,
    /// Routed experts.
    pub experts: u32,
    /// Experts per token.
    pub top_k: u32,
    /// Tokens of each device.
    pub tokens_per_device: u32,
    /// Format of dispatched tokens.
    pub dispatch: Dtype,
    /// Format of outputs on their way back.
    pub combine: Dtype,
    /// What stands in for something that has no law of its own.
    pub stands_in: Option<&'static str>,
}
