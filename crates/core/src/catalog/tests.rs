use std::collections::BTreeSet;
use std::path::Path;

use crate::catalog::*;
use crate::engines::{LIST, unnamed};
use crate::formats::hf_config;
use crate::model::{Attention, Model, RoutingGroups};

fn catalog() -> &'static Catalog {
    Catalog::embedded()
}

/// The ids of the contract.
const MODEL_IDS: [&str; 46] = [
    "dbrx",
    "deepseek-v2-lite",
    "deepseek-v3",
    "deepseek-v3.2",
    "deepseek-v4-flash",
    "deepseek-v4-pro",
    "dots.llm1",
    "ernie-4.5-300b-a47b",
    "gemma-4-26b-a4b",
    "glm-4.5",
    "glm-5",
    "glm-5.2",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "hunyuan-a13b",
    "jamba-1.5-large",
    "kimi-k2",
    "kimi-k2.5",
    "kimi-k3",
    "llama-4-maverick",
    "llama-4-scout",
    "llama-moe-3.5b-2-8",
    "llama-moe-3.5b-4-16",
    "longcat-flash",
    "minimax-m1",
    "minimax-m2.5",
    "minimax-m3",
    "mixtral-8x22b",
    "mixtral-8x7b",
    "nemotron-3-nano-30b-a3b",
    "nemotron-3-ultra-550b-a55b",
    "olmoe-1b-7b",
    "phi-3.5-moe",
    "qwen1.5-moe-a2.7b",
    "qwen3-235b-a22b",
    "qwen3-30b-a3b",
    "qwen3-coder-480b-a35b",
    "qwen3-vl-235b-a22b",
    "qwen3-vl-30b-a3b",
    "qwen3.5-122b-a10b",
    "qwen3.5-35b-a3b",
    "qwen3.5-397b-a17b",
    "step-3.7-flash",
    "switch-base-128",
    "switch-base-16",
    "switch-base-8",
];

/// Models whose published figure leaves the gates' noise weights out.
const INEXACT: [&str; 2] = ["llama-moe-3.5b-2-8", "llama-moe-3.5b-4-16"];

#[test]
fn every_model_of_the_contract_is_there() {
    let ids: Vec<_> = catalog().models().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, MODEL_IDS);
}

#[test]
fn computed_parameters_match_the_published_ones() {
    for entry in catalog().models() {
        let check = check::check_model(entry);
        assert_eq!(check.problems, Vec::<String>::new(), "{}", entry.id);
        let parameters = check.parameters.unwrap();
        // Many are published to the million or to the billion.
        let is_rounded = parameters.published.is_multiple_of(1_000_000);
        if INEXACT.contains(&entry.id.as_str()) || is_rounded {
            assert!(parameters.error().abs() < 0.001, "{}: {parameters:?}", entry.id);
        } else {
            assert_eq!(parameters.computed, parameters.published, "{}", entry.id);
        }
    }
}

#[test]
fn active_parameters_are_near_the_names_they_give() {
    let active = |id: &str| {
        catalog().model(id).unwrap().value.model.parameters().active_per_token as f64 / 1e9
    };
    // As published: Mixtral 12.9B, Qwen3 3.3B and 22B, DeepSeek-V3 37B, OLMoE 1.3B,
    // Phi-3.5-MoE 6.6B, Qwen1.5-MoE 2.7B, Llama 4 17B, Kimi-K2 32B, LLaMA-MoE 3.5B.
    for (id, billions) in [
        ("mixtral-8x7b", 12.9),
        ("qwen3-30b-a3b", 3.3),
        ("qwen3-235b-a22b", 22.0),
        ("deepseek-v3", 37.0),
        ("olmoe-1b-7b", 1.3),
        ("phi-3.5-moe", 6.6),
        ("qwen1.5-moe-a2.7b", 2.7),
        ("llama-4-maverick", 17.0),
        ("llama-4-scout", 17.0),
        ("kimi-k2", 32.0),
        ("llama-moe-3.5b-4-16", 3.5),
    ] {
        assert!((active(id) / billions - 1.0).abs() < 0.04, "{id}: {}", active(id));
    }
}

#[test]
fn every_device_of_the_contract_is_there() {
    assert!(catalog().unreadable().next().is_none());
    let ids: Vec<_> = catalog().devices().map(|entry| entry.id.as_str()).collect();
    let contract = [
        "a100-sxm4-40gb",
        "a100-sxm4-80gb",
        "ascend-910b",
        "ascend-910c",
        "b200-sxm",
        "b300-sxm",
        "gb200",
        "gb300",
        "h100-sxm",
        "h20",
        "h200-sxm",
        "h800-sxm",
        "l40s",
        "mi300x",
        "mi355x",
        "rtx-pro-6000",
    ];
    assert_eq!(ids, contract);
    let a100 = &catalog().device("a100-sxm4-80gb").unwrap().value;
    assert!((a100.memory.get() - 81_920.0 * 1_048_576.0).abs() < 1.0);
    assert!(catalog().device_document("h200-sxm").unwrap()["stack"].is_array());
}

#[test]
fn every_link_of_the_contract_has_its_numbers() {
    let contract = [
        ("hccs", 196e9),
        ("ib200", 25e9),
        ("ib400", 50e9),
        ("nvl72", 900e9),
        ("nvlink3", 300e9),
        ("nvlink4", 450e9),
        ("nvlink4-h800", 200e9),
        ("nvlink5", 900e9),
        ("pcie4", 32e9),
        ("pcie5", 64e9),
        ("xgmi3", 448e9),
        ("xgmi4", 537.6e9),
    ];
    let found: Vec<_> =
        catalog().links().map(|entry| (entry.id.as_str(), entry.value.bandwidth.get())).collect();
    assert_eq!(found, contract);
    for id in ["nvlink3", "pcie4"] {
        let latency = catalog().link(id).unwrap().value.latency.get();
        assert!((latency - 8.92e-6).abs() < 1e-12);
    }
}

#[test]
fn nothing_in_the_catalog_is_amiss() {
    for entry in check::check(catalog()) {
        assert_eq!(entry.problems, Vec::<String>::new(), "{} {}", entry.kind, entry.id);
    }
}

#[test]
fn a_wrong_count_and_a_missing_source_are_found() {
    let mut entry = catalog().model("mixtral-8x7b").unwrap().clone();
    entry.value.published.as_mut().unwrap().parameters = 46_000_000_000;
    entry.sources.remove("/config");
    let problems = check::check_model(&entry).problems;
    assert_eq!(
        problems,
        [
            "no source for /config",
            "46702792704 parameters computed, 46000000000 published: +1.53 %, more than 1 % apart"
        ]
    );
    let mut link = catalog().link("nvlink3").unwrap().clone();
    link.value.bandwidth = crate::units::BytesPerSecond::new(-1.0);
    link.sources.insert("/latency_s".to_owned(), " ".to_owned());
    assert_eq!(check::check_link(&link).problems.len(), 2);
}

#[test]
fn the_list_names_every_file_of_the_folders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut listed: Vec<_> =
        files::ALL.into_iter().flatten().map(|(path, _)| (*path).to_owned()).collect();
    let mut found = Vec::new();
    for kind in ["models", "devices", "links"] {
        for file in std::fs::read_dir(root.join("catalog").join(kind)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            found.push(format!("catalog/{kind}/{name}"));
        }
    }
    listed.sort();
    found.sort();
    assert_eq!(listed, found);
}

#[test]
fn an_unknown_id_is_answered_with_the_nearest() {
    let error = catalog().model("mixtral-8x7").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no model has the id \"mixtral-8x7\"; did you mean \"mixtral-8x7b\"?"
    );
    let error = catalog().link("string and two cans").unwrap_err().to_string();
    assert!(
        error.ends_with(
            "the catalog has hccs, ib200, ib400, nvl72, nvlink3, nvlink4, nvlink4-h800, nvlink5, pcie4, \
             pcie5, xgmi3, xgmi4"
        )
    );
}

#[test]
fn the_digest_follows_every_byte() {
    let digest_of = |text| digest([&[("catalog/a.toml", text)], &[], &[]]);
    assert_eq!(catalog().digest().len(), 64);
    assert_ne!(digest_of("id = 1"), digest_of("id = 2"));
    assert_ne!(digest([&[("a", "bc")], &[], &[]]), digest([&[("ab", "c")], &[], &[]]));
}

#[test]
fn shapes_that_differ_between_families_are_read_right() {
    let model = |id: &str| &catalog().model(id).unwrap().value.model;
    let maverick = model("llama-4-maverick");
    assert_eq!((maverick.moe_layers, maverick.dense_layers), (24, 24));
    assert_eq!(maverick.attention.window(), Some((8192, 36)));
    assert_eq!(model("llama-4-scout").moe_layers, 48);
    assert_eq!(model("gpt-oss-120b").attention.window(), Some((128, 18)));
    assert_eq!(model("phi-3.5-moe").attention.window(), None);
    let deepseek = model("deepseek-v3");
    assert_eq!((deepseek.moe_layers, deepseek.dense_layers), (58, 3));
    assert_eq!(deepseek.experts.groups, Some(RoutingGroups { groups: 8, per_token: 4 }));
    assert_eq!(model("kimi-k2").experts.groups, None);
    assert_eq!(model("deepseek-v2-lite").experts.shared_intermediate, 2816);
    assert_eq!(model("llama-moe-3.5b-4-16").experts.intermediate, 688);
    assert_eq!(model("llama-moe-3.5b-2-8").experts.intermediate, 1376);
    let switch = model("switch-base-8");
    assert_eq!((switch.moe_layers, switch.dense_layers), (12, 12));
    assert_eq!(switch.cross_attention_layers, 12);
    assert!(!switch.experts.gated && switch.experts.top_k == 1 && switch.tied_embeddings);
    assert!(matches!(
        model("qwen3-30b-a3b").attention,
        Attention::Grouped { heads: 32, kv_heads: 4, head_dim: 128, .. }
    ));
}

/// Configurations as published, with all their other fields, by the id of the catalog.
const PUBLISHED_CONFIGS: [(&str, &str); 12] = [
    ("deepseek-v2-lite", include_str!("../../../../tests/fixtures/configs/deepseek-v2-lite.json")),
    ("deepseek-v3", include_str!("../../../../tests/fixtures/configs/deepseek-v3.json")),
    ("gpt-oss-20b", include_str!("../../../../tests/fixtures/configs/gpt-oss-20b.json")),
    ("kimi-k2", include_str!("../../../../tests/fixtures/configs/kimi-k2.json")),
    ("llama-4-maverick", include_str!("../../../../tests/fixtures/configs/llama-4-maverick.json")),
    (
        "llama-moe-3.5b-4-16",
        include_str!("../../../../tests/fixtures/configs/llama-moe-3.5b-4-16.json"),
    ),
    ("mixtral-8x7b", include_str!("../../../../tests/fixtures/configs/mixtral-8x7b.json")),
    ("olmoe-1b-7b", include_str!("../../../../tests/fixtures/configs/olmoe-1b-7b.json")),
    ("phi-3.5-moe", include_str!("../../../../tests/fixtures/configs/phi-3.5-moe.json")),
    (
        "qwen1.5-moe-a2.7b",
        include_str!("../../../../tests/fixtures/configs/qwen1.5-moe-a2.7b.json"),
    ),
    ("qwen3-30b-a3b", include_str!("../../../../tests/fixtures/configs/qwen3-30b-a3b.json")),
    ("switch-base-8", include_str!("../../../../tests/fixtures/configs/switch-base-8.json")),
];

#[test]
fn a_whole_published_configuration_reads_like_the_catalog_entry() {
    for (id, text) in PUBLISHED_CONFIGS {
        let config: Value = serde_json::from_str(text).unwrap();
        let read = hf_config::read(config.as_object().unwrap()).unwrap();
        let entry = catalog().model(id).unwrap();
        let named = Model { name: id.to_owned(), ..read.model };
        assert_eq!(named, entry.value.model, "{id}");
        assert!(read.ignored.contains(&"architectures".to_owned()), "{id}");
        assert_eq!(read.family, entry.value.family);
    }
}

#[test]
fn a_published_configuration_without_its_type_is_still_recognised() {
    for (id, text) in PUBLISHED_CONFIGS {
        let mut config: Value = serde_json::from_str(text).unwrap();
        config.as_object_mut().unwrap().remove("model_type");
        let read = hf_config::read(config.as_object().unwrap()).unwrap();
        let shipped = &catalog().model(id).unwrap().value.model;
        let named = Model { name: id.to_owned(), class: shipped.class.clone(), ..read.model };
        assert_eq!(&named, shipped, "{id}");
    }
}

/// The stack that prices a layer on every device: of vLLM, SGLang, TensorRT-LLM, vllm-ascend, and
/// where no engine is named.
const STACKS: [(&str, [&str; 5]); 16] = [
    ("a100-sxm4-40gb", ["default"; 5]),
    ("a100-sxm4-80gb", ["vllm", "sglang", "tensorrt-llm", "vllm", "tensorrt-llm"]),
    ("ascend-910b", ["roofline"; 5]),
    ("ascend-910c", ["roofline"; 5]),
    ("b200-sxm", ["vllm", "sglang", "tensorrt-llm", "vllm", "vllm"]),
    ("b300-sxm", ["roofline"; 5]),
    ("gb200", ["vllm", "sglang", "tensorrt-llm", "vllm", "vllm"]),
    ("gb300", ["roofline"; 5]),
    ("h100-sxm", ["vllm", "sglang", "tensorrt-llm", "vllm", "vllm"]),
    ("h20", ["roofline"; 5]),
    ("h200-sxm", ["vllm", "sglang", "tensorrt-llm", "vllm", "vllm"]),
    ("h800-sxm", ["roofline"; 5]),
    ("l40s", ["vllm", "sglang", "tensorrt-llm", "vllm", "vllm"]),
    ("mi300x", ["roofline"; 5]),
    ("mi355x", ["roofline"; 5]),
    ("rtx-pro-6000", ["roofline"; 5]),
];

#[test]
fn every_engine_finds_its_stack_on_every_device() {
    let found: Vec<_> = catalog()
        .devices()
        .map(|entry| {
            let stack = |engine| entry.value.default_stack(engine).unwrap().name.as_str();
            let names: Vec<_> = LIST.iter().copied().chain([&unnamed::ENGINE]).map(stack).collect();
            (entry.id.as_str(), names.try_into().unwrap())
        })
        .collect();
    assert_eq!(found, STACKS);
}

#[test]
fn every_alias_leads_to_one_entry() {
    let catalog = catalog();
    let ids = catalog.ids().concat();
    let mut seen: BTreeSet<&str> = ids.iter().copied().collect();
    for (id, aliases) in aliases::ALIASES {
        assert!(ids.contains(id), "{id}");
        for alias in *aliases {
            assert!(seen.insert(alias), "{alias} is another name already");
            assert_eq!(names::resolve(alias, &ids), Some(*id), "{alias}");
        }
    }
}

#[test]
fn memory_is_what_drivers_report() {
    for (device, mebibytes) in [
        ("a100-sxm4-40gb", 40_960.0),
        ("a100-sxm4-80gb", 81_920.0),
        ("h100-sxm", 81_559.0),
        ("h200-sxm", 143_771.0),
        ("h20", 97_871.0),
        ("l40s", 46_068.0),
        ("b200-sxm", 183_359.0),
        ("gb200", 189_471.0),
        ("mi300x", 196_608.0),
    ] {
        let memory = catalog().device(device).unwrap().value.memory.get();
        assert!((memory - mebibytes * 1_048_576.0).abs() < 1.0, "{device}: {memory}");
    }
}
