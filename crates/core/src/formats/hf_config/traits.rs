//! What the families do besides what their fields say.
//!
//! Each entry follows the family's modelling code in Hugging Face `transformers` or of its authors:
//! norms and biases that no field names, and defaults of fields that published configurations leave
//! out. Everything else is read from the fields, of any family.

/// What a family does besides what its fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "every one is a habit of its own")]
pub(super) struct Traits {
    /// Norms of queries and keys, unless `use_qk_norm` says otherwise.
    pub(super) qk_norm: QkNorm,
    /// Whether queries, keys and values are biased where nothing says so.
    pub(super) qkv_bias: bool,
    /// Whether biased attention biases its output, too.
    pub(super) output_bias: bool,
    /// Whether the router corrects scores by a bias per expert where nothing says so.
    pub(super) score_bias: bool,
    /// Vectors of the model's width in the norms of a layer.
    pub(super) norms: u64,
    /// Which layers a window holds for where nothing says so.
    pub(super) windows: Windows,
    /// Whether attention gates its output by a further projection as wide as the queries.
    pub(super) gated_output: bool,
    /// Whether attention gates every head by a scalar.
    pub(super) gated_heads: bool,
    /// Dense layers before the first experts where nothing says so.
    pub(super) first_dense: u32,
    /// Whether heads have sinks, and experts and router biases (gpt-oss).
    pub(super) sinks: bool,
    /// The shared experts.
    pub(super) shared: Shared,
    /// Whether a gate scales the shared expert.
    pub(super) shared_gate: bool,
    /// Whether both embeddings are one table where nothing says so.
    pub(super) tied: bool,
    /// Whether a layer has a dense block beside its experts (Gemma 4).
    pub(super) dense_beside: bool,
    /// Whether a layer has two attentions and two dense blocks (`LongCat`).
    pub(super) twice: bool,
    /// Whether the router scales its input and every expert's output (Gemma 4).
    pub(super) scaled_router: bool,
    /// Whether groups limit routing where no `topk_method` is given.
    pub(super) grouped: bool,
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QkNorm {
    /// None, unless `use_qk_norm` is true.
    None,
    /// None that has weights, whatever `use_qk_norm` says.
    Weightless,
    /// Of every head, one weight per value of a head.
    Head,
    /// Of all heads together.
    Layer,
}

/// Layers that a stated window holds for where no list says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Windows {
    /// All.
    All,
    /// Every other one, from the first on.
    Alternate,
    /// Those from `max_window_layers` on, if `use_sliding_window`.
    Flagged,
    /// All but every fourth (Llama 4's chunks).
    Chunks,
}

/// Shared experts where no width of theirs is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shared {
    /// As many as are stated.
    Stated,
    /// Their width must be stated.
    Required,
    /// One as wide as a routed expert.
    One,
}

/// What is assumed of a family that is not known.
pub(super) const PLAIN: Traits = Traits {
    qk_norm: QkNorm::None,
    qkv_bias: false,
    output_bias: true,
    score_bias: false,
    norms: 2,
    windows: Windows::All,
    gated_output: false,
    gated_heads: false,
    first_dense: 0,
    sinks: false,
    shared: Shared::Stated,
    shared_gate: false,
    tied: false,
    dense_beside: false,
    twice: false,
    scaled_router: false,
    grouped: true,
};

pub(super) const QWEN2: Traits = Traits {
    qkv_bias: true,
    output_bias: false,
    windows: Windows::Flagged,
    shared: Shared::Required,
    shared_gate: true,
    ..PLAIN
};
pub(super) const QWEN3: Traits =
    Traits { qk_norm: QkNorm::Head, windows: Windows::Flagged, ..PLAIN };
pub(super) const QWEN3_5: Traits = Traits { gated_output: true, shared_gate: true, ..QWEN3 };
pub(super) const DEEPSEEK_V2: Traits = Traits { grouped: false, ..PLAIN };
pub(super) const DEEPSEEK_V3: Traits = Traits { score_bias: true, first_dense: 3, ..PLAIN };
pub(super) const SCORED: Traits = Traits { score_bias: true, ..PLAIN };
pub(super) const SCORED_AND_NORMED: Traits = Traits { qk_norm: QkNorm::Head, ..SCORED };
pub(super) const GLM4: Traits = Traits { output_bias: false, ..SCORED };
pub(super) const MINIMAX: Traits = Traits { qk_norm: QkNorm::Layer, ..SCORED };
pub(super) const STEP: Traits = Traits { gated_heads: true, ..SCORED_AND_NORMED };
pub(super) const OLMOE: Traits = Traits { qk_norm: QkNorm::Layer, ..PLAIN };
pub(super) const PHIMOE: Traits = Traits { norms: 4, ..PLAIN };
pub(super) const NORMED: Traits = Traits { qk_norm: QkNorm::Head, ..PLAIN };
pub(super) const GPT_OSS: Traits =
    Traits { qkv_bias: true, windows: Windows::Alternate, sinks: true, ..PLAIN };
pub(super) const LLAMA4: Traits =
    Traits { qk_norm: QkNorm::Weightless, windows: Windows::Chunks, shared: Shared::One, ..PLAIN };
pub(super) const GEMMA4: Traits =
    Traits { norms: 7, tied: true, dense_beside: true, scaled_router: true, ..NORMED };
pub(super) const LONGCAT: Traits = Traits { norms: 4, twice: true, ..SCORED };
