//! Number formats of a question: what is stated, what a device multiplies, what an engine runs.

use moe_gps::app::advisor::KnownTraces;
use serde_json::{Value, json};

use crate::asking::{entry, result, violations};

const TERMS: [&str; 6] =
    ["attention_s", "all_reduce_s", "router_s", "dispatch_s", "expert_ffn_s", "combine_s"];

fn terms(result: &Value) -> [f64; 6] {
    let terms = &entry(result, "none")["terms"];
    TERMS.map(|name| terms[name].as_f64().unwrap())
}

fn warned(result: &Value, words: &str) -> bool {
    let warnings = result["warnings"].as_array().unwrap();
    warnings.iter().any(|warning| warning.as_str().unwrap().contains(words))
}

fn bits(times: &[f64]) -> Vec<u64> {
    times.iter().map(|time| time.to_bits()).collect()
}

fn asked(model: &str, device: &str, engine: &str, workload: &Value) -> Value {
    let link = match device {
        "a100-sxm4-80gb" => "nvlink3",
        "b200-sxm" => "nvlink5",
        _ => "nvlink4",
    };
    json!({
        "model": model,
        "cluster": {"device": device, "devices": 8, "link": link},
        "engine": {"name": engine},
        "workload": workload,
        "routing": {"skewness": 1.4},
        "duplication": {"slots_per_device": 40},
        "flip_points": false,
    })
}

fn qwen(engine: &str, dtype: &Value) -> Value {
    let mut workload = json!({"phase": "prefill", "batch_size": 8, "sequence_length": 1024});
    workload.as_object_mut().unwrap().extend(dtype.as_object().unwrap().clone());
    let mut question = asked("qwen3-235b-a22b", "h200-sxm", engine, &workload);
    question["duplication"] = json!({});
    question
}

#[test]
fn a_narrow_dtype_is_that_of_the_checkpoint_alone() {
    let (wide, short, long) = (
        result(&qwen("tensorrt-llm", &json!({"dtype": "bf16"}))),
        result(&qwen("tensorrt-llm", &json!({"dtype": "fp8"}))),
        result(&qwen("tensorrt-llm", &json!({"quantization": "fp8"}))),
    );
    assert_eq!(bits(&terms(&short)), bits(&terms(&long)));
    let dtypes = &short["provenance"]["system"]["dtypes"];
    let named = |field: &str| dtypes[field].as_str().unwrap().to_owned();
    assert_eq!(["weights", "experts", "activations"].map(named), ["fp8", "fp8", "fp8"]);
    let named = |field: &str| dtypes[field].as_str().unwrap().to_owned();
    assert_eq!(["stream", "kv", "dispatch", "combine"].map(named), ["bf16"; 4]);
    let (wide, short) = (terms(&wide), terms(&short));
    let unchanged = |terms: &[f64]| bits(&[terms[1], terms[2], terms[5]]);
    assert_eq!(unchanged(&wide), unchanged(&short));
    assert!(short[4] < 0.8 * wide[4], "{short:?} {wide:?}");
}

#[test]
fn tokens_are_sent_in_eight_bits_where_the_backend_quantises_first() {
    let sent = |engine: &str, dtype: &str, backend: &str| {
        let mut question = qwen(engine, &json!({"dtype": dtype}));
        question["parallelism"] = json!({"attention_tensor": 1, "attention_data": 8});
        question["engine"]["all2all_backend"] = json!(backend);
        result(&question)["provenance"]["system"]["dtypes"]["dispatch"].as_str().unwrap().to_owned()
    };
    assert_eq!(sent("sglang", "fp8", "deepep"), "fp8");
    assert_eq!(sent("sglang", "bf16", "deepep"), "bf16");
    assert_eq!(sent("vllm", "fp8_block", "deepep_high_throughput"), "fp8");
    assert_eq!(sent("vllm", "fp8_block", "allgather_reducescatter"), "bf16");
}

#[test]
fn no_term_takes_longer_in_a_narrower_format() {
    let chains: [(&str, &[&str]); 3] = [
        ("h100-sxm", &["bf16", "fp8"]),
        ("h200-sxm", &["bf16", "fp8_block"]),
        ("b200-sxm", &["bf16", "fp8", "nvfp4"]),
    ];
    let mut compared = 0;
    for (device, formats) in chains {
        for engine in ["vllm", "sglang", "tensorrt-llm"] {
            for (model, tensor) in [("deepseek-v3", 1), ("deepseek-v3", 8), ("qwen3-235b-a22b", 4)]
            {
                for workload in [
                    json!({"phase": "prefill", "batch_size": 8, "sequence_length": 4096}),
                    json!({"phase": "decode", "batch_size": 64, "kv_length": 2048}),
                    json!({"phase": "decode", "batch_size": 8, "kv_length": 2048}),
                ] {
                    let mut before: Option<[f64; 6]> = None;
                    for format in formats {
                        let mut workload = workload.clone();
                        workload["dtype"] = json!(format);
                        let mut question = asked(model, device, engine, &workload);
                        question["duplication"] = json!({});
                        question["parallelism"] = json!({
                            "attention_tensor": 8, "attention_data": 1,
                            "expert_tensor": tensor, "expert_parallel": 8 / tensor,
                        });
                        let terms = terms(&result(&question));
                        if let Some(before) = before {
                            for ((name, wide), narrow) in TERMS.iter().zip(before).zip(terms) {
                                assert!(
                                    narrow <= wide * (1.0 + 1e-9),
                                    "{model} {device} {engine} {workload}: {name} {wide} -> {narrow}"
                                );
                            }
                            compared += 1;
                        }
                        before = Some(terms);
                    }
                }
            }
        }
    }
    assert_eq!(compared, 27 * 4);
}

#[test]
fn what_a_device_cannot_multiply_is_priced_as_weights_alone_and_said() {
    let workload =
        json!({"phase": "prefill", "batch_size": 8, "sequence_length": 1024, "dtype": "fp8"});
    let mut question = asked("mixtral-8x7b", "a100-sxm4-80gb", "vllm", &workload);
    question["duplication"] = json!({});
    let on_a100 = result(&question);
    assert!(warned(
        &on_a100,
        "a100-sxm4-80gb multiplies no fp8; experts in fp8 are priced as weight-only"
    ));
    assert_eq!(on_a100["provenance"]["system"]["dtypes"]["activations"], "bf16");
    let narrow = |activations: &str| {
        let mut asked =
            qwen("sglang", &json!({"quantization": "fp8", "dtypes": {"activations": activations}}));
        asked["workload"]["sequence_length"] = json!(4096);
        terms(&result(&asked))[4]
    };
    assert!(narrow("fp8") < narrow("bf16"), "W8A8 is faster than W8A16 where compute counts");
    let without =
        result(&qwen("vllm", &json!({"dtypes": {"activations": "fp8"}, "dtype": "bf16"})));
    assert!(warned(&without, "/workload/dtypes/activations has no effect here"));
}

#[test]
fn a_format_without_a_kernel_is_refused_with_those_there_are() {
    let nvfp4 = json!({"phase": "prefill", "batch_size": 8, "sequence_length": 1024, "quantization": "nvfp4"});
    let refused = violations(
        &asked("qwen3-235b-a22b", "h200-sxm", "tensorrt-llm", &nvfp4),
        &KnownTraces::new(),
    );
    let said = format!("{refused:?}");
    assert!(
        said.contains("/workload/quantization") && said.contains("TensorRT-LLM has no kernel"),
        "{said}"
    );
    assert!(
        said.contains("formats it runs there: bf16, fp16, fp8, fp8_block, mxfp4, int4, fp32"),
        "{said}"
    );
    let mut vllm = asked("qwen3-235b-a22b", "h200-sxm", "vllm", &nvfp4);
    vllm["duplication"] = json!({});
    assert!(warned(&result(&vllm), "multiplies no nvfp4"));
    vllm["cluster"] = json!({"device": "b200-sxm", "devices": 8, "link": "nvlink5"});
    assert!(!warned(&result(&vllm), "nvfp4"), "Blackwell multiplies it, and it was measured");
}
