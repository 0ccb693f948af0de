//! What the program prints on a terminal: colour, examples, sweeps within 80 columns.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn program(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moe-gps"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("NO_COLOR").args(arguments);
    command.output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = program(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const PAPER: &str = "examples/questions/paper-mixtral-a100.json";

#[test]
fn colour_is_where_it_is_asked_for() {
    let plain = printed(&["advise", PAPER]);
    assert!(!plain.contains('\u{1b}'), "a pipe is no terminal");
    assert!(plain.starts_with("recommended: distribution_only\nstep 29.676 ms, layer 927.4 µs, "));
    assert_eq!(printed(&["advise", PAPER, "--color", "never"]), plain);
    let coloured = printed(&["--color", "always", "advise", PAPER]);
    assert!(coloured.starts_with("\u{1b}[1m\u{1b}[32mrecommended: distribution_only\u{1b}[0m\n"));
    let mut bare = String::new();
    for part in coloured.split('\u{1b}') {
        bare.push_str(
            part.strip_prefix('[').and_then(|rest| Some(rest.split_once('m')?.1)).unwrap_or(part),
        );
    }
    assert_eq!(bare, plain, "colour changes no word");
    assert_eq!(program(&["--color", "blue", "catalog", "list"]).status.code(), Some(2));
}

#[test]
fn an_example_is_answered_like_its_file() {
    let output = program(&["advise", "--example=paper-mixtral-a100", "--json"]);
    assert!(output.status.success());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_file: Value = serde_json::from_str(&printed(&["advise", PAPER, "--json"])).unwrap();
    assert_eq!(answer, of_file);
    let asked = String::from_utf8(output.stderr).unwrap();
    let (name, question) = asked.split_once(":\n").unwrap();
    assert_eq!(name, PAPER);
    let file = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAPER)).unwrap();
    assert_eq!(question.trim(), file.trim());
    let unknown = program(&["advise", "--example=nix"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("paper-mixtral-a100"));
    assert_eq!(program(&["advise"]).status.code(), Some(2), "a file or an example");
}

#[test]
fn a_sweep_names_the_ends_of_its_axes_with_units() {
    let axes = ["--axis", "skewness=1:3:5", "--axis", "link_bandwidth_bytes_per_s=1e10:6e11:4:log"];
    let map = printed(&[&["sweep", PAPER], &axes[..]].concat());
    let lines: Vec<&str> = map.lines().skip_while(|line| !line.starts_with("down")).collect();
    assert_eq!(lines[0], "down: skewness, across: link bandwidth");
    assert!(lines[1].starts_with("1.000 |") && lines[5].starts_with("3.000 |"), "{map}");
    assert_eq!(lines[6].split_whitespace().collect::<Vec<_>>(), ["10.00", "GB/s", "600", "GB/s"]);
    assert!(map.lines().all(|line| line.chars().count() <= 80), "{map}");
    let table = printed(&["sweep", PAPER, "--axis", "skewness=1:3:5"]);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("lines.svg");
    printed(&["sweep", PAPER, "--axis", "skewness=1:3:5", "--svg", svg.to_str().unwrap()]);
    let drawn = std::fs::read_to_string(svg).unwrap();
    // The paper prices no re-placing; the others are lines.
    for class in ["l-none", "l-distribution_only", "l-token_to_expert"] {
        assert!(drawn.contains(&format!("class=\"line {class}\"")), "{class}");
    }
    assert!(!drawn.contains("class=\"line l-replace_only\""));
}

/// Lines of more than 80 columns.
fn wide(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.chars().count() > 80).collect()
}

#[test]
fn answers_fit_80_columns() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/questions");
    for question in std::fs::read_dir(folder).unwrap() {
        let question = question.unwrap().path();
        let asked: Value = serde_json::from_slice(&std::fs::read(&question).unwrap()).unwrap();
        // One waits for a recording.
        if asked["routing"].is_null() {
            continue;
        }
        let told = printed(&["advise", question.to_str().unwrap(), "--all"]);
        assert_eq!(wide(&told), [""; 0], "{}", question.display());
    }
}

#[test]
fn recordings_tables_and_the_catalog_fit_80_columns() {
    let recording = "examples/traces/mixtral_like_e8k2.python.test.npz";
    let told = printed(&["trace", "inspect", recording]);
    assert!(
        told.contains("experts per token    2\n") && !told.contains("layer  skewness"),
        "{told}"
    );
    let layers = printed(&["trace", "inspect", recording, "--layers"]);
    assert!(layers.starts_with(&told) && layers.contains("layer  skewness\n    0  "), "{layers}");
    let report = printed(&["trace", "report", recording, "--devices", "4"]);
    let entries = [
        &["catalog", "show", "mixtral-8x7b"][..],
        &["catalog", "check"],
        &["catalog", "list"],
        &["catalog", "show", "nvlink4"],
    ];
    let [model, check, list, link] = entries.map(printed);
    assert!(model.contains(" [1]\n") && model.contains("\n[1] "), "sources stand below: {model}");
    let two_nodes = printed(&["advise", "examples/questions/two-nodes-h200.json"]);
    assert!(two_nodes.contains("runs on sglang: replica_split: lp,"), "{two_nodes}");
    let measured = printed(&["validate", "docs/measured"]);
    for text in [layers, report, measured, model, check, list, link, two_nodes] {
        assert!(wide(&text).is_empty(), "{:#?}", wide(&text));
    }
    // What an engine is given is in one piece, to be copied; nothing else is wider.
    let place = printed(&["place", recording, "--devices", "4", "--slots-per-device", "3"]);
    assert!(wide(&place).iter().all(|line| line.trim_start().starts_with("--")), "{place}");
    // A name of a kernel is not broken.
    let device = printed(&["catalog", "show", "h200-sxm"]);
    assert!(wide(&device).iter().all(|line| !line.trim().contains(' ')), "{:#?}", wide(&device));
}

#[test]
fn help_fits_80_columns_and_has_examples() {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = Vec::new();
    while let Some(command) = all.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = printed(&words);
        assert!(wide(&help).is_empty(), "{command:?}: {:#?}", wide(&help));
        let listed = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
        let names = listed.unwrap_or_default().lines().filter(|line| !line.starts_with("   "));
        let names = names.filter_map(|line| line.split_whitespace().next());
        let before = all.len();
        for name in names.filter(|name| *name != "help") {
            all.push([&command[..], &[name.to_owned()]].concat());
        }
        assert!(before < all.len() || help.contains("Examples:\n"), "{command:?}: {help}");
        seen.push(command.join(" "));
    }
    assert!(seen.iter().any(|command| command == "deployment put"), "{seen:?}");
}
