//! The catalog as bodies of answers.

use serde::Serialize;
use serde_json::Value;

use crate::catalog::Catalog;
use crate::catalog::check::check_model;
use crate::domain::hardware::Link;
use crate::domain::model::{Attention, Experts};
use crate::formats::catalog_entry::CatalogEntry;
use crate::formats::model_toml::ModelSheet;
use crate::wire::catalog::{
    AttentionBody, ExpertsBody, LinkBody, LinkList, ModelBody, ModelList, ParametersBody, Sources,
};

/// Source of the figures that follow from a configuration.
const COMPUTED: &str = "computed from the configuration by the formula of docs/catalog.md";

/// All models.
#[must_use]
pub fn list_models(catalog: &Catalog) -> ModelList {
    ModelList { items: catalog.models().iter().map(model_body).collect() }
}

/// All links.
#[must_use]
pub fn list_links(catalog: &Catalog) -> LinkList {
    LinkList { items: catalog.links().iter().map(link_body).collect() }
}

/// One model.
#[must_use]
pub fn model_body(entry: &CatalogEntry<ModelSheet>) -> ModelBody {
    let ModelSheet { model, family, config, published, .. } = &entry.value;
    let counts = model.parameters();
    let error = check_model(entry).parameters.map_or(f64::NAN, |check| check.error());
    let parameters = ParametersBody {
        published: published.parameters,
        published_excludes: published.excluded.clone(),
        computed: counts.total,
        computed_error: error,
        active_per_token: counts.active_per_token,
        attention_per_layer: counts.attention_per_layer,
        cross_attention_per_layer: counts.cross_attention_per_layer,
        router_per_layer: counts.router_per_layer,
        routed_expert: counts.routed_expert,
        shared_experts_per_layer: counts.shared_experts_per_layer,
        dense_ffn_per_layer: counts.dense_ffn_per_layer,
        norms_per_layer: counts.norms_per_layer,
        embeddings: counts.embeddings,
        outside_layers: counts.outside_layers,
    };
    let body = ModelBody {
        id: entry.id.clone(),
        name: entry.name.clone(),
        family: (*family).to_owned(),
        hidden_size: model.hidden_size,
        vocabulary_size: model.vocabulary,
        tied_embeddings: model.tied_embeddings,
        layers: model.layers(),
        moe_layers: model.moe_layers,
        dense_layers: model.dense_layers,
        dense_intermediate_size: model.dense_intermediate,
        cross_attention_layers: model.cross_attention_layers,
        attention: attention_body(&model.attention),
        experts: experts_body(&model.experts),
        kv_elements_per_token_and_layer: model.attention.kv_width(),
        parameters,
        config: config.clone(),
        sources: Sources::new(),
    };
    let stated = |pointer: &str| entry.sources.get(pointer).map_or("", String::as_str);
    let sources = sources_of_numbers(&body, |pointer| match pointer {
        "/parameters/published" => stated("/published/parameters"),
        "/kv_elements_per_token_and_layer" => COMPUTED,
        _ if pointer.starts_with("/parameters/") => COMPUTED,
        _ => stated("/config"),
    });
    ModelBody { sources, ..body }
}

/// One link.
#[must_use]
pub fn link_body(entry: &CatalogEntry<Link>) -> LinkBody {
    LinkBody {
        id: entry.id.clone(),
        name: entry.name.clone(),
        bandwidth_bytes_per_s: entry.value.bandwidth.get(),
        latency_s: entry.value.latency.get(),
        sources: entry.sources.clone(),
    }
}

fn attention_body(attention: &Attention) -> AttentionBody {
    match *attention {
        Attention::Grouped { heads, kv_heads, head_dim, sliding_window, windowed_layers } => {
            AttentionBody::Grouped {
                heads,
                kv_heads,
                head_size: head_dim,
                window_tokens: sliding_window,
                windowed_layers,
            }
        }
        Attention::Latent {
            heads,
            q_lora_rank,
            kv_lora_rank,
            qk_nope_head_dim,
            qk_rope_head_dim,
            v_head_dim,
        } => AttentionBody::Latent {
            heads,
            query_rank: q_lora_rank,
            kv_rank: kv_lora_rank,
            nope_head_size: qk_nope_head_dim,
            rope_head_size: qk_rope_head_dim,
            value_head_size: v_head_dim,
        },
    }
}

fn experts_body(experts: &Experts) -> ExpertsBody {
    ExpertsBody {
        routed: experts.routed,
        top_k: experts.top_k,
        intermediate_size: experts.intermediate,
        gated: experts.gated,
        shared_intermediate_size: experts.shared_intermediate,
        routing_groups: experts.groups.map(|groups| groups.groups),
        routing_groups_per_token: experts.groups.map(|groups| groups.per_token),
    }
}

/// Names a source for every number of a body, by the number's JSON pointer.
fn sources_of_numbers<'a>(body: &impl Serialize, source: impl Fn(&str) -> &'a str) -> Sources {
    let mut pointers = Vec::new();
    let body = serde_json::to_value(body).unwrap_or(Value::Null);
    collect_numbers(&body, String::new(), &mut pointers);
    pointers.into_iter().map(|pointer| (pointer.clone(), source(&pointer).to_owned())).collect()
}

/// Collects the JSON pointers of all numbers below `value`.
fn collect_numbers(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Number(_) => pointers.push(at),
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect_numbers(value, format!("{at}/{name}"), pointers);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect_numbers(value, format!("{at}/{index}"), pointers);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_number_has_a_source(body: &impl Serialize) {
        let body = serde_json::to_value(body).unwrap();
        let mut pointers = Vec::new();
        collect_numbers(&body, String::new(), &mut pointers);
        assert!(!pointers.is_empty());
        for pointer in pointers {
            let source = body["sources"][&pointer].as_str().unwrap_or("");
            assert!(!source.is_empty(), "{}: {pointer}", body["id"]);
        }
    }

    #[test]
    fn every_number_of_the_catalog_has_a_source() {
        let catalog = Catalog::embedded().unwrap();
        list_models(catalog).items.iter().for_each(every_number_has_a_source);
        list_links(catalog).items.iter().for_each(every_number_has_a_source);
    }

    #[test]
    fn a_model_is_shown_with_its_counts() {
        let entry = Catalog::embedded().unwrap().model("deepseek-v3").unwrap();
        let body = serde_json::to_value(model_body(entry)).unwrap();
        assert_eq!(body["attention"]["kind"], "latent");
        assert_eq!(body["attention"]["kv_rank"], 512);
        assert_eq!(body["experts"]["routing_groups"], 8);
        assert_eq!(body["parameters"]["computed"], 671_026_419_200_u64);
        assert_eq!(body["config"]["n_routed_experts"], 256);
        assert!(body["sources"]["/parameters/published"].as_str().unwrap().contains("DeepSeek"));
    }
}
