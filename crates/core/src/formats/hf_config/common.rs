//! What the readers have in common: bounds and the names of counts.
//!
//! The bounds keep every product of counts below 2^63.

use crate::formats::hf_config::fields::Fields;

pub(super) const MAX_WIDTH: u32 = 131_072;
pub(super) const MAX_INTERMEDIATE: u32 = 524_288;
pub(super) const MAX_LAYERS: u32 = 1_000;
pub(super) const MAX_HEADS: u32 = 4_096;
pub(super) const MAX_HEAD_DIM: u32 = 4_096;
pub(super) const MAX_EXPERTS: u32 = 16_384;
pub(super) const MAX_SHARED: u32 = 1_024;
pub(super) const MAX_VOCABULARY: u32 = 16_777_216;
pub(super) const MAX_WINDOW: u32 = 1_073_741_824;

/// Names that configurations give one count.
pub(super) const HIDDEN: &[&str] = &["hidden_size", "d_model"];
pub(super) const LAYERS: &[&str] = &["num_hidden_layers", "num_layers", "n_layers"];
pub(super) const HEADS: &[&str] = &["num_attention_heads", "n_heads"];
pub(super) const KEY_VALUE_HEADS: &[&str] =
    &["num_key_value_heads", "kv_n_heads", "num_attention_groups"];
pub(super) const HEAD_DIM: &[&str] = &["head_dim", "attention_head_dim"];
const EXPERTS: [&str; 4] =
    ["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"];
const TOP_K: [&str; 8] = [
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "top_k_experts",
    "moe_topk",
    "moe_top_k",
    "moe_k",
    "num_selects",
];

/// The window of one of the names; one as long as the longest position is no window.
pub(super) fn window(fields: &mut Fields<'_>, names: &[&str]) -> Option<u32> {
    let longest = ["max_position_embeddings", "max_seq_len"];
    let longest = fields.maybe(&longest, 1, MAX_WINDOW).unwrap_or(MAX_WINDOW);
    let window = fields.maybe(names, 1, MAX_WINDOW)?;
    (window > 0 && window < longest).then_some(window)
}

/// Routed experts, and choices of a token of which `beside` more cost nothing.
pub(super) fn routed(fields: &mut Fields<'_>, beside: u32) -> (u32, u32) {
    let routed = fields.any_count(&EXPERTS, MAX_EXPERTS);
    let chosen = fields.any_count(&TOP_K, MAX_EXPERTS);
    if routed > 0 && chosen > routed + beside {
        let top_k = fields.given(&TOP_K);
        let count = fields.given(&EXPERTS);
        let detail = format!("{top_k} is {chosen}; it must not exceed {count}, {routed}");
        fields.problem(top_k, "consistency", detail);
    }
    (routed, chosen)
}
