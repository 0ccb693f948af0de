//! `question --from-args`: what an engine's command line asks, and what it leaves open.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::asking::result;

fn output(line: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    command.args(["question", "--from-args", line]).args(more).output().unwrap()
}

/// The question, and the pointers of what is not known.
#[track_caller]
fn asked(line: &str, more: &[&str]) -> (Value, Vec<String>) {
    let output = output(line, more);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let unknown = told.lines().filter_map(|line| line.strip_prefix("unknown: "));
    let pointers = unknown.map(|text| text.split(':').next().unwrap().to_owned()).collect();
    (serde_json::from_slice(&output.stdout).unwrap(), pointers)
}

#[test]
fn a_line_of_vllm_is_a_question_that_can_be_asked() {
    let line = "VLLM_USE_V1=1 vllm serve deepseek-ai/DeepSeek-V3 --tensor-parallel-size 1 -dp=16 \
                --enable-expert-parallel --all2all-backend deepep_low_latency --kv-cache-dtype fp8 \
                --max-num-seqs 64 --nnodes 2 --trust-remote-code --port 8000 --enable-eplb \
                --eplb-config '{\"num_redundant_experts\": 32, \"step_interval\": 3000, \"window_size\": 1000}'";
    let (question, unknown) = asked(line, &[]);
    assert_eq!(question["model"], "deepseek-v3");
    assert_eq!(question["cluster"], json!({"devices": 16, "nodes": 2}));
    assert_eq!(
        question["parallelism"],
        json!({"attention_tensor": 1, "attention_data": 16, "expert_parallel": 16,
               "expert_tensor": 1, "pipeline": 1})
    );
    assert_eq!(
        question["engine"],
        json!({"name": "vllm", "all2all_backend": "deepep_low_latency"})
    );
    assert_eq!(question["workload"], json!({"batch_size": 1024, "dtypes": {"kv": "fp8"}}));
    assert_eq!(
        question["current"],
        json!({"strategy": "distribution_only", "slots_per_device": 18})
    );
    assert_eq!(question["rebalance"], json!({"interval_steps": 3000, "window_steps": 1000}));
    for pointer in [
        "/cluster/device",
        "/cluster/link",
        "/cluster/inter_node_link",
        "/routing",
        "/workload/phase",
        "/workload/batch_size",
        "/current/physical_to_logical",
    ] {
        assert!(unknown.iter().any(|one| one == pointer), "{pointer}: {unknown:?}");
    }
    let more = [
        "--device",
        "h200-sxm",
        "--link",
        "nvlink4",
        "--inter-node-link",
        "ib400",
        "--phase",
        "decode",
        "--batch-size",
        "512",
        "--kv-length",
        "4096",
        "--skewness",
        "2",
    ];
    let (question, unknown) = asked(line, &more);
    let answer = result(&question);
    assert!(answer["recommendation"]["verdict"].is_string());
    assert_eq!(unknown, ["/current/physical_to_logical"]);
}

#[test]
fn lines_of_the_other_engines_are_read() {
    let (question, _) = asked(
        "python3 -m sglang.launch_server --model-path Qwen/Qwen3-235B-A22B --tp 16 --dp-size 8 \
         --enable-dp-attention --moe-a2a-backend deepep --moe-runner-backend deep_gemm \
         --quantization fp8 --kv-cache-dtype fp8_e4m3 --nnodes=2 --disable-cuda-graph",
        &[],
    );
    assert_eq!(
        (&question["model"], &question["cluster"]["devices"]),
        (&json!("qwen3-235b-a22b"), &json!(16))
    );
    assert_eq!(
        question["parallelism"],
        json!({"attention_tensor": 2, "attention_data": 8, "expert_parallel": 16,
               "expert_tensor": 1, "pipeline": 1})
    );
    assert_eq!(
        question["engine"],
        json!({"name": "sglang", "all2all_backend": "deepep", "moe_kernel": "deep_gemm",
               "cuda_graph": false})
    );
    assert_eq!(question["workload"]["dtypes"], json!({"weights": "fp8", "kv": "fp8"}));
    let (question, unknown) = asked(
        "mpirun -n 8 trtllm-serve mistralai/Mixtral-8x7B-Instruct-v0.1 --tp_size 8 --ep_size 4 \
         --max_batch_size 32 --extra_llm_api_options extra.yaml",
        &[],
    );
    assert_eq!(question["model"], "mixtral-8x7b");
    assert_eq!(
        question["parallelism"],
        json!({"attention_tensor": 8, "attention_data": 1, "expert_parallel": 4,
               "expert_tensor": 2, "pipeline": 1})
    );
    assert!(unknown.contains(&"/parallelism".to_owned()) && unknown.contains(&String::new()));
    // Without expert parallelism every device has a part of every expert.
    let (question, _) = asked("vllm serve mixtral-8x7b -tp 4", &[]);
    assert_eq!(question["parallelism"]["expert_tensor"], 4);
    assert_eq!(question["parallelism"]["expert_parallel"], 1);
}

#[test]
fn lines_that_cannot_be_read_are_refused() {
    for (line, said) in [
        ("ollama run mixtral", "there is no `vllm serve`"),
        ("vllm serve --tensor-parallel-size 4", "names no model"),
        ("vllm serve mixtral-8x7b -tp 0", "--tensor-parallel-size is 0"),
        ("vllm serve mixtral-8x7b -tp", "-tp has no value"),
        ("vllm serve 'mixtral", "a quote is not closed"),
        ("sglang serve --model mixtral-8x7b --tp 4 --ep 3", "do not come out even"),
    ] {
        let output = output(line, &[]);
        assert_eq!(output.status.code(), Some(1), "{line}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(said), "{line}: {told}");
    }
    let (question, unknown) = asked("vllm serve acme/Unknown-8x9B -tp 2 -ep", &[]);
    assert_eq!(question["model"], "acme/Unknown-8x9B");
    assert!(unknown.contains(&"/model".to_owned()), "{unknown:?}");
}
