//! Decoders, read by the structure that their fields state; the family only settles what no field
//! says ([`Traits`]).

use crate::formats::hf_config::common::{
    HIDDEN, LAYERS, MAX_EXPERTS, MAX_INTERMEDIATE, MAX_LAYERS, MAX_SHARED, MAX_VOCABULARY,
    MAX_WIDTH, routed,
};
use crate::formats::hf_config::fields::Fields;
use crate::formats::hf_config::mixing::{self, Kind};
use crate::formats::hf_config::traits::{Shared, Traits};
use crate::model::{Experts, Model, RoutingGroups, SmallParameters};

/// Names of an expert's width; without any it is that of a dense block.
const EXPERT_WIDTH: [&str; 2] = ["moe_intermediate_size", "expert_ffn_hidden_size"];
/// Names of the width of all shared experts together.
const SHARED_WIDTH: [&str; 4] = [
    "shared_expert_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "shared_intermediate_size",
    "share_expert_dim",
];
/// Names of the number of shared experts.
const SHARED_COUNT: [&str; 4] =
    ["n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"];
/// Names of the width of a dense block, the most particular first.
const DENSE_WIDTH: [&str; 4] =
    ["dense_intermediate_size", "intermediate_size_mlp", "ffn_hidden_size", "intermediate_size"];
/// Names of the number of dense layers before the first experts.
const FIRST_DENSE: [&str; 2] = ["first_k_dense_replace", "num_dense_layers"];
/// Names of the width in which experts work.
const LATENT: [&str; 2] = ["moe_latent_size", "routed_expert_hidden_size"];

/// Reads a decoder.
pub(super) fn read(fields: &mut Fields<'_>, traits: &Traits) -> Model {
    let hidden = fields.any_count(HIDDEN, MAX_WIDTH);
    let blocks = blocks(fields);
    let layers = match (&blocks, fields.maybe(LAYERS, 1, MAX_LAYERS)) {
        (Some((name, blocks)), stated) => {
            let listed = u32::try_from(blocks.len()).unwrap_or(MAX_LAYERS);
            if let Some(stated) = stated.filter(|stated| *stated != listed) {
                let detail = format!("{name} lists {listed} blocks and the layers are {stated}");
                fields.problem(name, "consistency", detail);
            }
            listed
        }
        (None, Some(stated)) => stated,
        (None, None) => fields.any_count(LAYERS, MAX_LAYERS),
    };
    let vocabulary = fields.count("vocab_size", MAX_VOCABULARY);
    let tied = fields.flag("tie_word_embeddings", traits.tied);
    let kinds = blocks
        .as_ref()
        .map(|(_, blocks)| blocks.iter().filter_map(|block| block.mixes()).collect());
    let mixed = mixing::read(fields, traits, hidden, layers, kinds);
    let zero_cost = fields.maybe(&["zero_expert_num"], 0, MAX_EXPERTS).unwrap_or(0);
    fields.take("zero_expert_type");
    let (routed, chosen) = routed(fields, zero_cost);
    let gated = gated(fields);
    let intermediate = fields.maybe(&EXPERT_WIDTH, 1, MAX_INTERMEDIATE).unwrap_or_else(|| {
        let name = fields.given(&["intermediate_size", "ffn_hidden_size"]);
        fields.count(name, MAX_INTERMEDIATE)
    });
    let shared = shared(fields, traits, intermediate);
    let method = fields.text("topk_method").unwrap_or(None);
    let is_grouped = method.map_or(traits.grouped, |method| method != "greedy");
    let score_bias = fields.maybe_flag(&[
        "use_routing_bias",
        "use_moe_router_bias",
        "moe_router_enable_expert_bias",
        "use_expert_bias",
    ]);
    let score_bias = score_bias.unwrap_or(match method {
        Some(method) => method == "noaux_tc",
        None => traits.score_bias,
    });
    let experts = Experts {
        routed,
        // Choices fall on those that cost nothing as often as on others.
        top_k: match chosen * routed {
            _ if zero_cost == 0 => chosen,
            real => real.div_ceil((routed + zero_cost).max(1)).max(1),
        },
        zero_cost,
        chosen,
        latent: fields.maybe(&LATENT, 1, MAX_WIDTH).filter(|latent| *latent != hidden),
        intermediate,
        gated,
        shared_intermediate: shared,
        groups: if is_grouped { groups(fields, routed, chosen) } else { None },
    };
    let mut small = small(fields, traits, hidden, vocabulary, &experts, score_bias);
    small.attention_per_layer = mixed.small;
    let mut model = Model {
        name: String::new(),
        class: String::new(),
        hidden_size: hidden,
        vocabulary,
        tied_embeddings: tied,
        depth: layers,
        attention: mixed.attention,
        attention_layers: mixed.attention_layers,
        mixers: mixed.mixers,
        moe_layers: layers,
        moe_at: (0..layers).collect(),
        dense_layers: 0,
        dense_intermediate: 0,
        dense_beside_experts: 0,
        cross_attention_layers: 0,
        mtp_layers: 0,
        hash_layers: fields.maybe(&["num_hash_layers"], 0, MAX_LAYERS).unwrap_or(0).min(layers),
        experts,
        small,
    };
    hyper_connections(fields, &mut model);
    if let Some((_, blocks)) = &blocks {
        let count = |of: &Block| blocks.iter().filter(|block| *block == of).count();
        let count = |of: &Block| u32::try_from(count(of)).unwrap_or(layers);
        (model.moe_layers, model.dense_layers) = (count(&Block::Experts), count(&Block::Dense));
        model.moe_at = places(blocks.iter().map(|block| *block == Block::Experts));
        // Every block has one norm; those that mix tokens carry theirs themselves.
        model.small.norms_per_layer = u64::from(hidden);
        model.small.attention_per_layer += u64::from(hidden);
        model.mixers.iter_mut().for_each(|mixer| mixer.small += u64::from(hidden));
        require_experts(fields, &model, "layers_block_type");
    } else {
        deal(fields, traits, &mut model);
    }
    dense(fields, traits, &mut model);
    model
}

/// One block of a model that lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Mamba,
    Attention,
    Experts,
    Dense,
}

impl Block {
    const fn mixes(self) -> Option<Kind> {
        match self {
            Self::Mamba => Some(Kind::Mamba),
            Self::Attention => Some(Kind::Full),
            Self::Experts | Self::Dense => None,
        }
    }
}

/// The list of blocks, and the field that has it; two that disagree are refused.
fn blocks(fields: &mut Fields<'_>) -> Option<(&'static str, Vec<Block>)> {
    let texts = fields.texts("layers_block_type");
    let pattern = fields.text("hybrid_override_pattern").unwrap_or(None).unwrap_or_default();
    let mut wrong = None;
    let mut read = |name: &'static str, items: Vec<String>| -> Option<(&'static str, Vec<Block>)> {
        if items.is_empty() {
            return None;
        }
        let block = |item: &String| match item.as_str() {
            "M" | "mamba" => Block::Mamba,
            "*" | "attention" => Block::Attention,
            "E" | "moe" => Block::Experts,
            "-" | "mlp" => Block::Dense,
            other => {
                wrong = Some((name, other.to_owned()));
                Block::Dense
            }
        };
        Some((name, items.iter().map(block).collect()))
    };
    let listed = read("layers_block_type", texts.into_iter().map(str::to_owned).collect());
    let drawn = read("hybrid_override_pattern", pattern.chars().map(String::from).collect());
    if let Some((name, other)) = wrong {
        let known = "mamba (M), attention (*), moe (E) and mlp (-)";
        let detail = format!("{name} has a block \"{other}\"; known are {known}");
        fields.problem(name, "choice", detail);
    }
    if let (Some((_, one)), Some((name, other))) = (&listed, &drawn)
        && one != other
    {
        let detail = "hybrid_override_pattern and layers_block_type differ; leave one out";
        fields.problem(name, "consistency", detail.to_owned());
    }
    listed.or(drawn)
}

/// Whether experts have a gate: all but those whose activation is a squared `ReLU`.
fn gated(fields: &mut Fields<'_>) -> bool {
    let name = fields.given(&["mlp_hidden_act", "hidden_act", "hidden_activation"]);
    fields.text(name).unwrap_or(None) != Some("relu2")
}

/// Width of all shared experts together.
fn shared(fields: &mut Fields<'_>, traits: &Traits, width: u32) -> u32 {
    let stated = fields.maybe(&SHARED_WIDTH, 0, MAX_INTERMEDIATE);
    let count = fields.maybe(&SHARED_COUNT, 0, MAX_SHARED);
    match (stated, count, traits.shared) {
        (None, None, Shared::Required) => fields.any_count(&SHARED_WIDTH, MAX_INTERMEDIATE),
        (None, None, Shared::One) => width,
        (stated, count, _) => stated
            .filter(|stated| *stated > 0)
            .unwrap_or_else(|| count.unwrap_or(0).saturating_mul(width)),
    }
}

/// Group-limited routing; one group is no limit.
fn groups(fields: &mut Fields<'_>, routed: u32, top_k: u32) -> Option<RoutingGroups> {
    let groups = fields.maybe(&["n_group", "num_expert_group"], 1, MAX_EXPERTS).unwrap_or(1);
    let per_token = fields.count_or("topk_group", groups, 1, MAX_EXPERTS);
    if groups == 0 || per_token == 0 || routed == 0 || (groups, per_token) == (1, 1) {
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

/// Vectors besides the matrices.
fn small(
    fields: &mut Fields<'_>,
    traits: &Traits,
    hidden: u32,
    vocabulary: u32,
    experts: &Experts,
    score_bias: bool,
) -> SmallParameters {
    let d = u64::from(hidden);
    let routed = u64::from(experts.routed);
    let scores = routed + u64::from(experts.zero_cost);
    let head_bias = if fields.flag("lm_head_bias", false) { u64::from(vocabulary) } else { 0 };
    // A layer's norms with biases end in one with a bias.
    let last = if traits.norms == 4 && !traits.twice { 2 } else { 1 };
    SmallParameters {
        attention_per_layer: 0,
        router_per_layer: match () {
            () if traits.scaled_router => d + routed,
            () if score_bias || traits.sinks => scores,
            () => 0,
        },
        expert: if traits.sinks { 2 * u64::from(experts.intermediate) + d } else { 0 },
        shared_per_layer: if traits.shared_gate && experts.shared_intermediate > 0 { d } else { 0 },
        // Gemma 4 scales every layer by one number.
        norms_per_layer: traits.norms * d + u64::from(traits.scaled_router),
        outside_layers: last * d + head_bias,
    }
}

/// Streams beside the residual one that every block mixes (DeepSeek-V4): `(2 + m)·m` scores of m·d
/// values for attention and for experts of a layer, and m scores at the end.
fn hyper_connections(fields: &mut Fields<'_>, model: &mut Model) {
    let Some(streams) = fields.maybe(&["hc_mult"], 1, MAX_SHARED).filter(|streams| *streams > 1)
    else {
        return;
    };
    for name in ["hc_eps", "hc_sinkhorn_iters"] {
        fields.take(name);
    }
    let (m, d) = (u64::from(streams), u64::from(model.hidden_size));
    let mix = (2 + m) * m;
    model.small.norms_per_layer += 2 * (mix * m * d + mix + 3);
    model.small.outside_layers += m * m * d + m + 1;
    fields.unpriced(format!("{streams} residual streams (hc_mult), mixed around every block"));
}

/// Deals the layers to experts and dense blocks, by whichever fields say so.
fn deal(fields: &mut Fields<'_>, traits: &Traits, model: &mut Model) {
    let layers = model.moe_layers;
    let mut found: Vec<(&str, Vec<bool>)> = Vec::new();
    let kinds = fields.texts("mlp_layer_types");
    if !kinds.is_empty() {
        let read = kinds.iter().map(|kind| *kind != "dense").collect();
        found.push(("mlp_layer_types", read));
    }
    let frequency = fields.take("moe_layer_freq");
    if frequency.is_some_and(serde_json::Value::is_array) {
        let read = fields.numbers("moe_layer_freq").iter().map(|one| *one != 0).collect();
        found.push(("moe_layer_freq", read));
    }
    let listed = fields.numbers("moe_layers");
    if !listed.is_empty() {
        found.push(("moe_layers", picked(layers, &listed)));
    }
    if let Ok(Some(text)) = fields.text("moe_layers_enum") {
        let numbers: Vec<u64> =
            text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        found.push(("moe_layers_enum", picked(layers, &numbers)));
    }
    for (name, read) in &mut found {
        if read.len() < layers as usize {
            let detail =
                format!("{name} has {} entries; the model has {layers} layers", read.len());
            fields.problem(name, "consistency", detail);
        }
        read.truncate(layers as usize);
    }
    if let Some((why, by_rule)) = rule(fields, traits, layers, found.is_empty()) {
        found.push((why, by_rule));
    }
    let mut found = found.into_iter();
    let Some((why, read)) = found.next() else { return };
    for (name, other) in found {
        if other != read {
            let detail = format!("{name} and {why} say otherwise of a layer; leave one out");
            fields.problem(name, "consistency", detail);
        }
    }
    model.moe_at = places(read.into_iter());
    model.moe_layers = u32::try_from(model.moe_at.len()).unwrap_or(layers);
    model.dense_layers = layers.saturating_sub(model.moe_layers);
    require_experts(fields, model, why);
}

/// Places of what is true.
fn places(which: impl Iterator<Item = bool>) -> Vec<u32> {
    (0..).zip(which).filter_map(|(at, is_it)| is_it.then_some(at)).collect()
}

fn picked(layers: u32, numbers: &[u64]) -> Vec<bool> {
    (0..layers).map(|at| numbers.contains(&u64::from(at))).collect()
}

fn require_experts(fields: &mut Fields<'_>, model: &Model, why: &str) {
    if model.layers() > 0 && model.moe_layers == 0 {
        let layers = model.layers();
        let detail = format!("{why} leaves none of the {layers} layers with experts");
        fields.problem(why, "consistency", detail);
    }
}

/// Which layers have experts by numbers: a first one, a last one, every so many, and exceptions;
/// `None` where nothing is stated beside a list. Returned with the field to name.
fn rule(
    fields: &mut Fields<'_>,
    traits: &Traits,
    layers: u32,
    alone: bool,
) -> Option<(&'static str, Vec<bool>)> {
    let first_dense = fields.maybe(&FIRST_DENSE, 0, MAX_LAYERS);
    let start = fields.maybe(&["moe_layer_start_index"], 0, MAX_LAYERS);
    // -1 is the last layer.
    let end = match fields.take("moe_layer_end_index").and_then(serde_json::Value::as_i64) {
        Some(end) if end >= 0 => u32::try_from(end).unwrap_or(layers),
        _ => layers,
    };
    let every = if fields.take("moe_layer_freq").is_some_and(serde_json::Value::is_array) {
        None
    } else {
        fields.maybe(&["moe_layer_freq"], 1, MAX_LAYERS)
    };
    let steps = ["decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_frequency"];
    let step = steps.into_iter().chain(["moe_layer_interval"]).find(|name| fields.has(name));
    let nth = step.map(|name| fields.count(name, MAX_LAYERS).max(1));
    let period = fields.maybe(&["expert_layer_period"], 1, MAX_LAYERS);
    let offset = fields.count_or("expert_layer_offset", 0, 0, MAX_LAYERS);
    let only_dense = fields.numbers("mlp_only_layers");
    let first = first_dense.or(start);
    // Frequencies of 1 say nothing beside a list.
    let stated = first.is_some() || period.is_some() || !only_dense.is_empty();
    let several = |number: Option<u32>| number.is_some_and(|number| number > 1);
    if !(alone || stated || several(every) || several(nth)) {
        return None;
    }
    let why = match () {
        () if first_dense.is_some() => FIRST_DENSE[usize::from(!fields.has(FIRST_DENSE[0]))],
        () if start.is_some() => "moe_layer_start_index",
        () if !only_dense.is_empty() => "mlp_only_layers",
        () if period.is_some() => "expert_layer_period",
        () => step.unwrap_or(FIRST_DENSE[0]),
    };
    let first = first.unwrap_or(traits.first_dense);
    let is_moe = |at: u32| {
        at >= first
            && at <= end
            && every.is_none_or(|every| at.is_multiple_of(every.max(1)))
            && nth.is_none_or(|nth| (at + 1).is_multiple_of(nth))
            && period.is_none_or(|period| at % period.max(1) == offset % period.max(1))
            && !only_dense.contains(&u64::from(at))
    };
    Some((why, (0..layers).map(is_moe).collect()))
}

/// Dense blocks: their width is asked for only where there are some.
fn dense(fields: &mut Fields<'_>, traits: &Traits, model: &mut Model) {
    let parallel = fields.flag("parallel_attn_mlp_res", false);
    let name = fields.given(&DENSE_WIDTH);
    let name = if fields.has(name) { name } else { "intermediate_size" };
    // Known to mean nothing without dense layers, so not to be listed as ignored.
    for name in DENSE_WIDTH {
        fields.take(name);
    }
    if model.dense_layers > 0 {
        model.dense_intermediate = fields.count(name, MAX_INTERMEDIATE);
    }
    if traits.dense_beside || traits.twice || parallel {
        model.dense_beside_experts = fields.count(name, MAX_INTERMEDIATE);
    }
    if traits.twice {
        model.dense_beside_experts *= 2;
        model.attention_layers *= 2;
        model.mixers.iter_mut().for_each(|mixer| mixer.layers *= 2);
    }
}
