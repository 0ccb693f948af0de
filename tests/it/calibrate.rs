//! Profiles fitted to measurements: from the example table to an answer.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use moe_gps_core::catalog::Catalog;
use moe_gps_core::comm::profile::Curve;
use moe_gps_core::formats::device_toml::parse;
use moe_gps_core::units::Bytes;
use moe_gps_lab::calibrate::run::{Order, device_document, run};
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
        // A fit is about as near to its rows as what it starts from, or nearer.
        assert!(line.errors.mean <= 1.05 * line.before.unwrap().mean, "{line:?}");
    }
    let rows: u64 = found.lines.iter().map(|line| line.errors.rows).sum();
    assert_eq!((rows, found.residuals.len()), (177, 177));
    assert!(found.left_out.0.is_empty() && found.skipped.is_empty());
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
    assert!(out.contains("PyTorch 2.11 cublas") && out.contains("held-out"), "{out}");
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
    let (fine, _, out) = ask(&device);
    assert!(!fine && out.contains("/cluster/device: memory bandwidth is 1 B/s"), "{out}");
    device["gemm"]["pytorch-2-11-cublas"]["constants"]["compute"] = json!(7.0);
    let (fine, _, out) = ask(&device);
    let place = "/cluster/device/gemm/pytorch-2-11-cublas: compute is 7";
    assert!(!fine && out.contains(place), "{out}");
    // Everything that is wrong is said at once.
    device["l2_bytes"] = json!("big");
    device["colour"] = json!("green");
    let (fine, _, out) = ask(&device);
    assert!(!fine && out.contains("/cluster/device/l2_bytes: invalid type"), "{out}");
    assert!(out.contains("/cluster/device/colour: unknown field `colour`"), "{out}");
}

/// The tables of communication among the shipped ones, in a folder of their own.
fn links() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for table in [
        "nvidia_nccl_collectives.csv.gz",
        "nvidia_custom_all_reduce_bf16.csv.gz",
        "nvidia_deepep_all_to_all.csv.gz",
    ] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("measurements").join(table);
        std::fs::copy(shipped, folder.path().join(table)).unwrap();
    }
    folder
}

#[test]
fn shipped_laws_of_links_are_what_calibrate_makes_of_the_shipped_tables() {
    let catalog = Catalog::embedded();
    let folder = links();
    for (table, id) in [("a100_sxm", "a100-sxm4-80gb"), ("h100_sxm", "h100-sxm")] {
        let order = Order { device: Some(table.to_owned()), ..order() };
        let found = run(folder.path(), &order).unwrap();
        let fitted = parse(&found.text).unwrap().value.collectives.unwrap();
        let shipped = catalog.device(id).unwrap().value.collectives.as_ref().unwrap();
        assert!(fitted.collectives.keys().eq(shipped.collectives.keys()));
        assert!(fitted.deep_ep.keys().eq(shipped.deep_ep.keys()));
        // One processor rounds unlike another, so the search may end a step further on.
        let alike = |key: &dyn std::fmt::Debug, fitted: &Curve, shipped: &Curve| {
            for exponent in (10..30).step_by(3) {
                let bytes = Bytes::new(f64::from(exponent).exp2());
                let ratio = fitted.time(bytes) / shipped.time(bytes);
                assert!((ratio - 1.0).abs() < 0.01, "{key:?} at {bytes:?}: {ratio}");
            }
        };
        for (key, fit) in &shipped.collectives {
            alike(key, &fitted.collectives[key].fitted.curve, &fit.fitted.curve);
        }
        for (key, fit) in &shipped.deep_ep {
            alike(key, &fitted.deep_ep[key].curve(7168.0, 256), &fit.curve(7168.0, 256));
        }
    }
}

#[test]
fn a_profiler_of_ones_own_measures_links_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = "device,framework,version,kernel,op,shape,seconds\n".to_owned();
    for exponent in 0..12 {
        let tokens = 1 << exponent;
        let seconds = 50e-6 + f64::from(tokens) * 2e-7;
        writeln!(
            table,
            "h200-sxm,mine,1,,dispatch,engine=vllm;mode=normal;hidden=4096;experts=64;top_k=4;tokens={tokens},{seconds:e}"
        )
        .unwrap();
    }
    std::fs::write(folder.path().join("operators.csv"), table).unwrap();
    let found = run(folder.path(), &order()).unwrap();
    let [line] = found.lines.as_slice() else { panic!("{:?}", found.lines) };
    assert_eq!((line.law.as_str(), line.errors.rows), ("normal dispatch x1", 12));
    assert!(line.errors.mean < 0.02 && line.held_out.unwrap().mean < 0.05, "{line:?}");
    assert!(found.text.contains("a test (1 laws)"), "{}", found.text);
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
    write("h200-sxm,F,1,,copy,bytes=1,0\n");
    let (fine, _, aside) = program(&["calibrate", path]);
    let why = "operators.csv: 1 rows cannot be read, the first in line 2: seconds is \"0\"";
    assert!(!fine && aside.contains(why), "{aside}");
    write("one,F,1,,copy,bytes=1,1e-6\ntwo,F,1,,copy,bytes=1,1e-6\n");
    let (fine, _, aside) = program(&["calibrate", path]);
    assert!(!fine && aside.contains("the tables measure one, two: choose one"), "{aside}");
    let (fine, _, aside) = program(&["calibrate", path, "--device", "two"]);
    assert!(!fine && aside.contains("no base to start from"), "{aside}");
    let (fine, out, aside) = program(&["calibrate", path, "--device", "two", "--base", "h200-sxm"]);
    assert!(fine && aside.contains("1 rows cannot decide 2 constants"), "{aside}");
    assert!(out.contains("id = \"h200-sxm-calibrated\""), "{out}");
}
