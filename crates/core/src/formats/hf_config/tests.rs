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
    assert_eq!(
        read(object(&json!({"hidden_size": 1}))).unwrap_err()[0],
        Violation {
            pointer: "/model_type".to_owned(),
            rule: "required".to_owned(),
            detail: format!(
                "model_type is missing and the other fields do not give the family away; state one of {}",
                FAMILIES.map(|family| family.model_type).join(", ")
            )
        }
    );
}

#[test]
fn an_unknown_family_is_refused_by_name() {
    assert_eq!(problems(&json!({"model_type": "bert"})), [at("/model_type", "choice")]);
    assert_eq!(problems(&json!({"model_type": 7})), [at("/model_type", "type")]);
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
            "model_type": FAMILIES[family].model_type, "hidden_size": hidden, "d_model": hidden,
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
