//! What one adds to the paper's figures: points of one's own predictors, and recorded counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use moe_gps_core::advice;
use moe_gps_core::advice::choose::Deciding;
use moe_gps_core::cancel::Cancel;
use moe_gps_core::pricing::error::PricingError;
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::question::{OverheadCurve, PredictorPoint};
use moe_gps_core::routing::{LayerRouting, normalised};
use moe_gps_core::strategies;
use moe_gps_core::units::Seconds;

use crate::reproduce::cases::{self, DATA_SETS, DataSet, LINKS, PaperCase, Point};
use crate::reproduce::text::gain;
use crate::reproduce::{Read, fastest};

/// A predictor as it was measured on a data set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPoint {
    /// The data set.
    pub data_set: String,
    /// Its expert skewness, mean over layers.
    pub skewness: f64,
    /// Error of a forecast of its shares.
    pub distribution_error: f64,
    /// The predictor.
    pub predictor: String,
    /// What its accuracy counts, as in a question.
    #[serde(default = "per_choice")]
    pub metric: String,
    /// Its accuracy on what it was not fitted on.
    pub accuracy: f64,
    /// Its time per layer, seconds.
    pub overhead_s: f64,
}

fn per_choice() -> String {
    "per_choice".to_owned()
}

/// Tokens per expert and layer that were counted on a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// The file and the data set.
    pub name: String,
    /// The counts.
    pub layers: Vec<Vec<f64>>,
    /// Those of all other data sets of the file together, where there are any.
    pub others: Option<Vec<Vec<f64>>>,
}

#[derive(Deserialize)]
struct CountsFile {
    counts: BTreeMap<String, Vec<Vec<f64>>>,
}

/// The counts of a file `{"counts": {data set: [layer][expert]}}`.
pub fn counted(file: &str, text: &str) -> Result<Vec<Counted>, serde_json::Error> {
    let CountsFile { counts } = serde_json::from_str(text)?;
    let others = |name: &String| {
        let mut rest = counts.iter().filter(|(other, _)| *other != name).map(|(_, layers)| layers);
        let mut sum = rest.next()?.clone();
        for layers in rest {
            for (sum, counts) in sum.iter_mut().flatten().zip(layers.iter().flatten()) {
                *sum += counts;
            }
        }
        Some(sum)
    };
    let of = |(name, layers): (&String, &Vec<Vec<f64>>)| Counted {
        name: format!("{file}: {name}"),
        layers: layers.clone(),
        others: others(name),
    };
    Ok(counts.iter().map(of).collect())
}

/// One predictor under one preset: accuracy per choice, its time, and the time of its layer over that of
/// `none`.
#[derive(Debug, Clone, Copy)]
pub(super) struct PricedPoint {
    pub(super) accuracy: f64,
    pub(super) overhead: Seconds,
    /// By the formulas, and calibrated.
    pub(super) over_none: [f64; 2],
}

/// The predictors of one data set, in their order, with both fits of the paper.
pub(super) struct OwnDataSet<'a> {
    pub(super) points: Vec<&'a OwnPoint>,
    pub(super) priced: Vec<PricedPoint>,
    /// `distribution_only` over `none`, by the formulas and calibrated.
    pub(super) duplicated: [f64; 2],
    /// Time over accuracy, t = a·exp(c·accuracy), through the predictors that take any.
    pub(super) overhead: Option<OverheadCurve>,
    /// Time of a layer over accuracy, y = u + v·x + w·x², by the formulas and calibrated.
    pub(super) performance: [Option<[f64; 3]>; 2],
}

impl OwnDataSet<'_> {
    pub(super) fn name(&self) -> &str {
        &self.points[0].data_set
    }
}

/// Every data set with its predictors priced on the paper's fast link, whose questions `read` reads.
pub(super) fn priced<'a, E: From<PricingError>>(
    case: &PaperCase,
    points: &'a [OwnPoint],
    read: Read<E>,
) -> Result<Vec<OwnDataSet<'a>>, E> {
    let mut names: Vec<&str> = Vec::new();
    for point in points {
        if !names.contains(&point.data_set.as_str()) {
            names.push(&point.data_set);
        }
    }
    let of = |name: &str| {
        let points: Vec<&OwnPoint> = points.iter().filter(|point| point.data_set == name).collect();
        data_set(case, points, read)
    };
    names.into_iter().map(of).collect()
}

fn data_set<'a, E: From<PricingError>>(
    case: &PaperCase,
    points: Vec<&'a OwnPoint>,
    read: Read<E>,
) -> Result<OwnDataSet<'a>, E> {
    let OwnPoint { skewness, distribution_error, .. } = *points[0];
    let data_set = DataSet { name: "", skewness, distribution_error };
    let predictor = |point: &&OwnPoint| {
        let OwnPoint { predictor, metric, accuracy, overhead_s, .. } = point;
        json!({"name": predictor, "metric": metric, "accuracy": accuracy, "overhead_s": overhead_s})
    };
    let predictors: Value = points.iter().map(predictor).collect();
    let mut priced: Vec<PricedPoint> = Vec::new();
    let mut duplicated = [f64::NAN; 2];
    for (preset, at) in [("paper", 0), ("calibrated", 1)] {
        let link = LINKS[0].0;
        let (question, known) =
            read(&cases::question(case, preset, Point { data_set, link }, &predictors))?;
        let entries = advice::price(&question, &known, Cancel::NEVER)?.entries;
        let of = |strategy| fastest(&entries, strategy).map_or(f64::NAN, Seconds::get);
        let none = of(strategies::NONE);
        duplicated[at] = of(strategies::DISTRIBUTION_ONLY) / none;
        let predicted = entries.iter().filter_map(|entry| {
            let predictor = entry.predictor.as_ref()?;
            Some((predictor, entry.latency().map_or(f64::NAN, Seconds::get) / none))
        });
        for (index, (predictor, over_none)) in predicted.enumerate() {
            if at == 0 {
                priced.push(PricedPoint {
                    accuracy: predictor.accuracy,
                    overhead: predictor.overhead,
                    over_none: [over_none; 2],
                });
            } else if let Some(point) = priced.get_mut(index) {
                point.over_none[at] = over_none;
            }
        }
    }
    let timed: Vec<PredictorPoint> = priced
        .iter()
        .filter(|point| point.overhead > Seconds::ZERO)
        .map(|point| PredictorPoint { accuracy: point.accuracy, overhead: point.overhead })
        .collect();
    let performance = [0, 1].map(|at| {
        let over: Vec<(f64, f64)> =
            priced.iter().map(|point| (point.accuracy, point.over_none[at])).collect();
        quadratic(&over)
    });
    Ok(OwnDataSet {
        overhead: (timed.len() > 1).then(|| OverheadCurve::fit(&timed)),
        points,
        priced,
        duplicated,
        performance,
    })
}

/// The parabola y = u + v·x + w·x² of least squares through points of three values of x and more.
///
/// With x centred on its mean and `S_n` = Σ xⁿ the normal equations are
///
/// ```text
/// Σy = n·u + S_2·w     Σxy = S_2·v + S_3·w     Σx²y = S_2·u + S_3·v + S_4·w
/// ```
///
/// The MoE-GPS paper fits its performance over accuracy with a polynomial of a degree that is not known;
/// two is ours. Worked number: 1 + 2x + 3x² comes out of its own values.
fn quadratic(points: &[(f64, f64)]) -> Option<[f64; 3]> {
    let n = points.len() as f64;
    let middle = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| of(x - middle, *y)).sum()
    };
    let [s2, s3, s4] = [2, 3, 4].map(|power| sum(&|x, _| x.powi(power)));
    let [y0, y1, y2] = [0, 1, 2].map(|power| sum(&|x, y| x.powi(power) * y));
    // What is left of the third equation once u and v are taken from the others.
    let left = s4 - s2 * s2 / n - s3 * s3 / s2;
    if left.is_nan() || left <= 1e-12 * s4 {
        return None;
    }
    let w = (y2 - s2 * y0 / n - s3 * y1 / s2) / left;
    let v = (y1 - s3 * w) / s2;
    let u = (y0 - s2 * w) / n;
    Some([u - v * middle + w * middle * middle, v - 2.0 * w * middle, w])
}

/// The predictors as a section of the page.
pub(super) fn points_section(page: &mut String, sets: &[OwnDataSet]) {
    if sets.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "\n## Predictors that were fitted\n\n![Predictors over their accuracy]\
         (reproduction/mixtral-points.svg)\n\n\
         Points that were given with `--points`, priced as predictors of Mixtral on {}. An accuracy says \
         what it counts; *per choice* is what it is taken as, by which predictors are compared: the share \
         of a token's two experts that are named, for an exact set its square root (choices taken as \
         independent). The curves are the paper's two fits, for every data set: time over accuracy, \
         t = a·exp(c·accuracy), through the predictors that take any; and time of a layer over that of \
         `none`, y = u + v·x + w·x², whose degree is ours.\n\n\
         | data set | predictor | accuracy | metric | per choice | µs | layer over none, formulas | \
         calibrated |\n| --- | --- | --: | --- | --: | --: | --: | --: |\n",
        LINKS[0].1
    );
    for set in sets {
        for (point, priced) in set.points.iter().zip(&set.priced) {
            let _ = writeln!(
                page,
                "| {} (s {:.2}, ε {:.3}) | `{}` | {:.3} | {} | {:.3} | {:.1} | {:.3} | {:.3} |",
                set.name(),
                point.skewness,
                point.distribution_error,
                point.predictor,
                point.accuracy,
                point.metric,
                priced.accuracy,
                priced.overhead.get() * 1e6,
                priced.over_none[0],
                priced.over_none[1]
            );
        }
    }
    page.push_str(
        "\n| data set | a, µs | c | u, v, w by the formulas | u, v, w calibrated | `distribution_only` over \
         none, formulas | calibrated |\n| --- | --: | --: | --- | --- | --: | --: |\n",
    );
    for set in sets {
        let curve = set.overhead.map_or_else(
            || "– | –".to_owned(),
            |curve| format!("{:.4} | {:.2}", curve.at_zero.get() * 1e6, curve.growth),
        );
        let parabola = set.performance.map(|found| {
            found.map_or_else(|| "–".to_owned(), |[u, v, w]| format!("{u:.2}, {v:.2}, {w:.2}"))
        });
        let _ = writeln!(
            page,
            "| {} | {curve} | {} | {:.3} | {:.3} |",
            set.name(),
            parabola.join(" | "),
            set.duplicated[0],
            set.duplicated[1]
        );
    }
}

/// What recorded counts say, as a section of the page.
pub(super) fn counts_section<E: From<PricingError>>(
    page: &mut String,
    case: &PaperCase,
    counted: &[Counted],
    read: Read<E>,
) -> Result<(), E> {
    if counted.is_empty() {
        return Ok(());
    }
    let _ = write!(
        page,
        "\n## Recorded counts\n\nCounts that were given with `--counts`, priced as Mixtral on {}: skewness \
         is the mean over layers, the error that of all other data sets of the file as the forecast. \
         Gains are those of `distribution_only` over `none`.\n\n\
         | recording | skewness | distribution error | gain, formulas | gain, calibrated | advised, \
         calibrated |\n| --- | --: | --: | --: | --: | --- |\n",
        LINKS[0].1
    );
    for one in counted {
        let layer = |(truth, forecast): (&Vec<f64>, &Vec<f64>)| LayerRouting {
            truth: normalised(truth),
            forecast: normalised(forecast),
        };
        let forecasts = one.others.as_ref().unwrap_or(&one.layers);
        let layers: Vec<LayerRouting> = one.layers.iter().zip(forecasts).map(layer).collect();
        let known = RoutingEvidence::Layers(layers);
        let mut gains = [f64::NAN; 2];
        let mut advised = String::new();
        for (preset, at) in [("paper", 0), ("calibrated", 1)] {
            let point = Point { data_set: DATA_SETS[0], link: LINKS[0].0 };
            let (question, _) = read(&cases::question(case, preset, point, &json!([])))?;
            let priced = advice::price(&question, &known, Cancel::NEVER)?;
            let of = |strategy| fastest(&priced.entries, strategy).map_or(f64::NAN, Seconds::get);
            gains[at] = gain(of(strategies::NONE), of(strategies::DISTRIBUTION_ONLY));
            let decided = priced.decided(&question, Deciding::All);
            advised = decided.map_or_else(String::new, |decided| {
                let id = decided.strategy.id();
                if decided.is_tie { format!("({id})") } else { id.to_owned() }
            });
        }
        let paper = known.paper();
        let error = paper.iter().map(|layer| layer.distribution_error).sum::<f64>();
        let error = one.others.as_ref().map_or_else(
            || "–".to_owned(),
            |_| format!("{:.4}", error / paper.len().max(1) as f64),
        );
        let _ = writeln!(
            page,
            "| `{}` | {:.2} | {error} | {:.1} % | {:.1} % | {advised} |",
            one.name,
            known.mean_skewness().unwrap_or(f64::NAN),
            gains[0],
            gains[1]
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parabola_comes_out_of_its_own_values() {
        let at = |x: f64| (x, 1.0 + 2.0 * x + 3.0 * x * x);
        let found = quadratic(&[0.3, 0.5, 0.6, 0.9].map(at)).unwrap();
        for (found, exact) in found.into_iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - exact).abs() < 1e-9, "{found} {exact}");
        }
        assert_eq!(quadratic(&[at(0.3), at(0.5)]), None);
        assert_eq!(quadratic(&[at(0.3), at(0.5), at(0.3)]), None);
    }

    #[test]
    fn every_data_set_is_forecast_by_the_others() {
        let text = r#"{"model": "m", "counts": {"a": [[1, 3]], "b": [[2, 2]], "c": [[5, 0]]}}"#;
        let found = counted("f", text).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].name.as_str(), &found[0].layers), ("f: a", &vec![vec![1.0, 3.0]]));
        assert_eq!(found[0].others, Some(vec![vec![7.0, 2.0]]));
        assert_eq!(counted("f", r#"{"counts": {"a": [[1, 3]]}}"#).unwrap()[0].others, None);
    }
}
