//! Profiles fitted to measurements: from the example table to an answer.

use std::path::{Path, PathBuf};
use std::process::Command;

use moe_gps::app::calibrate::{Order, device_document, run};
use serde_json::{Value, json};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/calibration")
}

fn order() -> Order {
    let text = |text: &str| Some(text.to_owned());
    Order {
        id: text("my-h200"),
        source: text("a test"),
        date: "2026-11-24".to_owned(),
        ..Order::default()
    }
}

fn program(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_moe-gps")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_example_fits_well_and_the_same_every_time() {
    let found = run(&example(), &order()).unwrap();
    let bounds = [
        ("gemm", 0.09),
        ("prefill", 0.12),
        ("experts", 0.12),
        ("norm", 0.2),
        ("activation", 0.1),
        ("top_k", 0.15),
        ("copy", 0.25),
    ];
    assert_eq!(found.lines.len(), bounds.len());
    for (law, bound) in bounds {
        let line = found.lines.iter().find(|line| line.law == law).unwrap();
        assert!(line.errors.mean < bound, "{line:?}");
        assert!(line.held_out.unwrap().mean < 2.0 * bound, "{line:?}");
    }
    let rows: u64 = found.lines.iter().map(|line| line.errors.rows).sum();
    assert_eq!((rows, found.residuals.len()), (177, 177));
    assert!(found.left_out.is_empty() && found.skipped.is_empty());
    assert_eq!(run(&example(), &order()).unwrap().text, found.text);
}

#[test]
fn a_fitted_profile_is_checked_and_answers_questions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my-h200.toml");
    let residuals = folder.path().join("residuals.csv");
    let (file, residuals) = (file.to_str().unwrap(), residuals.to_str().unwrap());
    let example = example();
    let (fine, out, aside) = program(&[
        "calibrate",
        example.to_str().unwrap(),
        "--id",
        "my-h200",
        "--out",
        file,
        "--residuals",
        residuals,
    ]);
    assert!(fine, "{aside}");
    assert!(out.contains("PyTorch 2.11 cublas") && out.contains("held out"), "{out}");
    assert_eq!(std::fs::read_to_string(residuals).unwrap().lines().count(), 178);
    let (fine, out, aside) = program(&["catalog", "check", file]);
    assert!(fine && out.contains("device my-h200, stacks pytorch-2-11, vllm,"), "{out}{aside}");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let question = examples.join("questions/mixtral-h100.json");
    let trace = examples.join("traces/mixtral_like_e8k2.python.train.npz");
    let asked =
        ["advise", question.to_str().unwrap(), "--trace", trace.to_str().unwrap(), "--json"];
    let (fine, out, aside) = program(&[&asked[..], &["--device", file]].concat());
    assert!(fine, "{out}{aside}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert!(answer["recommendation"]["strategy"].is_string(), "{out}");
    let (fine, own, _) = program(&asked);
    assert!(fine && own != out, "the profile changes nothing");
}

#[test]
fn a_profile_in_a_question_is_read_whole_or_refused_with_its_rule() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, run(&example(), &order()).unwrap().text).unwrap();
    let ask = |device: &Value| {
        let question = json!({
            "model": "mixtral-8x7b",
            "cluster": {"device": device, "devices": 4, "link": "nvlink4"},
            "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 512},
            "routing": {"skewness": 1.39}
        });
        let path = folder.path().join("question.json");
        std::fs::write(&path, question.to_string()).unwrap();
        program(&["advise", path.to_str().unwrap(), "--json"])
    };
    let mut device = device_document(&file).unwrap();
    let (fine, out, aside) = ask(&device);
    assert!(fine, "{out}{aside}");
    device["bandwidth_bytes_per_s"] = json!(1.0);
    let (fine, out, _) = ask(&device);
    assert!(!fine && out.contains("/cluster/device: memory bandwidth is 1 B/s"), "{out}");
    device["gemm"]["pytorch-2-11-cublas"]["constants"]["compute"] = json!(7.0);
    let (fine, out, _) = ask(&device);
    let place = "/cluster/device/gemm/pytorch-2-11-cublas: compute is 7";
    assert!(!fine && out.contains(place), "{out}");
    // Everything that is wrong is said at once.
    device["l2_bytes"] = json!("big");
    device["colour"] = json!("green");
    let (fine, out, _) = ask(&device);
    assert!(!fine && out.contains("/cluster/device/l2_bytes: invalid type"), "{out}");
    assert!(out.contains("/cluster/device/colour: unknown field `colour`"), "{out}");
}

#[test]
fn what_cannot_be_fitted_says_why() {
    let (fine, _, aside) = program(&["calibrate", "no-such-folder"]);
    assert!(!fine && aside.contains("no-such-folder is not a folder"), "{aside}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (fine, _, aside) = program(&["calibrate", path]);
    assert!(!fine && aside.contains("no row of"), "{aside}");
    let write = |rows: &str| {
        let header = "device,framework,version,kernel,op,shape,seconds\n";
        let file = folder.path().join("operators.csv");
        std::fs::write(file, format!("{header}{rows}")).unwrap();
    };
    write("one,F,1,,copy,bytes=1,1e-6\ntwo,F,1,,copy,bytes=1,1e-6\n");
    let (fine, _, aside) = program(&["calibrate", path]);
    assert!(!fine && aside.contains("the tables measure one, two: choose one"), "{aside}");
    let (fine, _, aside) = program(&["calibrate", path, "--device", "two"]);
    assert!(!fine && aside.contains("no base to start from"), "{aside}");
    let (fine, out, aside) = program(&["calibrate", path, "--device", "two", "--base", "h200-sxm"]);
    assert!(fine && aside.contains("1 rows cannot decide 2 constants"), "{aside}");
    assert!(out.contains("id = \"h200-sxm-calibrated\""), "{out}");
}
