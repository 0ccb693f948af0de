//! Sweeps: a question with one or two quantities varied, and who wins where.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::wire::question::Question;
use crate::wire::read::{Place, Violations};
use moe_gps_core::advice::sensitivity::flip::Parameter;

/// Values an axis may have, and cells a sweep may have.
pub const MOST_CELLS: usize = 10_000;

/// A quantity that can be swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweptParameter {
    /// A quantity that flip points are searched along, too.
    Varied(Parameter),
    /// Devices of the cluster; parallelism and plans follow.
    Devices,
}

impl SweptParameter {
    /// Every quantity with its name.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Varied(Parameter::Skewness), Parameter::Skewness.id()),
        (Self::Varied(Parameter::LinkBandwidth), Parameter::LinkBandwidth.id()),
        (Self::Varied(Parameter::TokensPerStep), Parameter::TokensPerStep.id()),
        (Self::Devices, "devices"),
        (Self::Varied(Parameter::PredictorAccuracy), Parameter::PredictorAccuracy.id()),
        (Self::Varied(Parameter::PredictorOverhead), Parameter::PredictorOverhead.id()),
    ];

    /// The quantity's name.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Varied(parameter) => parameter.id(),
            Self::Devices => "devices",
        }
    }

    /// A value of the quantity, in the range the question allows for any model.
    fn value(self, place: &Place) -> Option<f64> {
        let whole = |most| place.integer(1..=most).map(|whole| whole as f64);
        match self {
            Self::Devices => whole(4096),
            Self::Varied(Parameter::TokensPerStep) => whole(1 << 24),
            Self::Varied(Parameter::Skewness) => place.number(1.0..=65_536.0),
            Self::Varied(Parameter::LinkBandwidth) => place.number(1e6..=1e13),
            Self::Varied(Parameter::PredictorAccuracy) => place.number(0.0..=1.0),
            Self::Varied(Parameter::PredictorOverhead) => place.number(0.0..=60.0),
        }
    }
}

/// Which strategy wins over a grid of one or two quantities?
#[derive(Debug, Clone, Default, ToSchema)]
#[schema(title = "Sweep")]
pub struct SweepRequest {
    /// The question; what is not swept stays as it says.
    #[schema(required = true, value_type = Question)]
    pub question: Option<Value>,
    /// One or two quantities with their values; at most 10,000 cells in all.
    #[schema(required = true, value_type = Vec<SweepAxis>, min_items = 1, max_items = 2)]
    pub axes: Option<Vec<SweepAxis>>,
}

/// A quantity with the values it takes.
#[derive(Debug, Clone, PartialEq, Default, ToSchema)]
pub struct SweepAxis {
    /// `skewness`, `link_bandwidth_bytes_per_s`, `tokens_per_step`, `devices`,
    /// `predictor_accuracy` or `predictor_overhead_s`.
    #[schema(value_type = String, pattern = "^(skewness|link_bandwidth_bytes_per_s|tokens_per_step|devices|predictor_accuracy|predictor_overhead_s)$")]
    pub parameter: Option<SweptParameter>,
    /// Values within the ranges of the question, in any order.
    #[schema(value_type = Vec<f64>, min_items = 1, max_items = 10_000)]
    pub values: Option<Vec<f64>>,
}

/// Who wins where. Every matrix has a row per value of the first axis and in it a column per
/// value of the second; with one axis it is one row, with a column per value.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SweepAnswer {
    /// The axes as asked for.
    pub axes: Vec<AnsweredAxis>,
    /// The strategy recommended in each cell; null where none can be run.
    pub winner: Vec<Vec<Option<&'static str>>>,
    /// Second fastest strategy over fastest, minus 1.
    pub margin_over_runner_up: Vec<Vec<f64>>,
    /// Whether that margin is within its error band, so that the simplest of the equals is
    /// the winner.
    pub tie: Vec<Vec<bool>>,
    /// Latency of a layer under each strategy, with its fastest predictor; null where it
    /// cannot be run.
    pub layer_latency_s: LatencyMatrices,
    /// The predictor whose accuracy or overhead is swept, as it is held besides.
    pub predictor: Option<SweptPredictor>,
    /// What the user should know although the question is answerable.
    pub warnings: Vec<String>,
    /// What the answer rests on.
    pub provenance: SweepProvenance,
}

/// An axis as it was swept.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AnsweredAxis {
    /// The quantity.
    pub parameter: &'static str,
    /// Its values.
    pub values: Vec<f64>,
}

/// Latencies by strategy.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct LatencyMatrices {
    /// The static placement.
    pub none: Vec<Vec<Option<f64>>>,
    /// Experts re-placed.
    pub replace_only: Vec<Vec<Option<f64>>>,
    /// Experts copied by their share of the load.
    pub distribution_only: Vec<Vec<Option<f64>>>,
    /// Experts copied by a forecast of every token.
    pub token_to_expert: Vec<Vec<Option<f64>>>,
}

impl LatencyMatrices {
    /// The matrices in the order of strategies, simplest first.
    #[must_use]
    pub const fn all(&self) -> [&Vec<Vec<Option<f64>>>; 4] {
        [&self.none, &self.replace_only, &self.distribution_only, &self.token_to_expert]
    }
}

/// The predictor that an axis of accuracy or overhead belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SweptPredictor {
    /// Its name in the question.
    pub name: String,
    /// The accuracy it has where that is not swept.
    pub accuracy: f64,
    /// The time it takes per layer and step where that is not swept.
    pub overhead_s: f64,
}

/// What a sweep rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SweepProvenance {
    /// The program's version.
    pub version: &'static str,
    /// Digest of the catalog.
    pub catalog_digest: String,
    /// Always `analytic`.
    pub method: &'static str,
    /// `paper` or `calibrated`.
    pub preset: &'static str,
    /// Seed of every random draw.
    pub seed: u64,
    /// Steps drawn over all layers to price a cell; null where formulas do without.
    pub draws: Option<u64>,
}

/// Reads a request; what could not be read is `None` and noted.
pub fn read(request: &Value, violations: &Violations) -> SweepRequest {
    let Some(fields) = Place::root(request, violations).object() else {
        return SweepRequest::default();
    };
    let read = SweepRequest {
        question: fields.require("question").map(|place| place.value().clone()),
        axes: fields.require("axes").and_then(|place| {
            let axes: Vec<_> = place.items(1..=2)?.iter().map(axis).collect();
            axes.into_iter().collect()
        }),
    };
    fields.finish();
    read
}

fn axis(place: &Place) -> Option<SweepAxis> {
    let fields = place.object()?;
    let parameter =
        fields.require("parameter").and_then(|place| place.one_of(&SweptParameter::ALL));
    let values = fields.require("values").and_then(|place| values(parameter, &place));
    fields.finish();
    Some(SweepAxis { parameter, values })
}

/// The values; checked one by one only where it is known what they are values of.
fn values(parameter: Option<SweptParameter>, place: &Place) -> Option<Vec<f64>> {
    let items = place.items(1..=MOST_CELLS)?;
    let read = |item: &Place| match parameter {
        Some(parameter) => parameter.value(item),
        None => item.number(f64::MIN..=f64::MAX),
    };
    let read: Vec<Option<f64>> = items.iter().map(read).collect();
    read.into_iter().collect()
}
