//! The support matrix of the README: models, GPUs, engines and formats, from what the service lists.

use std::collections::BTreeSet;

use moe_gps_core::formats::placement::{FORMATS, READ_ONLY};
use moe_gps_core::formats::trace::export::WRITERS;
use moe_gps_core::formats::trace::readers::READERS;
use serde_json::{Value, json};

use super::assert_part;
use crate::support::TestApp;

/// The versions at which defaults, limits and formats of the engines were read, November 2026.
const READ_AT: [(&str, &str); 4] = [
    ("vllm", "0.33.0"),
    ("sglang", "0.5.23"),
    ("tensorrt-llm", "main"),
    ("vllm-ascend", "182b75ea"),
];

/// The laws that make up most of a layer, as profiles name them.
const LAWS: [(&str, &str); 4] = [
    ("gemm", "matrix products"),
    ("prefill", "prefill attention"),
    ("decode", "decode attention"),
    ("experts", "experts"),
];

fn items(list: &Value) -> &[Value] {
    list.as_array().unwrap()
}

fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    format!("| {} |\n", cells.into_iter().collect::<Vec<_>>().join(" | "))
}

fn head(names: &[&str]) -> String {
    row(names.iter().copied()) + &row(names.iter().map(|_| "---"))
}

fn models(list: &Value) -> String {
    let mut table = head(&["model", "MoE layers", "experts", "per token", "parameters"]);
    for model in items(&list["items"]) {
        let parameters = model["parameters"]["computed"].as_f64().unwrap() / 1e9;
        table += &row([
            &*format!("`{}`", model["id"].as_str().unwrap()),
            &model["moe_layers"].to_string(),
            &model["experts"]["routed"].to_string(),
            &model["experts"]["top_k"].to_string(),
            &format!("{parameters:.1} B"),
        ]);
    }
    table
}

/// The constants of a law that a stack of a device uses.
fn fit<'a>(device: &'a Value, stack: &Value, law: &str) -> &'a Value {
    &device["constants"][law][stack[law].as_str().unwrap()]
}

/// What the laws rest on that price a device with an engine.
fn basis(device: &Value, engine: &str) -> String {
    let stacks = items(&device["stacks"]);
    let runs = |stack: &&Value| items(&stack["engines"]).iter().any(|name| name == engine);
    let stack = stacks.iter().find(runs).unwrap_or(&stacks[0]);
    let fitted = |law: &str| fit(device, stack, law)["basis"] == "fitted";
    let names: Vec<&str> =
        LAWS.iter().filter(|(law, _)| fitted(law)).map(|(_, name)| *name).collect();
    match names.len() {
        0 => "roofline".to_owned(),
        all if all == LAWS.len() => {
            let experts = fit(device, stack, "experts");
            format!("fitted, experts of {}", experts["framework"].as_str().unwrap())
        }
        _ => format!("roofline, {} fitted", names.join(", ")),
    }
}

/// The frameworks whose measurements a device's laws were fitted to.
fn measured(device: &Value) -> String {
    let fits = items(&device["stacks"])
        .iter()
        .flat_map(|stack| LAWS.map(|(law, _)| fit(device, stack, law)));
    let fitted = fits.filter(|fit| fit["basis"] == "fitted");
    let named = fitted.map(|fit| {
        let version = fit["version"].as_str().unwrap().split(", ").last().unwrap();
        format!("{} {version}", fit["framework"].as_str().unwrap())
    });
    let named: BTreeSet<String> = named.collect();
    if named.is_empty() {
        "datasheet".to_owned()
    } else {
        named.into_iter().map(|name| name.replace(" unknown", "")).collect::<Vec<_>>().join(", ")
    }
}

async fn gpus(app: &TestApp, engines: &[&str]) -> String {
    let engines_by = engines.iter().map(|engine| format!("with {engine}")).collect::<Vec<_>>();
    let mut names = vec!["GPU"];
    names.extend(engines_by.iter().map(String::as_str));
    names.extend(["links", "constants from"]);
    let mut table = head(&names);
    let list = app.get("/v1/devices").await.json();
    for device in items(&list["items"]) {
        let id = device["id"].as_str().unwrap();
        let links =
            if device["constants"]["collectives"].is_object() { "fitted" } else { "datasheet" };
        let mut cells = vec![format!("`{id}`")];
        cells.extend(engines.iter().map(|engine| basis(device, engine)));
        cells.extend([links.to_owned(), measured(device)]);
        table += &row(cells.iter().map(String::as_str));
    }
    table
}

/// Which strategies and options an engine runs with data-parallel attention, and how.
fn engines(result: &Value, engines: &[&str]) -> String {
    let strategies = items(&result["strategies"]);
    // One mode of every option: the one that its arguments alone switch on.
    let is_told = |option: &&Value| {
        let mut supports = items(&option["engine_support"]).iter();
        supports.any(|support| !items(&support["argv"]).is_empty())
    };
    let options: Vec<&Value> = items(&result["options"]).iter().filter(is_told).collect();
    let headed = |option: &&Value| {
        format!("{}: {}", option["id"].as_str().unwrap(), option["value"].as_str().unwrap())
    };
    let heads: Vec<String> = options.iter().map(headed).collect();
    let mut names = vec!["engine", "read at"];
    let mut shown: Vec<&Value> = Vec::new();
    for strategy in strategies {
        let name = strategy["strategy"].as_str().unwrap();
        if !names.contains(&name) {
            names.push(name);
            shown.push(strategy);
        }
    }
    names.extend(heads.iter().map(String::as_str));
    let mut table = head(&names);
    for engine in engines {
        let read = READ_AT.iter().find(|(name, _)| name == engine);
        let read = read.unwrap_or_else(|| panic!("READ_AT lacks {engine}")).1;
        let mut cells = vec![format!("`{engine}`"), read.to_owned()];
        for strategy in &shown {
            let support = items(&strategy["engine_support"]);
            let support = support.iter().find(|support| support["engine"] == *engine).unwrap();
            let how = support["because"].as_str().unwrap();
            cells.push(if support["runnable"] == true { how.to_owned() } else { "no".to_owned() });
        }
        for option in &options {
            let support = items(&option["engine_support"]);
            let support = support.iter().find(|support| support["engine"] == *engine).unwrap();
            let told: Vec<&str> =
                items(&support["argv"]).iter().map(|part| part.as_str().unwrap()).collect();
            cells.push(if told.is_empty() { "no".to_owned() } else { told.join(" ") });
        }
        table += &row(cells.iter().map(String::as_str));
    }
    table
}

fn formats() -> String {
    let mut table = head(&["format", "direction", "what"]);
    for reader in READERS {
        let ends: Vec<String> = reader.extensions.iter().map(|end| format!("`.{end}`")).collect();
        table += &row([&*ends.join(", "), "recordings in", reader.what]);
    }
    for writer in WRITERS {
        table += &row([&*format!("`{}`", writer.id), "recordings out", writer.what]);
    }
    for format in FORMATS {
        let what = format!("a plan as `{}`", format.media_type);
        table += &row([&*format!("`{}`", format.id), "placements in and out", &what]);
    }
    for format in READ_ONLY {
        table += &row([&*format!("`.{}`", format.extension), "placements in", format.what]);
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn the_support_matrix_is_what_the_service_lists() {
    let app = TestApp::start_advising().await;
    let asked = app
        .ask_and_wait(&json!({
            "model": "deepseek-v3",
            "cluster": {"device": "h200-sxm", "devices": 8, "link": "nvlink4"},
            "parallelism": {"attention_tensor": 1, "attention_data": 8},
            "workload": {"phase": "prefill", "tokens_per_step": 8192, "dtype": "fp8"},
            "routing": {"skewness": 1.6},
        }))
        .await
        .json();
    let strategies = items(&asked["result"]["strategies"]);
    let support = items(&strategies[0]["engine_support"]);
    let known: Vec<&str> = support.iter().map(|one| one["engine"].as_str().unwrap()).collect();
    let matrix = [
        gpus(&app, &known).await,
        engines(&asked["result"], &known),
        models(&app.get("/v1/models").await.json()),
        formats(),
    ];
    assert_part(
        "README.md",
        "support",
        &format!("\n{}\n", matrix.join("\n")),
        |shown, computed| shown == computed,
    );
}
