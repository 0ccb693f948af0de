//! A model's published `config.json` (Hugging Face), as a [`Model`].
//!
//! The families that are read stand in [`FAMILIES`]; a configuration says its family by
//! `model_type`, and one that does not is recognised by the fields only one family
//! has. Fields that decide neither cost nor size are ignored and listed. All problems
//! are reported at once, each with the JSON pointer of the field.

mod common;
mod families;
mod fields;

use serde_json::{Map, Value};

use crate::model::Model;
use crate::violation::Violation;
use fields::Fields;

/// What was read from a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadConfig {
    /// The model; its name is the configuration's `name` or `_name_or_path`, else its family's.
    pub model: Model,
    /// The family's name, as in [`FAMILIES`].
    pub family: &'static str,
    /// Fields that were not needed, in the order they were given; nested ones dotted.
    pub ignored: Vec<String>,
}

type Reader = fn(&mut Fields<'_>) -> Model;

/// A family of configurations that is read alike.
pub struct Family {
    /// The value of `model_type`.
    pub model_type: &'static str,
    /// The family's name for people.
    pub name: &'static str,
    read: Reader,
}

const fn family(model_type: &'static str, name: &'static str, read: Reader) -> Family {
    Family { model_type, name, read }
}

/// Every family, by the `model_type` of its configurations.
pub const FAMILIES: [Family; 13] = [
    family("mixtral", "Mixtral", families::mixtral),
    family("qwen2_moe", "Qwen2-MoE", families::qwen2_moe),
    family("qwen3_moe", "Qwen3-MoE", families::qwen3_moe),
    family("deepseek_v2", "DeepSeek-V2", families::deepseek_v2),
    family("deepseek_v3", "DeepSeek-V3", families::deepseek_v3),
    family("kimi_k2", "Kimi-K2", families::deepseek_v3),
    family("olmoe", "OLMoE", families::olmoe),
    family("gpt_oss", "gpt-oss", families::gpt_oss),
    family("llama4", "Llama 4", families::llama4),
    family("llama4_text", "Llama 4", families::llama4),
    family("phimoe", "Phi-MoE", families::phimoe),
    family("switch_transformers", "Switch", families::switch),
    family("llama_moe", "LLaMA-MoE", families::llama_moe),
];

/// Reads the fields of a `config.json`.
pub fn read(config: &Map<String, Value>) -> Result<ReadConfig, Vec<Violation>> {
    let mut top = Fields::new(config, "");
    let family = recognise(&mut top);
    let nested = config.get("text_config").and_then(Value::as_object);
    let (model, problems, mut ignored) = match (family, nested) {
        (Some(family), Some(nested)) if family.name == "Llama 4" => {
            top.take("text_config");
            let mut fields = Fields::new(nested, "/text_config");
            fields.take("model_type");
            let model = (family.read)(&mut fields);
            let inner = fields.unused().map(|name| format!("text_config.{name}")).collect();
            top.absorb(fields);
            (model, top.problems(), inner)
        }
        (Some(family), _) => ((family.read)(&mut top), top.problems(), Vec::new()),
        (None, _) => return Err(top.problems()),
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let name = top.name();
    ignored.extend(top.unused().map(str::to_owned));
    let family = family.map_or("", |family| family.name);
    let name = name.unwrap_or_else(|| family.to_owned());
    Ok(ReadConfig { model: Model { name, ..model }, family, ignored })
}

/// Finds the family by `model_type`, or by the fields that give it away.
fn recognise(top: &mut Fields<'_>) -> Option<&'static Family> {
    let known = || FAMILIES.map(|family| family.model_type).join(", ");
    let model_type = match top.text("model_type") {
        Ok(Some(given)) => given,
        Ok(None) => {
            if let Some(guess) = top.telltale() {
                guess
            } else {
                let detail = format!(
                    "model_type is missing and the other fields do not give the family away; state one of {}",
                    known()
                );
                top.problem("model_type", "required", detail);
                return None;
            }
        }
        Err(()) => return None,
    };
    let found = FAMILIES.iter().find(|family| family.model_type == model_type);
    if found.is_none() {
        let detail = format!("model_type is \"{model_type}\"; it must be one of {}", known());
        top.problem("model_type", "choice", detail);
    }
    found
}

#[cfg(test)]
mod tests;
