//! One function per family: which fields it has, and what besides the large matrices.
//!
//! Each follows the family's modelling code in Hugging Face `transformers` (LLaMA-MoE:
//! its authors' `smoe` package).

use crate::formats::hf_config::common::{
    Base, Heads, MAX_EXPERTS, MAX_HEAD_DIM, MAX_HEADS, MAX_INTERMEDIATE, MAX_LAYERS, MAX_SHARED,
    MAX_VOCABULARY, MAX_WIDTH, deal, dense, gated, routed, window,
};
use crate::formats::hf_config::fields::Fields;
use crate::model::{Attention, Experts, Model, RoutingGroups, SmallParameters};

pub(super) fn mixtral(fields: &mut Fields<'_>) -> Model {
    let base = Base::read(fields);
    let heads = Heads::read(fields, base.hidden);
    let window = window(fields, "sliding_window");
    let routed = routed(fields, "num_local_experts", "num_experts_per_tok");
    let experts = gated(routed, fields.count("intermediate_size", MAX_INTERMEDIATE));
    base.model(heads.attention(window, base.layers), experts, base.norms(1))
}

pub(super) fn phimoe(fields: &mut Fields<'_>) -> Model {
    let base = Base::read(fields);
    let heads = Heads::read(fields, base.hidden);
    let window = window(fields, "sliding_window");
    let routed = routed(fields, "num_local_experts", "num_experts_per_tok");
    let experts = gated(routed, fields.count("intermediate_size", MAX_INTERMEDIATE));
    let mut small = base.norms(2);
    if fields.flag("attention_bias", false) {
        small.attention_per_layer = heads.qkv_bias() + u64::from(base.hidden);
    }
    if fields.flag("lm_head_bias", false) {
        small.outside_layers += u64::from(base.vocabulary);
    }
    base.model(heads.attention(window, base.layers), experts, small)
}

pub(super) fn olmoe(fields: &mut Fields<'_>) -> Model {
    let base = Base::read(fields);
    let heads = Heads::read(fields, base.hidden);
    let routed = routed(fields, "num_experts", "num_experts_per_tok");
    let experts = gated(routed, fields.count("intermediate_size", MAX_INTERMEDIATE));
    let mut small = base.norms(1);
    small.attention_per_layer = heads.query_width() + heads.key_value_width();
    if fields.flag("attention_bias", false) {
        small.attention_per_layer += heads.qkv_bias() + u64::from(base.hidden);
    }
    base.model(heads.attention(None, 0), experts, small)
}

pub(super) fn qwen2_moe(fields: &mut Fields<'_>) -> Model {
    let heads_and_bias = |heads: Heads, _: &Base, qkv: bool| if qkv { heads.qkv_bias() } else { 0 };
    let mut model = qwen(fields, "qkv_bias", true, heads_and_bias);
    model.experts.shared_intermediate =
        fields.count("shared_expert_intermediate_size", MAX_INTERMEDIATE);
    model.small.shared_per_layer = u64::from(model.hidden_size);
    model
}

pub(super) fn qwen3_moe(fields: &mut Fields<'_>) -> Model {
    qwen(fields, "attention_bias", false, |heads, base, bias| {
        let biases = if bias { heads.qkv_bias() + u64::from(base.hidden) } else { 0 };
        2 * u64::from(heads.dim) + biases
    })
}

fn qwen(
    fields: &mut Fields<'_>,
    bias: &str,
    biased: bool,
    small_attention: impl Fn(Heads, &Base, bool) -> u64,
) -> Model {
    let base = Base::read(fields);
    let heads = Heads::read(fields, base.hidden);
    let mut full_layers = base.layers;
    let mut sliding = None;
    if fields.flag("use_sliding_window", false) {
        sliding = window(fields, "sliding_window");
        full_layers = fields.count_or("max_window_layers", base.layers, 0, MAX_LAYERS);
    }
    let routed = routed(fields, "num_experts", "num_experts_per_tok");
    let experts = gated(routed, fields.count("moe_intermediate_size", MAX_INTERMEDIATE));
    let mut small = base.norms(1);
    let bias = fields.flag(bias, biased);
    small.attention_per_layer = small_attention(heads, &base, bias);
    let attention = heads.attention(sliding, base.layers.saturating_sub(full_layers));
    let model = base.model(attention, experts, small);
    let step = fields.count_or("decoder_sparse_step", 1, 1, MAX_LAYERS).max(1);
    let dense_layers = fields.numbers("mlp_only_layers");
    let why = if dense_layers.is_empty() { "decoder_sparse_step" } else { "mlp_only_layers" };
    let model = deal(fields, model, why, |layer| {
        (layer + 1).is_multiple_of(step) && !dense_layers.contains(&u64::from(layer))
    });
    dense(fields, model, "intermediate_size")
}

pub(super) fn deepseek_v2(fields: &mut Fields<'_>) -> Model {
    deepseek(fields, "greedy")
}

pub(super) fn deepseek_v3(fields: &mut Fields<'_>) -> Model {
    deepseek(fields, "noaux_tc")
}

fn deepseek(fields: &mut Fields<'_>, usual_method: &str) -> Model {
    let base = Base::read(fields);
    let heads = fields.count("num_attention_heads", MAX_HEADS);
    let query_rank = fields.count_or("q_lora_rank", 0, 1, MAX_WIDTH);
    let kv_lora_rank = fields.count("kv_lora_rank", MAX_WIDTH);
    let attention = Attention::Latent {
        heads,
        q_lora_rank: (query_rank > 0).then_some(query_rank),
        kv_lora_rank,
        qk_nope_head_dim: fields.count("qk_nope_head_dim", MAX_HEAD_DIM),
        qk_rope_head_dim: fields.count("qk_rope_head_dim", MAX_HEAD_DIM),
        v_head_dim: fields.count("v_head_dim", MAX_HEAD_DIM),
    };
    let routed = routed(fields, "n_routed_experts", "num_experts_per_tok");
    let intermediate = fields.count("moe_intermediate_size", MAX_INTERMEDIATE);
    let shared = fields.count_or("n_shared_experts", 0, 0, MAX_SHARED);
    let method = fields.text("topk_method").unwrap_or(None).unwrap_or(usual_method);
    let groups = if method == "greedy" { None } else { groups(fields, routed) };
    let experts = Experts {
        shared_intermediate: shared * intermediate,
        groups,
        ..gated(routed, intermediate)
    };
    let mut small = base.norms(1);
    small.attention_per_layer = u64::from(query_rank) + u64::from(kv_lora_rank);
    if method == "noaux_tc" {
        small.router_per_layer = u64::from(experts.routed);
    }
    let model = base.model(attention, experts, small);
    let first = fields.count_or("first_k_dense_replace", 0, 0, MAX_LAYERS);
    let every = fields.count_or("moe_layer_freq", 1, 1, MAX_LAYERS).max(1);
    let model = deal(fields, model, "first_k_dense_replace", |layer| {
        layer >= first && layer.is_multiple_of(every)
    });
    dense(fields, model, "intermediate_size")
}

/// Group-limited routing; one group is no limit.
fn groups(fields: &mut Fields<'_>, (routed, top_k): (u32, u32)) -> Option<RoutingGroups> {
    let groups = fields.count_or("n_group", 1, 1, MAX_EXPERTS);
    let per_token = fields.count_or("topk_group", groups, 1, MAX_EXPERTS);
    if groups == 0 || per_token == 0 || routed == 0 {
        return None;
    }
    if !routed.is_multiple_of(groups) {
        let detail = format!("n_group is {groups}; it must divide n_routed_experts, {routed}");
        fields.problem("n_group", "consistency", detail);
    } else if per_token > groups || top_k > per_token * (routed / groups) {
        let detail = format!(
            "topk_group is {per_token}; it must not exceed n_group, {groups}, and its groups must hold num_experts_per_tok, {top_k}, experts"
        );
        fields.problem("topk_group", "consistency", detail);
    }
    (groups > 1).then_some(RoutingGroups { groups, per_token })
}

pub(super) fn gpt_oss(fields: &mut Fields<'_>) -> Model {
    let base = Base::read(fields);
    let heads = Heads::read(fields, base.hidden);
    let window = window(fields, "sliding_window");
    let kinds = fields.texts("layer_types");
    let sliding = kinds.iter().filter(|kind| **kind == "sliding_attention").count();
    let windowed = if kinds.is_empty() {
        base.layers.div_ceil(2)
    } else {
        u32::try_from(sliding).unwrap_or(base.layers).min(base.layers)
    };
    let top_k = fields.given(&["num_experts_per_tok", "experts_per_token"]);
    let routed = routed(fields, "num_local_experts", top_k);
    let experts = gated(routed, fields.count("intermediate_size", MAX_INTERMEDIATE));
    let hidden = u64::from(base.hidden);
    let mut small = base.norms(1);
    // One sink per query head beside the biases.
    small.attention_per_layer = u64::from(heads.query);
    if fields.flag("attention_bias", true) {
        small.attention_per_layer += heads.qkv_bias() + hidden;
    }
    small.router_per_layer = u64::from(experts.routed);
    small.expert = 2 * u64::from(experts.intermediate) + hidden;
    base.model(heads.attention(window, windowed), experts, small)
}

pub(super) fn llama4(fields: &mut Fields<'_>) -> Model {
    let base = Base::read(fields);
    let heads = Heads::read(fields, base.hidden);
    let chunk = window(fields, "attention_chunk_size");
    let rotary = fields.numbers("no_rope_layers");
    let every = fields.count_or("no_rope_layer_interval", 4, 1, MAX_LAYERS).max(1);
    // Layers with rotary positions see their chunk only; the others see everything.
    let chunked = if rotary.is_empty() {
        base.layers - base.layers / every
    } else {
        let ones = rotary.iter().filter(|flag| **flag == 1).count();
        u32::try_from(ones).unwrap_or(base.layers).min(base.layers)
    };
    let routed = routed(fields, "num_local_experts", "num_experts_per_tok");
    let intermediate = fields.count("intermediate_size", MAX_INTERMEDIATE);
    let experts = Experts { shared_intermediate: intermediate, ..gated(routed, intermediate) };
    let mut small = base.norms(1);
    if fields.flag("attention_bias", false) {
        small.attention_per_layer = heads.qkv_bias() + u64::from(base.hidden);
    }
    let model = base.model(heads.attention(chunk, chunked), experts, small);
    let listed = fields.numbers("moe_layers");
    let step = fields.count_or("interleave_moe_layer_step", 1, 1, MAX_LAYERS).max(1);
    let model = if listed.is_empty() {
        let is_moe = |layer: u32| (layer + 1).is_multiple_of(step);
        deal(fields, model, "interleave_moe_layer_step", is_moe)
    } else {
        deal(fields, model, "moe_layers", |layer| listed.contains(&u64::from(layer)))
    };
    dense(fields, model, "intermediate_size_mlp")
}

pub(super) fn llama_moe(fields: &mut Fields<'_>) -> Model {
    let base = Base::read(fields);
    let heads = Heads::read(fields, base.hidden);
    let routed = routed(fields, "num_experts", "num_selects");
    // The field is the width of the dense block that was split into experts.
    let whole = fields.count("intermediate_size", MAX_INTERMEDIATE);
    let experts = routed.0.max(1);
    if whole > 0 && !whole.is_multiple_of(experts) {
        let detail = format!("num_experts is {experts}; it must divide intermediate_size, {whole}");
        fields.problem("num_experts", "consistency", detail);
    }
    let mut small = base.norms(1);
    let count = u64::from(routed.0);
    let noise = u64::from(base.hidden) * count;
    small.router_per_layer = match fields.text("gate_network").unwrap_or(None) {
        Some("linear") => noise,
        _ => count * count + noise,
    };
    let experts = gated(routed, whole / experts);
    base.model(heads.attention(None, 0), experts, small)
}

pub(super) fn switch(fields: &mut Fields<'_>) -> Model {
    let hidden = fields.count("d_model", MAX_WIDTH);
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
    if encoder > 0 && moe == 0 {
        let detail = "the numbers of sparse encoder and decoder layers leave no layer with experts";
        fields.problem("num_sparse_encoder_layers", "consistency", detail.to_owned());
    }
    let width = u64::from(hidden);
    // T5 has one norm before each block: two in an encoder layer, three in a decoder
    // layer, one at each stack's end; and one table of relative positions per stack.
    let outside =
        width * u64::from(decoder) + 2 * width + 2 * u64::from(buckets) * u64::from(heads);
    let router_bias = if fields.flag("router_bias", false) { u64::from(routed) } else { 0 };
    Model {
        name: String::new(),
        hidden_size: hidden,
        vocabulary: fields.count("vocab_size", MAX_VOCABULARY),
        tied_embeddings: fields.flag("tie_word_embeddings", true),
        attention: Attention::Grouped {
            heads,
            kv_heads: heads,
            head_dim,
            sliding_window: None,
            windowed_layers: 0,
        },
        moe_layers: moe,
        dense_layers: (encoder + decoder).saturating_sub(moe),
        dense_intermediate: if moe < encoder + decoder { intermediate } else { 0 },
        cross_attention_layers: decoder,
        experts: Experts {
            routed,
            top_k: 1,
            intermediate,
            gated,
            shared_intermediate: 0,
            groups: None,
        },
        small: SmallParameters {
            router_per_layer: router_bias,
            norms_per_layer: 2 * width,
            outside_layers: outside,
            ..SmallParameters::default()
        },
    }
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
