//! The figures of the MoE-GPS paper, by its own formulas and calibrated, side by side.
//!
//! Decision maps (Figures 1 and 7 of the paper), latency over the accuracy of a predictor
//! (Figure 6) and the table of skewness and error, for the three models the paper names.

mod cases;
mod claims;
mod figures;
mod own;
mod text;

use serde_json::{Value, json};

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
use moe_gps_core::trend::Trend;
use moe_gps_core::units::Seconds;

use cases::{DATA_SETS, DataSet, LINKS, MeasuredPredictor, PaperCase, Point};

pub use own::{Counted, OwnPoint, counted};

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

/// What is set beside the paper's figures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Added {
    /// Recordings of Mixtral's routing.
    pub recordings: Vec<Recording>,
    /// Points of one's own predictors.
    pub points: Vec<OwnPoint>,
    /// Measured times of Mixtral's layer, by the fields of `measured_layer`.
    pub layer: Option<Value>,
    /// Counts that were recorded of Mixtral.
    pub counted: Vec<Counted>,
}

/// Forecast and predictor that change with skewness: the errors of the paper's data sets, and the
/// accuracy of its predictor where that was measured.
struct Trends {
    accuracies: Option<Trend>,
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
    /// Not a number where there is no formula.
    replace_only: f64,
    distribution_only: f64,
    token_to_expert: Vec<(f64, f64)>,
}

/// How far `distribution_only` is ahead of `token_to_expert` in the headline's case, percent, over the
/// predictor's time in seconds.
struct Leads {
    curve: Vec<(f64, f64)>,
    /// The lead of `replace_only` in its place; empty where there is no formula.
    replaced: Vec<(f64, f64)>,
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
pub fn documents<E: From<PricingError>>(added: &Added, read: Read<E>) -> Result<Vec<Document>, E> {
    let mut documents = Vec::new();
    let mut computed = Vec::new();
    let cases = cases::all(added.layer.as_ref());
    let mixtral = &cases[0];
    for case in &cases {
        let [paper, calibrated] =
            [of(case, "paper", By::Preset, read)?, of(case, "calibrated", By::Preset, read)?];
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
    let measured =
        |point: &OwnPoint| (point.predictor == "ffn").then_some((point.skewness, point.accuracy));
    let measured: Vec<(f64, f64)> = added.points.iter().filter_map(measured).collect();
    let trends = Trends { accuracies: cases::accuracies(&measured) };
    let over_skewness =
        ["paper", "calibrated"].map(|preset| of(mixtral, preset, By::Trends(&trends), read));
    let [paper_over, calibrated_over] = over_skewness;
    let over_skewness = [paper_over?, calibrated_over?];
    documents.push(Document {
        path: "reproduction/mixtral-trends.svg".to_owned(),
        text: figures::trends(mixtral, &over_skewness),
    });
    let models = claims::ERROR_MODELS
        .map(|model| Ok::<_, E>((model, of(mixtral, "paper", By::ErrorModel(model), read)?)));
    documents.push(Document {
        path: "reproduction/mixtral-error-models.svg".to_owned(),
        text: figures::error_models(mixtral, &models.into_iter().collect::<Result<Vec<_>, E>>()?),
    });
    let own = own::priced(mixtral, &added.points, read)?;
    if !own.is_empty() {
        documents.push(Document {
            path: "reproduction/mixtral-points.svg".to_owned(),
            text: figures::own_points(&own),
        });
    }
    let mut of_counts = String::new();
    own::counts_section(&mut of_counts, mixtral, &added.counted, read)?;
    let leads = [leads(mixtral, "paper", read)?, leads(mixtral, "calibrated", read)?];
    documents.push(Document {
        path: "reproduction/mixtral-overhead.svg".to_owned(),
        text: figures::overhead(&leads),
    });
    documents.push(Document {
        path: "reproduction.md".to_owned(),
        text: text::markdown(
            &computed,
            &leads,
            &added.recordings,
            (&claims::operating(mixtral, read)?, &claims::error_models(mixtral, read)?),
            &text::OverSkewness {
                trends: &trends,
                computed: &over_skewness,
                own: &own,
                counts: &of_counts,
            },
        ),
    });
    Ok(documents)
}

/// What a case is computed by beside its preset.
#[derive(Clone, Copy)]
enum By<'a> {
    /// Nothing.
    Preset,
    /// Errors and accuracies that change with skewness.
    Trends(&'a Trends),
    /// What an error of a predictor does.
    ErrorModel(&'a str),
}

fn of<E: From<PricingError>>(
    case: &PaperCase,
    preset: &'static str,
    by: By,
    read: Read<E>,
) -> Result<Computed, E> {
    let trends = if let By::Trends(trends) = by { Some(trends) } else { None };
    let at = Point { data_set: DATA_SETS[0], link: LINKS[0].0 };
    let accuracies = trends.and_then(|trends| trends.accuracies.as_ref());
    let stated = cases::stated_over_skewness(accuracies);
    // Where forecast and predictor change with skewness, the data set with the most of it shows it.
    let shown = DATA_SETS[if trends.is_some() { 2 } else { 0 }];
    let through = accuracies.map_or(cases::FFN.0, |trend| trend.at(shown.skewness));
    let asked = |at: Point, predictors: &Value| {
        let mut asked = cases::question(case, preset, at, predictors);
        if trends.is_some() {
            asked["routing"] = json!({
                "skewness": at.data_set.skewness, "distribution_error_points": cases::errors(),
            });
        }
        if let By::ErrorModel(model) = by {
            asked["assumptions"]["error_model"] = json!(model);
        }
        asked
    };
    let (question, known) = read(&asked(at, &stated))?;
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
        let family = asked(Point { data_set: shown, link }, &cases::family(through));
        curves.push(curve(&family, |predictor| predictor.accuracy, read)?);
    }
    let mut points = Vec::new();
    for (link, _) in LINKS {
        for data_set in DATA_SETS {
            let at = Point { data_set, link };
            points.push(point(&asked(at, &stated), at, read)?);
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
fn leads<E: From<PricingError>>(case: &PaperCase, preset: &str, read: Read<E>) -> Result<Leads, E> {
    let at = Point { data_set: DATA_SETS[0], link: LINKS[0].0 };
    let over = |times: &[f64], ahead: fn(&Curves) -> f64| -> Result<Vec<(f64, f64)>, E> {
        let asked = cases::question(case, preset, at, &cases::of_times(times));
        let found = curve(&asked, |predictor| predictor.overhead.get(), read)?;
        let lead = |time: &f64| {
            let is_asked = |(overhead, _): &&(f64, f64)| overhead.total_cmp(time).is_eq();
            let (_, latency) = found.token_to_expert.iter().find(is_asked)?;
            let lead = (latency / ahead(&found) - 1.0) * 100.0;
            lead.is_finite().then_some((*time, lead))
        };
        Ok(times.iter().filter_map(lead).collect())
    };
    let measured = cases::MEASURED.iter().flat_map(MeasuredPredictor::costs);
    let measured: Vec<f64> = measured.map(|(_, seconds)| seconds).collect();
    let duplicated = |found: &Curves| found.distribution_only;
    Ok(Leads {
        curve: over(&cases::overheads(), duplicated)?,
        replaced: over(&cases::overheads(), |found| found.replace_only)?,
        measured: over(&measured, duplicated)?,
    })
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
        replace_only: latency(strategies::REPLACE_ONLY),
        distribution_only: latency(strategies::DISTRIBUTION_ONLY),
        token_to_expert: entries.iter().filter_map(point).collect(),
    })
}

/// Latency of a layer under a strategy, with its fastest predictor.
pub(crate) fn fastest(entries: &[Entry], strategy: Strategy) -> Option<Seconds> {
    let of = entries.iter().filter(|entry| entry.strategy == strategy);
    of.filter_map(Entry::latency).reduce(Seconds::min)
}

fn point<E: From<PricingError>>(request: &Value, at: Point, read: Read<E>) -> Result<Priced, E> {
    let (question, known) = read(request)?;
    let priced = advice::price(&question, &known, Cancel::NEVER)?;
    let decided = priced.decided(&question, Deciding::All);
    let entries = priced.entries;
    let latency = |strategy| fastest(&entries, strategy).map(Seconds::get);
    Ok(Priced {
        data_set: at.data_set,
        link: at.link,
        winner: decided.map_or(strategies::NONE, |decided| decided.strategy),
        tie: decided.is_some_and(|decided| decided.is_tie),
        latencies: Strategy::ALL.map(|(strategy, _)| latency(strategy)),
    })
}
