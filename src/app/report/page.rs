//! A report as one page that needs nothing beside itself.

use std::fmt::Write as _;

use crate::wire::report::{DriftBody, ForecastBody, Imbalance, Slots, Steps, TraceReport};
use moe_gps_core::charts::escaped;
use moe_gps_core::charts::inline::{LEVELS, Line, heat_map, legend, level, line_chart};

/// The style of a page, in light, dark and print.
pub const STYLE: &str = include_str!("page.css");

/// The report as a self-contained page.
#[must_use]
pub fn html(report: &TraceReport) -> String {
    let title = escaped(report.name.as_deref().unwrap_or(&report.id));
    let mut page = String::with_capacity(64 * 1024);
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Routing of {title}</title><style>{STYLE}</style></head><body><main>\
         <h1>Routing of {title}</h1><p class=\"facts\">{}</p>",
        facts(report)
    );
    // What is doubtful stands before what follows from it.
    if !report.warnings.is_empty() {
        page.push_str("<ul class=\"warnings\">");
        for warning in &report.warnings {
            let _ = write!(page, "<li>{}</li>", escaped(warning));
        }
        page.push_str("</ul>");
    }
    let _ = write!(page, "<p class=\"finding\">{}</p>", escaped(&report.finding));
    balance(&mut page, report);
    let _ = write!(
        page,
        "<h2>Load of every expert</h2><p>Tokens an expert takes over the mean of its layer, by \
         layer (downwards) and expert.</p>{}{}",
        levels(),
        heat_map(&report.expert_shares, &report.layers)
    );
    if let Some(steps) = &report.steps {
        single_steps(&mut page, steps, &report.slots);
    }
    if let Some(drift) = &report.drift {
        drifting(&mut page, drift);
    }
    ageing(&mut page, &report.forecasts);
    let _ = write!(
        page,
        "<footer>Trace {}. Made by moe-gps {}.</footer></main></body></html>",
        escaped(&report.id),
        env!("CARGO_PKG_VERSION")
    );
    page
}

fn facts(report: &TraceReport) -> String {
    let mut facts = vec![
        format!("{} devices", report.devices),
        format!("{} layers with routing", report.layers.len()),
        format!("{} experts", report.experts),
    ];
    facts.extend(report.top_k.map(|k| format!("{k} per token")));
    facts.extend(report.tokens.map(|n| format!("{n} tokens")));
    facts.join(" · ")
}

/// Imbalance now, its ceiling, and what plans make of it.
fn balance(page: &mut String, report: &TraceReport) {
    let Imbalance { max_over_mean, mean_over_max, excess } = &report.imbalance;
    page.push_str(
        "<h2>Imbalance of the devices</h2><p>Experts laid out one after the other, the whole \
         recording, in the three conventions engines print.</p><table tabindex=\"0\"><tr><th>convention<th>mean \
         over layers<th>most uneven layer</tr>",
    );
    for (name, convention) in [
        ("max/mean", max_over_mean),
        ("mean/max (vLLM, SGLang: balancedness)", mean_over_max),
        ("(max − mean)/mean (TensorRT-LLM)", excess),
    ] {
        let _ = write!(
            page,
            "<tr><td>{name}<td>{:.3}<td>{:.3}</tr>",
            convention.mean, convention.worst
        );
    }
    let ceiling = &report.ceiling;
    let parts = if report.drift.is_some() {
        "Plans made on the first half of the recording; max/mean GPU load there (in-sample) and on the \
         rest (held-out)."
    } else {
        "Plans are made and scored on the same load: one count matrix has no held-out part."
    };
    let _ = write!(
        page,
        "</table><p>Ceiling: perfect balance makes the expert computation at most {:.2} times as \
         fast ({:.1} % of its time): {}.</p><h2>What slots would buy</h2><p>{parts}</p><table tabindex=\"0\"><tr><th>plan<th>slots per device<th>in-sample<th>held-out\
         <th>worst layer<th>expert time saved</tr>",
        ceiling.expert_speedup_at_most,
        ceiling.expert_time_saved_at_most * 100.0,
        escaped(&ceiling.because)
    );
    for slots in &report.slots {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{:.3}<td>{:.3}<td>{:.3}<td>{:.1} %</tr>",
            plan_name(slots),
            slots.slots_per_device,
            slots.in_sample.mean,
            slots.held_out.mean,
            slots.held_out.worst,
            slots.expert_time_saved * 100.0
        );
    }
    let labels: Vec<String> = report.layers.iter().map(u16::to_string).collect();
    let lines: Vec<Line> = report
        .slots
        .iter()
        .map(|slots| Line { name: plan_name(slots), values: &slots.per_layer })
        .collect();
    let chart = line_chart(&lines, &labels, ["layer", "max/mean GPU load, held-out"], 1.0);
    let _ = write!(page, "</table>{}{chart}", legend(&lines));
}

fn plan_name(slots: &Slots) -> String {
    match (&*slots.plan, slots.extra_slots) {
        ("contiguous", _) => "one after the other".to_owned(),
        (_, 0) => "best, no extra slot".to_owned(),
        (_, extra) => format!("best, {extra} extra slots"),
    }
}

fn single_steps(page: &mut String, steps: &Steps, slots: &[Slots]) {
    let size = match (steps.tokens_per_step, steps.recorded_steps_per_step) {
        (Some(tokens), _) => format!("{tokens} tokens"),
        (None, Some(1)) => "one recorded step".to_owned(),
        (None, n) => format!("{} recorded steps", n.unwrap_or(1)),
    };
    let _ = write!(
        page,
        "<h2>Single steps</h2><p>max/mean GPU load within {} held-out steps of {size}. \
         Short steps scatter, which no static plan can follow.</p><table tabindex=\"0\"><tr><th>plan<th>mean<th>95 \
         % of steps are below</tr>",
        steps.steps
    );
    for (slots, found) in slots.iter().zip(&steps.plans) {
        let name = plan_name(slots);
        let _ = write!(page, "<tr><td>{name}<td>{:.3}<td>{:.3}</tr>", found.mean, found.p95);
    }
    page.push_str("</table>");
}

fn drifting(page: &mut String, drift: &DriftBody) {
    let _ = write!(
        page,
        "<h2>Drift</h2><p>Distribution error of a forecast from one eighth of the recording \
         (row) on another (column): {:.3} on average, {:.3} at most. Chance alone would give {:.3} \
         if tokens were independent.</p><table class=\"matrix\" tabindex=\"0\"><tr><td>",
        drift.mean, drift.most, drift.by_chance
    );
    for column in 1..=drift.distribution_error.len() {
        let _ = write!(page, "<th>{column}");
    }
    for (row, errors) in drift.distribution_error.iter().enumerate() {
        let _ = write!(page, "</tr><tr><th>{}", row + 1);
        for (column, error) in errors.iter().enumerate() {
            if row == column {
                page.push_str("<td>–");
            } else {
                let colour = level(error / drift.mean.max(f64::MIN_POSITIVE));
                let _ = write!(page, "<td class=\"b{colour}\">{error:.3}");
            }
        }
    }
    page.push_str("</tr></table>");
}

fn ageing(page: &mut String, forecasts: &[ForecastBody]) {
    let Some(first) = forecasts.iter().find(|forecast| !forecast.errors.is_empty()) else {
        return;
    };
    let labels: Vec<String> = first.errors.iter().map(|at| at.lag_steps.to_string()).collect();
    let values: Vec<Vec<f64>> = forecasts
        .iter()
        .map(|forecast| forecast.errors.iter().map(|at| at.distribution_error).collect())
        .collect();
    let name = |forecast: &ForecastBody| match (forecast.window_steps, forecast.half_life_steps) {
        (Some(steps), _) => format!("last {steps} steps"),
        (None, Some(steps)) => format!("exponential average, half-life {steps} steps"),
        (None, None) => "first half of the recording, never renewed".to_owned(),
    };
    let lines: Vec<Line> = forecasts
        .iter()
        .zip(&values)
        .map(|(forecast, values)| Line { name: name(forecast), values })
        .collect();
    let names = ["age of the forecast, steps", "distribution error on held-out steps"];
    let _ = write!(
        page,
        "<h2>How soon forecasts grow stale</h2><p>E · mean|p̂ − p| of single held-out steps; the \
         scatter of finite steps is part of it at any age.</p>{}{}",
        legend(&lines),
        line_chart(&lines, &labels, names, 0.0)
    );
}

/// What the colours of a heat map stand for.
#[must_use]
pub fn levels() -> String {
    let mut legend = "<p class=\"legend\">".to_owned();
    for colour in 0..=LEVELS.len() {
        let text = match (colour.checked_sub(1).map(|n| LEVELS[n]), LEVELS.get(colour)) {
            (None, Some(to)) => format!("below {to}"),
            (Some(from), Some(to)) => format!("{from} to {to}"),
            (Some(from), None) => format!("{from} and more"),
            (None, None) => String::new(),
        };
        let _ = write!(
            legend,
            "<span><svg viewBox=\"0 0 12 12\"><path class=\"h{colour}\" d=\"M0 0h12v12h-12z\"/>\
             </svg> {text}</span>"
        );
    }
    legend + "</p>"
}
