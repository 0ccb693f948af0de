//! The figures of the MoE-GPS paper, by its own formulas and calibrated, side by side.
//!
//! Decision maps (Figures 1 and 7 of the paper), latency over the accuracy of a predictor
//! (Figure 6) and the table of skewness and error, for the three models the paper names.

mod cases;
mod claims;
mod figures;
mod text;

use serde_json::Value;

use moe_gps_core::advice;
use moe_gps_core::advice::Entry;
use moe_gps_core::advice::choose::Deciding;
use moe_gps_core::advice::sensitivity::decision_map::{DecisionMap, MapAxis};
use moe_gps_core::advice::sensitivity::flip::Parameter;
use moe_gps_core::advice::sensitivity::sweep::{Axis, Sweep};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::pricing::entry::PricedPredictor;
use moe_gps_core::pricing::error::PricingError;
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::question::Question;
use moe_gps_core::strategies::{self, Strategy};
use moe_gps_core::units::Seconds;

use cases::{CASES, DATA_SETS, DataSet, LINKS, MeasuredPredictor, PaperCase, Point};

/// A file of the reproduction, by its path under the folder it is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The path.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

/// A recording of Mixtral's routing to set beside the paper's data sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Its name.
    pub name: String,
    /// Mean over layers of the expert skewness.
    pub skewness: f64,
    /// Error of its first half as a forecast of its second.
    pub distribution_error: Option<f64>,
}

/// Everything computed of one model under one preset.
struct Computed {
    /// Winners over skewness and link bandwidth.
    map: DecisionMap,
    /// The same over skewness at the paper's four bandwidths.
    lines: DecisionMap,
    /// Latency over accuracy, on every link of [`LINKS`].
    curves: Vec<Curves>,
    /// The choice at every data set and link.
    points: Vec<Priced>,
}

/// Layer latencies, seconds, over the accuracy or the time of a predictor.
struct Curves {
    none: f64,
    distribution_only: f64,
    token_to_expert: Vec<(f64, f64)>,
}

/// How far `distribution_only` is ahead of `token_to_expert` in the headline's case, percent, over the
/// predictor's time in seconds.
struct Leads {
    curve: Vec<(f64, f64)>,
    /// At the measured times, predictor after predictor, in the order of their costs.
    measured: Vec<(f64, f64)>,
}

/// The choice at one data set and link.
struct Priced {
    data_set: DataSet,
    link: &'static str,
    winner: Strategy,
    tie: bool,
    /// Latency of a layer under every strategy, seconds, in their order.
    latencies: [Option<f64>; Strategy::ALL.len()],
}

impl Priced {
    fn latency(&self, strategy: Strategy) -> f64 {
        let of = Strategy::ALL.iter().position(|(one, _)| *one == strategy);
        of.and_then(|place| self.latencies[place]).unwrap_or(f64::NAN)
    }
}

/// Reads a question in JSON as the service does, with what it says of the routing.
pub type Read<'a, E> = &'a dyn Fn(&Value) -> Result<(Question, RoutingEvidence), E>;

/// Computes every document, whose questions `read` reads.
pub fn documents<E: From<PricingError>>(
    recordings: &[Recording],
    read: Read<E>,
) -> Result<Vec<Document>, E> {
    let mut documents = Vec::new();
    let mut computed = Vec::new();
    for case in &CASES {
        let [paper, calibrated] = [of(case, "paper", read)?, of(case, "calibrated", read)?];
        let mut add = |name: &str, text: String| {
            documents.push(Document { path: format!("reproduction/{}-{name}", case.id), text });
        };
        add("decision-map.svg", figures::decision_map(case, &paper, &calibrated));
        add("difference.svg", figures::difference(case, &paper, &calibrated));
        add("accuracy.svg", figures::accuracy(case, &paper, &calibrated));
        for (preset, computed) in [("paper", &paper), ("calibrated", &calibrated)] {
            add(&format!("decision-map-{preset}.csv"), computed.map.csv());
            add(&format!("difference-{preset}.csv"), computed.lines.csv());
            add(&format!("accuracy-{preset}.csv"), text::accuracy_csv(computed));
        }
        computed.push((case, paper, calibrated));
    }
    let leads = [leads("paper", read)?, leads("calibrated", read)?];
    documents.push(Document {
        path: "reproduction/mixtral-overhead.svg".to_owned(),
        text: figures::overhead(&leads),
    });
    documents.push(Document {
        path: "reproduction.md".to_owned(),
        text: text::markdown(
            &computed,
            &leads,
            recordings,
            (&claims::operating(read)?, &claims::error_models(read)?),
        ),
    });
    Ok(documents)
}

fn of<E: From<PricingError>>(
    case: &PaperCase,
    preset: &'static str,
    read: Read<E>,
) -> Result<Computed, E> {
    let at = Point { data_set: DATA_SETS[0], link: LINKS[0].0 };
    let (question, known) = read(&cases::question(case, preset, at, &cases::stated()))?;
    let skewness = cases::skewness();
    let swept = |bandwidths: &[f64]| -> Result<DecisionMap, E> {
        let axes = [
            Axis { parameter: Parameter::Skewness, values: &skewness },
            Axis { parameter: Parameter::LinkBandwidth, values: bandwidths },
        ];
        let named =
            |axis: &Axis| MapAxis { parameter: axis.parameter.id(), values: axis.values.to_vec() };
        let sweep = Sweep {
            question: &question,
            known: &known,
            predictor: None,
            predictors: None,
            stop: Cancel::NEVER,
        };
        Ok(DecisionMap { axes: axes.iter().map(named).collect(), cells: sweep.cells(&axes)? })
    };
    let mut curves = Vec::new();
    for (link, _) in LINKS {
        let at = Point { data_set: DATA_SETS[0], link };
        let asked = cases::question(case, preset, at, &cases::family());
        curves.push(curve(&asked, |predictor| predictor.accuracy, read)?);
    }
    let mut points = Vec::new();
    for (link, _) in LINKS {
        for data_set in DATA_SETS {
            let at = Point { data_set, link };
            points.push(point(&cases::question(case, preset, at, &cases::stated()), at, read)?);
        }
    }
    Ok(Computed {
        map: swept(&cases::bandwidths())?,
        lines: swept(&cases::PAPER_BANDWIDTHS)?,
        curves,
        points,
    })
}

/// The lead in the headline's case, with predictors of equal accuracy that take other times.
fn leads<E: From<PricingError>>(preset: &str, read: Read<E>) -> Result<Leads, E> {
    let at = Point { data_set: DATA_SETS[0], link: LINKS[0].0 };
    let over = |times: &[f64]| -> Result<Vec<(f64, f64)>, E> {
        let asked = cases::question(&CASES[0], preset, at, &cases::of_times(times));
        let found = curve(&asked, |predictor| predictor.overhead.get(), read)?;
        let lead = |time: &f64| {
            let is_asked = |(overhead, _): &&(f64, f64)| overhead.total_cmp(time).is_eq();
            let (_, latency) = found.token_to_expert.iter().find(is_asked)?;
            Some((*time, (latency / found.distribution_only - 1.0) * 100.0))
        };
        Ok(times.iter().filter_map(lead).collect())
    };
    let measured = cases::MEASURED.iter().flat_map(MeasuredPredictor::costs);
    let measured: Vec<f64> = measured.map(|(_, seconds)| seconds).collect();
    Ok(Leads { curve: over(&cases::overheads())?, measured: over(&measured)? })
}

/// The latencies of every strategy, those of token-to-expert by what `x` says of its predictor.
fn curve<E: From<PricingError>>(
    request: &Value,
    x: fn(&PricedPredictor) -> f64,
    read: Read<E>,
) -> Result<Curves, E> {
    let (question, known) = read(request)?;
    let entries = advice::price(&question, &known, Cancel::NEVER)?.entries;
    let latency = |strategy| {
        let mut of = entries.iter().filter(|entry| entry.strategy == strategy);
        of.find_map(Entry::latency).map_or(f64::NAN, Seconds::get)
    };
    let point = |entry: &Entry| Some((x(entry.predictor.as_ref()?), entry.latency()?.get()));
    Ok(Curves {
        none: latency(strategies::NONE),
        distribution_only: latency(strategies::DISTRIBUTION_ONLY),
        token_to_expert: entries.iter().filter_map(point).collect(),
    })
}

fn point<E: From<PricingError>>(request: &Value, at: Point, read: Read<E>) -> Result<Priced, E> {
    let (question, known) = read(request)?;
    let priced = advice::price(&question, &known, Cancel::NEVER)?;
    let decided = priced.decided(&question, Deciding::All);
    let entries = priced.entries;
    let latency = |strategy| {
        let of = entries.iter().filter(|entry| entry.strategy == strategy);
        of.filter_map(Entry::latency).reduce(Seconds::min).map(Seconds::get)
    };
    Ok(Priced {
        data_set: at.data_set,
        link: at.link,
        winner: decided.map_or(strategies::NONE, |decided| decided.strategy),
        tie: decided.is_some_and(|decided| decided.is_tie),
        latencies: Strategy::ALL.map(|(strategy, _)| latency(strategy)),
    })
}
