use serde_json::json;

use crate::formats::hf_config::*;

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

fn mixtral() -> Value {
    json!({
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 32000, "intermediate_size": 14336, "num_local_experts": 8,
        "num_experts_per_tok": 2, "sliding_window": null, "max_position_embeddings": 32768,
        "tie_word_embeddings": false, "rope_theta": 1e6, "torch_dtype": "bfloat16"
    })
}

/// The problems of Mixtral's configuration with some fields replaced.
fn problems(changes: &Value) -> Vec<(String, String)> {
    let mut config = mixtral();
    for (name, value) in object(changes) {
        config[name] = value.clone();
    }
    let problems = read(object(&config)).unwrap_err();
    assert!(problems.iter().all(|problem| !problem.detail.is_empty()));
    problems.into_iter().map(|problem| (problem.pointer, problem.rule)).collect()
}

fn at(pointer: &str, rule: &str) -> (String, String) {
    (pointer.to_owned(), rule.to_owned())
}

#[test]
fn a_real_configuration_is_read_and_the_rest_is_listed() {
    let config = read(object(&mixtral())).unwrap();
    assert_eq!(config.family, "Mixtral");
    assert_eq!(config.model.name, "Mixtral");
    assert_eq!(config.model.parameters().total, 46_702_792_704);
    assert_eq!(config.ignored, ["architectures", "rope_theta", "torch_dtype"]);
}

#[test]
fn a_configuration_without_model_type_is_recognised() {
    let mut config = mixtral();
    config.as_object_mut().unwrap().remove("model_type");
    assert_eq!(read(object(&config)).unwrap().family, "Mixtral");
    let problems = read(object(&json!({"hidden_size": 1}))).unwrap_err();
    let named: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(
        named,
        [
            "/num_hidden_layers",
            "/vocab_size",
            "/num_attention_heads",
            "/num_local_experts",
            "/num_experts_per_tok",
            "/intermediate_size",
        ]
    );
    assert!(problems.iter().all(|problem| problem.rule == "required"));
}

#[test]
fn an_unknown_family_is_read_by_its_structure_and_said_to_be() {
    let mut config = mixtral();
    config["model_type"] = json!("maxtral");
    let read = read(object(&config)).unwrap();
    assert_eq!((read.family.as_str(), read.model.parameters().total), ("maxtral", 46_702_792_704));
    assert!(read.guessed.unwrap().contains("\"maxtral\" is not known"));
    assert_eq!(problems(&json!({"model_type": 7})), [at("/model_type", "type")]);
}

#[test]
fn names_of_one_thing_must_agree() {
    let mut config = mixtral();
    config["num_experts"] = json!(8);
    assert_eq!(read(object(&config)).unwrap().model.experts.routed, 8);
    assert_eq!(problems(&json!({"num_experts": 16})), [at("/num_experts", "consistency")]);
    let list = json!({"layer_types": vec!["linear_attention"; 32], "attn_type_list": vec![1; 32]});
    assert_eq!(problems(&list), [at("/attn_type_list", "consistency")]);
    let list = json!({"layer_types": ["full_attention"]});
    assert_eq!(problems(&list), [at("/layer_types", "consistency")]);
}

#[test]
fn windowed_layers_may_have_heads_of_their_own() {
    let mut config = mixtral();
    for (name, value) in [
        ("model_type", json!("mimo_v2_flash")),
        ("hybrid_layer_pattern", json!([0, 1, 1, 1].repeat(8))),
        ("sliding_window", json!(128)),
        ("head_dim", json!(192)),
        ("v_head_dim", json!(128)),
        ("num_key_value_heads", json!(4)),
        ("swa_num_key_value_heads", json!(8)),
        ("swa_head_dim", json!(192)),
        ("swa_v_head_dim", json!(128)),
    ] {
        config[name] = value;
    }
    let model = read(object(&config)).unwrap().model;
    // 8 full layers of 4 heads and 24 windowed ones of 8, keys of 192 and values of 128.
    assert!((model.kv_bytes_per_token() - f64::from(8 * 4 * 320 * 2)).abs() < 0.5);
    let windows = f64::from(24 * 8 * 320 * 128 * 2);
    assert!((model.state_bytes_per_sequence() - windows).abs() < 0.5);
    assert_eq!(model.parameters().attention_per_layer, 4096 * 36 * 320);
}

#[test]
fn what_carries_cost_and_is_not_read_is_named() {
    let mut config = mixtral();
    for (name, value) in
        [("index_extra", json!(4)), ("foo_latent_size", json!(0)), ("num_mtp_modules", json!(1))]
    {
        config[name] = value;
    }
    config["vision_config"] = json!({"depth": 2});
    let read = read(object(&config)).unwrap();
    assert_eq!(read.not_priced.len(), 3, "{:?}", read.not_priced);
    assert!(read.not_priced[0].contains("num_mtp_modules"));
    assert!(read.not_priced[1].contains("vision_config"));
    assert!(read.not_priced[2].starts_with("index_extra"));
    assert!(!read.ignored.contains(&"index_extra".to_owned()));
}

#[test]
fn formats_of_a_checkpoint_are_read_apart() {
    use crate::system::Dtype::{Bf16, Fp8Block, Int4, Mxfp4, Nvfp4};
    let of = |quantization: Value| {
        let mut config = mixtral();
        config["quantization_config"] = quantization;
        let found = read(object(&config)).unwrap().quantization.unwrap();
        (found.experts, found.rest)
    };
    let block = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    assert_eq!(of(block), (Fp8Block, Fp8Block));
    let mxfp4 =
        json!({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]});
    assert_eq!(of(mxfp4), (Mxfp4, Bf16));
    let packed = |weights: Value, ignore: Value| {
        json!({"quant_method": "compressed-tensors", "ignore": ignore,
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}})
    };
    let int4 = json!({"num_bits": 4, "type": "int", "group_size": 32});
    assert_eq!(of(packed(int4, json!(["lm_head", "re:.*self_attn.*"]))), (Int4, Bf16));
    let nvfp4 = json!({"num_bits": 4, "type": "float", "group_size": 16});
    assert_eq!(of(packed(nvfp4, json!(["lm_head"]))), (Nvfp4, Nvfp4));
    let mixed = json!({"quant_method": "fp8", "weight_block_size": [128, 128], "ignore": ["*.attn.*"],
        "moe_quant_algo": "NVFP4", "quant_algo": "MIXED_PRECISION"});
    assert_eq!(of(mixed), (Nvfp4, Fp8Block));
}

#[test]
fn all_problems_are_named_at_once() {
    let found = problems(&json!({
        "hidden_size": -4096, "num_hidden_layers": 1e300, "num_attention_heads": "32",
        "vocab_size": null, "num_local_experts": 0, "num_experts_per_tok": 2.5,
        "tie_word_embeddings": "no", "intermediate_size": 9_223_372_036_854_775_808_u64
    }));
    assert_eq!(
        found,
        [
            at("/hidden_size", "range"),
            at("/num_hidden_layers", "range"),
            at("/vocab_size", "required"),
            at("/tie_word_embeddings", "type"),
            at("/num_attention_heads", "type"),
            at("/num_local_experts", "range"),
            at("/num_experts_per_tok", "type"),
            at("/intermediate_size", "range"),
        ]
    );
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    let consistency = |pointer| [at(pointer, "consistency")];
    assert_eq!(problems(&json!({"num_experts_per_tok": 9})), consistency("/num_experts_per_tok"));
    assert_eq!(problems(&json!({"num_key_value_heads": 5})), consistency("/num_key_value_heads"));
    assert_eq!(problems(&json!({"num_attention_heads": 24})), consistency("/num_attention_heads"));
    let config = json!({
        "model_type": "deepseek_v3", "hidden_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 8, "kv_lora_rank": 64, "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16, "v_head_dim": 32, "vocab_size": 100, "n_routed_experts": 8,
        "num_experts_per_tok": 4, "moe_intermediate_size": 64, "first_k_dense_replace": 3,
        "intermediate_size": 256, "n_group": 3, "topk_group": 1
    });
    let pointers: Vec<_> =
        read(object(&config)).unwrap_err().into_iter().map(|problem| problem.pointer).collect();
    assert_eq!(pointers, ["/n_group", "/first_k_dense_replace"]);
}

#[test]
fn a_nested_configuration_has_nested_pointers() {
    let config = json!({"model_type": "llama4", "vision_config": {}, "text_config": {
        "model_type": "llama4_text", "hidden_size": 0, "rope_theta": 5e5
    }});
    let problems = read(object(&config)).unwrap_err();
    assert_eq!(problems[0].pointer, "/text_config/hidden_size");
    assert!(problems.iter().all(|problem| problem.pointer.starts_with("/text_config/")));
}

#[test]
fn the_largest_counts_do_not_overflow() {
    let config = json!({
        "model_type": "qwen2_moe", "hidden_size": 131_072, "num_hidden_layers": 1000,
        "num_attention_heads": 4096, "num_key_value_heads": 4096, "head_dim": 4096,
        "vocab_size": 16_777_216, "num_experts": 16_384, "num_experts_per_tok": 16_384,
        "moe_intermediate_size": 524_288, "shared_expert_intermediate_size": 524_288
    });
    let total = read(object(&config)).unwrap().model.parameters().total;
    assert!(total > 1 << 61 && total < 1 << 63);
}

proptest::proptest! {
    #[test]
    fn any_numbers_are_answered_without_panic(
        hidden: i64, layers in -1_i64..1001, heads in -1_i64..5000, experts: i64, top_k: u64,
        family in 0..FAMILIES.len()
    ) {
        let config = json!({
            "model_type": FAMILIES[family].model_types[0], "hidden_size": hidden, "d_model": hidden,
            "num_hidden_layers": layers, "num_layers": layers, "num_attention_heads": heads,
            "num_heads": heads, "num_local_experts": experts, "num_experts": experts,
            "n_routed_experts": experts, "num_experts_per_tok": top_k, "num_selects": top_k,
            "n_group": layers, "topk_group": heads, "first_k_dense_replace": layers,
            "interleave_moe_layer_step": layers, "vocab_size": heads, "intermediate_size": heads
        });
        if let Ok(config) = read(object(&config)) {
            proptest::prop_assert!(config.model.parameters().total > 0);
        }
    }
}
