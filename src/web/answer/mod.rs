//! One answer: the verdict first, then where the time goes, what would change it, and what to run.

mod basis;
pub mod charts;
mod plan;

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::Value;

use crate::web::parts::{copied, indented, moment, prose, table, warnings};
use crate::web::{Page, alone};
use crate::wire::answer::{LaunchBody, ResultBody, ServingBody, StrategyBody};
use crate::wire::outcome::MeasuredOutcome;
use crate::wire::time::Moment;
use crate::wire::written::{
    OUTCOMES, advised, engines_with, gain, infeasible, name, option_name, other_layouts, outcome,
    priced_options, scaled, shown, spread,
};

/// An answer with its question.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Its id in a service; none where it was computed without one.
    pub id: Option<&'a str>,
    /// The labels of the ask.
    pub labels: BTreeMap<String, String>,
    /// When it was asked.
    pub asked: Option<Moment>,
    /// The question.
    pub request: &'a Value,
    /// The answer.
    pub result: &'a ResultBody,
    /// The placement plan as JSON, where there is one.
    pub plan: Option<&'a str>,
    /// What was measured since.
    pub outcomes: &'a [MeasuredOutcome],
    /// How engines are started to follow it, that of the question first.
    pub launches: &'a [LaunchBody],
}

impl Answer<'_> {
    /// The page in a service.
    #[must_use]
    pub fn html(&self) -> String {
        Page { title: self.title(), body: self.body(), ..Page::default() }.html()
    }

    /// The page as a file of its own.
    #[must_use]
    pub fn alone(&self) -> String {
        alone(&self.title(), &self.body())
    }

    fn title(&self) -> String {
        let advice = &self.result.recommendation;
        let model = self.model();
        match advised(advice) {
            Some(strategy) => format!("{strategy} for {model}"),
            None => format!("nothing can be run for {model}"),
        }
    }

    fn model(&self) -> String {
        let family = || self.result.provenance.model.family.clone();
        self.request["model"].as_str().map_or_else(family, ToOwned::to_owned)
    }

    fn body(&self) -> Markup {
        let result = self.result;
        let shown = shown(result, false);
        html! {
            p class="facts" { (self.facts().join(" · ")) }
            h1 { (verdict(result)) }
            (warnings(&result.warnings))
            p class="finding" { (prose(&result.recommendation.reason)) }
            (self.figures())
            p class="facts no-print" {
                @if !self.labels.is_empty() {
                    span class="labels" {
                        @for (name, text) in &self.labels {
                            span { (name) @if !text.is_empty() { ": " (text) } }
                        }
                    }
                    " "
                }
                @if let Some(asked) = self.asked { "Asked " (moment(asked)) ". " }
                @if let Some(id) = self.id {
                    a href=(format!("/ask?from={id}")) { "Ask a variant" } " · "
                    a href=(format!("/map?from={id}")) { "Map" } " · "
                    a href=(format!("/predictors?from={id}")) { "Price your own predictors" }
                }
            }
            h2 { "Where the time of a layer goes" }
            (charts::terms(result, &shown))
            (strategies(result, &shown))
            (measured(self.outcomes))
            (charts::term_table(result, &shown))
            (options(result))
            (charts::flips(self.request, result))
            (charts::predictors(result))
            (charts::slots(result))
            (charts::imbalance(result))
            (charts::busiest_layer(result))
            (plan::launches(self))
            (plan::placement(self))
            h2 { "To confirm it" }
            p { (prose(&result.confirm)) }
            (basis::section(result, &shown))
            h2 { "The question" }
            details class="behind" {
                summary { "The question as it was understood, as JSON" }
                (copied(&indented(self.request)))
            }
        }
    }

    /// What was asked, in a few words.
    fn facts(&self) -> Vec<String> {
        let text = |pointer: &str| match self.request.pointer(pointer) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let device = text("/cluster/device").unwrap_or_else(|| "a device of the question".into());
        let devices = text("/cluster/devices").unwrap_or_default();
        let mut facts = vec![self.model(), format!("{devices} × {device}")];
        facts.extend(text("/engine/name"));
        let workload = self.request.get("workload").and_then(Value::as_object);
        for (field, value) in workload.into_iter().flatten() {
            match (field.as_str(), value) {
                ("phase", Value::String(phase)) => facts.push(phase.to_lowercase()),
                (_, Value::Number(number)) => {
                    facts.push(format!("{} {number}", field.replace('_', " ")));
                }
                _ => {}
            }
        }
        facts
    }

    /// The numbers one looks for first.
    fn figures(&self) -> Markup {
        let result = self.result;
        let advice = &result.recommendation;
        let predictor = advice.predictor.as_ref().map(|one| &one.name);
        let is_advised = |entry: &&StrategyBody| {
            Some(&entry.strategy) == advice.strategy.as_ref()
                && entry.predictor.as_ref().map(|one| &one.name) == predictor
        };
        let Some(entry) = result.strategies.iter().find(is_advised) else { return html! {} };
        let mut figures: Vec<(String, String, Option<String>)> = Vec::new();
        let mut add = |name: &str, value: String, more: Option<String>| {
            figures.push((name.to_owned(), value, more));
        };
        match entry.serving {
            Some(ServingBody::Server(server)) => {
                let per_gpu = scaled(server.tokens_per_s_per_device, 1.0, 0);
                add("Tokens/s per GPU", per_gpu, None);
                add("TPOT", format!("{} ms", scaled(server.tpot_s, 1e3, 2)), None);
                if server.ttft_s.is_some() {
                    add("TTFT", format!("{} ms", scaled(server.ttft_s, 1e3, 1)), None);
                }
            }
            Some(ServingBody::AtTpot(at)) => {
                let sequences = Some(format!("{} sequences at once", at.sequences));
                add("Tokens/s", scaled(at.tokens_per_s, 1.0, 0), sequences);
                add("TPOT", format!("{} ms", scaled(at.step_latency_s, 1e3, 2)), None);
            }
            None => {
                let tokens =
                    result.provenance.system.get("tokens_per_step").and_then(Value::as_f64);
                let rate = tokens.zip(entry.model_latency_s).map(|(tokens, step)| tokens / step);
                let is_decode = self.request["workload"]["phase"]
                    .as_str()
                    .is_some_and(|phase| phase.eq_ignore_ascii_case("decode"));
                let step = if is_decode { "TPOT" } else { "Step" };
                let more = Some("all layers, one step".to_owned());
                add("Tokens/s", scaled(rate, 1.0, 0), Some("all GPUs".to_owned()));
                add(step, format!("{} ms", scaled(entry.model_latency_s, 1e3, 2)), more);
            }
        }
        let against = format!("Speed-up over {}", advice.baseline);
        let mid = advice.gain.map(|gain| gain.mid).or(advice.speedup_over_none);
        add(&against, format!("{} ×", scaled(mid, 1.0, 3)), gain(advice.gain));
        let ceiling = format!("{} ×", scaled(result.ceiling.speedup_over_none, 1.0, 3));
        let perfect = Some("perfect balance at no cost".to_owned());
        add("Ceiling over none", ceiling, perfect);
        html! {
            dl class="figures" {
                @for (name, value, more) in figures {
                    div {
                        dt { (name) }
                        dd { (value) @if let Some(more) = more { small { (more) } } }
                    }
                }
            }
        }
    }
}

/// The verdict as a sentence.
fn verdict(result: &ResultBody) -> Markup {
    let advice = &result.recommendation;
    let Some(strategy) = advice.strategy.as_deref() else {
        return html! { "Nothing can be run as it was asked" };
    };
    let predictor = advice.predictor.as_ref().map(|one| &one.name);
    let named = html! {
        @if strategy == "none" { "without balancing" }
        @else { code { (strategy) } @if let Some(predictor) = predictor { " with " (predictor) } }
    };
    match &*advice.verdict {
        "keep" => html! { "Keep what runs now" },
        "tie" => html! { "Run " (named) ": nothing is known to be faster" },
        "insufficient_evidence" => {
            html! { "Run " (named) " if you must choose: the evidence does not suffice" }
        }
        _ => html! { "Run " (named) },
    }
}

/// All strategies side by side, as the command line prints them.
fn strategies(result: &ResultBody, shown: &[&StrategyBody]) -> Markup {
    let advice = &result.recommendation;
    let against = format!("over {}", advice.baseline);
    let head = ["Strategy", "Layer µs", "Step ms", &against, "Interval", " Runs on"];
    let plain = |cells: [String; 6]| cells.map(|cell| html! { (cell) }).to_vec();
    let mut rows: Vec<Vec<Markup>> = shown
        .iter()
        .map(|entry| {
            let runnable = entry.engine_support.iter().filter(|support| support.runnable);
            let runs_on: Vec<&str> = runnable.map(|support| &*support.engine).collect();
            let mid = entry.gain.map(|gain| gain.mid).or(entry.speedup_over_none);
            plain([
                name(entry),
                scaled(entry.layer_latency_s, 1e6, 1),
                scaled(entry.model_latency_s, 1e3, 3),
                if entry.feasible { scaled(mid, 1.0, 4) } else { "not feasible".to_owned() },
                gain(entry.gain).unwrap_or_default(),
                if runs_on.is_empty() { "no engine today".to_owned() } else { runs_on.join(", ") },
            ])
        })
        .collect();
    let none = shown.iter().find(|entry| entry.strategy == "none");
    let none = none.and_then(|entry| entry.layer_latency_s);
    rows.extend(other_layouts(result).map(|layout| {
        plain([
            format!("({})", spread(layout)),
            scaled(layout.layer_latency_s, 1e6, 1),
            scaled(layout.model_latency_s, 1e3, 3),
            scaled(none.map(|none| none / layout.layer_latency_s), 1.0, 4),
            String::new(),
            format!("another layout: {} GB a GPU", scaled(layout.needed_bytes, 1e-9, 1)),
        ])
    }));
    html! {
        (table("Strategies side by side", &head, &rows))
        @for (reason, names) in infeasible(shown) {
            p { (names.join(", ")) ": not feasible, " (reason) }
        }
        (phases(shown))
    }
}

/// What was measured, beside the forecast.
fn measured(outcomes: &[MeasuredOutcome]) -> Markup {
    if outcomes.is_empty() {
        return html! {};
    }
    let head = [&OUTCOMES[..], &[" reported", " note"]].concat();
    let rows: Vec<Vec<Markup>> = outcomes
        .iter()
        .map(|one| {
            let mut row = outcome(one).map(|cell| html! { (cell) }).to_vec();
            let note = html! { (one.note.as_deref().unwrap_or_default()) };
            row.extend([moment(one.created_at), note]);
            row
        })
        .collect();
    html! {
        h3 { "What was measured, beside the forecast" }
        (table("What was measured, beside the forecast", &head, &rows))
    }
}

/// Options that are priced under the advised strategy, each on its own.
fn options(result: &ResultBody) -> Markup {
    let rows: Vec<Vec<Markup>> = priced_options(result)
        .map(|(option, price)| {
            let cells = [
                option_name(option),
                scaled(price.layer_latency_off_s, 1e6, 1),
                scaled(price.layer_latency_on_s, 1e6, 1),
                scaled(price.gain.mid, 1.0, 4),
                gain(Some(price.gain)).unwrap_or_default(),
                engines_with(option),
            ];
            cells.map(|cell| html! { (cell) }).to_vec()
        })
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    let head = ["Option", "Layer off µs", "Layer on µs", "Off over on", "Interval", " Runs on"];
    html! {
        h2 { "What options of engines add" }
        p { "Each on its own, on drawn steps under the plan that is advised; no price above has one in it." }
        (table("Options, each on its own", &head, &rows))
    }
}

/// How much faster the kinds of steps of a server are.
fn phases(shown: &[&StrategyBody]) -> Markup {
    let Some(first) = shown.iter().find(|entry| !entry.phases.is_empty()) else {
        return html! {};
    };
    let steps = first
        .phases
        .iter()
        .map(|one| format!("{}, {:.0} % of steps", one.phase, 100.0 * one.share_of_steps));
    let mut head = vec!["Server".to_owned()];
    head.extend(["TTFT ms", "TPOT ms", "Tokens/s/GPU", "GPUs saved"].map(ToOwned::to_owned));
    head.extend(steps);
    let rows = shown.iter().filter_map(|entry| {
        let Some(ServingBody::Server(server)) = entry.serving else { return None };
        let mut row = vec![
            name(entry),
            scaled(server.ttft_s, 1e3, 1),
            scaled(server.tpot_s, 1e3, 2),
            scaled(server.tokens_per_s_per_device, 1.0, 0),
            scaled(server.devices_saved.map(|saved| saved.mid), 1.0, 2),
        ];
        row.extend(entry.phases.iter().map(|one| scaled(one.speedup_over_none, 1.0, 4)));
        Some(row.into_iter().map(|cell| html! { (cell) }).collect())
    });
    let rows: Vec<Vec<Markup>> = rows.collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    html! {
        h3 { "What a server gives its users, and the speed-up of its kinds of steps over none" }
        (table("What a server gives its users", &head, &rows))
    }
}
