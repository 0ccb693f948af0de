//! Configurations of models that fleets run: what is read of them, and what a question makes of it.

use std::path::Path;

use moe_gps_core::formats::hf_config::{self, ReadConfig};
use moe_gps_core::memory::weight_bytes;
use serde_json::{Map, Value, json};

use crate::asking::{advise, known, result, result_of};
use crate::devices;
use crate::support::{Answer, TestApp};

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
            json!({"phase": "decode", "batch_size": 128, "kv_length": 4096, "quantization": "int4"}),
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
    let weights = answer["plan"]["memory"]["weights_bytes"].as_f64().unwrap();
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

async fn post(app: &TestApp, document: &Value) -> Answer {
    app.post_json("/v1/models", document, &[]).await
}

#[tokio::test]
async fn a_registered_model_is_listed_shown_asked_about_and_deleted() {
    let app = TestApp::start_advising().await;
    let model = json!({"id": "ours", "config": config("minimax-m3")});
    let kept = post(&app, &model).await;
    assert_eq!(kept.status, 201, "{:?}", kept.json());
    assert_eq!(kept.header("location"), "/v1/models/ours");
    assert_eq!(kept.json()["parameters"]["computed"], 426_174_572_928_u64);
    assert_eq!(post(&app, &model).await.status, 200);
    assert_eq!(app.get("/v1/models/ours").await.json(), kept.json());
    let listed = app.get("/v1/models").await.json();
    let ids: Vec<_> = listed["items"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert!(ids.contains(&&json!("ours")) && ids.contains(&&json!("glm-5")));

    let mut question = devices::question(&json!("h200-sxm"));
    question["model"] = json!("ours");
    question["cluster"]["devices"] = json!(8);
    let by_name = app.ask_and_wait(&question).await.json();
    assert_eq!(by_name["result"]["provenance"]["model"]["moe_layers"], 57);

    // The fields of a config.json with an id among them, as Python writes them.
    let mut plain = config("dbrx-instruct");
    plain["id"] = json!("mine");
    plain["limit"] = json!("INF");
    let text = plain.to_string().replace("\"INF\"", "[0.0, Infinity]");
    let request =
        axum::http::Request::post("/v1/models").header("content-type", "application/json");
    let kept = app.send(request.body(axum::body::Body::from(text)).unwrap()).await;
    assert_eq!(kept.status, 201, "{:?}", kept.json());

    let other = json!({"id": "ours", "config": config("glm-5")});
    post(&app, &other).await.problem(409, "conflict");
    let shipped = json!({"id": "glm-5", "config": config("glm-5")});
    post(&app, &shipped).await.problem(409, "conflict");
    let problem = post(&app, &json!({"id": "No", "config": {"hidden_size": 0}})).await;
    let problem = problem.problem(422, "invalid-model");
    let places: Vec<_> =
        problem["violations"].as_array().unwrap().iter().map(|v| &v["pointer"]).collect();
    assert!(places.contains(&&json!("/id")) && places.contains(&&json!("/config/hidden_size")));
    post(&app, &json!([])).await.problem(422, "invalid-model");

    assert_eq!(app.call("DELETE", "/v1/models/ours").await.status, 204);
    app.get("/v1/models/ours").await.problem(404, "not-found");
    app.call("DELETE", "/v1/models/glm-5").await.problem(409, "conflict");
}

#[test]
fn shipped_models_answer_to_the_names_of_their_checkpoints() {
    for (name, id) in [
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3"),
        ("moonshotai/Kimi-K2-Instruct", "kimi-k2"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("zai-org/GLM-5.1", "glm-5"),
        ("MiniMaxAI/MiniMax-M2.7", "minimax-m2.5"),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "nemotron-3-nano-30b-a3b"),
        ("qwen/qwen3.5_397b_a17b", "qwen3.5-397b-a17b"),
    ] {
        let catalog = moe_gps_core::catalog::Catalog::embedded();
        assert_eq!(catalog.model(name).unwrap().id, id, "{name}");
    }
    let mut unknown = asked(&json!("a-model-of-tomorrow"));
    unknown["workload"]["dtypes"] = json!({"kv": "torch.float8_e4m3fn"});
    let refused = format!("{:?}", advise(&unknown, &known(&[])).unwrap_err());
    assert!(refused.contains("config.json") && !refused.contains("dtypes"), "{refused}");
}

#[test]
fn the_format_of_a_shipped_checkpoint_is_the_default() {
    let mut question = asked(&json!("openai/gpt-oss-120b"));
    question["cluster"] = json!({"device": "a100-sxm4-80gb", "devices": 1, "link": "nvlink3"});
    question["workload"]["batch_size"] = json!(16);
    let answer = result(&question);
    assert_eq!(answer["strategies"][0]["feasible"], true, "{answer}");
    let model = &answer["provenance"]["model"];
    assert_eq!(
        (&model["formats"]["experts"], &model["formats"]["rest"]),
        (&json!("mxfp4"), &json!("bf16"))
    );
    let bytes = model["weight_bytes"].as_f64().unwrap();
    assert!((bytes / 1e9 - 65.2).abs() < 0.1, "{bytes}");
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("no product of mxfp4 weights with bf16 was measured"), "{warnings}");
}

#[test]
fn narrower_weights_are_never_slower() {
    for workload in [
        json!({"phase": "decode", "batch_size": 128, "kv_length": 4096}),
        json!({"phase": "prefill", "batch_size": 8, "sequence_length": 2048}),
    ] {
        let [wide, narrow @ ..] = ["bf16", "fp8", "int4", "mxfp4"].map(|format| {
            let mut question = asked(&json!("qwen3-235b-a22b"));
            question["workload"] = workload.clone();
            question["workload"]["quantization"] = json!(format);
            let terms = &result(&question)["strategies"][0]["terms"];
            ["expert_ffn_s", "attention_s"].map(|term| terms[term].as_f64().unwrap())
        });
        for times in narrow {
            let slower = wide.iter().zip(&times).any(|(wide, narrow)| *narrow > wide * 1.000_001);
            assert!(!slower, "{wide:?} {times:?}");
        }
        assert!(narrow[0][0] < wide[0], "{wide:?} {narrow:?}");
    }
}

#[test]
fn the_rack_is_one_domain_of_72() {
    let mut question = asked(&json!("deepseek-v3"));
    question["cluster"] = json!({"device": "gb300", "devices": 64, "link": "nvl72"});
    question["workload"]["batch_size"] = json!(4096);
    assert!(result(&question)["strategies"][0]["layer_latency_s"].is_number());
    question["cluster"]["devices"] = json!(144);
    question["duplication"] = json!({"slots_per_device": 2});
    let refused = format!("{:?}", advise(&question, &known(&[])).unwrap_err());
    assert!(refused.contains("144 devices stand in 2 nodes"), "{refused}");
}

#[test]
fn the_command_line_shows_what_is_read_of_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, config("deepseek-v3.2").to_string()).unwrap();
    let program = env!("CARGO_BIN_EXE_moe-gps");
    let check = ["catalog", "check", file.to_str().unwrap()];
    let output = std::process::Command::new(program).args(check).output().unwrap();
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("671877944064") && shown.contains("multi-token prediction"), "{shown}");
}
