//! Reading fields of a configuration: every field asked for is remembered, every
//! problem is kept, so that one reading names them all.
//!
//! A count that is missing or wrong is noted and read as 0; what is derived from it is
//! thrown away together with it, since any problem refuses the whole configuration.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::violation::Violation;

/// The fields of one configuration object.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    at: &'static str,
    used: BTreeSet<&'a str>,
    problems: Vec<Violation>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Map<String, Value>, at: &'static str) -> Self {
        Self { object, at, used: BTreeSet::new(), problems: Vec::new() }
    }

    /// Notes a problem at `name`.
    pub(super) fn problem(&mut self, name: &str, rule: &'static str, detail: String) {
        let pointer = format!("{}/{name}", self.at);
        self.problems.push(Violation::new(pointer, rule, detail));
    }

    /// Looks a field up and counts it as used; null is as good as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a Value> {
        let (name, value) = self.object.get_key_value(name)?;
        self.used.insert(name);
        (!value.is_null()).then_some(value)
    }

    /// A required whole number from 1 to `max`.
    pub(super) fn count(&mut self, name: &str, max: u32) -> u32 {
        if let Some(value) = self.take(name) {
            return self.whole(name, value, 1, max);
        }
        let detail = format!("{name} is missing; state a whole number from 1 to {max}");
        self.problem(name, "required", detail);
        0
    }

    /// A whole number from `min` to `max`, `default` where absent or null.
    pub(super) fn count_or(&mut self, name: &str, default: u32, min: u32, max: u32) -> u32 {
        match self.take(name) {
            Some(value) => self.whole(name, value, min, max),
            None => default,
        }
    }

    fn whole(&mut self, name: &str, value: &Value, min: u32, max: u32) -> u32 {
        let Some(number) = value.as_number() else {
            let detail = format!("{name} is {}; it must be a whole number", kind(value));
            self.problem(name, "type", detail);
            return 0;
        };
        let fits = number.as_u64().and_then(|number| u32::try_from(number).ok());
        match fits {
            Some(count) if (min..=max).contains(&count) => count,
            _ => {
                let fraction = number.is_f64() && number.as_f64().is_some_and(|n| n.fract() != 0.0);
                let rule = if fraction { "type" } else { "range" };
                let detail =
                    format!("{name} is {number}; it must be a whole number from {min} to {max}");
                self.problem(name, rule, detail);
                0
            }
        }
    }

    /// A truth value, `default` where absent or null.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        match self.take(name) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                let detail = format!("{name} is {}; it must be true or false", kind(other));
                self.problem(name, "type", detail);
                default
            }
        }
    }

    /// A text; `Err` where the field holds something else (noted).
    pub(super) fn text(&mut self, name: &str) -> Result<Option<&'a str>, ()> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                let detail = format!("{name} is {}; it must be a text", kind(other));
                self.problem(name, "type", detail);
                Err(())
            }
        }
    }

    /// A list of layer numbers or flags, empty where absent or null.
    pub(super) fn numbers(&mut self, name: &str) -> Vec<u64> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let list = value.as_array();
        let numbers: Option<Vec<u64>> =
            list.and_then(|items| items.iter().map(Value::as_u64).collect());
        numbers.unwrap_or_else(|| {
            let detail = format!("{name} must be a list of whole numbers from 0 up");
            self.problem(name, "type", detail);
            Vec::new()
        })
    }

    /// A list of texts, empty where absent or null.
    pub(super) fn texts(&mut self, name: &str) -> Vec<&'a str> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let texts: Option<Vec<&str>> =
            value.as_array().and_then(|items| items.iter().map(Value::as_str).collect());
        texts.unwrap_or_else(|| {
            let detail = format!("{name} must be a list of texts");
            self.problem(name, "type", detail);
            Vec::new()
        })
    }

    /// Whether a field is given and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|value| !value.is_null())
    }

    /// The first of `names` that is given, else the first.
    pub(super) fn given<'n>(&self, names: &[&'n str]) -> &'n str {
        let named = names.iter().find(|name| self.has(name)).or(names.first());
        named.copied().unwrap_or("")
    }

    /// The model type that fields of only one family give away.
    pub(super) fn telltale(&self) -> Option<&'static str> {
        let has = |name: &str| self.object.contains_key(name);
        Some(match () {
            () if has("text_config") || has("interleave_moe_layer_step") => "llama4",
            () if has("num_sparse_encoder_layers") => "switch_transformers",
            () if has("num_selects") => "llama_moe",
            () if has("kv_lora_rank") && has("topk_method") => "deepseek_v3",
            () if has("kv_lora_rank") && has("q_lora_rank") => "deepseek_v2",
            () if has("shared_expert_intermediate_size") => "qwen2_moe",
            () if has("num_experts") && has("moe_intermediate_size") => "qwen3_moe",
            () if has("num_local_experts") && has("swiglu_limit") => "gpt_oss",
            () if has("num_local_experts") && has("lm_head_bias") => "phimoe",
            () if has("num_local_experts") => "mixtral",
            () if has("num_experts") && has("num_experts_per_tok") => "olmoe",
            () => return None,
        })
    }

    /// The configuration's own name, if it has one.
    pub(super) fn name(&mut self) -> Option<String> {
        ["name", "_name_or_path"].iter().find_map(|field| {
            let text = self.take(field)?.as_str()?.trim();
            (!text.is_empty()).then(|| text.chars().take(120).collect())
        })
    }

    /// Names of the fields nobody asked for.
    pub(super) fn unused(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.object.keys().map(String::as_str).filter(|name| !self.used.contains(name))
    }

    /// Takes over the problems of a nested object.
    pub(super) fn absorb(&mut self, nested: Fields<'_>) {
        self.problems.extend(nested.problems);
    }

    /// All problems so far.
    pub(super) fn problems(&self) -> Vec<Violation> {
        self.problems.clone()
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
