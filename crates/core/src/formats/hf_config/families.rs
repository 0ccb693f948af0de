//! Families whose fields mean something else than elsewhere: encoder-decoders, and LLaMA-MoE.
//!
//! Each follows the family's modelling code in Hugging Face `transformers` (LLaMA-MoE:
//! its authors' `smoe` package).

use crate::formats::hf_config::common::{
    HIDDEN, MAX_EXPERTS, MAX_HEAD_DIM, MAX_HEADS, MAX_INTERMEDIATE, MAX_LAYERS, MAX_VOCABULARY,
    MAX_WIDTH,
};
use crate::formats::hf_config::fields::Fields;
use crate::formats::hf_config::structure;
use crate::formats::hf_config::traits::PLAIN;
use crate::model::{Attention, Experts, Model, SmallParameters};

pub(super) fn llama_moe(fields: &mut Fields<'_>) -> Model {
    let mut model = structure::read(fields, &PLAIN);
    // The field is the width of the dense block that was split into experts.
    let (whole, routed) = (model.experts.intermediate, model.experts.routed.max(1));
    if whole > 0 && !whole.is_multiple_of(routed) {
        let detail = format!("num_experts is {routed}; it must divide intermediate_size, {whole}");
        fields.problem("num_experts", "consistency", detail);
    }
    model.experts.intermediate = whole / routed;
    let count = u64::from(model.experts.routed);
    let noise = u64::from(model.hidden_size) * count;
    model.small.router_per_layer = match fields.text("gate_network").unwrap_or(None) {
        Some("linear") => noise,
        _ => count * count + noise,
    };
    model
}

/// What an encoder-decoder has, of either family.
struct Stacks {
    hidden: u32,
    intermediate: u32,
    heads: u32,
    head_dim: u32,
    /// Layers of encoder and decoder.
    layers: [u32; 2],
    /// Layers with experts of both.
    moe: u32,
    top_k: u32,
    gated: bool,
    small: SmallParameters,
}

impl Stacks {
    fn model(self, fields: &mut Fields<'_>, routed: u32) -> Model {
        let Self { hidden, intermediate, heads, head_dim, layers, moe, top_k, gated, small } = self;
        let both = layers[0] + layers[1];
        if both > 0 && moe == 0 {
            let detail =
                "the numbers of sparse encoder and decoder layers leave no layer with experts";
            let name = fields.given(&["encoder_sparse_step", "num_sparse_encoder_layers"]);
            let name = if fields.has(name) { name } else { "num_sparse_encoder_layers" };
            fields.problem(name, "consistency", detail.to_owned());
        }
        Model {
            name: String::new(),
            class: String::new(),
            hidden_size: hidden,
            vocabulary: fields.count("vocab_size", MAX_VOCABULARY),
            tied_embeddings: fields.flag("tie_word_embeddings", true),
            depth: both,
            attention: Attention::Grouped {
                heads,
                kv_heads: heads,
                head_dim,
                v_head_dim: head_dim,
                sliding_window: None,
                windowed_layers: 0,
            },
            attention_layers: both,
            mixers: Vec::new(),
            moe_layers: moe,
            moe_at: Vec::new(),
            dense_layers: both.saturating_sub(moe),
            dense_intermediate: if moe < both { intermediate } else { 0 },
            dense_beside_experts: 0,
            cross_attention_layers: layers[1],
            hash_layers: 0,
            mtp_layers: 0,
            experts: Experts {
                routed,
                top_k,
                zero_cost: 0,
                chosen: top_k,
                latent: None,
                intermediate,
                gated,
                shared_intermediate: 0,
                groups: None,
            },
            small,
        }
    }
}

pub(super) fn switch(fields: &mut Fields<'_>) -> Model {
    let hidden = fields.any_count(HIDDEN, MAX_WIDTH);
    let intermediate = fields.count("d_ff", MAX_INTERMEDIATE);
    let heads = fields.count("num_heads", MAX_HEADS);
    let head_dim = fields.count("d_kv", MAX_HEAD_DIM);
    let encoder = fields.count("num_layers", MAX_LAYERS);
    let decoder = fields.count_or("num_decoder_layers", encoder, 1, MAX_LAYERS);
    let sparse_encoder = fields.count_or("num_sparse_encoder_layers", 3, 0, MAX_LAYERS);
    let sparse_decoder = fields.count_or("num_sparse_decoder_layers", 3, 0, MAX_LAYERS);
    let routed = fields.count("num_experts", MAX_EXPERTS);
    let buckets = fields.count_or("relative_attention_num_buckets", 32, 1, MAX_WIDTH);
    let act = fields.text("feed_forward_proj").unwrap_or(None).unwrap_or("relu");
    let gated = act.starts_with("gated");
    let moe = sparse_layers(encoder, sparse_encoder) + sparse_layers(decoder, sparse_decoder);
    let width = u64::from(hidden);
    // T5 has one norm before each block: two in an encoder layer, three in a decoder
    // layer, one at each stack's end; and one table of relative positions per stack.
    let outside =
        width * u64::from(decoder) + 2 * width + 2 * u64::from(buckets) * u64::from(heads);
    let router_bias = if fields.flag("router_bias", false) { u64::from(routed) } else { 0 };
    let small = SmallParameters {
        router_per_layer: router_bias,
        norms_per_layer: 2 * width,
        outside_layers: outside,
        ..SmallParameters::default()
    };
    let layers = [encoder, decoder];
    let stacks =
        Stacks { hidden, intermediate, heads, head_dim, layers, moe, top_k: 1, gated, small };
    stacks.model(fields, routed)
}

/// NLLB: norms and every projection with biases; positions are computed.
pub(super) fn nllb(fields: &mut Fields<'_>) -> Model {
    let hidden = fields.any_count(HIDDEN, MAX_WIDTH);
    let intermediate = fields.any_count(&["encoder_ffn_dim", "decoder_ffn_dim"], MAX_INTERMEDIATE);
    let heads =
        fields.any_count(&["encoder_attention_heads", "decoder_attention_heads"], MAX_HEADS);
    if heads > 0 && !hidden.is_multiple_of(heads) {
        let detail =
            format!("encoder_attention_heads is {heads}; it must divide d_model, {hidden}");
        fields.problem("encoder_attention_heads", "consistency", detail);
    }
    let layers = ["encoder_layers", "decoder_layers"].map(|name| fields.count(name, MAX_LAYERS));
    let steps = ["encoder_sparse_step", "decoder_sparse_step"];
    let steps = steps.map(|name| fields.count_or(name, 4, 0, MAX_LAYERS));
    let routed = fields.count("num_experts", MAX_EXPERTS);
    let width = u64::from(hidden);
    let small = SmallParameters {
        attention_per_layer: 4 * width,
        expert: u64::from(intermediate) + width,
        norms_per_layer: 4 * width,
        // A third norm of decoder layers, biases of their attention over the encoder, and the
        // norms at the ends of both stacks.
        outside_layers: u64::from(layers[1]) * 6 * width + 4 * width,
        ..SmallParameters::default()
    };
    let moe =
        layers[0].checked_div(steps[0]).unwrap_or(0) + layers[1].checked_div(steps[1]).unwrap_or(0);
    Stacks {
        hidden,
        intermediate,
        heads,
        head_dim: hidden.checked_div(heads).unwrap_or(0),
        layers,
        moe,
        top_k: 2,
        gated: false,
        small,
    }
    .model(fields, routed)
}

/// Layers of one stack with experts, as `transformers` deals them: every n-th one, n
/// the whole part of layers over sparse layers.
fn sparse_layers(layers: u32, sparse: u32) -> u32 {
    match layers.checked_div(sparse) {
        None | Some(0) => 0,
        Some(1) => layers,
        Some(step) => {
            u32::try_from((0..layers).filter(|layer| layer % step == 1).count()).unwrap_or(layers)
        }
    }
}
