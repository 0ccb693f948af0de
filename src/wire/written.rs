//! How an answer is written for a person: the same words and digits in tables and on pages.

use indexmap::IndexMap;

use crate::wire::answer::{
    FlipPoint, GainBody, LayoutBody, OptionBody, OptionPriceBody, Recommendation, ResultBody,
    StrategyBody, TermsBody,
};
use crate::wire::outcome::MeasuredOutcome;

/// A term of a layer: its field, a short head, and its seconds.
pub type Term = (&'static str, &'static str, fn(&TermsBody) -> f64);

/// The terms of a layer in the order of a step.
pub const TERMS: [Term; 10] = [
    ("attention_s", "attention", |terms| terms.attention_s),
    ("all_reduce_s", "all-reduce", |terms| terms.all_reduce_s),
    ("router_s", "router", |terms| terms.router_s),
    ("dispatch_s", "dispatch", |terms| terms.dispatch_s),
    ("expert_ffn_s", "expert FFN", |terms| terms.expert_ffn_s),
    ("combine_s", "combine", |terms| terms.combine_s),
    ("predictor_s", "predictor", |terms| terms.predictor_s),
    ("rebalance_s", "rebalance", |terms| terms.rebalance_s),
    ("overlap_hidden_s", "hidden", |terms| terms.overlap_hidden_s),
    ("other_s", "other", |terms| terms.other_s),
];

/// What is advised: a strategy, or what runs now; nothing where nothing can be run.
#[must_use]
pub fn advised(advice: &Recommendation) -> Option<&str> {
    advice.strategy.as_deref().map(|strategy| match &*advice.verdict {
        "keep" => "what runs now",
        _ => strategy,
    })
}

/// The interval of a gain, where it has a width.
#[must_use]
pub fn gain(gain: Option<GainBody>) -> Option<String> {
    let gain = gain.filter(|gain| gain.high > gain.low * (1.0 + 1e-6))?;
    Some(format!("{:.3} to {:.3}", gain.low, gain.high))
}

/// By how much a ratio is above 1, in percent.
#[must_use]
pub fn percent(ratio: f64) -> String {
    format!("{:.1} %", (ratio - 1.0) * 100.0)
}

/// The strategies that some engine runs, the one advised, and the fastest of the others.
#[must_use]
pub fn shown(result: &ResultBody, all: bool) -> Vec<&StrategyBody> {
    let advised = result.recommendation.strategy.as_ref();
    let is_listed = |entry: &StrategyBody| {
        Some(&entry.strategy) == advised || entry.engine_support.iter().any(|one| one.runnable)
    };
    let latency = |entry: &&StrategyBody| entry.layer_latency_s.unwrap_or(f64::INFINITY);
    let others = result.strategies.iter().filter(|entry| !is_listed(entry));
    let best = others.min_by(|a, b| latency(a).total_cmp(&latency(b)));
    let is_shown = |entry: &&StrategyBody| {
        all || is_listed(entry) || best.is_some_and(|best| std::ptr::eq(*entry, best))
    };
    result.strategies.iter().filter(is_shown).collect()
}

/// Why strategies cannot be run, with the names of those it holds for.
#[must_use]
pub fn infeasible<'a>(shown: &[&'a StrategyBody]) -> IndexMap<&'a str, Vec<String>> {
    let mut reasons: IndexMap<&str, Vec<String>> = IndexMap::new();
    for entry in shown {
        if let Some(reason) = &entry.infeasible_reason {
            reasons.entry(reason).or_default().push(name(entry));
        }
    }
    reasons
}

/// Other layouts that are shown, the fastest that fit.
const LAYOUTS: usize = 2;

/// How a layout spreads attention and experts: `attention TP4 x DP2, experts EP8`.
#[must_use]
pub fn spread(layout: &LayoutBody) -> String {
    let LayoutBody { attention_tensor, attention_data, expert_parallel, expert_tensor, .. } =
        layout;
    let of = |parts: [(&str, u32); 2]| {
        let named = parts.iter().filter(|(_, devices)| *devices > 1);
        let named: Vec<String> = named.map(|(name, devices)| format!("{name}{devices}")).collect();
        if named.is_empty() { "whole".to_owned() } else { named.join(" x ") }
    };
    format!(
        "attention {}, experts {}",
        of([("TP", *attention_tensor), ("DP", *attention_data)]),
        of([("EP", *expert_parallel), ("TP", *expert_tensor)]),
    )
}

/// The other layouts that are shown.
pub fn other_layouts(result: &ResultBody) -> impl Iterator<Item = &LayoutBody> {
    result.layouts.iter().filter(|layout| layout.fits).take(LAYOUTS)
}

/// An option with its value and mode.
#[must_use]
pub fn option_name(option: &OptionBody) -> String {
    let mode = option.mode.as_ref().map_or_else(String::new, |mode| format!(" ({mode})"));
    format!("{}: {}{}", option.id, option.value, mode)
}

/// The engines that have an option.
#[must_use]
pub fn engines_with(option: &OptionBody) -> String {
    let runnable = option.engine_support.iter().filter(|support| support.runnable);
    let engines: Vec<&str> = runnable.map(|support| &*support.engine).collect();
    if engines.is_empty() { "no engine".to_owned() } else { engines.join(", ") }
}

/// The options that have a price, and what to tell of them.
pub fn priced_options(
    result: &ResultBody,
) -> impl Iterator<Item = (&OptionBody, &OptionPriceBody)> {
    result.options.iter().filter_map(|option| Some((option, option.price.as_ref()?)))
}

/// A strategy with its predictor.
#[must_use]
pub fn name(entry: &StrategyBody) -> String {
    match &entry.predictor {
        Some(predictor) => format!("{} ({})", entry.strategy, predictor.name),
        None => entry.strategy.to_string(),
    }
}

/// A value times a factor with so many digits; a dash where there is none.
pub fn scaled(value: impl Into<Option<f64>>, factor: f64, digits: usize) -> String {
    value.into().map_or_else(|| "-".to_owned(), |value| format!("{:.digits$}", value * factor))
}

/// The head of a table of what was measured.
pub const OUTCOMES: [&str; 6] =
    ["strategy", "measured", "measured ms", "forecast ms", "forecast off", "steps"];

/// A row of it: what was measured beside what had been forecast.
#[must_use]
pub fn outcome(outcome: &MeasuredOutcome) -> [String; 6] {
    let quantity = if outcome.tpot_s.is_some() { "TPOT" } else { "step" };
    [
        outcome.strategy.to_string(),
        quantity.to_owned(),
        scaled(outcome.tpot_s.or(outcome.step_s), 1e3, 3),
        scaled(outcome.forecast_s, 1e3, 3),
        off(outcome.forecast_error),
        outcome.steps.map_or_else(|| "-".to_owned(), |steps| steps.to_string()),
    ]
}

/// By which share a forecast is above what was measured, in percent; a dash where there was none.
#[must_use]
pub fn off(error: Option<f64>) -> String {
    error.map_or_else(|| "-".to_owned(), |error| format!("{:+.1} %", 100.0 * error))
}

/// A flip point's parameter and how its values are written for a person.
#[must_use]
pub fn quantity(parameter: &str) -> (&str, fn(f64) -> String) {
    match parameter {
        "link_bandwidth_bytes_per_s" => ("link bandwidth", gigabytes_per_s),
        "inter_node_bandwidth_bytes_per_s" => ("bandwidth between nodes", gigabytes_per_s),
        "tokens_per_step" => ("tokens per step", |value| format!("{value:.0}")),
        "output_tokens" => ("output tokens", |value| format!("{value:.0}")),
        "devices" => ("devices", |value| format!("{value:.0}")),
        "predictor_accuracy" => ("predictor accuracy", |value| format!("{value:.3}")),
        "predictor_overhead_s" => ("predictor overhead", |value| format!("{:.1} µs", value * 1e6)),
        other => (other, |value| format!("{value:.3}")),
    }
}

/// A change of the copies of experts, in words; `None` where it is the strategy that changes.
#[must_use]
pub fn copies(flip: &FlipPoint) -> Option<String> {
    let state = flip.copies.as_deref()?;
    let (name, written) = quantity(&flip.parameter);
    Some(match (flip.value, flip.range) {
        (Some(value), _) => format!("copies are {state} from {name} {} on", written(value)),
        (None, Some([low, high])) => {
            format!("copies are {state} with {name} from {} to {}", written(low), written(high))
        }
        (None, None) => format!("copies are {state}"),
    })
}

fn gigabytes_per_s(value: f64) -> String {
    let gigabytes = value * 1e-9;
    let digits = if gigabytes < 100.0 { 2 } else { 0 };
    format!("{gigabytes:.digits$} GB/s")
}
