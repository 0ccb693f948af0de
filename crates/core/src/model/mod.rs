//! What is served: the shape of a mixture-of-experts language model.
//!
//! Shapes only, in the vocabulary of published model configurations; all figures
//! that follow from them (parameters, bytes per expert, KV bytes per token) are
//! computed, never stated. The counts are in [`parameters`].
//!
//! # Encoder-decoders (Switch)
//!
//! An encoder-decoder is described by the sum of its two stacks: Switch-base has 12
//! encoder and 12 decoder layers, every other one of each with experts, so
//! `moe_layers` is 6 + 6 = 12 and `dense_layers` is 12. Each layer counts one
//! self-attention; the decoder's second attention, over the encoder's output, is
//! counted by `cross_attention_layers` (12). While one sequence of S tokens passes
//! both stacks, a "model latency" over these 24 layers is one encoder pass and one
//! decoder pass over S tokens each.

pub mod kept;
pub mod parameters;

/// The shape of one mixture-of-experts language model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Name shown to the user: the catalog id or the configuration's own name.
    pub name: String,
    /// Its class, as engines know it: the `model_type` of its configuration, empty where unknown.
    pub class: String,
    /// Width of the residual stream, d.
    pub hidden_size: u32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Whether input and output embedding share one table.
    pub tied_embeddings: bool,
    /// Layers as the configuration counts them; of a list of blocks its length.
    pub depth: u32,
    /// The model's usual self-attention, after whose heads it is sharded.
    pub attention: Attention,
    /// Blocks that have it: one a layer, unless some mix tokens otherwise.
    pub attention_layers: u32,
    /// The blocks that mix tokens otherwise.
    pub mixers: Vec<Mixer>,
    /// Layers with routed experts (encoder and decoder together).
    pub moe_layers: u32,
    /// Their places among the layers as the configuration counts them; empty where it has no order.
    pub moe_at: Vec<u32>,
    /// Layers with a dense feed-forward block (encoder and decoder together).
    pub dense_layers: u32,
    /// Intermediate width of the dense feed-forward block, 0 without dense layers; it
    /// is gated like the experts.
    pub dense_intermediate: u32,
    /// Intermediate width of dense feed-forward blocks beside the experts of one layer, 0 without.
    pub dense_beside_experts: u32,
    /// Layers with a second attention over an encoder's output, 0 in decoder-only models.
    pub cross_attention_layers: u32,
    /// Layers whose experts follow from the token's id alone (they are among `moe_layers`).
    pub hash_layers: u32,
    /// Further layers that draft tokens (multi-token prediction), each with experts; they are not among
    /// the others, and are kept where a question speculates.
    pub mtp_layers: u32,
    /// The routed and shared experts of a mixture-of-experts layer.
    pub experts: Experts,
    /// What the family has besides the matrices above: norms, biases, sinks.
    pub small: SmallParameters,
}

/// Parameters besides the large matrices, as the model's family counts them.
///
/// They decide no latency (a few vectors per layer), but a count of parameters that
/// is to match a published checkpoint exactly needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SmallParameters {
    /// In one layer's attention: biases, sinks, norms of queries, keys and latents.
    pub attention_per_layer: u64,
    /// In one layer's router besides its d × E matrix: biases, further small matrices.
    pub router_per_layer: u64,
    /// In one routed expert: biases.
    pub expert: u64,
    /// Beside one layer's shared experts: the gate that scales them.
    pub shared_per_layer: u64,
    /// Weights and biases of one layer's norms.
    pub norms_per_layer: u64,
    /// Outside the layers: final norms, position tables, the output head's bias.
    pub outside_layers: u64,
}

/// The attention block of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Attention {
    /// Multi-head or grouped-query attention.
    Grouped {
        /// Query heads.
        heads: u32,
        /// Key-value heads.
        kv_heads: u32,
        /// Width of one head.
        head_dim: u32,
        /// Width of a head's value.
        v_head_dim: u32,
        /// Tokens a query looks back at in windowed (or chunked) layers, if there are any.
        sliding_window: Option<u32>,
        /// How many layers are windowed (0 without a window).
        windowed_layers: u32,
    },
    /// Multi-head latent attention (DeepSeek-V2, DeepSeek-V3, Kimi-K2).
    Latent {
        /// Query heads.
        heads: u32,
        /// Rank of the query compression, if queries are compressed.
        q_lora_rank: Option<u32>,
        /// Rank of the key-value compression: what is cached.
        kv_lora_rank: u32,
        /// Width of a head's part without rotary positions.
        qk_nope_head_dim: u32,
        /// Width of the shared rotary part, cached as well.
        qk_rope_head_dim: u32,
        /// Width of a head's value.
        v_head_dim: u32,
    },
    /// Queries and outputs through low ranks, one stream that is key and value (DeepSeek-V4).
    Shared {
        /// Query heads.
        heads: u32,
        /// Width of one head and of the stream.
        head_dim: u32,
        /// Rank of the query compression.
        q_lora_rank: u32,
        /// Groups of heads whose outputs are compressed together.
        o_groups: u32,
        /// Rank of the compression of one group.
        o_lora_rank: u32,
    },
}

/// Blocks that mix tokens otherwise than by the model's usual attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixer {
    /// How many blocks.
    pub layers: u32,
    /// How they mix.
    pub mixing: Mixing,
    /// Weights of matrices that `mixing` does not count (gates, indexers, compressors); negative
    /// where values are the keys and have no projection of their own.
    pub extra: i64,
    /// Biases, norms and other vectors.
    pub small: u64,
}

/// How a block mixes tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Mixing {
    /// Attention of its own heads or reach.
    Attention {
        /// Its heads.
        shape: Attention,
        /// Which tokens it keeps and reads.
        reach: Reach,
        /// What chooses the tokens of a sparse reach.
        index: Option<Index>,
    },
    /// A state of fixed size: linear attention, Mamba, KDA, short convolutions.
    Recurrent {
        /// Values of the state of one sequence, kept in 32 bits.
        state: u64,
        /// Values of the convolution's state, (kernel - 1) times channels, kept in 16 bits.
        convolution: u64,
        /// Weights of its matrices.
        matrices: u64,
        /// Width of its output before the last projection.
        inner: u32,
    },
}

/// Which earlier tokens attention keeps and reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All.
    All,
    /// The last ones; older ones are dropped.
    Window(u32),
    /// All are kept, and at most so many read.
    Sparse(u32),
    /// The last ones of a window, and one entry for every `ratio` tokens before.
    Compressed {
        /// Tokens of one entry.
        ratio: u32,
        /// Last tokens that are kept whole.
        window: u32,
        /// Most entries that are read, where an index chooses.
        read: Option<u32>,
    },
}

/// What chooses the tokens that sparse attention reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    /// Heads that score.
    pub heads: u32,
    /// Width of a key, one value of a byte each.
    pub width: u32,
    /// Whether the block scores by itself and keeps keys; else it takes another's choice.
    pub own: bool,
    /// Tokens of one key.
    pub ratio: u32,
}

impl Index {
    /// Weights of its queries, which are made of `rank` values, of its keys and of what weighs its heads, in a model
    /// of width `hidden`.
    #[must_use]
    pub fn weights(&self, rank: u32, hidden: u32) -> u64 {
        let [heads, width, rank, hidden] = [self.heads, self.width, rank, hidden].map(u64::from);
        rank * heads * width + hidden * (width + heads)
    }
}

impl Attention {
    /// Query heads.
    #[must_use]
    pub const fn heads(&self) -> u32 {
        match self {
            Self::Grouped { heads, .. }
            | Self::Latent { heads, .. }
            | Self::Shared { heads, .. } => *heads,
        }
    }

    /// Heads over which keys and values can be sharded: 1 for latent attention, whose
    /// one compressed stream every device needs.
    #[must_use]
    pub const fn kv_heads(&self) -> u32 {
        match self {
            Self::Grouped { kv_heads, .. } => *kv_heads,
            Self::Latent { .. } | Self::Shared { .. } => 1,
        }
    }

    /// Width of one query head where scores are formed.
    #[must_use]
    pub const fn qk_head_dim(&self) -> u32 {
        match self {
            Self::Grouped { head_dim, .. } | Self::Shared { head_dim, .. } => *head_dim,
            Self::Latent { qk_nope_head_dim, qk_rope_head_dim, .. } => {
                *qk_nope_head_dim + *qk_rope_head_dim
            }
        }
    }

    /// Width of one head's value.
    #[must_use]
    pub const fn v_head_dim(&self) -> u32 {
        match self {
            Self::Grouped { v_head_dim, .. } | Self::Latent { v_head_dim, .. } => *v_head_dim,
            Self::Shared { head_dim, .. } => *head_dim,
        }
    }

    /// Elements one token leaves in the KV cache of one layer.
    ///
    /// Keys and values of every KV head; for latent attention the compressed latent and
    /// the shared rotary key. Mixtral: 2 · 8 · 128 = 2048; DeepSeek-V3: 512 + 64 = 576.
    #[must_use]
    pub const fn kv_width(&self) -> u64 {
        match self {
            Self::Grouped { kv_heads, head_dim, v_head_dim, .. } => {
                *kv_heads as u64 * (*head_dim as u64 + *v_head_dim as u64)
            }
            Self::Latent { kv_lora_rank, qk_rope_head_dim, .. } => {
                *kv_lora_rank as u64 + *qk_rope_head_dim as u64
            }
            Self::Shared { head_dim, .. } => *head_dim as u64,
        }
    }

    /// The window, and how many layers have it; `None` where every layer sees everything.
    #[must_use]
    pub const fn window(&self) -> Option<(u32, u32)> {
        match self {
            Self::Grouped { sliding_window: Some(tokens), windowed_layers, .. } => {
                Some((*tokens, *windowed_layers))
            }
            _ => None,
        }
    }
}

/// The experts of one mixture-of-experts layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Routed experts, E.
    pub routed: u32,
    /// Experts with weights chosen per token, k: on average where some choices cost nothing.
    pub top_k: u32,
    /// Choices that cost nothing (identity), beside the routed experts; 0 without.
    pub zero_cost: u32,
    /// Choices per token, those that cost nothing included.
    pub chosen: u32,
    /// Width in which the routed experts work and are sent, where it is not the model's.
    pub latent: Option<u32>,
    /// Intermediate width of one routed expert.
    pub intermediate: u32,
    /// Three matrices (gate, up, down) or two (up, down).
    pub gated: bool,
    /// Intermediate width of all shared experts together, 0 without.
    pub shared_intermediate: u32,
    /// Groups that limit routing, and how many groups a token may reach.
    pub groups: Option<RoutingGroups>,
}

/// Group-limited routing: a token's experts come from a few groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutingGroups {
    /// Groups the experts are divided into.
    pub groups: u32,
    /// Groups a token's experts may come from.
    pub per_token: u32,
}

impl Experts {
    /// Matrices of one expert: three with a gate, two without.
    #[must_use]
    pub const fn matrices(&self) -> u32 {
        if self.gated { 3 } else { 2 }
    }

    /// Weights of one routed expert in a model of hidden size `hidden_size`, without biases.
    #[must_use]
    pub fn parameters_per_expert(&self, hidden_size: u32) -> u64 {
        u64::from(self.matrices()) * u64::from(hidden_size) * u64::from(self.intermediate)
    }
}

impl Model {
    /// Width in which the routed experts work, and in which tokens are sent to them.
    #[must_use]
    pub fn expert_width(&self) -> u32 {
        self.experts.latent.unwrap_or(self.hidden_size)
    }

    /// Blocks that mix tokens, of every kind.
    #[must_use]
    pub fn mixing_blocks(&self) -> u32 {
        self.attention_layers + self.mixers.iter().map(|mixer| mixer.layers).sum::<u32>()
    }

    /// Layers in all, with and without experts.
    #[must_use]
    pub const fn layers(&self) -> u32 {
        self.moe_layers + self.dense_layers
    }
}
