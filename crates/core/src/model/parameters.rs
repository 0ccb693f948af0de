//! How many parameters a model has, part by part.
//!
//! ```text
//! total = attention_layers · attention + other mixers + layers · norms
//!       + cross_attention_layers · attention matrices
//!       + moe_layers · (router + E · expert + shared) + dense_layers · dense
//!       + embeddings + outside
//! ```
//!
//! Each part is the sum of its weight matrices and of what [`SmallParameters`] adds.
//! Grouped attention has d·h·w (queries), d·g·(w + v) (keys, values) and h·v·d (output),
//! for h query heads, g key-value heads of width w with values of width v. Latent attention has the
//! compressed chain of DeepSeek-V2 (arXiv 2405.04434, eq. 9 to 19). A gated expert of
//! intermediate width f has 3·d·f, an ungated one 2·d·f; experts in a latent width l have l for d
//! and 2·d·l beside them. A router scores choices that cost nothing, too.
//!
//! Valid for the language model alone: no vision tower, no multi-token prediction.
//! Worked number: Mixtral 8x7B has 46,702,792,704 (tested below).
//!
//! [`SmallParameters`]: crate::model::SmallParameters

use crate::model::{Attention, Mixer, Mixing, Model};

/// Parameters of one model, part by part; "per layer" parts are of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterCounts {
    /// One layer's self-attention.
    pub attention_per_layer: u64,
    /// All blocks that mix tokens otherwise.
    pub other_mixers: u64,
    /// One decoder layer's attention over the encoder's output, 0 in decoder-only models.
    pub cross_attention_per_layer: u64,
    /// The router of one mixture-of-experts layer.
    pub router_per_layer: u64,
    /// One routed expert of one layer.
    pub routed_expert: u64,
    /// Of one routed expert, what are biases.
    pub routed_expert_small: u64,
    /// The shared experts of one mixture-of-experts layer, dense blocks beside the experts, and the
    /// way into a latent width and back.
    pub shared_experts_per_layer: u64,
    /// The feed-forward block of one dense layer.
    pub dense_ffn_per_layer: u64,
    /// The norms of one layer.
    pub norms_per_layer: u64,
    /// Input and output embedding together.
    pub embeddings: u64,
    /// Final norms, position tables, the output head's bias.
    pub outside_layers: u64,
    /// All of it.
    pub total: u64,
    /// All but the routed experts a token does not visit; both embeddings count.
    pub active_per_token: u64,
}

impl Model {
    /// Counts the parameters, part by part.
    #[must_use]
    pub fn parameters(&self) -> ParameterCounts {
        let hidden = u64::from(self.hidden_size);
        let matrices = u64::from(self.experts.matrices());
        let small = self.small;
        let attention_matrices = self.attention.matrix_parameters(hidden);
        let attention = attention_matrices + small.attention_per_layer;
        let cross = if self.cross_attention_layers > 0 { attention_matrices } else { 0 };
        let scored = u64::from(self.experts.routed + self.experts.zero_cost);
        let router = hidden * scored + small.router_per_layer;
        let expert = self.experts.parameters_per_expert(self.expert_width()) + small.expert;
        let beside =
            u64::from(self.experts.shared_intermediate) + u64::from(self.dense_beside_experts);
        let shared = matrices * hidden * beside
            + 2 * hidden * u64::from(self.experts.latent.unwrap_or(0))
            + small.shared_per_layer;
        let other_mixers = self.mixers.iter().map(|mixer| mixer.parameters(hidden)).sum();
        let dense = matrices * hidden * u64::from(self.dense_intermediate);
        let tables = if self.tied_embeddings { 1 } else { 2 };
        let embeddings = tables * u64::from(self.vocabulary) * hidden;

        let always = u64::from(self.attention_layers) * attention
            + other_mixers
            + u64::from(self.layers()) * small.norms_per_layer
            + u64::from(self.cross_attention_layers) * cross
            + u64::from(self.moe_layers) * (router + shared)
            // Layers that route by the token's id correct no scores.
            - u64::from(self.hash_layers) * small.router_per_layer
            + u64::from(self.dense_layers) * dense
            + embeddings
            + small.outside_layers;
        let experts_of =
            |per_layer: u32| u64::from(self.moe_layers) * u64::from(per_layer) * expert;
        ParameterCounts {
            attention_per_layer: attention,
            other_mixers,
            cross_attention_per_layer: cross,
            router_per_layer: router,
            routed_expert: expert,
            routed_expert_small: small.expert,
            shared_experts_per_layer: shared,
            dense_ffn_per_layer: dense,
            norms_per_layer: small.norms_per_layer,
            embeddings,
            outside_layers: small.outside_layers,
            total: always + experts_of(self.experts.routed),
            active_per_token: always + experts_of(self.experts.top_k),
        }
    }
}

impl Model {
    /// A layer that drafts tokens, with so many routed experts: a layer of the model, and the
    /// projection that joins embedding and stream.
    #[must_use]
    pub fn drafting_layer(&self, experts: u32) -> u64 {
        let counts = self.parameters();
        let hidden = u64::from(self.hidden_size);
        counts.attention_per_layer
            + counts.norms_per_layer
            + counts.router_per_layer
            + u64::from(experts) * counts.routed_expert
            + counts.shared_experts_per_layer
            + 2 * hidden * hidden
    }
}

impl Mixer {
    /// Weights of the matrices of one block in a model of width `hidden`.
    #[must_use]
    pub fn matrix_parameters(&self, hidden: u64) -> u64 {
        let counted = match &self.mixing {
            Mixing::Attention { shape, .. } => shape.matrix_parameters(hidden),
            Mixing::Recurrent { matrices, .. } => *matrices,
        };
        counted.saturating_add_signed(self.extra)
    }

    fn parameters(&self, hidden: u64) -> u64 {
        u64::from(self.layers) * (self.matrix_parameters(hidden) + self.small)
    }
}

impl Attention {
    /// Weights of one attention block's matrices in a model of width `hidden`.
    #[must_use]
    pub fn matrix_parameters(&self, hidden: u64) -> u64 {
        match *self {
            Self::Grouped { heads, kv_heads, head_dim, v_head_dim, .. } => {
                hidden * u64::from(heads + kv_heads) * (u64::from(head_dim) + u64::from(v_head_dim))
            }
            Self::Latent {
                heads,
                q_lora_rank,
                kv_lora_rank,
                qk_nope_head_dim,
                qk_rope_head_dim,
                v_head_dim,
            } => {
                let [heads, kv_rank] = [heads, kv_lora_rank].map(u64::from);
                let [nope, rope, value] =
                    [qk_nope_head_dim, qk_rope_head_dim, v_head_dim].map(u64::from);
                let query_width = heads * (nope + rope);
                let queries = match q_lora_rank.map(u64::from) {
                    Some(rank) => hidden * rank + rank * query_width,
                    None => hidden * query_width,
                };
                let compress = hidden * (kv_rank + rope);
                let expand = kv_rank * heads * (nope + value);
                queries + compress + expand + heads * value * hidden
            }
            Self::Shared { heads, head_dim, q_lora_rank, o_groups, o_lora_rank } => {
                let [heads, width, rank, groups, out] =
                    [heads, head_dim, q_lora_rank, o_groups, o_lora_rank].map(u64::from);
                let queries = hidden * rank + rank * heads * width;
                // Every group compresses its own heads; all compressed outputs are expanded.
                queries + hidden * width + heads * width * out + groups * out * hidden
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::mixtral;
    use crate::model::SmallParameters;

    fn mixtral_8x7b() -> Model {
        Model {
            small: SmallParameters {
                norms_per_layer: 2 * 4096,
                outside_layers: 4096,
                ..SmallParameters::default()
            },
            ..mixtral()
        }
    }

    #[test]
    fn mixtral_has_the_published_count() {
        let counts = mixtral_8x7b().parameters();
        assert_eq!(counts.attention_per_layer, 41_943_040);
        assert_eq!(counts.routed_expert, 176_160_768);
        assert_eq!(counts.router_per_layer, 32_768);
        assert_eq!(counts.embeddings, 262_144_000);
        assert_eq!(counts.total, 46_702_792_704);
        assert_eq!(counts.active_per_token, 12_879_925_248);
    }

    #[test]
    fn a_tied_table_is_counted_once() {
        let tied = Model { tied_embeddings: true, ..mixtral_8x7b() };
        assert_eq!(mixtral_8x7b().parameters().total - tied.parameters().total, 131_072_000);
    }

    #[test]
    fn latent_attention_follows_deepseek_v3() {
        let attention = Attention::Latent {
            heads: 128,
            q_lora_rank: Some(1536),
            kv_lora_rank: 512,
            qk_nope_head_dim: 128,
            qk_rope_head_dim: 64,
            v_head_dim: 128,
        };
        // 7168·1536 + 1536·24576 + 7168·576 + 512·32768 + 16384·7168
        assert_eq!(attention.matrix_parameters(7168), 187_105_280);
        assert_eq!(attention.kv_width(), 576);
        assert_eq!(attention.qk_head_dim(), 192);
    }
}
