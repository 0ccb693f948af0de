//! What to switch on today: models, devices, sizes of the expert group and kinds of work, each with
//! the strategy that is advised, what it gains, what decides, and which options add to it.
//!
//! The figure of the MoE-GPS paper that picks a strategy (its Figure 1) for the fleets of today. Every
//! cell is an answer of the service, priced without flip points.

use std::fmt::Write as _;

use serde_json::{Value, json};

use moe_gps_core::advice::choose::{Choice, Verdict};
use moe_gps_core::advice::option_prices::PricedOption;
use moe_gps_core::advice::{Advised, Unrecorded, advise};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::charts::{escaped, figure};
use moe_gps_core::pricing::error::PricingError;
use moe_gps_core::strategies::LIST;
use moe_gps_core::terms::NAMES;

use crate::reproduce::{Document, Read};

/// A model with the routing that was recorded of it, or of a smaller one of its family.
pub(crate) struct Model {
    pub(crate) id: &'static str,
    /// Mean over layers of the expert skewness.
    skewness: f64,
    /// How far loads of one kind of traffic are from those of another.
    distribution_error: f64,
    source: &'static str,
}

/// Recordings that are public; the figures are ours.
pub(crate) const MODELS: [Model; 3] = [
    Model {
        id: "deepseek-v3",
        skewness: 8.1,
        distribution_error: 0.22,
        source: "DeepSeek-V3, prompts of 4,096 tokens forecast by prompts of 1,024 \
                 (sgl-project/sglang issue 6017)",
    },
    Model {
        id: "qwen3-235b-a22b",
        skewness: 8.7,
        distribution_error: 0.22,
        source: "Qwen3-30B-A3B on GSM8K (sarelWeinberger/qwen-hebrew-finetuning), with the forecast \
                 error of DeepSeek-V3",
    },
    Model {
        id: "gpt-oss-120b",
        skewness: 2.8,
        distribution_error: 0.35,
        source: "gpt-oss-20b on MMLU-Pro, forecast by MMLU \
                 (AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting)",
    },
];

/// A device by catalog id, its link, and the devices that one link joins.
pub(crate) const DEVICES: [(&str, &str, u32); 2] =
    [("h200-sxm", "nvlink4", 8), ("b200-sxm", "nvlink5", 8)];

/// Sizes of the group that experts are spread over.
pub(crate) const SIZES: [u32; 2] = [8, 32];

/// What is computed, by its name; tokens and sequences are those of one device.
const WORK: [&str; 3] = ["prefill", "decode", "serving"];

impl Model {
    /// What a question says of its routing.
    pub(crate) fn routing(&self) -> Value {
        json!({"skewness": self.skewness, "distribution_error": self.distribution_error})
    }
}

/// The question of a cell: a model by catalog id, device, size of the group, work, and routing.
pub(crate) fn question_with(
    model: &str,
    (device, link, per_node): (&str, &str, u32),
    size: u32,
    work: &str,
    routing: &Value,
) -> Value {
    let nodes = size.div_ceil(per_node);
    let mut workload = match work {
        "prefill" => json!({"batch_size": size, "sequence_length": 4096}),
        "decode" => json!({"batch_size": 64 * size, "kv_length": 4096}),
        _ => json!({"input_tokens": 2048, "output_tokens": 512, "concurrency": 64 * size}),
    };
    workload["phase"] = work.into();
    workload["dtype"] = "fp8".into();
    let mut cluster = json!({"device": device, "devices": size, "nodes": nodes, "link": link});
    if nodes > 1 {
        cluster["inter_node_link"] = "ib400".into();
    }
    json!({
        "model": model,
        "cluster": cluster,
        "parallelism": {"attention_tensor": 1, "attention_data": size},
        "workload": workload,
        "engine": {"name": "sglang", "all2all_backend": "deepep"},
        "routing": routing,
        "flip_points": false,
    })
}

/// The answer of one cell, as far as it is shown.
struct Cell {
    /// The strategy's id; `None` where nothing can be run.
    strategy: Option<&'static str>,
    is_sure: bool,
    text: String,
}

/// A row of cells: one device and size.
struct Row {
    model: &'static str,
    at: String,
    cells: Vec<Cell>,
}

/// The page and the picture, whose questions `read` reads.
pub fn documents<E: From<PricingError>>(read: Read<E>) -> Result<Vec<Document>, E> {
    let mut rows = Vec::new();
    for model in &MODELS {
        for device in DEVICES {
            for size in SIZES {
                let cells = WORK.iter().map(|work| {
                    let (asked, known) =
                        read(&question_with(model.id, device, size, work, &model.routing()))?;
                    let missing = Vec::new();
                    let advised =
                        advise(&asked, &known, missing, None::<&mut Unrecorded>, Cancel::NEVER)?;
                    Ok(cell(&advised))
                });
                let cells = cells.collect::<Result<_, E>>()?;
                let at = format!("{} × {}", size, device.0);
                rows.push(Row { model: model.id, at, cells });
            }
        }
    }
    Ok(vec![
        Document { path: "guidelines.svg".to_owned(), text: picture(&rows) },
        Document { path: "guidelines.md".to_owned(), text: page(&rows) },
    ])
}

fn cell(advised: &Advised) -> Cell {
    let Some(choice) = &advised.choice else {
        let why = advised.entries.iter().find_map(|entry| entry.infeasible.clone());
        let why = why.unwrap_or_default();
        let short = why.split([':', ';']).next().unwrap_or_default().to_owned();
        return Cell { strategy: None, is_sure: false, text: format!("nothing: {short}") };
    };
    let strategy = advised.entries[choice.chosen].strategy;
    let is_sure = choice.verdict == Verdict::Recommended;
    let mut text = format!("`{}`", strategy.id());
    if choice.chosen != choice.baseline {
        let gain = choice.gain;
        let _ = write!(text, " {:.2}× ({:.2} to {:.2})", gain.mid, gain.low, gain.high);
    }
    match choice.verdict {
        Verdict::Tie => text.push_str(", not known to be faster"),
        Verdict::InsufficientEvidence => text.push_str(", evidence missing"),
        _ => {}
    }
    let _ = write!(text, "; {}", decides(advised, choice));
    let sure = advised.options.iter().filter(|option| option.gains_surely());
    for PricedOption { option, price, .. } in sure {
        let gain = price.as_ref().map_or(1.0, |price| price.gain.mid);
        let mode = option.mode.map_or_else(String::new, |mode| format!(" ({mode})"));
        let _ = write!(text, "; {}: {}{mode} {gain:.2}×", option.id, option.value);
    }
    Cell { strategy: Some(strategy.id()), is_sure, text }
}

/// The term in which the choice and its rival differ most.
fn decides(advised: &Advised, choice: &Choice) -> String {
    let other =
        if choice.chosen == choice.baseline { choice.runner_up } else { Some(choice.baseline) };
    let terms = |index: usize| advised.entries[index].terms;
    let Some((chosen, other)) = terms(choice.chosen).zip(other.and_then(terms)) else {
        return "no rival has a price".to_owned();
    };
    let saved = other.with(&chosen, |other, chosen| (other - chosen).get());
    let most = NAMES.iter().zip(saved.named()).max_by(|a, b| a.1.1.abs().total_cmp(&b.1.1.abs()));
    most.map_or_else(String::new, |(name, (_, saved))| {
        let does = if saved >= 0.0 { "saves" } else { "costs" };
        format!("{does} {:.0} µs of {name}", saved.abs() * 1e6)
    })
}

fn page(rows: &[Row]) -> String {
    let mut page = "# What to switch on\n\n\
         Written by `moe-gps guidelines --out docs`; a test compares this page and its picture with what \
         is computed. Every cell is an answer of the service: SGLang with DeepEP, data-parallel \
         attention, 8-bit weights, two nodes and more joined by 400 Gb/s InfiniBand a GPU. A GPU prefills \
         one prompt of 4,096 tokens in a step, decodes 64 sequences of 4,096 tokens, or serves 64 requests \
         of 2,048 tokens in and 512 out. A gain is over `none`, with its interval; behind it stands the \
         term in which the choice and its rival differ most, then every option whose least gain is a gain \
         beside that strategy.\n\n\
         ![What to switch on](guidelines.svg)\n\n\
         Routing as recorded:\n\n\
         | model | skewness | forecast error | recording |\n| --- | --- | --- | --- |\n"
        .to_owned();
    for Model { id, skewness, distribution_error, source } in &MODELS {
        let _ = writeln!(page, "| `{id}` | {skewness} | {distribution_error} | {source} |");
    }
    page.push_str(
        "\nOnly skewness and error of these recordings are used: which expert is hot is drawn, and the \
         answer is the median of 256 orders. A recording of one's own traffic says more.\n",
    );
    for model in &MODELS {
        let _ = writeln!(
            page,
            "\n## {}\n\n| GPUs | {} |\n| --- |{}",
            model.id,
            WORK.join(" | "),
            " --- |".repeat(WORK.len())
        );
        for row in rows.iter().filter(|row| row.model == model.id) {
            let cells: Vec<&str> = row.cells.iter().map(|cell| cell.text.as_str()).collect();
            let _ = writeln!(page, "| {} | {} |", row.at, cells.join(" | "));
        }
    }
    page
}

/// Width of the names at the left, and width and height of a cell, in the unit of the picture.
const NAMES_WIDTH: f64 = 270.0;
const CELL: (f64, f64) = (190.0, 26.0);

/// The strategies as coloured cells; what is not known to be faster is pale.
fn picture(rows: &[Row]) -> String {
    let width = NAMES_WIDTH + CELL.0 * WORK.len() as f64 + 14.0;
    let top = 64.0;
    let height = top + CELL.1 * rows.len() as f64 + 34.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"What to switch on\">\n<style>text{{font:12px \
         system-ui,'DejaVu Sans',sans-serif;fill:#111}}.title{{font-size:15px;font-weight:600}}\
         .end{{text-anchor:end}}.mid{{text-anchor:middle}}.nothing{{fill:#fff;stroke:#888}}\
         .open{{fill-opacity:.35}}{}</style>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text class=\"title\" x=\"14\" y=\"24\">What to switch on (SGLang, recorded skewness)</text>\n",
        figure::strategies()
    );
    for (at, work) in WORK.iter().enumerate() {
        let x = NAMES_WIDTH + CELL.0 * (at as f64 + 0.5);
        let _ = writeln!(svg, "<text class=\"mid\" x=\"{x}\" y=\"{}\">{work}</text>", top - 10.0);
    }
    for (at, row) in rows.iter().enumerate() {
        let y = top + CELL.1 * at as f64;
        let _ = writeln!(
            svg,
            "<text class=\"end\" x=\"{}\" y=\"{}\">{}, {}</text>",
            NAMES_WIDTH - 10.0,
            y + 17.0,
            escaped(row.model),
            escaped(&row.at)
        );
        for (column, cell) in row.cells.iter().enumerate() {
            let x = NAMES_WIDTH + CELL.0 * column as f64;
            let class = cell.strategy.unwrap_or("nothing");
            let open = if cell.is_sure { "" } else { " open" };
            let _ = writeln!(
                svg,
                "<rect class=\"{class}{open}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\"><title>{}\
                 </title></rect><text class=\"mid\" x=\"{}\" y=\"{}\">{}</text>",
                CELL.0 - 2.0,
                CELL.1 - 2.0,
                escaped(&cell.text),
                x + CELL.0 / 2.0,
                y + 17.0,
                cell.strategy.unwrap_or("does not fit")
            );
        }
    }
    let known = LIST.iter().map(|strategy| strategy.id()).collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        svg,
        "<text x=\"14\" y=\"{}\">of {known}; pale: not known to be faster than none</text>\n</svg>",
        height - 12.0
    );
    svg
}
