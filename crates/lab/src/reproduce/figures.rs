//! The pictures: decision map, difference of savings, latency over accuracy.

use crate::reproduce::cases::{DATA_SETS, FFN, LINKS, MEASURED, PAPER_BANDWIDTHS, PaperCase};
use crate::reproduce::{Computed, Curves, Leads};
use moe_gps_core::charts::axis::Axis;
use moe_gps_core::charts::curves::{self, Curve};
use moe_gps_core::charts::decision_map as map;
use moe_gps_core::charts::figure::{self, Key, Panel};
use moe_gps_core::strategies;
use moe_gps_core::units::Seconds;

/// Who wins over skewness and link bandwidth (the paper's Figure 1).
pub(super) fn decision_map(case: &PaperCase, paper: &Computed, calibrated: &Computed) -> String {
    let panels = vec![
        map::panel("the paper's formulas", &paper.map),
        map::panel("calibrated", &calibrated.map),
    ];
    let title = format!("{}: which strategy is fastest", case.title);
    let key = map::key(&[&paper.map, &calibrated.map]);
    figure::svg(&title, &[panels], &key, &[])
}

/// What distribution-only prediction saves more than token-to-expert prediction, over
/// skewness, at the paper's bandwidths (its Figure 7).
pub(super) fn difference(case: &PaperCase, paper: &Computed, calibrated: &Computed) -> String {
    let (of_paper, of_calibrated) = (differences(paper), differences(calibrated));
    let all = || of_paper.iter().chain(&of_calibrated).flatten().map(|(_, y)| *y);
    let reach = (all().fold(0.0, f64::min), all().fold(0.0, f64::max));
    let room = 0.05 * (reach.1 - reach.0);
    let y = Axis::linear("difference of savings, % of none", 1.0, (reach.0 - room, reach.1 + room));
    let panel = |title: &str, lines: &[Vec<(f64, f64)>], computed: &Computed| {
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
        Panel { title: title.to_owned(), body: curves::body(&x, &y, &drawn), x, y: y.clone() }
    };
    let panels = vec![
        panel("the paper's formulas", &of_paper, paper),
        panel("calibrated", &of_calibrated, calibrated),
    ];
    let key: Vec<Key> = PAPER_BANDWIDTHS
        .into_iter()
        .zip(CLASSES)
        .map(|(bandwidth, class)| Key {
            symbol: curves::symbol(class),
            text: format!("{:.0} GB/s", bandwidth / 1e9),
        })
        .collect();
    let title = format!("{}: what distribution_only saves more than token_to_expert", case.title);
    figure::svg(&title, &[panels], &key, &[])
}

/// The lines of four bandwidths.
const CLASSES: [&str; 4] = ["l-0", "l-1", "l-2", "l-3"];

/// (T2E − DO) / none in percent over skewness, for every bandwidth.
fn differences(computed: &Computed) -> Vec<Vec<(f64, f64)>> {
    let rows: Vec<_> = computed.lines.rows().collect();
    let skewness = &computed.lines.axes[0].values;
    let at = |i: usize, j: usize| {
        let latency = |strategy| rows[i][j].latency(strategy).map(Seconds::get);
        let none = latency(strategies::NONE)?;
        let duplicated = latency(strategies::DISTRIBUTION_ONLY)?;
        let predicted = latency(strategies::TOKEN_TO_EXPERT)?;
        Some((skewness[i], (predicted - duplicated) / none * 100.0))
    };
    (0..PAPER_BANDWIDTHS.len())
        .map(|j| (0..skewness.len()).filter_map(|i| at(i, j)).collect())
        .collect()
}

/// The lead of the headline over the predictor's time, with the measured predictors on it.
pub(super) fn overhead(leads: &[Leads; 2]) -> String {
    let all = || leads.iter().flat_map(|of| &of.curve);
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
        let mut body = curves::body(&x, &y, &[drawn]);
        for (measured, class) in of.measured.chunks(MEASURED[0].costs().len()).zip(&CLASSES[1..]) {
            let shown: Vec<(f64, f64)> =
                measured.iter().copied().filter(|(at, _)| x.at(*at) <= 1.0).collect();
            body.push_str(&curves::points(&x, &y, class, &shown));
        }
        Panel { title: title.to_owned(), body, x: x.clone(), y: y.clone() }
    };
    let panels = vec![panel("the paper's formulas", &leads[0]), panel("calibrated", &leads[1])];
    let mut key = vec![
        Key { symbol: curves::symbol(CLASSES[0]), text: "accuracy 0.85".to_owned() },
        Key { symbol: DOT.to_owned(), text: format!("{:.0} µs, our choice", FFN.1 * 1e6) },
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
    let mut rows = Vec::new();
    for (place, (_, link)) in LINKS.iter().enumerate() {
        let panel = |preset: &str, curves: &Curves| {
            let title = format!("{link}, {preset}");
            u_curve(&title, curves)
        };
        rows.push(vec![
            panel("the paper's formulas", &paper.curves[place]),
            panel("calibrated", &calibrated.curves[place]),
        ]);
    }
    let mut key: Vec<Key> = ["none", "distribution_only", "token_to_expert"]
        .into_iter()
        .map(|id| Key { symbol: curves::symbol(&format!("l-{id}")), text: id.to_owned() })
        .collect();
    key.push(Key { symbol: DOT.to_owned(), text: "the best predictor of the family".to_owned() });
    let title = format!("{} on {}: latency over accuracy", case.title, DATA_SETS[0].name);
    figure::svg(&title, &rows, &key, &[])
}

fn u_curve(title: &str, found: &Curves) -> Panel {
    let accuracies: Vec<f64> = found.token_to_expert.iter().map(|(x, _)| *x).collect();
    let x = map::axis("predictor_accuracy", &accuracies);
    let of_curve = || found.token_to_expert.iter().map(|(_, y)| *y);
    let flat = [found.none, found.distribution_only];
    let all = || of_curve().chain(flat);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let room = 0.06 * (high - low);
    let y = Axis::linear("time of a layer, µs", 1e-6, (low - room, high + room));
    let level = |class, value: f64| Curve {
        class,
        points: accuracies.iter().map(|x| (*x, Some(value))).collect(),
        dot: None,
    };
    let best = found.token_to_expert.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let drawn = [
        level("l-none", found.none),
        level("l-distribution_only", found.distribution_only),
        Curve {
            class: "l-token_to_expert",
            points: found.token_to_expert.iter().map(|(x, y)| (*x, Some(*y))).collect(),
            dot: best.map(|(x, _)| *x),
        },
    ];
    Panel { title: title.to_owned(), body: curves::body(&x, &y, &drawn), x, y }
}
