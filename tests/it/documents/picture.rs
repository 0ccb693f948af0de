//! The picture of the README: the headline answer, drawn.

use std::fmt::Write as _;

use moe_gps_core::charts::escaped;
use serde_json::Value;

use super::{REFRESH, answers, root};

const FILE: &str = "docs/answer.svg";
const WIDTH: f64 = 860.0;
/// Where bars begin and how long the longest is.
const BARS: (f64, f64) = (215.0, 470.0);
/// Top of the first bar, and the distance between two.
const ROWS: (f64, f64) = (84.0, 36.0);
const BAR: f64 = 24.0;
/// Colours that every common colour vision distinguishes (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#56b4e9", "#0072b2", "#f0e442", "#e69f00", "#009e73", "#cc79a7", "#d55e00"];

/// One bar: a strategy or the ceiling.
struct Bar<'a> {
    name: String,
    latency_s: f64,
    speedup: f64,
    /// Terms of the layer in the order of a step, seconds.
    terms: Vec<(&'a str, f64)>,
}

fn bar(entry: &Value) -> Option<Bar<'_>> {
    let strategy = entry["strategy"].as_str()?;
    let predictor = entry["predictor"]["name"].as_str();
    Some(Bar {
        name: predictor.map_or(strategy.to_owned(), |name| format!("{strategy} ({name})")),
        latency_s: entry["layer_latency_s"].as_f64()?,
        speedup: entry["speedup_over_none"].as_f64()?,
        terms: entry["terms"]
            .as_object()?
            .iter()
            .map(|(name, time)| (name.as_str(), time.as_f64().unwrap()))
            .collect(),
    })
}

fn picture(result: &Value) -> String {
    let ceiling = &result["ceiling"];
    let mut bars: Vec<Bar> =
        result["strategies"].as_array().unwrap().iter().filter_map(bar).collect();
    bars.push(Bar {
        name: "perfect balance at no cost".to_owned(),
        latency_s: ceiling["layer_latency_s"].as_f64().unwrap(),
        speedup: ceiling["speedup_over_none"].as_f64().unwrap(),
        terms: Vec::new(),
    });
    let longest = bars.iter().map(|bar| bar.latency_s).fold(0.0, f64::max);
    let mut terms: Vec<&str> = Vec::new();
    for (term, time) in bars.iter().flat_map(|bar| &bar.terms) {
        if *time > 0.0 && !terms.contains(term) {
            terms.push(term);
        }
    }
    let advised = result["recommendation"]["strategy"].as_str().unwrap();
    let best = bars.iter().find(|bar| bar.name == advised).unwrap();
    let height = ROWS.0 + ROWS.1 * bars.len() as f64 + 44.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"An answer of moe-gps\">\n\
         <style>text{{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#222}}.end{{text-anchor:end}}\
         .title{{font-size:18px;font-weight:600}}.advised{{font-weight:700}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#fff\" stroke=\"#ccc\"/>\n\
         <text class=\"title\" x=\"20\" y=\"34\">Recommended: {advised}, {:.1} % faster than none\
         </text>\n<text x=\"20\" y=\"58\">Mixtral 8x7B, prefill of 512 tokens on four A100 with NVLink \
         3, by the formulas of MoE-GPS: time per layer, speed-up</text>\n",
        (best.speedup - 1.0) * 100.0
    );
    for (row, bar) in bars.iter().enumerate() {
        draw(&mut svg, bar, ROWS.0 + ROWS.1 * row as f64, longest, (&terms, advised));
    }
    let y = ROWS.0 + ROWS.1 * bars.len() as f64 + 10.0;
    for (place, term) in terms.iter().enumerate() {
        let x = 20.0 + 138.0 * place as f64;
        let name = term.trim_end_matches("_s").replace('_', " ");
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"14\" height=\"14\" fill=\"{}\"/><text x=\"{}\" y=\"{}\">\
             {name}</text>",
            COLOURS[place % COLOURS.len()],
            x + 20.0,
            y + 12.0
        );
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, bar: &Bar, y: f64, longest: f64, (terms, advised): (&[&str], &str)) {
    let class = if bar.name == advised { " advised" } else { "" };
    let (start, text) = (BARS.0, y + 17.0);
    let width = |time: f64| time / longest * BARS.1;
    let _ = writeln!(
        svg,
        "<text class=\"end{class}\" x=\"{}\" y=\"{text}\">{}</text>",
        start - 10.0,
        escaped(&bar.name)
    );
    let mut x = start;
    for (term, time) in bar.terms.iter().filter(|(_, time)| *time > 0.0) {
        let place = terms.iter().position(|one| one == term).unwrap();
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
            width(*time),
            COLOURS[place % COLOURS.len()]
        );
        x += width(*time);
    }
    if bar.terms.is_empty() {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"none\" \
             stroke=\"#777\" stroke-dasharray=\"5 3\"/>",
            width(bar.latency_s)
        );
        x += width(bar.latency_s);
    }
    let _ = writeln!(
        svg,
        "<text class=\"{}\" x=\"{:.1}\" y=\"{text}\">{:.1} µs, {:.3} ×</text>",
        class.trim_start(),
        x + 8.0,
        bar.latency_s * 1e6,
        bar.speedup
    );
}

#[test]
fn the_picture_is_the_headline_answer() {
    let printed =
        answers::printed(&["advise", "examples/questions/paper-mixtral-a100.json", "--json"]);
    let computed = picture(&serde_json::from_str(&printed).unwrap());
    let file = root().join(FILE);
    if std::env::var_os("MOE_GPS_REFRESH").is_some() {
        std::fs::write(&file, &computed).unwrap();
    }
    let shown = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(shown == computed, "{FILE} is not as computed; {REFRESH}");
}
