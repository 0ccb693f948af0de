//! The catalog as bodies of answers.

use serde_json::{Map, Value};

use crate::app::question::ModelFacts;
use crate::wire::answer::ModelProvenance;
use crate::wire::catalog::{
    AttentionBody, DeviceBody, DeviceList, ExpertsBody, LinkBody, LinkList, ModelBody, ModelList,
    ParametersBody, PeakRatesBody, Sources,
};
use moe_gps_core::catalog::Catalog;
use moe_gps_core::catalog::check::check_model;
use moe_gps_core::catalog::sources::sources_of_numbers;
use moe_gps_core::formats::catalog_entry::CatalogEntry;
use moe_gps_core::formats::model_toml::ModelSheet;
use moe_gps_core::hardware::{Device, Link};
use moe_gps_core::memory::weight_bytes;
use moe_gps_core::model::{Attention, Experts, Model};
use moe_gps_core::named::name_of;
use moe_gps_core::system::{Dtype, Quantization};
use moe_gps_core::units::FlopsPerSecond;

/// Source of the figures that follow from a configuration.
const COMPUTED: &str = "computed from the configuration by the formula of docs/catalog.md";

/// All models.
#[must_use]
pub fn list_models(catalog: &Catalog) -> ModelList {
    let items = catalog.models().map(model_body).collect();
    ModelList { items, unreadable: Vec::new() }
}

/// All links.
#[must_use]
pub fn list_links(catalog: &Catalog) -> LinkList {
    LinkList { items: catalog.links().map(link_body).collect() }
}

/// All devices.
#[must_use]
pub fn list_devices(catalog: &Catalog) -> DeviceList {
    let items = catalog.devices().map(|entry| device_body(catalog, entry)).collect();
    DeviceList { items, unreadable: Vec::new() }
}

/// One model.
#[must_use]
pub fn model_body(entry: &CatalogEntry<ModelSheet>) -> ModelBody {
    let ModelSheet { model, family, config, published, not_priced, .. } = &entry.value;
    let counts = model.parameters();
    let error = check_model(entry).parameters.map(|check| check.error());
    let parameters = ParametersBody {
        published: published.as_ref().map(|published| published.parameters),
        published_excludes: published.as_ref().map(|published| published.excluded.clone()),
        computed: counts.total,
        computed_error: error,
        active_per_token: counts.active_per_token,
        attention_per_layer: counts.attention_per_layer,
        other_mixers: counts.other_mixers,
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
        family: family.clone(),
        hidden_size: model.hidden_size,
        vocabulary_size: model.vocabulary,
        tied_embeddings: model.tied_embeddings,
        layers: model.depth,
        moe_layers: model.moe_layers,
        dense_layers: model.dense_layers,
        dense_intermediate_size: model.dense_intermediate,
        cross_attention_layers: model.cross_attention_layers,
        attention: attention_body(&model.attention),
        experts: experts_body(&model.experts),
        kv_elements_per_token_and_layer: model.attention.kv_width(),
        kv_bytes_per_token: model.kv_bytes_per_token(),
        index_bytes_per_token: model.index_bytes_per_token(),
        state_bytes_per_sequence: model.state_bytes_per_sequence(),
        not_priced: not_priced.clone(),
        parameters,
        config: config.clone(),
        registered_at: None,
        sources: Sources::new(),
    };
    let stated = |pointer: &str| entry.sources.get(pointer).cloned().unwrap_or_default();
    let origins = [
        ("", stated("/config")),
        ("/parameters", COMPUTED.to_owned()),
        ("/parameters/published", stated("/published/parameters")),
        ("/kv_elements_per_token_and_layer", COMPUTED.to_owned()),
        ("/kv_bytes_per_token", COMPUTED.to_owned()),
        ("/index_bytes_per_token", COMPUTED.to_owned()),
        ("/state_bytes_per_sequence", COMPUTED.to_owned()),
    ];
    let origins = origins.map(|(pointer, source)| (pointer.to_owned(), source)).into();
    let sources = serde_json::to_value(&body)
        .map(|body| sources_of_numbers(&body, &origins))
        .unwrap_or_default();
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
        domain_devices: entry.value.domain,
        sources: entry.sources.clone(),
    }
}

/// One device: its datasheet, and the constants of its stacks as they stand in the file.
#[must_use]
pub fn device_body(catalog: &Catalog, entry: &CatalogEntry<Device>) -> DeviceBody {
    described(entry, catalog.device_document(&entry.id).unwrap_or(&Value::Null))
}

/// The same of a device whose profile is `document`.
pub(super) fn described(entry: &CatalogEntry<Device>, document: &Value) -> DeviceBody {
    let device = &entry.value;
    let empty = Map::new();
    let document = document.as_object().unwrap_or(&empty);
    let constants = document.iter().filter(|(name, value)| value.is_object() && *name != "sources");
    let body = DeviceBody {
        id: entry.id.clone(),
        name: entry.name.clone(),
        memory_bytes: device.memory.get(),
        bandwidth_bytes_per_s: device.bandwidth.get(),
        peak_flop_per_s: PeakRatesBody {
            bf16: device.peak.bf16.get(),
            fp8: device.peak.fp8.map(FlopsPerSecond::get),
            fp4: device.peak.fp4.map(FlopsPerSecond::get),
            fp32: device.peak.fp32.get(),
        },
        multiprocessors: device.multiprocessors,
        l2_bytes: device.l2.get(),
        eager_launch_s: device.eager_launch.get(),
        stacks: stacks(device, document),
        constants: constants
            .filter(|(name, _)| *name != "peak_flop_per_s")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        registered_at: None,
        sources: Sources::new(),
    };
    let sources = serde_json::to_value(&body)
        .map(|body| sources_of_numbers(&body, &entry.sources))
        .unwrap_or_default();
    DeviceBody { sources, ..body }
}

/// The stacks of the file with whatever they take of one they are like, and the engines that use each.
fn stacks(device: &Device, document: &Map<String, Value>) -> Vec<Value> {
    let mut stacks = document.get("stack").and_then(Value::as_array).cloned().unwrap_or_default();
    while let Some((at, like)) = taken_from(&stacks) {
        let Some(stack) = stacks.get_mut(at).and_then(Value::as_object_mut) else { break };
        stack.shift_remove("like");
        for (law, set) in like {
            stack.entry(law).or_insert(set);
        }
    }
    for stack in stacks.iter_mut().filter_map(Value::as_object_mut) {
        let name = stack.get("name").and_then(Value::as_str).unwrap_or_default();
        let engines = device.engines_of(name).map(|engine| engine.id.into()).collect();
        stack.insert("engines".to_owned(), Value::Array(engines));
        stack.sort_keys();
    }
    stacks
}

/// A stack that is like one that is like no other, and what it takes of that.
fn taken_from(stacks: &[Value]) -> Option<(usize, Map<String, Value>)> {
    let whole = stacks.iter().filter(|stack| stack.get("like").is_none());
    let whole: Vec<&Value> = whole.collect();
    stacks.iter().enumerate().find_map(|(at, stack)| {
        let like = stack.get("like")?;
        let found = whole.iter().find(|other| other.get("name") == Some(like))?;
        let mut laws = found.as_object()?.clone();
        laws.retain(|key, _| !matches!(key.as_str(), "name" | "kernels" | "engines"));
        Some((at, laws))
    })
}

/// A model as it was read, in these formats of weights, with those of activations and cache where a question says.
#[must_use]
pub fn model_as_read(
    model: &Model,
    facts: &ModelFacts,
    formats: Quantization,
    others: Option<(Dtype, Dtype)>,
) -> ModelProvenance {
    let counts = model.parameters();
    let mut named = vec![("experts", formats.experts), ("rest", formats.rest)];
    named.extend(others.into_iter().flat_map(|(one, kv)| [("activations", one), ("kv", kv)]));
    let name =
        |(part, of): (&'static str, Dtype)| (part.into(), name_of(&Dtype::OF_WEIGHTS, &of).into());
    ModelProvenance {
        family: facts.family.clone(),
        layers: model.depth,
        moe_layers: model.moe_layers,
        experts: model.experts.routed,
        top_k: model.experts.chosen,
        effective_top_k: model.experts.top_k,
        parameters: counts.total,
        active_per_token: counts.active_per_token,
        kv_bytes_per_token: model.kv_bytes_per_token(),
        index_bytes_per_token: model.index_bytes_per_token(),
        state_bytes_per_sequence: model.state_bytes_per_sequence(),
        weight_bytes: weight_bytes(model, formats).get(),
        formats: named.into_iter().map(name).collect(),
        not_priced: facts.not_priced.clone(),
    }
}

fn attention_body(attention: &Attention) -> AttentionBody {
    match *attention {
        Attention::Grouped {
            heads,
            kv_heads,
            head_dim,
            v_head_dim,
            sliding_window,
            windowed_layers,
        } => AttentionBody::Grouped {
            heads,
            kv_heads,
            head_size: head_dim,
            value_head_size: v_head_dim,
            window_tokens: sliding_window,
            windowed_layers,
        },
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
        Attention::Shared { heads, head_dim, q_lora_rank, o_groups, o_lora_rank } => {
            AttentionBody::Shared {
                heads,
                head_size: head_dim,
                query_rank: q_lora_rank,
                output_groups: o_groups,
                output_rank: o_lora_rank,
            }
        }
    }
}

fn experts_body(experts: &Experts) -> ExpertsBody {
    ExpertsBody {
        routed: experts.routed,
        top_k: experts.chosen,
        zero_cost: experts.zero_cost,
        latent_size: experts.latent,
        intermediate_size: experts.intermediate,
        gated: experts.gated,
        shared_intermediate_size: experts.shared_intermediate,
        routing_groups: experts.groups.map(|groups| groups.groups),
        routing_groups_per_token: experts.groups.map(|groups| groups.per_token),
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    fn every_number_has_a_source(body: &impl Serialize) {
        let mut body = serde_json::to_value(body).unwrap();
        let shown = body.as_object_mut().unwrap().remove("sources").unwrap();
        let numbers = sources_of_numbers(&body, &Sources::new());
        assert!(!numbers.is_empty());
        for pointer in numbers.keys() {
            let source = shown[pointer].as_str().unwrap_or("");
            assert!(!source.is_empty(), "{}: {pointer}", body["id"]);
        }
    }

    #[test]
    fn every_number_of_the_catalog_has_a_source() {
        let catalog = Catalog::embedded();
        list_models(catalog).items.iter().for_each(every_number_has_a_source);
        list_devices(catalog).items.iter().for_each(every_number_has_a_source);
        list_links(catalog).items.iter().for_each(every_number_has_a_source);
    }

    #[test]
    fn a_device_is_shown_with_the_constants_of_its_stacks() {
        let catalog = Catalog::embedded();
        let entry = catalog.device("h200-sxm").unwrap();
        let body = serde_json::to_value(device_body(catalog, entry)).unwrap();
        assert_eq!(body["memory_bytes"], 143_771.0 * 1_048_576.0);
        assert!(body["stacks"].as_array().is_some_and(|stacks| !stacks.is_empty()));
        assert!(body["constants"]["gemm"].is_object());
        assert!(body["constants"]["sources"].is_null());
    }

    #[test]
    fn a_model_is_shown_with_its_counts() {
        let entry = Catalog::embedded().model("deepseek-v3").unwrap();
        let body = serde_json::to_value(model_body(entry)).unwrap();
        assert_eq!(body["attention"]["kind"], "latent");
        assert_eq!(body["attention"]["kv_rank"], 512);
        assert_eq!(body["experts"]["routing_groups"], 8);
        assert_eq!(body["parameters"]["computed"], 671_026_419_200_u64);
        assert_eq!(body["config"]["n_routed_experts"], 256);
        assert!(body["sources"]["/parameters/published"].as_str().unwrap().contains("DeepSeek"));
    }
}
