//! How the blocks of a decoder mix tokens: attention of every reach, and states of fixed size.

use crate::formats::hf_config::common::{
    HEAD_DIM, HEADS, KEY_VALUE_HEADS, MAX_HEAD_DIM, MAX_HEADS, MAX_INTERMEDIATE, MAX_LAYERS,
    MAX_WIDTH, MAX_WINDOW, window,
};
use crate::formats::hf_config::fields::Fields;
use crate::formats::hf_config::traits::{QkNorm, Traits, Windows};
use crate::model::{Attention, Index, Mixer, Mixing, Reach};

/// How one block mixes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Attention to everything.
    Full,
    /// Attention to the last tokens.
    Near,
    /// Linear attention, or KDA.
    Linear,
    /// A state space.
    Mamba,
    /// A short convolution.
    Convolution,
}

/// What was read of all blocks that mix tokens.
pub(super) struct Mixed {
    pub(super) attention: Attention,
    pub(super) attention_layers: u32,
    pub(super) mixers: Vec<Mixer>,
    /// Biases, norms and gates of one block of `attention`.
    pub(super) small: u64,
}

/// Names of windows.
const WINDOWS: &[&str] =
    &["sliding_window", "attention_chunk_size", "sliding_window_size", "window_size"];

/// Heads of grouped attention.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Heads {
    query: u32,
    key_value: u32,
    dim: u32,
    /// Width of a value.
    value: u32,
}

impl Heads {
    fn read(fields: &mut Fields<'_>, hidden: u32) -> Self {
        let query = fields.any_count(HEADS, MAX_HEADS);
        let key_value = fields.maybe(KEY_VALUE_HEADS, 1, MAX_HEADS).unwrap_or(query);
        if query > 0 && key_value > 0 && !query.is_multiple_of(key_value) {
            let detail = format!(
                "num_key_value_heads is {key_value}; it must divide num_attention_heads, {query}"
            );
            fields.problem("num_key_value_heads", "consistency", detail);
        }
        let dim = fields.maybe(HEAD_DIM, 1, MAX_HEAD_DIM).unwrap_or_else(|| {
            if hidden > 0 && query > 0 && !hidden.is_multiple_of(query) {
                let detail = format!(
                    "num_attention_heads is {query}; it must divide hidden_size, {hidden}, unless head_dim is stated"
                );
                fields.problem("num_attention_heads", "consistency", detail);
            }
            hidden.checked_div(query).unwrap_or(0)
        });
        let value = fields.maybe(&["v_head_dim"], 1, MAX_HEAD_DIM).unwrap_or(dim);
        Self { query, key_value, dim, value }
    }

    fn query_width(self) -> u64 {
        u64::from(self.query) * u64::from(self.dim)
    }

    /// Width of all keys.
    fn key_width(self) -> u64 {
        u64::from(self.key_value) * u64::from(self.dim)
    }

    /// Width of all values.
    fn value_width(self) -> u64 {
        u64::from(self.key_value) * u64::from(self.value)
    }

    /// Biases of queries, keys and values.
    fn qkv_bias(self) -> u64 {
        self.query_width() + self.key_width() + self.value_width()
    }

    fn attention(self, near: Option<(u32, u32)>) -> Attention {
        Attention::Grouped {
            heads: self.query,
            kv_heads: self.key_value,
            head_dim: self.dim,
            v_head_dim: self.value,
            sliding_window: near.map(|(window, _)| window),
            windowed_layers: near.map_or(0, |(_, layers)| layers),
        }
    }
}

/// Reads the blocks of which `listed` says how they mix, or all of so many layers.
pub(super) fn read(
    fields: &mut Fields<'_>,
    traits: &Traits,
    hidden: u32,
    layers: u32,
    listed: Option<Vec<Kind>>,
) -> Mixed {
    if fields.has("kv_lora_rank") {
        return latent(fields, traits, hidden, layers, listed);
    }
    if fields.has("compress_ratios") {
        return compressed(fields, hidden, layers);
    }
    let heads = Heads::read(fields, hidden);
    let kinds = listed.unwrap_or_else(|| kinds(fields, traits, layers));
    let count = |kind: Kind| counted(&kinds, kind);
    let (mut full, mut near) = (count(Kind::Full), count(Kind::Near));
    let mut mixers = others(fields, hidden, heads, &kinds);
    let mut reach = None;
    // Known to mean nothing where no layer has a window, so not to be listed as ignored.
    for name in [WINDOWS, &["max_position_embeddings"]].concat() {
        fields.take(name);
    }
    if near > 0 {
        if !WINDOWS.iter().any(|name| fields.has(name)) {
            let detail = format!("sliding_window is missing: {near} layers have a window");
            fields.problem("sliding_window", "required", detail);
        }
        reach = window(fields, WINDOWS);
        // A window as long as the longest position is none.
        if reach.is_none() {
            (full, near) = (full + near, 0);
        }
    }
    let norm = qk_norm(fields, traits);
    let bias = fields.maybe_flag(&["attention_bias", "qkv_bias", "add_qkv_bias"]);
    let bias = bias.unwrap_or(traits.qkv_bias);
    let small = |heads: Heads| {
        let norms = match norm {
            QkNorm::None | QkNorm::Weightless => 0,
            QkNorm::Head => 2 * u64::from(heads.dim),
            QkNorm::Layer => heads.query_width() + heads.key_width(),
        };
        let output = if traits.output_bias { u64::from(hidden) } else { 0 };
        let biases = if bias { heads.qkv_bias() + output } else { 0 };
        let gates = if traits.gated_heads { u64::from(hidden) * u64::from(heads.query) } else { 0 };
        norms + biases + gates + if traits.sinks { u64::from(heads.query) } else { 0 }
    };
    let mixer = |layers, heads: Heads, reach, index, extra| Mixer {
        layers,
        mixing: Mixing::Attention { shape: heads.attention(None), reach, index },
        extra,
        small: small(heads),
    };
    // Decoders with the gated delta rule gate their full attention, too (Qwen3-Next, Qwen3.5).
    let gated = traits.gated_output || fields.has("linear_num_value_heads");
    let output = fields.flag("attn_output_gate", gated);
    if let Some((sparse, index, extra)) = block_sparse(fields, hidden, full) {
        mixers.push(Mixer {
            small: small(heads) + 2 * u64::from(index.width),
            ..mixer(sparse, heads, Reach::Sparse(extra.0), Some(index), extra.1)
        });
        full -= sparse;
    }
    let small_of_usual = small(heads);
    // Full layers whose heads are not those of the windowed ones (Gemma 4).
    let wide_dim = fields.maybe(&["global_head_dim"], 1, MAX_HEAD_DIM);
    let wide = Heads {
        key_value: fields
            .maybe(&["num_global_key_value_heads"], 1, MAX_HEADS)
            .unwrap_or(heads.key_value),
        dim: wide_dim.unwrap_or(heads.dim),
        value: wide_dim.unwrap_or(heads.value),
        ..heads
    };
    // Windowed layers whose heads are not those of the full ones.
    let mut own = |name: &str, most: u32, usual: u32| fields.count_or(name, usual, 1, most);
    let narrow = Heads {
        query: own("swa_num_attention_heads", MAX_HEADS, heads.query),
        key_value: own("swa_num_key_value_heads", MAX_HEADS, heads.key_value),
        dim: own("swa_head_dim", MAX_HEAD_DIM, heads.dim),
        value: own("swa_v_head_dim", MAX_HEAD_DIM, heads.value),
    };
    let same = |one: Heads| one == heads;
    let values_are_keys = fields.flag("attention_k_eq_v", false);
    if full > 0 && (!same(wide) || values_are_keys) {
        let saved = u64::from(hidden) * wide.value_width();
        let extra = if values_are_keys { 0_i64.saturating_sub_unsigned(saved) } else { 0 };
        mixers.push(mixer(full, wide, Reach::All, None, extra));
        full = 0;
    } else if full > 0 && output {
        let gate = u64::from(hidden) * heads.query_width();
        mixers.push(mixer(full, heads, Reach::All, None, 0_i64.saturating_add_unsigned(gate)));
        full = 0;
    }
    if near > 0 && !same(narrow) {
        mixers.push(mixer(near, narrow, reach.map_or(Reach::All, Reach::Window), None, 0));
        near = 0;
    }
    let windowed = reach.filter(|_| near > 0).map(|window| (window, near));
    Mixed {
        attention: heads.attention(windowed),
        attention_layers: full + near,
        mixers,
        small: small_of_usual,
    }
}

fn counted(kinds: &[Kind], kind: Kind) -> u32 {
    u32::try_from(kinds.iter().filter(|one| **one == kind).count()).unwrap_or(u32::MAX)
}

/// Norms of queries and keys, as stated or as the family has them.
fn qk_norm(fields: &mut Fields<'_>, traits: &Traits) -> QkNorm {
    let stated = fields.maybe_flag(&["use_qk_norm", "qk_norm"]);
    let kind = fields.text("qk_norm_type").unwrap_or(None);
    match (traits.qk_norm, stated) {
        (QkNorm::Weightless, _) => QkNorm::Weightless,
        (_, Some(false)) => QkNorm::None,
        (usual, _) if kind.is_none() && usual != QkNorm::None => usual,
        (QkNorm::None, None) => QkNorm::None,
        _ if kind == Some("per_layer") => QkNorm::Layer,
        _ => QkNorm::Head,
    }
}

/// How every layer mixes tokens, by whichever field says so; two that disagree are refused.
fn kinds(fields: &mut Fields<'_>, traits: &Traits, layers: u32) -> Vec<Kind> {
    let mut found: Vec<(&str, Vec<Kind>)> = Vec::new();
    let every = |is_full: &dyn Fn(u32) -> bool, other: Kind| -> Vec<Kind> {
        (0..layers).map(|at| if is_full(at) { Kind::Full } else { other }).collect()
    };
    let texts = fields.texts("layer_types");
    if !texts.is_empty() {
        let read = texts.iter().map(|text| of_text(fields, text)).collect();
        found.push(("layer_types", read));
    }
    for (name, one) in [
        ("attn_type_list", [Kind::Linear, Kind::Full]),
        ("hybrid_layer_pattern", [Kind::Full, Kind::Near]),
    ] {
        let numbers = fields.numbers(name);
        if !numbers.is_empty() {
            found.push((
                name,
                numbers.iter().map(|number| one[usize::from(*number != 0)]).collect(),
            ));
        }
    }
    if let Some(config) = fields.object("linear_attn_config") {
        let listed = |name: &str| config.get(name).and_then(serde_json::Value::as_array);
        let is_in = |name: &str, at: u32| {
            let is_it = |item: &serde_json::Value| item.as_u64() == Some(u64::from(at) + 1);
            listed(name).is_some_and(|items| items.iter().any(is_it))
        };
        let full = |at: u32| match listed("kda_layers") {
            Some(_) => !is_in("kda_layers", at),
            None => is_in("full_attn_layers", at),
        };
        found.push(("linear_attn_config", every(&full, Kind::Linear)));
    }
    if let Some(period) = fields.maybe(&["attn_layer_period"], 1, MAX_LAYERS) {
        let offset = fields.count_or("attn_layer_offset", 0, 0, MAX_LAYERS);
        let period = period.max(1);
        found.push(("attn_layer_period", every(&|at| at % period == offset % period, Kind::Mamba)));
    }
    let interval = fields.maybe(&["full_attention_interval"], 1, MAX_LAYERS);
    if fields.has("linear_num_value_heads") && (interval.is_some() || texts.is_empty()) {
        let interval = interval.unwrap_or(4).max(1);
        let full = |at: u32| (at + 1).is_multiple_of(interval);
        found.push(("full_attention_interval", every(&full, Kind::Linear)));
    }
    if let Some(pattern) = fields.take("sliding_window_pattern") {
        if let Some(text) = pattern.as_str().filter(|text| !text.is_empty()) {
            let letters: Vec<char> = text.chars().collect();
            let full = |at: u32| !matches!(letters[at as usize % letters.len()], 'L' | 'l' | 'S');
            found.push(("sliding_window_pattern", every(&full, Kind::Near)));
        } else if let Some(number) = pattern.as_u64().and_then(|n| u32::try_from(n).ok()) {
            let number = number.max(1);
            let full = |at: u32| (at + 1).is_multiple_of(number);
            found.push(("sliding_window_pattern", every(&full, Kind::Near)));
        }
    }
    let rotary = fields.numbers("no_rope_layers");
    if !rotary.is_empty() && fields.has("attention_chunk_size") {
        let read = rotary.iter().map(|flag| if *flag == 1 { Kind::Near } else { Kind::Full });
        found.push(("no_rope_layers", read.collect()));
    }
    for (name, read) in &mut found {
        if read.len() < layers as usize {
            let detail =
                format!("{name} has {} entries; the model has {layers} layers", read.len());
            fields.problem(name, "consistency", detail);
        }
        // What is longer also lists layers of multi-token prediction.
        read.resize(layers as usize, Kind::Full);
    }
    let mut found = found.into_iter();
    let Some((first, read)) = found.next() else { return by_window(fields, traits, layers) };
    for (name, other) in found {
        if other != read {
            let detail = format!("{name} and {first} say otherwise of a layer; leave one out");
            fields.problem(name, "consistency", detail);
        }
    }
    read
}

/// What a name of a layer's kind says.
fn of_text(fields: &mut Fields<'_>, text: &str) -> Kind {
    let has = |part: &str| text.contains(part);
    match () {
        () if has("sliding") || has("chunked") || has("local") => Kind::Near,
        () if has("linear") || has("kda") || has("delta") || has("lightning") => Kind::Linear,
        () if has("mamba") || has("ssm") => Kind::Mamba,
        () if has("conv") => Kind::Convolution,
        () if has("full") || has("global") || has("sparse") || text == "attention" => Kind::Full,
        () => {
            fields.unpriced(format!("layer_types has \"{text}\", priced as full attention"));
            Kind::Full
        }
    }
}

/// How layers mix where no list says so: by a window, as the family has it.
fn by_window(fields: &mut Fields<'_>, traits: &Traits, layers: u32) -> Vec<Kind> {
    let windows = if traits.windows == Windows::All && fields.has("use_sliding_window") {
        Windows::Flagged
    } else {
        traits.windows
    };
    let stated = WINDOWS.iter().any(|name| fields.has(name));
    let is_near: Box<dyn Fn(u32) -> bool> = match windows {
        Windows::Flagged => {
            let used = fields.flag("use_sliding_window", false) && stated;
            let first = fields.count_or("max_window_layers", layers, 0, MAX_LAYERS);
            Box::new(move |at| used && at >= first)
        }
        _ if !stated => Box::new(|_| false),
        Windows::All => Box::new(|_| true),
        Windows::Alternate => Box::new(|at| at.is_multiple_of(2)),
        Windows::Chunks => {
            let every = fields.count_or("no_rope_layer_interval", 4, 1, MAX_LAYERS).max(1);
            Box::new(move |at| !(at + 1).is_multiple_of(every))
        }
    };
    (0..layers).map(|at| if is_near(at) { Kind::Near } else { Kind::Full }).collect()
}

/// Block-sparse attention (`MiniMax` M3): how many layers, the index, and (tokens read, weights of the
/// index).
fn block_sparse(
    fields: &mut Fields<'_>,
    hidden: u32,
    full: u32,
) -> Option<(u32, Index, (u32, i64))> {
    let config = fields.object("sparse_attention_config")?;
    let mut inner = Fields::new(config, "/sparse_attention_config");
    let used = inner.flag("use_sparse_attention", true);
    let [heads, width, block, blocks] = [
        ("sparse_num_index_heads", 4, MAX_HEADS),
        ("sparse_index_dim", 128, MAX_HEAD_DIM),
        ("sparse_block_size", 128, MAX_WINDOW),
        ("sparse_topk_blocks", 16, MAX_LAYERS),
    ]
    .map(|(name, usual, most)| inner.count_or(name, usual, 1, most));
    let which = inner.numbers("sparse_attention_freq");
    fields.absorb(inner);
    let listed = which.iter().take(full as usize).filter(|one| **one != 0).count();
    let layers = if which.is_empty() { full } else { u32::try_from(listed).unwrap_or(full) };
    if !used || layers == 0 {
        return None;
    }
    let index = Index { heads, width, own: true, ratio: 1 };
    let weights = u64::from(hidden) * u64::from(heads + 1) * u64::from(width);
    let read = block.saturating_mul(blocks);
    Some((layers, index, (read, 0_i64.saturating_add_unsigned(weights))))
}

/// Multi-head latent attention, with an index that chooses tokens where there is one, among layers
/// of linear attention where they are.
fn latent(
    fields: &mut Fields<'_>,
    traits: &Traits,
    hidden: u32,
    layers: u32,
    listed: Option<Vec<Kind>>,
) -> Mixed {
    let heads = fields.any_count(HEADS, MAX_HEADS);
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
    // Known to mean nothing here, so not to be listed as ignored.
    for name in [&["num_key_value_heads", "qk_head_dim"], HEAD_DIM].concat() {
        fields.take(name);
    }
    let kinds = listed.unwrap_or_else(|| kinds(fields, traits, layers));
    // What linear layers beside it take where they state nothing.
    let dim = attention.v_head_dim();
    let of_linear = Heads { query: heads, key_value: heads, dim, value: dim };
    let mut mixers = others(fields, hidden, of_linear, &kinds);
    let small = u64::from(query_rank) + u64::from(kv_lora_rank);
    let small = small
        + if fields.flag("attention_bias", false) {
            u64::from(query_rank) + u64::from(hidden)
        } else {
            0
        };
    let near = counted(&kinds, Kind::Near);
    if near > 0 {
        fields.unpriced(format!("windows of {near} layers of latent attention, priced as full"));
    }
    let mut full = counted(&kinds, Kind::Full) + near;
    if let Some(read) = fields.maybe(&["index_topk"], 1, MAX_WINDOW) {
        let heads = fields.count("index_n_heads", MAX_HEADS);
        let width = fields.count("index_head_dim", MAX_HEAD_DIM);
        let own = index_layers(fields, full);
        for (layers, own) in [(own, true), (full.saturating_sub(own), false)] {
            let index = Index { heads, width, own, ratio: 1 };
            let weights = index.weights(query_rank, hidden);
            if layers > 0 {
                mixers.push(Mixer {
                    layers,
                    mixing: Mixing::Attention {
                        shape: attention.clone(),
                        reach: Reach::Sparse(read),
                        index: Some(index),
                    },
                    extra: if own { 0_i64.saturating_add_unsigned(weights) } else { 0 },
                    small: small + if own { 2 * u64::from(width) } else { 0 },
                });
            }
        }
        full = 0;
    }
    Mixed { attention, attention_layers: full, mixers, small }
}

/// Layers that choose tokens by themselves; the others take the choice of one before.
fn index_layers(fields: &mut Fields<'_>, layers: u32) -> u32 {
    for name in ["index_share_for_mtp_iteration", "index_topk_pattern"] {
        // They change nothing of the main model, so they are not to be listed as unread.
        fields.take(name);
    }
    let every = fields.count_or("index_topk_freq", 1, 1, MAX_LAYERS).max(1);
    let first = fields.count_or("index_skip_topk_offset", 0, 0, MAX_LAYERS);
    let kinds = fields.texts("indexer_types");
    if kinds.is_empty() {
        return layers.min(first) + layers.saturating_sub(first) / every;
    }
    let full = kinds.iter().take(layers as usize).filter(|kind| **kind == "full").count();
    u32::try_from(full).unwrap_or(layers)
}

/// Attention of one shared stream with a window, compressed entries before it, and an index over
/// those of ratio 4 (DeepSeek-V4, `inference/model.py` of its repository).
fn compressed(fields: &mut Fields<'_>, hidden: u32, layers: u32) -> Mixed {
    let heads = fields.any_count(HEADS, MAX_HEADS);
    let head_dim = fields.any_count(HEAD_DIM, MAX_HEAD_DIM);
    let q_lora_rank = fields.count("q_lora_rank", MAX_WIDTH);
    let o_groups = fields.count("o_groups", MAX_HEADS);
    let o_lora_rank = fields.count("o_lora_rank", MAX_WIDTH);
    let near = fields.count("sliding_window", MAX_WINDOW);
    let read = fields.count("index_topk", MAX_WINDOW);
    let index_heads = fields.count("index_n_heads", MAX_HEADS);
    let index_width = fields.count("index_head_dim", MAX_HEAD_DIM);
    for name in [KEY_VALUE_HEADS, &["qk_rope_head_dim"]].concat() {
        fields.take(name);
    }
    let ratios = fields.numbers("compress_ratios");
    if ratios.len() < layers as usize {
        let detail =
            format!("compress_ratios has {} entries; the model has {layers} layers", ratios.len());
        fields.problem("compress_ratios", "consistency", detail);
    }
    let shape = Attention::Shared { heads, head_dim, q_lora_rank, o_groups, o_lora_rank };
    let [d, w, iw, ih, rank] =
        [hidden, head_dim, index_width, index_heads, q_lora_rank].map(u64::from);
    // Norms of the query's rank and of the stream, and a sink of every head.
    let small = rank + w + u64::from(heads);
    // Entries of ratio 4 overlap, so that two projections stand for one.
    let overlap = |ratio: u64| if ratio == 4 { 2 } else { 1 };
    let matrices = |width: u64, ratio: u64| 2 * d * overlap(ratio) * width;
    let vectors = |width: u64, ratio: u64| ratio * overlap(ratio) * width + width;
    let kinds: Vec<u64> = ratios.iter().copied().take(layers as usize).collect();
    let mut distinct = kinds.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let mixers = distinct.into_iter().map(|ratio| {
        let count = kinds.iter().filter(|one| **one == ratio).count();
        let indexed = ratio == 4;
        let of_index = if indexed { rank * ih * iw + d * ih + matrices(iw, ratio) } else { 0 };
        let extra = if ratio > 0 { matrices(w, ratio) + of_index } else { 0 };
        let further = if ratio > 0 { vectors(w, ratio) } else { 0 };
        let further = further + if indexed { vectors(iw, ratio) } else { 0 };
        let entry = u32::try_from(ratio).unwrap_or(u32::MAX);
        Mixer {
            layers: u32::try_from(count).unwrap_or(layers),
            mixing: Mixing::Attention {
                shape: shape.clone(),
                reach: if ratio == 0 {
                    Reach::Window(near)
                } else {
                    Reach::Compressed { ratio: entry, window: near, read: indexed.then_some(read) }
                },
                index: indexed.then_some(Index {
                    heads: index_heads,
                    width: index_width,
                    own: true,
                    ratio: entry.max(1),
                }),
            },
            extra: 0_i64.saturating_add_unsigned(extra),
            small: small + further,
        }
    });
    Mixed { mixers: mixers.collect(), attention: shape, attention_layers: 0, small }
}

/// Blocks with a state of fixed size.
fn others(fields: &mut Fields<'_>, hidden: u32, heads: Heads, kinds: &[Kind]) -> Vec<Mixer> {
    type Read = fn(&mut Fields<'_>, u32, Heads) -> (Mixing, u64);
    let readers: [(Kind, Read); 3] =
        [(Kind::Linear, linear), (Kind::Mamba, mamba), (Kind::Convolution, convolution)];
    let mut found = Vec::new();
    for (kind, read) in readers {
        let layers = counted(kinds, kind);
        if layers > 0 {
            let (mixing, small) = read(fields, hidden, heads);
            found.push(Mixer { layers, mixing, extra: 0, small });
        }
    }
    found
}

/// Linear attention: gated delta rule (Qwen3-Next, Qwen3.5), KDA (Kimi Linear), lightning (`MiniMax`).
fn linear(fields: &mut Fields<'_>, hidden: u32, heads: Heads) -> (Mixing, u64) {
    let d = u64::from(hidden);
    if let Some(config) = fields.object("linear_attn_config") {
        return kda(fields, d, heads, config);
    }
    if !fields.has("linear_num_value_heads") {
        // Queries, keys, values, an output gate and the output; one norm.
        let width = heads.query_width();
        let mixing = Mixing::Recurrent {
            state: width * u64::from(heads.dim),
            convolution: 0,
            matrices: 5 * d * width,
            inner: inner(width),
        };
        return (mixing, width);
    }
    let [keys, key_width, values, value_width] = [
        "linear_num_key_heads",
        "linear_key_head_dim",
        "linear_num_value_heads",
        "linear_value_head_dim",
    ]
    .map(|name| u64::from(fields.count(name, MAX_HEADS)));
    let kernel = u64::from(fields.count_or("linear_conv_kernel_dim", 4, 1, MAX_HEADS));
    let value = values * value_width;
    let channels = 2 * keys * key_width + value;
    // Queries, keys, values, the gate z, two scalars a head, and the output.
    let matrices = d * (channels + value + 2 * values) + value * d;
    let mixing = Mixing::Recurrent {
        state: value * key_width,
        convolution: (kernel.max(1) - 1) * channels,
        matrices,
        inner: inner(value),
    };
    (mixing, channels * kernel + 2 * values + value_width)
}

/// Kimi Delta Attention, after `fla.layers.kda` and the modelling code of Kimi Linear.
fn kda(
    fields: &mut Fields<'_>,
    d: u64,
    heads: Heads,
    config: &serde_json::Map<String, serde_json::Value>,
) -> (Mixing, u64) {
    let mut own = Fields::new(config, "/linear_attn_config");
    let count = u64::from(own.count_or("num_heads", heads.query, 1, MAX_HEADS));
    let width = u64::from(own.count_or("head_dim", heads.dim, 1, MAX_HEAD_DIM));
    let kernel = u64::from(own.count_or("short_conv_kernel_size", 4, 1, MAX_HEADS)).max(1);
    let full = own.flag("use_full_rank_gate", false);
    fields.absorb(own);
    let all = count * width;
    // The decay through a rank of one head; the output gate through the same, or whole.
    let ranked = d * width + width * all;
    let gate = if full { d * all } else { ranked };
    let mixing = Mixing::Recurrent {
        state: all * width,
        convolution: (kernel - 1) * 3 * all,
        matrices: 4 * d * all + ranked + gate + d * count,
        inner: inner(all),
    };
    // Convolutions, one decay a head, its bias, and the norm of the output.
    (mixing, 3 * all * kernel + count + all + width)
}

/// Mamba 2 where it states heads, else Mamba 1 with norms (Jamba).
fn mamba(fields: &mut Fields<'_>, hidden: u32, _: Heads) -> (Mixing, u64) {
    let d = u64::from(hidden);
    let count = fields.maybe(&["mamba_num_heads", "mamba_n_heads"], 1, MAX_HEADS);
    let expand = fields.maybe(&["expand", "mamba_expand"], 1, MAX_HEADS).unwrap_or(2);
    let kernel = fields.maybe(&["conv_kernel", "mamba_d_conv"], 1, MAX_HEADS).unwrap_or(4);
    let kernel = u64::from(kernel).max(1);
    let biased = fields.maybe_flag(&["use_conv_bias", "mamba_conv_bias"]).unwrap_or(true);
    let projected = fields.flag("mamba_proj_bias", false);
    if let Some(count) = count {
        let usual = (u64::from(expand) * d / u64::from(count.max(1))).min(u64::from(MAX_HEAD_DIM));
        let width = fields.maybe(&["mamba_head_dim", "mamba_d_head"], 1, MAX_HEAD_DIM);
        let width = width.map_or(usual, u64::from);
        let state = fields.any_count(&["ssm_state_size", "mamba_d_state"], MAX_HEAD_DIM);
        let groups = fields.maybe(&["n_groups", "mamba_n_groups"], 1, MAX_HEADS).unwrap_or(1);
        let [count, state, groups] = [count, state, groups].map(u64::from);
        let width = count * width;
        let channels = width + 2 * groups * state;
        let mixing = Mixing::Recurrent {
            state: width * state,
            convolution: (kernel - 1) * channels,
            matrices: d * (width + channels + count) + width * d,
            inner: inner(width),
        };
        let biases = if projected { width + channels + count + d } else { 0 };
        let convolved = channels * kernel + if biased { channels } else { 0 };
        return (mixing, convolved + 3 * count + width + biases);
    }
    let state = u64::from(fields.count("mamba_d_state", MAX_HEAD_DIM));
    let rank = fields.maybe(&["mamba_dt_rank"], 1, MAX_WIDTH);
    let rank = rank.map_or(d.div_ceil(16), u64::from);
    let width = u64::from(expand) * d;
    let mixing = Mixing::Recurrent {
        state: width * state,
        convolution: (kernel - 1) * width,
        matrices: 2 * d * width + width * (rank + 2 * state) + rank * width + width * d,
        inner: inner(width),
    };
    let biases = if projected { 2 * width + d } else { 0 };
    let convolved = width * kernel + if biased { width } else { 0 };
    // Steps' bias, decays, the direct path, and norms of steps and of both projections of the state.
    (mixing, convolved + width + width * state + width + rank + 2 * state + biases)
}

/// A gated short convolution (LFM2).
fn convolution(fields: &mut Fields<'_>, hidden: u32, _: Heads) -> (Mixing, u64) {
    let d = u64::from(hidden);
    let kernel = u64::from(fields.count_or("conv_L_cache", 3, 1, MAX_HEADS)).max(1);
    let mixing = Mixing::Recurrent {
        state: 0,
        convolution: (kernel - 1) * d,
        matrices: 4 * d * d,
        inner: hidden,
    };
    (mixing, d * kernel)
}

fn inner(width: u64) -> u32 {
    u32::try_from(width).unwrap_or(MAX_INTERMEDIATE).min(MAX_INTERMEDIATE)
}
