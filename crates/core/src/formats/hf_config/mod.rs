//! A model's published `config.json` (Hugging Face), as a [`Model`].
//!
//! The structure that the fields state decides (`structure`, `mixing`), whatever the family; the
//! family, said by `model_type` or recognised by fields, settles norms, biases and defaults that no
//! field names (`traits`). What the model has and no law prices is listed, and so are fields that
//! decide neither cost nor size. All problems are reported at once, each with the JSON pointer of
//! the field.

mod common;
mod families;
mod fields;
mod mixing;
mod quantization;
mod structure;
mod traits;

use serde_json::{Map, Value};

use crate::model::Model;
use crate::system::Quantization;
use crate::violation::Violation;
use fields::Fields;
use traits::Traits;

/// What was read from a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadConfig {
    /// The model; its name is the configuration's `name` or `_name_or_path`, else its family's.
    pub model: Model,
    /// The family's name, as in [`FAMILIES`], or the `model_type` that is not among them.
    pub family: String,
    /// Number formats of the checkpoint's weights, where it says so.
    pub quantization: Option<Quantization>,
    /// What the model has and no law prices.
    pub not_priced: Vec<String>,
    /// What was guessed.
    pub guessed: Option<String>,
    /// Fields that were not needed, in the order they were given; nested ones dotted.
    pub ignored: Vec<String>,
}

/// How a family's configurations are read.
#[derive(Clone, Copy)]
enum Reader {
    /// By structure.
    Decoder(Traits),
    /// By a function of its own.
    Own(fn(&mut Fields<'_>) -> Model),
}

/// A family of configurations that is read alike.
#[derive(Clone, Copy)]
pub struct Family {
    /// The values of `model_type`.
    pub model_types: &'static [&'static str],
    /// The family's name for people.
    pub name: &'static str,
    reader: Reader,
}

const fn family(
    model_types: &'static [&'static str],
    name: &'static str,
    traits: Traits,
) -> Family {
    Family { model_types, name, reader: Reader::Decoder(traits) }
}

const fn own(
    model_types: &'static [&'static str],
    name: &'static str,
    read: fn(&mut Fields<'_>) -> Model,
) -> Family {
    Family { model_types, name, reader: Reader::Own(read) }
}

/// Every family, by the `model_type` of its configurations.
pub const FAMILIES: [Family; 38] = [
    family(&["mixtral"], "Mixtral", traits::PLAIN),
    family(&["qwen2_moe"], "Qwen2-MoE", traits::QWEN2),
    family(&["qwen3_moe"], "Qwen3-MoE", traits::QWEN3),
    family(&["qwen3_vl_moe", "qwen3_vl_moe_text"], "Qwen3-VL-MoE", traits::QWEN3),
    family(&["qwen3_next"], "Qwen3-Next", traits::QWEN3_5),
    family(&["qwen3_5_moe", "qwen3_5_moe_text"], "Qwen3.5-MoE", traits::QWEN3_5),
    family(&["deepseek_v2"], "DeepSeek-V2", traits::DEEPSEEK_V2),
    family(&["deepseek_v3"], "DeepSeek-V3", traits::DEEPSEEK_V3),
    family(&["deepseek_v32"], "DeepSeek-V3.2", traits::DEEPSEEK_V3),
    family(&["deepseek_v4"], "DeepSeek-V4", traits::SCORED),
    family(&["kimi_k2"], "Kimi-K2", traits::DEEPSEEK_V3),
    family(&["kimi_linear"], "Kimi Linear", traits::SCORED),
    family(&["glm_moe_dsa"], "GLM-5", traits::DEEPSEEK_V3),
    family(&["glm4_moe"], "GLM-4-MoE", traits::GLM4),
    family(&["glm4_moe_lite"], "GLM-4-MoE-Lite", traits::SCORED),
    family(&["minimax_m2"], "MiniMax-M2", traits::MINIMAX),
    family(&["minimax_m3"], "MiniMax-M3", traits::MINIMAX),
    family(&["minimax_m1", "minimax"], "MiniMax-M1", traits::PLAIN),
    family(&["olmoe"], "OLMoE", traits::OLMOE),
    family(&["gpt_oss"], "gpt-oss", traits::GPT_OSS),
    family(&["llama4", "llama4_text"], "Llama 4", traits::LLAMA4),
    family(&["gemma4", "gemma4_text"], "Gemma 4", traits::GEMMA4),
    family(&["phimoe"], "Phi-MoE", traits::PHIMOE),
    family(&["nemotron_h"], "Nemotron-H", traits::SCORED),
    family(&["step3p5", "step3p7"], "Step-3.5", traits::STEP),
    family(&["hunyuan_v1_moe"], "Hunyuan", traits::NORMED),
    family(&["dots1"], "dots.llm1", traits::SCORED_AND_NORMED),
    family(&["ernie4_5_moe"], "ERNIE-4.5", traits::SCORED),
    family(&["exaone_moe"], "EXAONE-MoE", traits::SCORED_AND_NORMED),
    family(&["bailing_moe", "bailing_moe_v2"], "Ling", traits::SCORED),
    family(&["longcat_flash"], "LongCat-Flash", traits::LONGCAT),
    family(&["jamba"], "Jamba", traits::PLAIN),
    family(&["dbrx"], "DBRX", traits::PLAIN),
    family(&["grok-1"], "Grok-1", traits::PLAIN),
    family(&["arctic"], "Arctic", traits::PLAIN),
    own(&["switch_transformers"], "Switch", families::switch),
    own(&["nllb-moe", "nllb_moe"], "NLLB-MoE", families::nllb),
    own(&["llama_moe"], "LLaMA-MoE", families::llama_moe),
];

/// Objects in which wrappers of several models keep the language model.
const WRAPPED: [&str; 3] = ["text_config", "llm_config", "language_config"];

/// Parts of a wrapper that see or hear.
const BESIDE: [&str; 5] =
    ["vision_config", "audio_config", "vision_tower", "projector_config", "vision_model"];

/// Reads the fields of a `config.json`.
pub fn read(config: &Map<String, Value>) -> Result<ReadConfig, Vec<Violation>> {
    let mut top = Fields::new(config, "");
    let outer = top.take("model_type").and_then(Value::as_str).unwrap_or_default();
    let inside = WRAPPED.iter().find_map(|name| Some((*name, config.get(*name)?.as_object()?)));
    let (name, mut fields) = match inside {
        Some((name, object)) => {
            top.take(name);
            (name, Fields::new(object, &format!("/{name}")))
        }
        None => ("", Fields::new(config, "")),
    };
    let inner = fields.text("model_type").unwrap_or(None).unwrap_or_default();
    let known = [inner, outer].into_iter().find_map(by_type);
    let recognised = recognise(&fields);
    let alike = known.or(recognised.and_then(by_type));
    let named = if inner.is_empty() { outer } else { inner };
    let guessed = match (known, alike) {
        (Some(_), _) => None,
        (None, alike) => Some(guess(named, alike)),
    };
    let reader = alike.map_or(Reader::Decoder(traits::PLAIN), |family| family.reader);
    let mut model = match reader {
        Reader::Decoder(traits) => structure::read(&mut fields, &traits),
        Reader::Own(read) => read(&mut fields),
    };
    if !name.is_empty() {
        // The wrapper's word counts, where it says so.
        model.tied_embeddings = top.flag("tie_word_embeddings", model.tied_embeddings);
    }
    let quantization = quantization::read(&mut top, &mut fields);
    multi_token_prediction(&mut fields, &mut model);
    if model.hash_layers > 0 {
        fields.unpriced(format!(
            "{} layers choose experts by the token's id (num_hash_layers), whose forecast is exact",
            model.hash_layers
        ));
    }
    for beside in BESIDE {
        if top.take(beside).or(fields.take(beside)).is_some() {
            fields
                .unpriced(format!("the part of {beside}, which is no part of the language model"));
        }
        // Known to mean nothing in both, where they are the same object.
        fields.take(beside);
    }
    unread(&mut fields);
    let nested: Vec<String> = if name.is_empty() {
        Vec::new()
    } else {
        fields.unused().map(|(field, _)| format!("{name}.{field}")).collect()
    };
    let own_name = [&mut top, &mut fields].into_iter().find_map(Fields::name);
    let unused: Vec<String> = match name {
        "" => fields.unused().map(|(field, _)| field.to_owned()).collect(),
        _ => top.unused().map(|(field, _)| field.to_owned()).collect(),
    };
    top.absorb(fields);
    let (problems, not_priced) = top.noted();
    if !problems.is_empty() {
        return Err(problems);
    }
    let family = match (known, alike) {
        (None, _) if !named.is_empty() => named,
        (_, Some(family)) => family.name,
        (_, None) => "unnamed",
    };
    let family = family.to_owned();
    // Engines know a wrapper by its own type, and its language model by the same.
    let class = if outer.is_empty() { inner } else { outer };
    let class = class.trim_end_matches("_text").to_owned();
    let model = Model { name: own_name.unwrap_or_else(|| family.clone()), class, ..model };
    let mut ignored = nested;
    ignored.extend(unused);
    Ok(ReadConfig { model, family, quantization, not_priced, guessed, ignored })
}

fn by_type(model_type: &str) -> Option<&'static Family> {
    static ALL: [Family; 38] = FAMILIES;
    ALL.iter().find(|family| family.model_types.contains(&model_type))
}

/// Says what stands in for a family that is not named, or not known.
fn guess(model_type: &str, alike: Option<&Family>) -> String {
    let what = if model_type.is_empty() {
        "model_type is missing".to_owned()
    } else {
        format!("model_type \"{model_type}\" is not known")
    };
    let rest = alike.map_or_else(
        || "norms and biases, which no field states, are assumed absent".to_owned(),
        |family| format!("norms and biases, which no field states, are those of {}", family.name),
    );
    format!("{what}: the model is read by the structure that its fields state, and {rest}")
}

/// The model type that fields of only one family give away.
fn recognise(fields: &Fields<'_>) -> Option<&'static str> {
    let has = |name: &str| fields.has(name);
    Some(match () {
        () if has("interleave_moe_layer_step") || has("attention_chunk_size") => "llama4",
        () if has("num_sparse_encoder_layers") => "switch_transformers",
        () if has("encoder_sparse_step") => "nllb-moe",
        () if has("num_selects") => "llama_moe",
        () if has("compress_ratios") => "deepseek_v4",
        () if has("zero_expert_num") => "longcat_flash",
        () if has("layers_block_type") || has("hybrid_override_pattern") => "nemotron_h",
        () if has("top_k_experts") => "gemma4",
        () if has("linear_attn_config") => "kimi_linear",
        () if has("kv_lora_rank") && has("index_topk") => "glm_moe_dsa",
        () if has("kv_lora_rank") && has("topk_method") => "deepseek_v3",
        () if has("kv_lora_rank") && has("q_lora_rank") => "deepseek_v2",
        () if has("linear_num_value_heads") => "qwen3_5_moe",
        () if has("sparse_attention_config") || has("dense_intermediate_size") => "minimax_m3",
        () if has("attn_type_list") => "minimax_m1",
        () if has("attn_layer_period") => "jamba",
        () if has("share_expert_dim") => "step3p7",
        () if has("moe_layer_start_index") => "ernie4_5_moe",
        () if has("shared_expert_intermediate_size") => "qwen2_moe",
        () if has("num_experts") && has("moe_intermediate_size") => "qwen3_moe",
        () if has("num_local_experts") && has("swiglu_limit") => "gpt_oss",
        () if has("num_local_experts") && has("lm_head_bias") => "phimoe",
        () if has("num_local_experts") => "mixtral",
        () if has("num_experts") && has("num_experts_per_tok") => "olmoe",
        () => return None,
    })
}

/// How the note of layers that draft tokens begins; they are priced where a question speculates.
pub const MULTI_TOKEN_PREDICTION: &str = "multi-token prediction";

/// Counts layers that predict further tokens, and names their weights.
fn multi_token_prediction(fields: &mut Fields<'_>, model: &mut Model) {
    let names = ["num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers"];
    let counts = names.map(|name| fields.count_or(name, 0, 0, common::MAX_LAYERS));
    for name in [
        "mtp_layers_block_type",
        "mtp_transformer_layers",
        "mtp_use_dedicated_embeddings",
        "use_mtp",
    ] {
        fields.take(name);
    }
    let Some((name, layers)) = names.iter().zip(counts).find(|(_, layers)| *layers > 0) else {
        return;
    };
    model.mtp_layers = layers;
    let each = model.drafting_layer(model.experts.routed);
    fields.unpriced(format!(
        "{MULTI_TOKEN_PREDICTION}: {layers} × about {:.1} B further weights ({name}), unless \
         `workload.speculative` is stated",
        each as f64 / 1e9
    ));
}

/// Notes every field that carries cost where it is present, and that nothing read.
fn unread(fields: &mut Fields<'_>) {
    let costly = |name: &str| {
        if name.contains("rope") {
            return false;
        }
        ["linear_", "mamba_", "index_", "compress_", "sparse_", "swa_", "hc_", "attn_res_"]
            .iter()
            .any(|start| name.starts_with(start))
            || ["_latent_size", "_window", "shared_expert", "shared_experts"]
                .iter()
                .any(|part| name.contains(part))
            || [
                "layer_types",
                "attn_type_list",
                "zero_expert_num",
                "num_kv_shared_layers",
                "hidden_size_per_layer_input",
                "cross_attention_layers",
                "use_cla",
                "use_double_wide_mlp",
            ]
            .contains(&name)
    };
    // Formats, orders of computation and constants of training that carry none.
    let free = ["mamba_ssm_dtype", "mamba_ssm_cache_dtype", "mamba_hidden_act", "mamba_proj_bias"];
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    let found: Vec<String> = fields
        .unused()
        .filter(|(name, value)| {
            costly(name) && !free.contains(name) && !name.ends_with("_overlap") && says(value)
        })
        .map(|(name, _)| name.to_owned())
        .collect();
    for name in found {
        fields.take(&name);
        fields.unpriced(format!("{name}, which nothing reads"));
    }
}

#[cfg(test)]
mod tests;
