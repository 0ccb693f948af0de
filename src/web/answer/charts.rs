//! The charts of an answer.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};
use serde_json::{Value, json};

use crate::app::report::levels;
use crate::web::parts::{chart, copied, indented, picture, table};
use crate::web::predictors::OF_CURVE;
use crate::wire::answer::{BusiestLayer, FlipPoint, ResultBody, StrategyBody, TermsBody};
use crate::wire::written::{TERMS, copies, name, quantity, scaled};
use moe_gps_core::catalog::Catalog;
use moe_gps_core::charts::axis::{Axis, tick_step};
use moe_gps_core::charts::bars::{self, Bar, Part};
use moe_gps_core::charts::curves::{self, Curve};
use moe_gps_core::charts::decision_map;
use moe_gps_core::charts::figure::{self, Key, PLOT_HEIGHT, PLOT_WIDTH, Panel};
use moe_gps_core::charts::inline::{Cell, Line, device_map, legend, line_chart};
use moe_gps_core::charts::number_line::{self, NumberLine, Stretch};

/// The terms of every strategy as stacked bars: whiskers from the interval of its gain.
pub(super) fn terms(result: &ResultBody, shown: &[&StrategyBody]) -> Markup {
    let advice = &result.recommendation;
    let priced: Vec<&StrategyBody> =
        shown.iter().copied().filter(|entry| entry.terms.is_some()).collect();
    let used = used(&priced);
    let drawn: Vec<Bar> =
        priced.iter().filter_map(|entry| bar(entry, advice.strategy.as_deref(), &used)).collect();
    if drawn.is_empty() {
        return html! {};
    }
    let ceiling = result.ceiling.layer_latency_s.map(|ceiling| (ceiling, "ceiling"));
    let label = "Time of a layer under every strategy, term by term, with the ceiling of balancing";
    let numbers = json!({
        "strategies": priced.iter().map(|entry| json!({
            "strategy": entry.strategy,
            "predictor": entry.predictor.as_ref().map(|one| &one.name),
            "layer_latency_s": entry.layer_latency_s,
            "gain": entry.gain,
            "terms": entry.terms,
        })).collect::<Vec<_>>(),
        "ceiling": result.ceiling,
    });
    html! {
        p class="legend" {
            @for place in &used {
                span {
                    svg viewBox="0 0 12 12" aria-hidden="true" { path class=(format!("t{place}")) d="M0 0h12v12h-12z" {} }
                    " " (TERMS[*place].1)
                }
            }
        }
        (chart(bars::chart(label, &drawn, ceiling), &numbers))
    }
}

fn bar(entry: &StrategyBody, advised: Option<&str>, used: &[usize]) -> Option<Bar> {
    let (terms, latency) = (entry.terms.as_ref()?, entry.layer_latency_s?);
    let part = |place: &usize| {
        let (_, short, seconds) = TERMS[*place];
        let value = seconds(terms);
        Part { colour: *place, text: format!("{short}: {} µs", scaled(value, 1e6, 2)), value }
    };
    Some(Bar {
        name: name(entry),
        parts: used.iter().map(part).collect(),
        total: latency,
        // The gain is the baseline's latency over this one's, so doubts of it are doubts of this.
        whisker: entry
            .gain
            .filter(|gain| gain.high > gain.low * (1.0 + 1e-6))
            .map(|gain| [latency * gain.mid / gain.high, latency * gain.mid / gain.low]),
        text: format!("{} µs", scaled(latency, 1e6, 1)),
        marked: Some(&*entry.strategy) == advised,
    })
}

/// The terms that take time under some strategy, by their places.
fn used(priced: &[&StrategyBody]) -> Vec<usize> {
    let is_used = |seconds: fn(&TermsBody) -> f64| {
        priced.iter().filter_map(|entry| entry.terms.as_ref()).any(|terms| seconds(terms) != 0.0)
    };
    (0..TERMS.len()).filter(|place| is_used(TERMS[*place].2)).collect()
}

/// Microseconds of every term, with what they rest on.
pub(super) fn term_table(result: &ResultBody, shown: &[&StrategyBody]) -> Markup {
    let priced: Vec<&StrategyBody> =
        shown.iter().copied().filter(|entry| entry.terms.is_some()).collect();
    if priced.is_empty() {
        return html! {};
    }
    let used = used(&priced);
    let names: Vec<String> = priced.iter().map(|entry| name(entry)).collect();
    let mut head = vec!["µs per layer"];
    head.extend(names.iter().map(String::as_str));
    head.push(" Basis");
    let rows: Vec<Vec<Markup>> = used
        .iter()
        .map(|place| {
            let (field, short, seconds) = TERMS[*place];
            let terms = priced.iter().filter_map(|entry| entry.terms.as_ref());
            let mut row = vec![html! { (short) }];
            row.extend(terms.map(|terms| html! { (scaled(seconds(terms), 1e6, 2)) }));
            row.push(html! {
                @if let Some(origin) = result.provenance.terms.get(field) {
                    (origin.basis) " ±" (scaled(origin.error_band, 100.0, 0)) " %"
                }
            });
            row
        })
        .collect();
    table("Time of every term", &head, &rows)
}

/// Where the advice changes, a number line for every quantity.
pub(super) fn flips(request: &Value, result: &ResultBody) -> Markup {
    let flips = &result.flip_points;
    if flips.is_empty() {
        return html! {};
    }
    let copies: Vec<String> = flips.iter().filter_map(copies).collect();
    let flips: Vec<&FlipPoint> = flips.iter().filter(|flip| flip.copies.is_none()).collect();
    let mut parameters: Vec<&str> = Vec::new();
    for flip in &flips {
        if !parameters.contains(&&*flip.parameter) {
            parameters.push(&flip.parameter);
        }
    }
    html! {
        h2 { "Where the advice changes" }
        p {
            "All else held. The mark is the value of the question; a change is to what gains 2 % or \
             more, and lies within the pale stretch."
        }
        @for parameter in parameters {
            (line(request, result, parameter, &flips.iter().copied().filter(|flip| flip.parameter == parameter).collect::<Vec<_>>()))
        }
        @if !copies.is_empty() {
            p { "One expert's weights beside attention: " (copies.join("; ")) "." }
        }
    }
}

fn line(request: &Value, result: &ResultBody, parameter: &str, flips: &[&FlipPoint]) -> Markup {
    let (words, written) = quantity(parameter);
    let told: Vec<String> = flips
        .iter()
        .map(|flip| match (flip.value, &flip.becomes, flip.range) {
            (Some(value), Some(becomes), _) => {
                let interval = flip.interval.filter(|[low, high]| written(*low) != written(*high));
                let interval = interval
                    .map(|[low, high]| format!(" ({} to {})", written(low), written(high)))
                    .unwrap_or_default();
                format!("to {becomes} at {}{interval}", written(value))
            }
            (None, Some(becomes), _) => {
                format!("to {becomes} with {}", flip.communication.as_deref().unwrap_or_default())
            }
            (_, _, Some([low, high])) => {
                format!("does not change from {} to {}", written(low), written(high))
            }
            _ => "does not change".to_owned(),
        })
        .collect();
    let told = told.join("; ");
    let drawn = number_line(request, result, parameter, flips);
    html! {
        h3 { (words) ": " (told) }
        @if let Some(drawn) = drawn {
            (chart(number_line::chart(&format!("{words}: {told}"), &drawn), &flips))
        }
    }
}

fn number_line<'a>(
    request: &Value,
    result: &'a ResultBody,
    parameter: &str,
    flips: &'a [&FlipPoint],
) -> Option<NumberLine<'a>> {
    let [low, high] = flips.iter().find_map(|flip| flip.range)?;
    let stated = stated(request, result, parameter);
    let (_, written) = quantity(parameter);
    let axis = decision_map::wide_axis(parameter, [low, high]);
    let advised = result.recommendation.strategy.as_deref().unwrap_or_default();
    // Changes on either side of what was asked; without it, the first is above.
    let changes = flips.iter().filter_map(|flip| Some((flip.value?, flip.becomes.as_deref()?)));
    let mut changes: Vec<(f64, &str)> = changes.collect();
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let below = |value: f64| stated.is_some_and(|stated| value < stated);
    let (mut from, mut stretches) = (low, Vec::new());
    for (value, becomes) in &changes {
        let class = if below(*value) { becomes } else { advised };
        stretches.push(Stretch { from, to: *value, class });
        from = *value;
    }
    let last = changes.last().filter(|(value, _)| !below(*value)).map_or(advised, |last| last.1);
    stretches.push(Stretch { from, to: high, class: last });
    Some(NumberLine {
        axis,
        stretches,
        changes: flips.iter().filter_map(|flip| flip.interval).collect(),
        stated: stated.map(|value| (value, format!("asked: {}", written(value)))),
    })
}

/// The value of a quantity that the question states, or that follows from it.
#[must_use]
pub fn stated(request: &Value, result: &ResultBody, parameter: &str) -> Option<f64> {
    let link = |field: &str| {
        let link = &request["cluster"][field];
        let named = || {
            let name = link.as_str().or(link["name"].as_str())?;
            let entry = Catalog::embedded().link(name).ok()?;
            Some(entry.value.bandwidth.get())
        };
        link["bandwidth_bytes_per_s"].as_f64().or_else(named)
    };
    let advised = result.recommendation.predictor.as_ref();
    match parameter {
        "skewness" => result.routing.skewness.as_ref().map(|skewness| skewness.mean),
        "tokens_per_step" => result.provenance.system.get("tokens_per_step")?.as_f64(),
        "output_tokens" => request["workload"]["output_tokens"].as_f64(),
        "link_bandwidth_bytes_per_s" => link("link"),
        "inter_node_bandwidth_bytes_per_s" => link("inter_node_link"),
        "devices" => request["cluster"]["devices"].as_f64(),
        "predictor_accuracy" => advised.map(|one| one.accuracy),
        "predictor_overhead_s" => advised.map(|one| one.overhead_s),
        _ => None,
    }
}

/// Predictors that make a chart.
const A_CURVE: usize = 4;

/// What predictors are worth by their accuracy, where there are several with a price.
pub(super) fn predictors(result: &ResultBody) -> Markup {
    let mut points: Vec<(f64, f64, bool)> = result
        .strategies
        .iter()
        .filter_map(|entry| {
            let predictor = entry.predictor.as_ref()?;
            let of_curve = predictor.name.starts_with(OF_CURVE);
            Some((predictor.accuracy, entry.layer_latency_s?, of_curve))
        })
        .collect();
    if points.len() < A_CURVE {
        return html! {};
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let others: Vec<(&str, f64)> = result
        .strategies
        .iter()
        .filter(|entry| entry.predictor.is_none())
        .filter_map(|entry| Some((&*entry.strategy, entry.layer_latency_s?)))
        .collect();
    let accuracies: Vec<f64> = points.iter().map(|point| point.0).collect();
    let latencies = points.iter().map(|point| point.1).chain(others.iter().map(|other| other.1));
    let ends = latencies
        .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), one| (low.min(one), high.max(one)));
    let x = Axis::over("accuracy of the predictor", 1.0, &accuracies);
    let room = (ends.1 - ends.0) * 0.05;
    let y = Axis::linear("layer, µs", 1e-6, (ends.0 - room, ends.1 + room));
    let has_curve = points.iter().any(|point| point.2);
    let along: Vec<(f64, Option<f64>)> = points
        .iter()
        .filter(|point| point.2 == has_curve)
        .map(|(accuracy, latency, _)| (*accuracy, Some(*latency)))
        .collect();
    let best =
        along.iter().min_by(|a, b| a.1.unwrap_or_default().total_cmp(&b.1.unwrap_or_default()));
    let dot = best.map(|best| best.0);
    let classes: Vec<String> = others.iter().map(|(name, _)| format!("l-{name}")).collect();
    let whole = [accuracies.first(), accuracies.last()].map(|end| end.copied().unwrap_or_default());
    let mut lines: Vec<Curve> = classes
        .iter()
        .zip(&others)
        .map(|(class, (_, latency))| Curve {
            class,
            points: whole.map(|end| (end, Some(*latency))).to_vec(),
            dot: None,
        })
        .collect();
    lines.push(Curve { class: "l-token_to_expert", points: along, dot });
    let mut body = curves::body(&x, &y, &lines);
    for (accuracy, latency, _) in points.iter().filter(|point| !point.2) {
        let (cx, cy) = (x.at(*accuracy) * PLOT_WIDTH, (1.0 - y.at(*latency)) * PLOT_HEIGHT);
        let _ = write!(body, "<circle class=\"point\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3.5\"/>");
    }
    let mut key: Vec<Key> = classes
        .iter()
        .zip(&others)
        .map(|(class, (name, _))| Key { symbol: curves::symbol(class), text: (*name).to_owned() })
        .collect();
    let text = "token_to_expert".to_owned();
    key.push(Key { symbol: curves::symbol("l-token_to_expert"), text });
    let panel = Panel { title: "time of a layer".to_owned(), x, y, body };
    let numbers: Vec<_> = points
        .iter()
        .map(|(accuracy, latency, _)| json!({"accuracy": accuracy, "layer_latency_s": latency}))
        .collect();
    html! {
        h2 { "What a predictor of tokens is worth" }
        p { "The dot is the best of them; circles are predictors as they were stated." }
        div class="plot" { (chart(figure::inline("Predictors", &[vec![panel]], &key), &numbers)) }
    }
}

/// What slots for copies cost and save.
pub(super) fn slots(result: &ResultBody) -> Markup {
    let Some(search) = &result.duplication_search else { return html! {} };
    let labels: Vec<String> =
        search.slots.iter().map(|one| one.slots_per_device.to_string()).collect();
    let latency: Vec<f64> = search.slots.iter().map(|one| one.layer_latency_s * 1e6).collect();
    let memory: Vec<f64> = search.slots.iter().map(|one| one.replica_bytes * 1e-9).collect();
    let (least, most) = latency
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), one| (least.min(*one), most.max(*one)));
    let step = tick_step(most - least * 0.9);
    let floor = (least * 0.9 / step).floor() * step;
    let head = [
        "Slots per GPU",
        "Layer µs",
        "Behind the best",
        "Replicas GB",
        "KV tokens lost",
        "Moved GB",
        "Stall s",
    ];
    let rows: Vec<Vec<Markup>> = search
        .slots
        .iter()
        .map(|one| {
            let chosen = one.slots_per_device == search.chosen_slots_per_device;
            let behind = if one.fits {
                format!("{} %", scaled(one.behind_best, 100.0, 2))
            } else {
                "does not fit".to_owned()
            };
            vec![
                html! {
                    (one.slots_per_device) @if chosen { strong { " taken" } }
                },
                html! { (scaled(one.layer_latency_s, 1e6, 1)) },
                html! { (behind) },
                html! { (scaled(one.replica_bytes, 1e-9, 2)) },
                html! { (scaled(one.kv_tokens_lost_per_device, 1.0, 0)) },
                html! { (scaled(one.moved_bytes, 1e-9, 1)) },
                html! { (scaled(one.stall_s, 1.0, 2)) },
            ]
        })
        .collect();
    let line = |name: &str, values| [Line { name: name.to_owned(), values }];
    let x = "expert slots per GPU";
    html! {
        h2 { "Slots for copies of experts" }
        p { (search.because) }
        @if search.slots.len() > 1 {
            (picture(line_chart(&line("latency", &latency), &labels, [x, "layer, µs"], floor)))
            (chart(line_chart(&line("memory", &memory), &labels, [x, "replicas on every GPU, GB"], 0.0), &search.slots))
        }
        (table("What every number of slots costs", &head, &rows))
    }
}

/// Imbalance of the devices layer by layer, before and after.
pub(super) fn imbalance(result: &ResultBody) -> Markup {
    let Some(imbalance) = &result.routing.device_imbalance else { return html! {} };
    let after = imbalance.after.as_ref();
    let mut lines = vec![Line { name: "before".to_owned(), values: &imbalance.before.per_layer }];
    lines.extend(
        after.map(|after| Line { name: "with the plan".to_owned(), values: &after.per_layer }),
    );
    let labels: Vec<String> =
        (0..imbalance.before.per_layer.len()).map(|layer| layer.to_string()).collect();
    html! {
        h2 { "Imbalance of the GPUs" }
        p {
            "Busiest GPU over the mean: " (scaled(imbalance.before.mean, 1.0, 3))
            @if let Some(after) = after { ", with the plan " (scaled(after.mean, 1.0, 3)) }
            "."
        }
        @if labels.len() > 1 {
            (PreEscaped(legend(&lines)))
            (chart(line_chart(&lines, &labels, ["layer", "max/mean GPU load"], 1.0), imbalance))
        }
    }
}

/// Slots of a layer that are drawn one by one; a page stays light.
const MOST_SLOTS: usize = 512;

/// Which GPU has which experts in the most uneven layer, by load, before and with the plan.
pub(super) fn busiest_layer(result: &ResultBody) -> Markup {
    let Some(busiest) = &result.routing.busiest_layer else { return html! {} };
    if busiest.slots_before.len() > MOST_SLOTS || busiest.devices < 2 {
        return html! {};
    }
    let map = |name: &str, slots: &[u32]| html! { h3 { (name) } (picture(device_map(name, &device_rows(busiest, slots)))) };
    html! {
        h2 { "Where the load lies" }
        p {
            "Layer " (busiest.layer) ", the most uneven one: a row for every GPU, a cell for every expert \
             on it, the busiest first. A cell tells its expert, of how many copies it is one, and its load \
             over the mean of all cells."
        }
        (PreEscaped(levels()))
        (map("As it is", &busiest.slots_before))
        @if let Some(slots) = &busiest.slots_after { (map("With the plan", slots)) }
        details class="behind" { summary { "Numbers as JSON" } (copied(&indented(busiest))) }
    }
}

/// The load of a GPU, its number, and its slots: load and expert.
type Held = (f64, usize, Vec<(f64, u32)>);

/// GPUs, the busiest first, each with its slots by load; copies of an expert share its load equally.
fn device_rows(busiest: &BusiestLayer, slots: &[u32]) -> Vec<(String, Vec<Cell>)> {
    let share = |expert: u32| busiest.expert_shares.get(expert as usize).copied().unwrap_or(0.0);
    let copies = |expert: u32| slots.iter().filter(|one| **one == expert).count();
    let per_device = (slots.len() / busiest.devices.max(1) as usize).max(1);
    let mut devices: Vec<Held> = slots
        .chunks(per_device)
        .enumerate()
        .map(|(device, slots)| {
            let load = |expert: &u32| (share(*expert) / copies(*expert) as f64, *expert);
            let mut loads: Vec<(f64, u32)> = slots.iter().map(load).collect();
            loads.sort_by(|a, b| b.0.total_cmp(&a.0));
            (loads.iter().map(|(load, _)| load).sum(), device, loads)
        })
        .collect();
    devices.sort_by(|a, b| b.0.total_cmp(&a.0));
    let n_devices = devices.len() as f64;
    let row = |(total, device, loads): Held| {
        let total = total * n_devices;
        let cell = |(load, expert): (f64, u32)| {
            let ratio = load * slots.len() as f64;
            let of = match copies(expert) {
                1 => String::new(),
                copies => format!(" of {copies}"),
            };
            let about = format!("{expert}{of}: {ratio:.2}");
            Cell { ratio, about }
        };
        (format!("GPU {device}: {total:.2}"), loads.into_iter().map(cell).collect())
    };
    devices.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_their_experts_are_sorted_by_load() {
        let busiest = BusiestLayer {
            layer: 3,
            devices: 2,
            expert_shares: vec![0.1, 0.2, 0.6, 0.1],
            slots_before: vec![0, 1, 2, 3],
            slots_after: None,
        };
        let rows = device_rows(&busiest, &busiest.slots_before);
        assert_eq!(
            rows.iter().map(|(label, _)| &**label).collect::<Vec<_>>(),
            ["GPU 1: 1.40", "GPU 0: 0.60"]
        );
        assert_eq!(rows[0].1[0].about, "2: 2.40");
        assert!((rows[1].1[0].ratio - 0.8).abs() < 1e-12);
        let copied = device_rows(&busiest, &[0, 2, 3, 2, 1, 2]);
        let about: Vec<&str> = copied[0].1.iter().map(|cell| &*cell.about).collect();
        assert_eq!(about[0], "1: 1.20");
        assert_eq!(about[1], "2 of 3: 1.20");
    }
}
