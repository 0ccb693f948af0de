//! Configurations of models that fleets run: what is read of them, and what a question makes of it.

use std::path::Path;

use moe_gps_core::formats::hf_config::{self, ReadConfig};
use moe_gps_core::memory::weight_bytes;
use serde_json::{Map, Value, json};

use crate::asking::{known, result, result_of};

/// The fields that matter of a model of every family, with exact counts.
fn fleet() -> Map<String, Value> {
    serde_json::from_str(include_str!("../fixtures/fleet.json")).unwrap()
}

fn config(name: &str) -> Value {
    fleet()[name]["config"].clone()
}

fn read(config: &Value) -> ReadConfig {
    hf_config::read(config.as_object().unwrap()).unwrap()
}

#[test]
fn every_family_is_read_to_the_unit() {
    for (name, row) in fleet() {
        let found = read(&row["config"]);
        let (model, counts) = (&found.model, found.model.parameters());
        let of = |field: &str| row["read"][field].as_f64();
        for (field, value) in [
            ("layers", f64::from(model.depth)),
            ("moe_layers", f64::from(model.moe_layers)),
            ("experts", f64::from(model.experts.routed)),
            ("top_k", f64::from(model.experts.chosen)),
            ("parameters", counts.total as f64),
            ("kv_bytes_per_token", model.kv_bytes_per_token()),
            ("index_bytes_per_token", model.index_bytes_per_token()),
            ("state_bytes_per_sequence", model.state_bytes_per_sequence()),
        ] {
            if let Some(right) = of(field) {
                assert!((value - right).abs() < 0.5, "{name} {field}: {value}, not {right}");
            }
        }
        if let Some(right) = of("active_billions") {
            let active = counts.active_per_token as f64 / 1e9;
            assert!((active - right).abs() < 0.0061, "{name}: {active}, not {right}");
        }
        assert_eq!(found.guessed, None, "{name}");
    }
}

#[test]
fn a_model_without_its_type_is_read_alike_and_said_to_be_guessed() {
    for (name, row) in fleet() {
        let mut stripped = row["config"].clone();
        let fields = stripped.as_object_mut().unwrap();
        fields.remove("model_type");
        if let Some(inner) = fields.get_mut("text_config").and_then(Value::as_object_mut) {
            inner.remove("model_type");
        }
        let found = read(&stripped);
        assert!(found.guessed.is_some(), "{name}");
        let bytes = (
            found.model.kv_bytes_per_token(),
            found.model.index_bytes_per_token(),
            found.model.state_bytes_per_sequence(),
        );
        let of = |field: &str| row["read"][field].as_f64().unwrap();
        let right =
            (of("kv_bytes_per_token"), of("index_bytes_per_token"), of("state_bytes_per_sequence"));
        assert_eq!(bytes, right, "{name}");
        let total = found.model.parameters().total as f64;
        if let Some(right) = row["read"]["parameters"].as_f64() {
            assert!((total / right - 1.0).abs() < 1e-3, "{name}: {total}, not {right}");
        }
    }
}

#[test]
fn special_experts_are_read() {
    let longcat = read(&config("longcat-flash")).model;
    assert_eq!((longcat.experts.zero_cost, longcat.experts.top_k), (256, 8));
    assert_eq!((longcat.mixing_blocks(), longcat.dense_beside_experts), (56, 24_576));
    let ultra = read(&config("nemotron-3-ultra-550b-a55b")).model;
    assert_eq!((ultra.experts.latent, ultra.expert_width()), (Some(2048), 2048));
    assert!(!ultra.experts.gated);
    let kimi = read(&config("kimi-k3")).model;
    assert_eq!(kimi.expert_width(), 3584);
    let routed = 92 * 896 * kimi.parameters().routed_expert;
    assert_eq!(routed, 2_722_740_830_208);
    assert_eq!(read(&config("deepseek-v4-flash")).model.hash_layers, 3);
    assert_eq!(read(&config("gemma-4-26b-a4b")).model.dense_beside_experts, 2112);
}

/// A decode question about an inline model on eight H200.
fn asked(model: &Value) -> Value {
    json!({
        "model": model,
        "cluster": {"device": "h200-sxm", "devices": 8, "link": "nvlink4"},
        "workload": {"phase": "decode", "batch_size": 128, "kv_length": 4096},
        "engine": {"name": "sglang"},
        "routing": {"skewness": 1.5},
        "flip_points": false,
    })
}

#[test]
fn every_family_is_priced() {
    for (name, row) in fleet() {
        for workload in [
            json!({"phase": "decode", "batch_size": 128, "kv_length": 4096, "quantization": "nvfp4"}),
            json!({"phase": "prefill", "batch_size": 8, "sequence_length": 2048}),
        ] {
            let mut question = asked(&row["config"]);
            question["workload"] = workload;
            let answer = result(&question);
            let model = &answer["provenance"]["model"];
            assert_eq!(model["moe_layers"], row["read"]["moe_layers"], "{name}");
            assert_eq!(
                model["kv_bytes_per_token"].as_f64(),
                row["read"]["kv_bytes_per_token"].as_f64()
            );
            let latency = answer["strategies"][0]["model_latency_s"].as_f64().unwrap();
            assert!(latency > 1e-3 && latency < 10.0, "{name}: {latency}");
        }
    }
}

#[test]
fn the_format_of_a_checkpoint_decides_what_fits() {
    let mut r1: Value =
        serde_json::from_str(include_str!("../fixtures/configs/deepseek-v3.json")).unwrap();
    r1["quantization_config"] = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    let answer = result(&asked(&r1));
    let none = &answer["strategies"][0];
    assert_eq!(none["feasible"], true, "{none}");
    let weights = none["plan"]["memory"]["weights_bytes"].as_f64().unwrap();
    assert!((weights / 1e9 - 100.8).abs() < 0.1, "{weights}");
    let formats = &answer["provenance"]["model"]["formats"];
    assert_eq!(
        formats,
        &json!({"experts": "fp8_block", "rest": "fp8_block", "activations": "bf16", "kv": "bf16"})
    );
    // What is stated wins, and is said to.
    let mut wide = asked(&r1);
    wide["workload"]["quantization"] = json!("bf16");
    let answer = result_of(&wide, &known(&[]));
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("fp8_block") && warnings.contains("win"), "{warnings}");
    assert_eq!(answer["strategies"][0]["feasible"], false);
}

#[test]
fn sizes_in_memory_are_those_of_the_files() {
    let gigabytes = |name: &str, quantization: Value| {
        let mut config = match name {
            "gpt-oss-20b" => {
                serde_json::from_str(include_str!("../fixtures/configs/gpt-oss-20b.json")).unwrap()
            }
            name => config(name),
        };
        config["quantization_config"] = quantization;
        let found = read(&config);
        weight_bytes(&found.model, found.quantization.unwrap()).get() / 1e9
    };
    let mxfp4 =
        json!({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]});
    let block = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    let int4 = json!({"quant_method": "compressed-tensors", "ignore": ["re:.*self_attn.*"],
        "config_groups": {"group_0": {"targets": ["Linear"],
            "weights": {"num_bits": 4, "type": "int", "group_size": 32}}}});
    for (name, quantization, right) in [
        ("gpt-oss-20b", mxfp4, 13.8),
        ("kimi-k2.5", int4, 594.0),
        ("deepseek-v4-flash", block.clone(), 155.0),
        ("deepseek-v4-pro", block, 848.0),
    ] {
        let found = gigabytes(name, quantization);
        assert!((found / right - 1.0).abs() < 0.005, "{name}: {found}");
    }
}

#[test]
fn published_files_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/models");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: no {}", folder.display());
        return;
    };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut refused = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "json")) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read(file).unwrap();
        let Ok(config) = serde_json::from_slice::<Value>(&text) else { continue };
        match hf_config::read(config.as_object().unwrap()) {
            Ok(ReadConfig { model, quantization, family, .. }) => println!(
                "{name}: {family} | {}/{} | {}/{} | {:.3} ({:.2}) | {} + {} + {:.1} MB | {:.1} GB",
                model.moe_layers,
                model.depth,
                model.experts.routed,
                model.experts.chosen,
                model.parameters().total as f64 / 1e9,
                model.parameters().active_per_token as f64 / 1e9,
                model.kv_bytes_per_token(),
                model.index_bytes_per_token(),
                model.state_bytes_per_sequence() / 1e6,
                quantization.map_or(0.0, |formats| weight_bytes(&model, formats).get() / 1e9),
            ),
            Err(problems) => refused.push((name, problems)),
        }
    }
    assert!(refused.is_empty(), "{refused:?}");
}
