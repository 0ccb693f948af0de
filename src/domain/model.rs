//! What is served: the shape of a mixture-of-experts language model.
//!
//! Shapes only, in the vocabulary of published model configurations; all figures
//! that follow from them (parameters, bytes per expert, KV bytes per token) are
//! computed, never stored.

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
    /// Attention of every layer.
    pub attention: Attention,
    /// Decoder layers with routed experts.
    pub moe_layers: u32,
    /// Decoder layers with a dense feed-forward block.
    pub dense_layers: u32,
    /// Intermediate width of the dense feed-forward block, 0 without dense layers.
    pub dense_intermediate: u32,
    /// The routed and shared experts of a mixture-of-experts layer.
    pub experts: Experts,
    /// Parameters outside this scheme, per model (norms, biases, position tables, an
    /// encoder's extra attention, …), as the model's family counts them.
    pub extra_parameters: u64,
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
        /// Tokens a query looks back at in windowed layers, if any are windowed.
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

    /// Weights of one routed expert in a model of hidden size `hidden_size`.
    #[must_use]
    pub fn parameters_per_expert(&self, hidden_size: u32) -> u64 {
        u64::from(self.matrices()) * u64::from(hidden_size) * u64::from(self.intermediate)
    }
}
