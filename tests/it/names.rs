//! Names as people write them: aliases, spellings, and what an unknown one is answered with.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::TestApp;

fn question(model: &str, device: &str, link: &str) -> Value {
    json!({
        "model": model,
        "cluster": {"device": device, "devices": 4, "link": link},
        "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 512, "dtype": "bf16"},
        "engine": {"name": "vllm"},
        "routing": {"skewness": 1.4}
    })
}

#[tokio::test]
async fn another_name_is_the_same_question() {
    let app = TestApp::start_advising().await;
    let plain = app.ask_and_wait(&question("mixtral-8x7b", "h100-sxm", "nvlink4")).await.json();
    assert_eq!(plain["status"], "succeeded", "{plain}");
    let mut other = question("mistralai/Mixtral-8x7B-v0.1", "NVIDIA H100 80GB HBM3", "NVLink4");
    other["engine"]["name"] = json!("vLLM");
    other["workload"]["dtype"] = json!("bfloat16");
    other["workload"]["batch_size"] = json!(1.0);
    let named = app.ask_and_wait(&other).await.json();
    assert_eq!(named["id"], plain["id"], "{named}");
    for filter in ["model=Mixtral-8x7B-v0.1", "device=H100-SXM5-80GB"] {
        let listed = app.get(&format!("/v1/recommendations?{filter}")).await.json();
        assert_eq!(listed["items"][0]["id"], plain["id"], "{filter}");
    }
    for path in ["models/mistralai%2FMixtral-8x7B-v0.1", "devices/H100-SXM5-80GB", "links/NVLINK4"]
    {
        assert_eq!(app.get(&format!("/v1/{path}")).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_name_is_answered_by_meaning() {
    let app = TestApp::start_advising().await;
    for (asked, pointer, hint) in [
        (
            question("mixtral", "h100-sxm", "nvlink4"),
            "/model",
            "did you mean \"mixtral-8x22b\" or \"mixtral-8x7b\"?",
        ),
        (question("mixtral-8x7b", "h100", "nvlink4"), "/cluster/device", "\"h100-sxm\"?"),
        (
            question("mixtral-8x7b", "h100-sxm", "infiniband"),
            "/cluster/link",
            "did you mean \"ib200\" or \"ib400\"?",
        ),
        (question("deepseek-v5", "h100-sxm", "nvlink4"), "/model", "the catalog has "),
        // Its own generation, where the device names one.
        (question("mixtral-8x7b", "h100-sxm", "nvlink"), "/cluster/link", "mean \"nvlink4\"?"),
        (question("mixtral-8x7b", "a100-sxm4-80gb", "nvlink"), "/cluster/link", "\"nvlink3\"?"),
        (question("mixtral-8x7b", "h100-sxm", "pcie"), "/cluster/link", "\"pcie4\" or \"pcie5\"?"),
    ] {
        let problem = app.ask(&asked, &[]).await.problem(422, "invalid-question");
        let violations = problem["violations"].as_array().unwrap();
        let found = violations.iter().find(|one| one["pointer"] == pointer).unwrap();
        assert!(found["detail"].as_str().unwrap().contains(hint), "{found}");
    }
}

#[test]
fn a_refused_question_is_told_on_standard_error_with_a_status_of_its_own() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut asked = question("mixtral", "h100", "nvlink4");
    asked.as_object_mut().unwrap().remove("routing");
    std::fs::write(file.path(), asked.to_string()).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    let output = program.arg("advise").arg(file.path()).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap());
}

#[tokio::test]
async fn a_bandwidth_in_gigabytes_is_answered_with_the_unit() {
    let app = TestApp::start().await;
    let mut asked = question("mixtral-8x7b", "h100-sxm", "nvlink4");
    asked["cluster"]["link"] = json!({"bandwidth_bytes_per_s": 900, "latency_s": 1e-6});
    let axes = json!([{"parameter": "link_bandwidth_bytes_per_s", "values": [25, 1e9]}]);
    let sweep = json!({"question": asked, "axes": axes});
    let problem = app.post_json("/v1/sweeps", &sweep, &[]).await.problem(422, "invalid-question");
    insta::assert_json_snapshot!(problem["violations"]);
}

/// Status and standard error of `advise` on a question.
fn advised(asked: &Value, flags: &[&str]) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), asked.to_string()).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    let output = program.arg("advise").arg(file.path()).args(flags).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_status_says_what_became_of_a_question() {
    let answered = crate::questions::of_the_paper();
    let mut impossible = question("deepseek-v3", "a100-sxm4-40gb", "nvlink3");
    impossible["workload"]["sequence_length"] = json!(64);
    for (asked, flags, status) in [
        (&answered, &["--exit-code"][..], 0),
        (&impossible, &[], 0),
        (&impossible, &["--exit-code"], 4),
        (&impossible, &["--exit-code", "--json"], 4),
        (&question("mixtral", "h100", "nvlink4"), &["--exit-code"], 3),
        (&answered, &["--exit-cod"], 2),
    ] {
        let (found, told) = advised(asked, flags);
        assert_eq!(found, Some(status), "{flags:?}: {told}");
    }
    let mut program = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    assert_eq!(program.args(["advise", "/dev/null"]).output().unwrap().status.code(), Some(1));
}
