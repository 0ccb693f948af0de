//! `question --from-args` and `--from-metrics`: what an engine's command line asks, the traffic that
//! it measures, and what both leave open.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::asking::result;

fn told(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    command.arg("question").args(arguments).output().unwrap()
}

fn output(line: &str, more: &[&str]) -> Output {
    told(&[&["--from-args", line], more].concat())
}

/// The question, and the pointers of what is not known.
#[track_caller]
fn asked(line: &str, more: &[&str]) -> (Value, Vec<String>) {
    let (question, unknown, _) = read(&output(line, more));
    (question, unknown)
}

/// The question, the pointers of what is not known, and what was measured.
#[track_caller]
fn read(output: &Output) -> (Value, Vec<String>, Vec<String>) {
    let told = std::str::from_utf8(&output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let after = |start| told.lines().filter_map(move |line| line.strip_prefix(start));
    let pointers = after("unknown: ").map(|text| text.split(':').next().unwrap().to_owned());
    let measured = after("measured: ").map(str::to_owned).collect();
    (serde_json::from_slice(&output.stdout).unwrap(), pointers.collect(), measured)
}

fn metrics(name: &str) -> String {
    format!("{}/tests/fixtures/metrics/{name}.txt", env!("CARGO_MANIFEST_DIR"))
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
    let line = "vllm serve mixtral-8x7b -dp 16 --data-parallel-size-local 8 -ep";
    let (question, unknown) = asked(line, &[]);
    assert_eq!(question["cluster"], json!({"devices": 16, "nodes": 2}));
    assert!(unknown.contains(&"/cluster/inter_node_link".to_owned()), "{unknown:?}");
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

#[test]
fn a_server_of_vllm_is_asked_about_by_its_traffic() {
    let line = "vllm serve deepseek-ai/DeepSeek-V3 -dp 2 -tp 8 --enable-expert-parallel --nnodes 2";
    let more = [
        "--from-metrics",
        &metrics("vllm"),
        "--device",
        "h200-sxm",
        "--link",
        "nvlink4",
        "--inter-node-link",
        "ib400",
        "--skewness",
        "2",
    ];
    let (question, unknown, measured) = read(&output(line, &more));
    // The mean of ended requests, and the sum of what both replicas run.
    let traffic = json!({"phase": "serving", "input_tokens": 1024, "output_tokens": 256,
                         "concurrency": 64});
    assert_eq!(question["workload"], traffic);
    assert_eq!(unknown, ["/workload/dtypes"]);
    assert_eq!(
        measured,
        [
            "tpot_s 0.030000, the mean time between tokens since the engine started",
            "3 requests wait beside those that run",
            "25 % of the tokens of prompts came from the cache; a question computes all",
        ]
    );
    assert!(result(&question)["recommendation"]["verdict"].is_string());
    // An option goes before what was measured.
    let more = [&more[..], &["--output-tokens", "100", "--concurrency", "8"]].concat();
    let (question, ..) = read(&output(line, &more));
    assert_eq!(
        question["workload"],
        json!({"phase": "serving", "input_tokens": 1024, "output_tokens": 100, "concurrency": 8})
    );
    // More replicas than say what they run.
    let line = line.replace("-dp 2", "-dp 4");
    let (_, unknown, _) = read(&output(&line, &more));
    assert!(unknown.contains(&"/workload/concurrency".to_owned()), "{unknown:?}");
}

#[test]
fn replicas_and_priorities_of_sglang_are_not_counted_twice() {
    let (question, unknown, measured) = read(&told(&["--from-metrics", &metrics("sglang")]));
    assert_eq!(
        question,
        json!({"model": "qwen3-235b-a22b", "cluster": {}, "engine": {"name": "sglang"},
               "workload": {"phase": "serving", "input_tokens": 800, "output_tokens": 300,
                            "concurrency": 62}})
    );
    for pointer in ["/cluster/devices", "/cluster/device", "/cluster/link", "/routing"] {
        assert!(unknown.iter().any(|one| one == pointer), "{pointer}: {unknown:?}");
    }
    assert_eq!(
        measured,
        ["tpot_s 0.018000, the mean time between tokens since the engine started"]
    );
    let line =
        "sglang serve --model-path Qwen/Qwen3-235B-A22B --tp 4 --dp 2 --enable-dp-attention --ep 4";
    let (question, unknown, _) = read(&output(line, &["--from-metrics", &metrics("sglang")]));
    assert_eq!(question["routing"], json!({"balancedness": 0.7, "at_devices": 4}));
    assert!(!unknown.contains(&"/routing".to_owned()), "{unknown:?}");
}

/// Answers one request with this head and body, in chunks as engines send them.
fn answering(status: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let length = stream.read(&mut head).unwrap();
        assert!(head[..length].starts_with(b"GET /prometheus/metrics HTTP/1.1"));
        let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        for part in body.as_bytes().chunks(500) {
            stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).unwrap();
            stream.write_all(&[part, b"\r\n"].concat()).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    format!("http://{address}/prometheus/metrics")
}

#[test]
fn a_running_engine_is_asked_at_its_address() {
    let url = answering("200 OK", std::fs::read_to_string(metrics("trtllm")).unwrap());
    let (question, _, measured) = read(&told(&["--from-metrics", &url]));
    assert_eq!(question["model"], "mixtral-8x7b");
    assert_eq!(
        question["workload"],
        json!({"phase": "serving", "input_tokens": 512, "output_tokens": 128, "concurrency": 16})
    );
    assert_eq!(
        measured,
        ["tpot_s 0.012000, the mean time between tokens since the engine started"]
    );
    let output = told(&["--from-metrics", &answering("404 Not Found", "no".to_owned())]);
    assert_eq!(output.status.code(), Some(1));
    assert!(std::str::from_utf8(&output.stderr).unwrap().contains("answers 404"));
}

#[test]
fn metrics_that_say_nothing_are_told_in_words() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (text, said) in [
        ("[{\"iter\": 1}]", "/prometheus/metrics"),
        ("up 1\n", "no name in the text begins with one of vllm:, sglang:, trtllm_"),
        ("vllm:num_requests_running 4\n", "the text names no model"),
    ] {
        std::fs::write(path, text).unwrap();
        let output = told(&["--from-metrics", path]);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(said), "{text}: {told}");
    }
    for (source, said) in [
        ("/absent", "cannot read /absent"),
        ("https://127.0.0.1/metrics", "only http is spoken here"),
        ("http://127.0.0.1:1/metrics", "cannot ask http://127.0.0.1:1/metrics"),
    ] {
        let told = String::from_utf8(told(&["--from-metrics", source]).stderr).unwrap();
        assert!(told.contains(said), "{source}: {told}");
    }
    let other = output("vllm serve mixtral-8x7b", &["--from-metrics", &metrics("sglang")]);
    let told = String::from_utf8(other.stderr).unwrap();
    assert!(told.contains("that of sglang, the command line that of vllm"), "{told}");
    // An older TensorRT-LLM, which counts ended requests only.
    let text = "trtllm_request_success_total{model_name=\"mixtral-8x7b\"} 4\n\
                trtllm_prompt_tokens_total{model_name=\"mixtral-8x7b\"} 2048\n";
    std::fs::write(path, text).unwrap();
    let (question, unknown, _) = read(&self::told(&["--from-metrics", path]));
    assert_eq!(question["workload"], json!({"phase": "serving", "input_tokens": 512}));
    assert!(unknown.contains(&"/workload/concurrency".to_owned()), "{unknown:?}");
    // A server without a request: quotes in labels, times, and values that are none.
    std::fs::write(
        path,
        "vllm:num_requests_running{model_name=\"a \\\"b\\\", {c}\"} 0 1700000000000\n\
         vllm:num_requests_waiting NaN\nvllm:request_prompt_tokens_sum 0\n\
         vllm:request_prompt_tokens_count 0\n",
    )
    .unwrap();
    let (question, unknown, measured) = read(&self::told(&["--from-metrics", path]));
    assert_eq!(question["model"], "a \"b\", {c}");
    assert_eq!(question["workload"], json!({"phase": "serving"}));
    for pointer in ["/workload/input_tokens", "/workload/output_tokens", "/workload/concurrency"] {
        assert!(unknown.iter().any(|one| one == pointer), "{pointer}: {unknown:?}");
    }
    assert!(measured.is_empty(), "{measured:?}");
}
