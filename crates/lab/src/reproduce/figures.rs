//! The pictures: decision map, difference of savings, latency over accuracy.

use crate::reproduce::cases::{DATA_SETS, FFN, LINKS, MEASURED, PAPER_BANDWIDTHS, PaperCase};
use crate::reproduce::own::{OwnDataSet, PricedPoint};
use crate::reproduce::{Computed, Curves, Leads};
use moe_gps_core::charts::axis::Axis;
use moe_gps_core::charts::curves::{self, Curve};
use moe_gps_core::charts::decision_map as map;
use moe_gps_core::charts::figure::{self, Key, Panel};
use moe_gps_core::strategies::{self, Strategy};
use moe_gps_core::units::Seconds;

/// Both presets, as panels are titled.
const PRESETS: [&str; 2] = ["the paper's formulas", "calibrated"];

/// Who wins over skewness and link bandwidth (the paper's Figure 1).
pub(super) fn decision_map(case: &PaperCase, paper: &Computed, calibrated: &Computed) -> String {
    let title = format!("{}: which strategy is fastest", case.title);
    let key = map::key(&[&paper.map, &calibrated.map]);
    figure::svg(&title, &[maps([paper, calibrated])], &key, &[])
}

fn maps(both: [&Computed; 2]) -> Vec<Panel> {
    both.iter().zip(PRESETS).map(|(computed, preset)| map::panel(preset, &computed.map)).collect()
}

/// Maps, differences and latency over accuracy where forecast and predictor change with skewness.
pub(super) fn trends(case: &PaperCase, both: &[Computed; 2]) -> String {
    let [paper, calibrated] = both;
    let mut rows = vec![maps([paper, calibrated]), differing(&by_preset(paper, calibrated))];
    rows.extend(over_accuracy([paper, calibrated]));
    let mut key = map::key(&[&paper.map, &calibrated.map]);
    key.extend(differing_key());
    key.extend(accuracy_key());
    let title = format!(
        "{}: errors and accuracies over skewness; over accuracy on {}",
        case.title, DATA_SETS[2].name
    );
    figure::svg(&title, &rows, &key, &[])
}

/// What distribution-only prediction saves more than token-to-expert prediction, over
/// skewness, at the paper's bandwidths (its Figure 7).
pub(super) fn difference(case: &PaperCase, paper: &Computed, calibrated: &Computed) -> String {
    let title = format!("{}: what distribution_only saves more than token_to_expert", case.title);
    let panels = differing(&by_preset(paper, calibrated));
    figure::svg(&title, &[panels], &differing_key(), &[])
}

/// The same by the formulas, under every model of error.
pub(super) fn error_models(case: &PaperCase, models: &[(&str, Computed)]) -> String {
    let title = format!("{}: what distribution_only saves more, by what an error does", case.title);
    let named: Vec<(&str, &Computed)> = models.iter().map(|(name, of)| (*name, of)).collect();
    let mut key = differing_key();
    // The formulas do not price it.
    key.truncate(PAPER_BANDWIDTHS.len());
    figure::svg(&title, &[differing(&named)], &key, &[])
}

fn by_preset<'a>(
    paper: &'a Computed,
    calibrated: &'a Computed,
) -> [(&'static str, &'a Computed); 2] {
    [(PRESETS[0], paper), (PRESETS[1], calibrated)]
}

fn differing(named: &[(&str, &Computed)]) -> Vec<Panel> {
    let of = |(_, computed): &(&str, &Computed)| {
        [strategies::DISTRIBUTION_ONLY, strategies::REPLACE_ONLY]
            .map(|one| differences(computed, one))
    };
    let found: Vec<_> = named.iter().map(of).collect();
    let all = || found.iter().flatten().flatten().flatten().map(|(_, y)| *y);
    let reach = (all().fold(0.0, f64::min), all().fold(0.0, f64::max));
    let room = 0.05 * (reach.1 - reach.0);
    let y = Axis::linear("difference of savings, % of none", 1.0, (reach.0 - room, reach.1 + room));
    let panel =
        |title: &str, [lines, replaced]: &[Vec<Vec<(f64, f64)>>; 2], computed: &Computed| {
            let x = map::axis("skewness", &computed.lines.axes[0].values);
            let mut drawn = vec![Curve {
                class: "zero",
                points: computed.lines.axes[0].values.iter().map(|s| (*s, Some(0.0))).collect(),
                dot: None,
            }];
            drawn.extend(lines.iter().zip(CLASSES).map(|(line, class)| Curve {
                class,
                points: line.iter().map(|(x, y)| (*x, Some(*y))).collect(),
                dot: None,
            }));
            let priced = replaced.iter().filter(|line| !line.is_empty());
            drawn.extend(priced.map(|line| Curve {
                class: "l-replace_only",
                points: line.iter().map(|(x, y)| (*x, Some(*y))).collect(),
                dot: None,
            }));
            Panel { title: title.to_owned(), body: curves::body(&x, &y, &drawn), x, y: y.clone() }
        };
    named
        .iter()
        .zip(&found)
        .map(|((title, computed), found)| panel(title, found, computed))
        .collect()
}

fn differing_key() -> Vec<Key> {
    let mut key: Vec<Key> = PAPER_BANDWIDTHS
        .into_iter()
        .zip(CLASSES)
        .map(|(bandwidth, class)| Key {
            symbol: curves::symbol(class),
            text: format!("{:.0} GB/s", bandwidth / 1e9),
        })
        .collect();
    key.push(Key {
        symbol: curves::symbol("l-replace_only"),
        text: "replace_only in its place, at the same bandwidths".to_owned(),
    });
    key
}

/// The lines of four bandwidths.
const CLASSES: [&str; 4] = ["l-0", "l-1", "l-2", "l-3"];

/// (T2E − strategy) / none in percent over skewness, for every bandwidth; empty where it has no price.
fn differences(computed: &Computed, strategy: Strategy) -> Vec<Vec<(f64, f64)>> {
    let rows: Vec<_> = computed.lines.rows().collect();
    let skewness = &computed.lines.axes[0].values;
    let at = |i: usize, j: usize| {
        let latency = |strategy| rows[i][j].latency(strategy).map(Seconds::get);
        let none = latency(strategies::NONE)?;
        let predicted = latency(strategies::TOKEN_TO_EXPERT)?;
        Some((skewness[i], (predicted - latency(strategy)?) / none * 100.0))
    };
    (0..PAPER_BANDWIDTHS.len())
        .map(|j| (0..skewness.len()).filter_map(|i| at(i, j)).collect())
        .collect()
}

/// The lead of the headline over the predictor's time, with the measured predictors on it.
pub(super) fn overhead(leads: &[Leads; 2]) -> String {
    let all = || leads.iter().flat_map(|of| of.curve.iter().chain(&of.replaced));
    let x =
        Axis::linear("predictor, µs", 1e-6, (0.0, all().fold(0.0, |most, (x, _)| most.max(*x))));
    let (low, high) =
        all().fold((0.0_f64, 0.0_f64), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let room = 0.05 * (high - low);
    let y = Axis::linear("lead of distribution_only, %", 1.0, (low - room, high + room));
    let panel = |title: &str, of: &Leads| {
        let drawn = Curve {
            class: CLASSES[0],
            points: of.curve.iter().map(|(x, y)| (*x, Some(*y))).collect(),
            // The predictor of the headline.
            dot: Some(FFN.1),
        };
        let replaced = Curve {
            class: "l-replace_only",
            points: of.replaced.iter().map(|(x, y)| (*x, Some(*y))).collect(),
            dot: None,
        };
        let mut body =
            curves::body(&x, &y, &[drawn, replaced][..2 - usize::from(of.replaced.is_empty())]);
        for (measured, class) in of.measured.chunks(MEASURED[0].costs().len()).zip(&CLASSES[1..]) {
            let shown: Vec<(f64, f64)> =
                measured.iter().copied().filter(|(at, _)| x.at(*at) <= 1.0).collect();
            body.push_str(&curves::points(&x, &y, class, &shown));
        }
        Panel { title: title.to_owned(), body, x: x.clone(), y: y.clone() }
    };
    let panels = vec![panel(PRESETS[0], &leads[0]), panel(PRESETS[1], &leads[1])];
    let mut key = vec![
        Key { symbol: curves::symbol(CLASSES[0]), text: "accuracy 0.85".to_owned() },
        Key { symbol: DOT.to_owned(), text: format!("{:.0} µs, our choice", FFN.1 * 1e6) },
        Key {
            symbol: curves::symbol("l-replace_only"),
            text: "replace_only in its place".to_owned(),
        },
    ];
    // The recurrent one lies far to the right.
    key.extend(MEASURED.iter().zip(&CLASSES[1..]).take(2).map(|(measured, class)| Key {
        symbol: curves::symbol(class),
        text: format!("{}: beside, alone, before attention", measured.name),
    }));
    let title =
        "Mixtral 8x7B on MMLU: distribution_only over token_to_expert, by the predictor's time";
    figure::svg(title, &[panels], &key, &[])
}

/// A black dot for the key.
const DOT: &str = "<circle class=\"dot\" cx=\"14\" cy=\"6\" r=\"5\" fill=\"#111\"/>";

/// Latency over the accuracy of a predictor whose time grows exponentially (the paper's
/// Figure 6).
pub(super) fn accuracy(case: &PaperCase, paper: &Computed, calibrated: &Computed) -> String {
    let (rows, key) = (over_accuracy([paper, calibrated]), accuracy_key());
    let title = format!("{} on {}: latency over accuracy", case.title, DATA_SETS[0].name);
    figure::svg(&title, &rows, &key, &[])
}

/// A row for every link.
fn over_accuracy(both: [&Computed; 2]) -> Vec<Vec<Panel>> {
    let row = |(place, (_, link)): (usize, &(&str, &str))| {
        let panel = |(computed, preset): (&&Computed, &str)| {
            u_curve(&format!("{link}, {preset}"), &computed.curves[place])
        };
        both.iter().zip(PRESETS).map(panel).collect()
    };
    LINKS.iter().enumerate().map(row).collect()
}

fn accuracy_key() -> Vec<Key> {
    let line = |strategy: &Strategy| Key {
        symbol: curves::symbol(&format!("l-{}", strategy.id())),
        text: strategy.id().to_owned(),
    };
    let mut key: Vec<Key> = strategies::LIST.iter().map(line).collect();
    key.push(Key { symbol: DOT.to_owned(), text: "the best predictor of the family".to_owned() });
    key
}

/// Predictors as they were measured, with the paper's two fits: time over accuracy, and time of a layer
/// over accuracy.
pub(super) fn own_points(sets: &[OwnDataSet]) -> String {
    let accuracies: Vec<f64> =
        sets.iter().flat_map(|set| &set.priced).map(|point| point.accuracy).collect();
    let x = map::axis("predictor_accuracy", &accuracies);
    let reach =
        accuracies.iter().fold((1.0_f64, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
    let steps: Vec<f64> =
        (0..=48).map(|step| reach.0 + (reach.1 - reach.0) * f64::from(step) / 48.0).collect();
    let panel = |title: &str,
                 y: Axis,
                 of: &dyn Fn(&PricedPoint) -> f64,
                 fit: &dyn Fn(&OwnDataSet, f64) -> Option<f64>| {
        let mut body = String::new();
        for (set, class) in sets.iter().zip(CLASSES.iter().cycle()) {
            let inside = |value: &f64| (0.0..=1.0).contains(&y.at(*value));
            let points = steps.iter().map(|x| (*x, fit(set, *x).filter(inside))).collect();
            body.push_str(&curves::body(&x, &y, &[Curve { class, points, dot: None }]));
            let measured: Vec<(f64, f64)> =
                set.priced.iter().map(|point| (point.accuracy, of(point))).collect();
            let shown: Vec<(f64, f64)> = measured.into_iter().filter(|(_, y)| inside(y)).collect();
            body.push_str(&curves::points(&x, &y, class, &shown));
        }
        Panel { title: title.to_owned(), body, x: x.clone(), y }
    };
    let microseconds = |point: &PricedPoint| point.overhead.get();
    let timed: Vec<f64> = sets
        .iter()
        .flat_map(|set| &set.priced)
        .map(microseconds)
        .filter(|time| *time > 0.0)
        .collect();
    let times = panel(
        "predictor, t = a·exp(c·accuracy)",
        Axis::ratios("time per layer, µs", 1e-6, &timed),
        &microseconds,
        &|set, x| Some(set.overhead?.overhead(x).get()),
    );
    let over = |at: usize| {
        let all =
            sets.iter().flat_map(|set| set.priced.iter().map(move |point| point.over_none[at]));
        let (low, high) =
            all.fold((f64::INFINITY, 0.0_f64), |(low, high), y| (low.min(y), high.max(y)));
        let room = 0.06 * (high - low);
        panel(
            &format!("layer over none, {}", PRESETS[at]),
            Axis::linear("time of a layer over none", 1.0, (low - room, high + room)),
            &|point| point.over_none[at],
            &|set, x| set.performance[at].map(|[u, v, w]| u + x * (v + w * x)),
        )
    };
    let key: Vec<Key> = sets
        .iter()
        .zip(CLASSES.iter().cycle())
        .map(|(set, class)| Key { symbol: curves::symbol(class), text: set.name().to_owned() })
        .collect();
    let notes = ["circles: measured; lines: the paper's fits; predictors without a time are not drawn at the left".to_owned()];
    figure::svg("Predictors over their accuracy", &[vec![times, over(0), over(1)]], &key, &notes)
}

fn u_curve(title: &str, found: &Curves) -> Panel {
    let accuracies: Vec<f64> = found.token_to_expert.iter().map(|(x, _)| *x).collect();
    let x = map::axis("predictor_accuracy", &accuracies);
    let of_curve = || found.token_to_expert.iter().map(|(_, y)| *y);
    let mut flat = vec![("l-none", found.none)];
    if found.replace_only.is_finite() {
        flat.push(("l-replace_only", found.replace_only));
    }
    flat.push(("l-distribution_only", found.distribution_only));
    let all = || of_curve().chain(flat.iter().map(|(_, level)| *level));
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let room = 0.06 * (high - low);
    let y = Axis::linear("time of a layer, µs", 1e-6, (low - room, high + room));
    let level = |class, value: f64| Curve {
        class,
        points: accuracies.iter().map(|x| (*x, Some(value))).collect(),
        dot: None,
    };
    let best = found.token_to_expert.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let mut drawn: Vec<Curve> = flat.iter().map(|(class, value)| level(class, *value)).collect();
    drawn.push(Curve {
        class: "l-token_to_expert",
        points: found.token_to_expert.iter().map(|(x, y)| (*x, Some(*y))).collect(),
        dot: best.map(|(x, _)| *x),
    });
    Panel { title: title.to_owned(), body: curves::body(&x, &y, &drawn), x, y }
}
