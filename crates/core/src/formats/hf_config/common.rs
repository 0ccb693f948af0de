//! What the families have in common: bounds, heads, norms, and which layers have experts.
//!
//! The bounds keep every product of counts below 2^63.

use crate::formats::hf_config::fields::Fields;
use crate::model::{Attention, Experts, Model, SmallParameters};

pub(super) const MAX_WIDTH: u32 = 131_072;
pub(super) const MAX_INTERMEDIATE: u32 = 524_288;
pub(super) const MAX_LAYERS: u32 = 1_000;
pub(super) const MAX_HEADS: u32 = 4_096;
pub(super) const MAX_HEAD_DIM: u32 = 4_096;
pub(super) const MAX_EXPERTS: u32 = 16_384;
pub(super) const MAX_SHARED: u32 = 1_024;
pub(super) const MAX_VOCABULARY: u32 = 16_777_216;
pub(super) const MAX_WINDOW: u32 = 1_073_741_824;

/// What nearly all families call alike.
pub(super) struct Base {
    pub(super) hidden: u32,
    pub(super) layers: u32,
    pub(super) vocabulary: u32,
    pub(super) tied: bool,
}

impl Base {
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            hidden: fields.count("hidden_size", MAX_WIDTH),
            layers: fields.count("num_hidden_layers", MAX_LAYERS),
            vocabulary: fields.count("vocab_size", MAX_VOCABULARY),
            tied: fields.flag("tie_word_embeddings", false),
        }
    }

    /// Two norms of weights in every layer and one at the end; `parts` is 2 with biases.
    pub(super) fn norms(&self, parts: u64) -> SmallParameters {
        let width = parts * u64::from(self.hidden);
        SmallParameters {
            norms_per_layer: 2 * width,
            outside_layers: width,
            ..SmallParameters::default()
        }
    }

    /// A decoder whose layers all have experts.
    pub(super) fn model(
        &self,
        attention: Attention,
        experts: Experts,
        small: SmallParameters,
    ) -> Model {
        Model {
            name: String::new(),
            hidden_size: self.hidden,
            vocabulary: self.vocabulary,
            tied_embeddings: self.tied,
            attention,
            moe_layers: self.layers,
            dense_layers: 0,
            dense_intermediate: 0,
            cross_attention_layers: 0,
            experts,
            small,
        }
    }
}

/// Heads of grouped attention.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub(super) query: u32,
    pub(super) key_value: u32,
    pub(super) dim: u32,
}

impl Heads {
    pub(super) fn read(fields: &mut Fields<'_>, hidden: u32) -> Self {
        let query = fields.count("num_attention_heads", MAX_HEADS);
        let key_value = fields.count_or("num_key_value_heads", query, 1, MAX_HEADS);
        if query > 0 && key_value > 0 && !query.is_multiple_of(key_value) {
            let detail = format!(
                "num_key_value_heads is {key_value}; it must divide num_attention_heads, {query}"
            );
            fields.problem("num_key_value_heads", "consistency", detail);
        }
        let dim = if fields.has("head_dim") {
            fields.count("head_dim", MAX_HEAD_DIM)
        } else {
            if hidden > 0 && query > 0 && !hidden.is_multiple_of(query) {
                let detail = format!(
                    "num_attention_heads is {query}; it must divide hidden_size, {hidden}, unless head_dim is stated"
                );
                fields.problem("num_attention_heads", "consistency", detail);
            }
            hidden.checked_div(query).unwrap_or(0)
        };
        Self { query, key_value, dim }
    }

    pub(super) fn query_width(self) -> u64 {
        u64::from(self.query) * u64::from(self.dim)
    }

    pub(super) fn key_value_width(self) -> u64 {
        u64::from(self.key_value) * u64::from(self.dim)
    }

    /// Biases of queries, keys and values.
    pub(super) fn qkv_bias(self) -> u64 {
        self.query_width() + 2 * self.key_value_width()
    }

    pub(super) fn attention(self, window: Option<u32>, windowed_layers: u32) -> Attention {
        let windowed_layers = if window.is_some() { windowed_layers } else { 0 };
        Attention::Grouped {
            heads: self.query,
            kv_heads: self.key_value,
            head_dim: self.dim,
            sliding_window: window.filter(|_| windowed_layers > 0),
            windowed_layers,
        }
    }
}

/// The window of `field`; one as long as the longest position is no window.
pub(super) fn window(fields: &mut Fields<'_>, field: &str) -> Option<u32> {
    let longest = fields.count_or("max_position_embeddings", MAX_WINDOW, 1, MAX_WINDOW);
    let window = fields.count_or(field, 0, 1, MAX_WINDOW);
    (window > 0 && window < longest).then_some(window)
}

/// Routed experts and how many a token takes.
pub(super) fn routed(fields: &mut Fields<'_>, count: &str, top_k: &str) -> (u32, u32) {
    let routed = fields.count(count, MAX_EXPERTS);
    let chosen = fields.count(top_k, MAX_EXPERTS);
    if routed > 0 && chosen > routed {
        let detail = format!("{top_k} is {chosen}; it must not exceed {count}, {routed}");
        fields.problem(top_k, "consistency", detail);
    }
    (routed, chosen)
}

pub(super) fn gated((routed, top_k): (u32, u32), intermediate: u32) -> Experts {
    Experts { routed, top_k, intermediate, gated: true, shared_intermediate: 0, groups: None }
}

/// Deals the layers: those `is_moe` picks have experts, the others are dense.
pub(super) fn deal(
    fields: &mut Fields<'_>,
    model: Model,
    why: &str,
    is_moe: impl Fn(u32) -> bool,
) -> Model {
    let layers = model.moe_layers;
    let moe = u32::try_from((0..layers).filter(|layer| is_moe(*layer)).count()).unwrap_or(layers);
    if layers > 0 && moe == 0 {
        let detail = format!("{why} leaves none of the {layers} layers with experts");
        fields.problem(why, "consistency", detail);
    }
    Model { moe_layers: moe, dense_layers: layers - moe, ..model }
}

/// The dense feed-forward width, asked for only where there are dense layers.
pub(super) fn dense(fields: &mut Fields<'_>, model: Model, field: &str) -> Model {
    // Known to mean nothing without dense layers, so not to be listed as ignored.
    fields.take(field);
    let dense_intermediate =
        if model.dense_layers > 0 { fields.count(field, MAX_INTERMEDIATE) } else { 0 };
    Model { dense_intermediate, ..model }
}
