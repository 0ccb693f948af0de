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

pub mod parameters;

/// The shape of one mixture-of-experts language model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Name shown to the user: the catalog id or the configuration's own name.
    pub name: String,
    /// Width of the residual stream, d.
    pub hidden_size: u32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Whether input and output embedding share one table.
    pub tied_embeddings: bool,
    /// Self-attention of every layer.
    pub attention: Attention,
    /// Layers with routed experts (encoder and decoder together).
    pub moe_layers: u32,
    /// Layers with a dense feed-forward block (encoder and decoder together).
    pub dense_layers: u32,
    /// Intermediate width of the dense feed-forward block, 0 without dense layers; it
    /// is gated like the experts.
    pub dense_intermediate: u32,
    /// Layers with a second attention over an encoder's output, 0 in decoder-only models.
    pub cross_attention_layers: u32,
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
}

impl Attention {
    /// Query heads.
    #[must_use]
    pub const fn heads(&self) -> u32 {
        match self {
            Self::Grouped { heads, .. } | Self::Latent { heads, .. } => *heads,
        }
    }

    /// Heads over which keys and values can be sharded: 1 for latent attention, whose
    /// one compressed stream every device needs.
    #[must_use]
    pub const fn kv_heads(&self) -> u32 {
        match self {
            Self::Grouped { kv_heads, .. } => *kv_heads,
            Self::Latent { .. } => 1,
        }
    }

    /// Width of one query head where scores are formed.
    #[must_use]
    pub const fn qk_head_dim(&self) -> u32 {
        match self {
            Self::Grouped { head_dim, .. } => *head_dim,
            Self::Latent { qk_nope_head_dim, qk_rope_head_dim, .. } => {
                *qk_nope_head_dim + *qk_rope_head_dim
            }
        }
    }

    /// Width of one head's value.
    #[must_use]
    pub const fn v_head_dim(&self) -> u32 {
        match self {
            Self::Grouped { head_dim, .. } => *head_dim,
            Self::Latent { v_head_dim, .. } => *v_head_dim,
        }
    }

    /// Elements one token leaves in the KV cache of one layer.
    ///
    /// Keys and values of every KV head; for latent attention the compressed latent and
    /// the shared rotary key. Mixtral: 2 · 8 · 128 = 2048; DeepSeek-V3: 512 + 64 = 576.
    #[must_use]
    pub const fn kv_width(&self) -> u64 {
        match self {
            Self::Grouped { kv_heads, head_dim, .. } => 2 * *kv_heads as u64 * *head_dim as u64,
            Self::Latent { kv_lora_rank, qk_rope_head_dim, .. } => {
                *kv_lora_rank as u64 + *qk_rope_head_dim as u64
            }
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
    /// Experts chosen per token, k.
    pub top_k: u32,
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
    /// Layers in all, with and without experts.
    #[must_use]
    pub const fn layers(&self) -> u32 {
        self.moe_layers + self.dense_layers
    }
}
