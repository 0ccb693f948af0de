//! Loads that no router gives are refused or doubted, and warm-up rows are cut on demand.

use std::path::Path;
use std::process::Command;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

async fn upload(app: &TestApp, query: &str, content_type: &str, body: String) -> Answer {
    let request = Request::post(format!("/v1/traces{query}")).header("content-type", content_type);
    app.send(request.body(Body::from(body)).unwrap()).await
}

/// Counts of four steps of 32 layers of 8 experts.
fn counts(row: [u32; 8]) -> String {
    json!({ "counts": vec![vec![row; 32]; 4] }).to_string()
}

/// One expert takes 60 %, where 50 % is the most under top-2.
const IMPOSSIBLE: [u32; 8] = [600, 100, 50, 50, 50, 50, 50, 50];
/// All load on the experts of the second of four GPUs; half each is possible.
const ONE_GPU: [u32; 8] = [0, 0, 500, 500, 0, 0, 0, 0];

fn question(routing: Value) -> Value {
    let mut asked = json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 64, "dtype": "bf16"},
        "engine": {"name": "vllm"},
    });
    asked["routing"] = routing;
    asked
}

async fn violation(app: &TestApp, routing: Value) -> Value {
    let problem = app.ask(&question(routing), &[]).await.problem(422, "invalid-question");
    let violations = problem["violations"].as_array().unwrap();
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations[0].clone()
}

#[tokio::test]
async fn more_than_one_kth_of_the_choices_is_refused() {
    let app = TestApp::start_advising().await;
    let said = "expert 0 takes 60.0 % of the choices; with top-2 no expert takes more than 50.0 %";
    let check = |found: &Value, pointer: &str| {
        assert_eq!(
            (&found["pointer"], &found["rule"]),
            (&json!(pointer), &json!("top_k")),
            "{found}"
        );
        let detail = found["detail"].as_str().unwrap();
        assert!(detail.contains(said) && detail.contains("one GPU's experts"), "{detail}");
    };
    let found = violation(
        &app,
        json!({ "expert_shares": [[0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
        [0.6, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05]] }),
    )
    .await;
    check(&found, "/routing/expert_shares/1/0");

    // Counts whose k nobody has said are taken in; the question says it.
    let trace = upload(&app, "", "application/json", counts(IMPOSSIBLE)).await.json();
    for routing in [json!({"trace_id": trace["id"]}), json!({"trace_ids": [trace["id"]]})] {
        let pointer = if routing.get("trace_id").is_some() { "/trace_id" } else { "/trace_ids/0" };
        check(&violation(&app, routing).await, &format!("/routing{pointer}"));
    }
    for query in ["?model=mixtral-8x7b", "?top_k=2"] {
        let answer = upload(&app, query, "application/json", counts(IMPOSSIBLE)).await;
        let problem = answer.problem(422, "invalid-trace");
        check(&problem["violations"][0], "/counts");
        let detail = problem["violations"][0]["detail"].as_str().unwrap();
        assert!(detail.starts_with("layer "), "{detail}");
        assert!(detail.contains("the worst of 32 such layers"), "{detail}");
    }
    let answer = upload(&app, "?top_k=1", "application/json", counts(IMPOSSIBLE)).await;
    assert!(answer.status.is_success(), "60 % is possible under top-1");
}

#[tokio::test]
async fn the_load_of_one_block_of_experts_is_doubted() {
    let app = TestApp::start_advising().await;
    let said = "experts 2 to 3 of 8 take everything in every layer";
    let trace =
        upload(&app, "?model=mixtral-8x7b", "application/json", counts(ONE_GPU)).await.json();
    assert!(trace["warnings"].to_string().contains(said), "{trace}");
    let shares = json!({ "expert_shares": vec![ONE_GPU; 32] });
    for (routing, place) in
        [(shares, "warnings"), (json!({"trace_id": trace["id"]}), "recommendation")]
    {
        let answer = app.ask_and_wait(&question(routing)).await.json();
        assert_eq!(answer["status"], "succeeded", "{answer}");
        let result = answer["result"].to_string();
        assert!(result.contains(said), "{place}: {result}");
    }
}

/// Three sequences, most of the first one a warm-up of equal tokens.
fn warm_up() -> String {
    let token = |sequence: u32, position: u32, ids: [u32; 2]| {
        json!({"sequence": sequence, "position": position, "token_id": 100 * sequence + position,
               "experts": [ids, [ids[1], (ids[0] + 2) % 4]]})
        .to_string()
    };
    let mut lines: Vec<String> = (0..400).map(|n| token(0, n, [0, 1])).collect();
    let pairs = [[0, 1], [1, 2], [2, 3], [3, 0], [2, 1], [3, 2], [0, 3], [1, 0]];
    lines.extend((0..400_u32).map(|n| token(1 + n / 200, n % 200, pairs[n as usize % 8])));
    lines.join("\n")
}

#[tokio::test]
async fn warm_up_rows_are_cut_on_demand_and_both_figures_told() {
    let app = TestApp::start().await;
    let kind = "application/x-ndjson";
    let whole = upload(&app, "?num_experts=4", kind, warm_up()).await.json();
    let warnings = whole["warnings"].to_string();
    assert!(warnings.contains("drop_repeats=true at the upload"), "{warnings}");
    let cut = upload(&app, "?num_experts=4&drop_repeats=true", kind, warm_up()).await.json();
    let skipped = upload(&app, "?num_experts=4&skip=400", kind, warm_up()).await.json();
    // The first of the warm-up stays where repeats are dropped; then a sequence begins with its like.
    assert_eq!((&cut["tokens"], &skipped["tokens"]), (&json!(400), &json!(400)));
    assert_eq!((&cut["sequences"], &skipped["sequences"]), (&json!(3), &json!(2)));
    let ids = [&whole["id"], &cut["id"], &skipped["id"]];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    let skewness = |of: &Value| of["skewness"]["mean"].as_f64().unwrap();
    let both = format!(
        "mean skewness is {:.3} with the repeated tokens, {:.3} without",
        skewness(&whole),
        skewness(&cut)
    );
    assert!(warnings.contains(&both), "{both}: {warnings}");
    let report = |of: &Value| format!("/v1/traces/{}/report?devices=2", of["id"].as_str().unwrap());
    let with = app.get(&report(&whole)).await.json();
    let without = app.get(&report(&cut)).await.json();
    let imbalance = |of: &Value| of["imbalance"]["max_over_mean"]["mean"].as_f64().unwrap();
    let both = format!(
        "max/mean GPU load is {:.3} with the repeated tokens, {:.3} without",
        imbalance(&with),
        imbalance(&without)
    );
    assert!(with["warnings"].to_string().contains(&both), "{both}: {with}");
    assert_eq!(skipped["has_token_ids"], true);
    let note = skipped["warnings"][0].as_str().unwrap();
    let with = whole["skewness"]["mean"].as_f64().unwrap();
    let without = skipped["skewness"]["mean"].as_f64().unwrap();
    assert_eq!(
        note,
        format!(
            "400 of 800 tokens were cut: the first 400, and 0 that repeat the one before; mean \
             skewness {with:.3} with them, {without:.3} without"
        )
    );
    let stored = app.app.traces.open_trace(skipped["id"].as_str().unwrap()).unwrap();
    assert_eq!(stored.read_token_ids(0..2).unwrap(), [100, 101]);
    assert_eq!(stored.read_positions(0..2).unwrap(), [0, 1]);
    let again = upload(&app, "?num_experts=4&skip=400", kind, warm_up()).await;
    assert_eq!(again.status, 200, "the same cut of the same bytes is the same trace");
    let none = upload(&app, "?skip=900", kind, warm_up()).await.problem(422, "invalid-trace");
    assert_eq!(none["violations"][0]["pointer"], "/skip");

    let steps = json!({"counts": [[[9, 0]], [[1, 2]], [[1, 2]], [[2, 1]]]}).to_string();
    let json = "application/json";
    let cut = upload(&app, "?skip=1&drop_repeats=true", json, steps.clone()).await.json();
    assert_eq!(cut["steps"], 2, "{cut}");
    let note = cut["warnings"][0].as_str().unwrap();
    assert!(note.starts_with("2 of 4 steps were cut: the first 1, and 1 that repeat"), "{note}");
    assert!(note.ends_with("mean skewness 1.444 with them, 1.000 without"), "{note}");
    let none = upload(&app, "?skip=4", json, steps).await.problem(422, "invalid-trace");
    assert_eq!(none["violations"][0]["pointer"], "/skip");
}

/// Status, standard output and standard error.
fn ran(file: &Path, arguments: &str) -> (Option<i32>, String, String) {
    let mut words: Vec<&str> = arguments.split_whitespace().collect();
    let place = words.iter().position(|word| *word == "FILE").unwrap();
    words[place] = file.to_str().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_moe-gps")).args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_line_says_the_doubt_first_and_both_findings() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("x.ndjson");
    std::fs::write(&lines, warm_up()).unwrap();
    for (flags, first, other) in [
        ("", "warning: without those rows: max/mean GPU load is", "400 of 800"),
        (
            " --skip 400",
            "warning: with those rows: max/mean GPU load is",
            "400 of 800 tokens were cut",
        ),
    ] {
        let (status, out, _) = ran(&lines, &format!("trace report FILE --devices 2{flags}"));
        assert_eq!(status, Some(0));
        assert!(out.starts_with(first), "{out}");
        let finding = out.lines().find(|line| line.starts_with("max/mean")).unwrap();
        assert!(!out.lines().next().unwrap().contains(finding), "two figures: {out}");
        if !flags.is_empty() {
            assert!(out.contains(other), "{out}");
        }
    }
    let report = ran(&lines, "trace report FILE --devices 2 --json").1;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["warnings"][0].as_str().unwrap().starts_with("without those rows"), "{report}");
    let (_, out, _) = ran(&lines, "trace inspect FILE --drop-repeats");
    assert!(out.starts_with("warning: 400 of 800 tokens were cut"), "{out}");
}

#[test]
fn the_command_line_refuses_what_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.json");
    std::fs::write(&file, counts(IMPOSSIBLE)).unwrap();
    let wanted = "with top-2 no expert takes more than 50.0 %";
    for command in [
        "trace inspect FILE --top-k 2",
        "trace report FILE --devices 4 --top-k 2",
        "place FILE --devices 4 --slots-per-device 2 --top-k 2",
    ] {
        let (status, out, error) = ran(&file, command);
        assert_eq!((status, out.as_str()), (Some(3), ""), "{command}");
        assert!(error.contains(wanted) && error.lines().count() == 2, "{command}: {error}");
    }
    std::fs::write(&file, counts(ONE_GPU)).unwrap();
    let (_, out, _) = ran(&file, "place FILE --devices 4 --slots-per-device 2");
    assert!(out.contains("warning: broken recording: experts 2 to 3 of 8"), "{out}");
}

#[test]
fn devices_must_fit_the_experts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.json");
    std::fs::write(&file, counts([100, 90, 80, 70, 60, 50, 40, 30])).unwrap();
    let (status, _, error) = ran(&file, "trace report FILE --devices 1000");
    assert_eq!(status, Some(1));
    assert!(
        error.contains("devices is 1000; the recording has 8 experts, so at most 8"),
        "{error}"
    );
    let (_, out, _) = ran(&file, "trace report FILE --devices 3");
    assert!(out.contains("warning: 8 experts do not divide among 3 devices"), "{out}");
    let (_, out, _) = ran(&file, "trace report FILE --devices 4");
    assert!(!out.contains("do not divide"), "{out}");
}

#[tokio::test]
async fn a_report_for_more_devices_than_experts_is_refused() {
    let app = TestApp::start().await;
    let trace = upload(&app, "", "application/json", counts([10; 8])).await.json();
    let path = format!("/v1/traces/{}/report?devices=9", trace["id"].as_str().unwrap());
    let problem = app.get(&path).await.problem(422, "invalid-question");
    assert_eq!(problem["violations"][0]["pointer"], "/devices");
}
