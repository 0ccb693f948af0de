//! Sweeps: a question with one or two quantities varied, and who wins where.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::wire::field::{
    self, Field as _, FieldKind as _, Itself, List, Maybe, Object, OneOf, Readable as _, object,
    required, unread,
};
use crate::wire::names::{MethodName, PresetName, StrategyName, SweptParameterName};
use crate::wire::question::{ACCURACY, BANDWIDTH, DEVICES, Question, SECONDS, SKEWNESS, TOKENS};
use crate::wire::read::{Fields, Located, Violations};
use moe_gps_core::advice::sensitivity::flip::Parameter;
use moe_gps_core::strategies::Strategy;

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
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Varied(Parameter::Skewness), Parameter::Skewness.id()),
        (Self::Varied(Parameter::LinkBandwidth), Parameter::LinkBandwidth.id()),
        (Self::Varied(Parameter::InterNodeBandwidth), Parameter::InterNodeBandwidth.id()),
        (Self::Varied(Parameter::TokensPerStep), Parameter::TokensPerStep.id()),
        (Self::Varied(Parameter::OutputTokens), Parameter::OutputTokens.id()),
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

    /// The quantity of this name.
    #[must_use]
    pub fn by_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == id).map(|(parameter, _)| parameter)
    }

    /// Whether its values are whole numbers.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(
            self,
            Self::Devices | Self::Varied(Parameter::TokensPerStep | Parameter::OutputTokens)
        )
    }

    /// The values an axis of the quantity may have, in the ranges the question allows for any
    /// model; in any range where it is not known what they are values of.
    fn values(parameter: Option<Self>, place: &Located) -> Option<Vec<f64>> {
        let whole = |range| {
            let values: Vec<u64> = List(VALUES, range).read(place)?;
            Some(values.into_iter().map(|value| value as f64).collect())
        };
        let range = match parameter {
            Some(Self::Devices) => {
                return whole((*DEVICES.start()).into()..=(*DEVICES.end()).into());
            }
            Some(Self::Varied(Parameter::TokensPerStep | Parameter::OutputTokens)) => {
                return whole(TOKENS);
            }
            Some(Self::Varied(Parameter::Skewness)) => SKEWNESS,
            Some(Self::Varied(Parameter::LinkBandwidth | Parameter::InterNodeBandwidth)) => {
                BANDWIDTH
            }
            Some(Self::Varied(Parameter::PredictorAccuracy)) => ACCURACY,
            Some(Self::Varied(Parameter::PredictorOverhead)) => SECONDS,
            None => f64::MIN..=f64::MAX,
        };
        List(VALUES, range).read(place)
    }
}

/// `count` values from `from` to `to`, both among them, at even distances or ratios.
#[must_use]
pub fn spread(from: f64, to: f64, count: u32, at_ratios: bool) -> Vec<f64> {
    let at = |place: u32| match place {
        0 => from,
        last if last == count - 1 => to,
        _ => {
            let share = f64::from(place) / f64::from(count - 1);
            if at_ratios { from * (to / from).powf(share) } else { from + (to - from) * share }
        }
    };
    (0..count).map(at).collect()
}

object! {
    /// Which strategy wins over a grid of one or two quantities?
    pub struct SweepRequest {
        /// The question; what is not swept stays as it says.
        pub question: Option<Value> = required(unread::<Question>()),
        /// One or two quantities with their values; at most 10,000 cells in all.
        pub axes: Option<Vec<SweepAxis>> = required(List(1..=2, Itself)),
    }
}

/// A quantity with the values it takes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SweepAxis {
    /// The quantity.
    pub parameter: Option<SweptParameter>,
    /// Its values.
    pub values: Option<Vec<f64>>,
}

/// What an axis says of its quantity.
const PARAMETER: Maybe<OneOf<SweptParameter>> = required(OneOf(&SweptParameter::ALL));
/// How many values an axis may have.
const VALUES: RangeInclusive<usize> = 1..=MOST_CELLS;

// By hand, because the range of the values follows from the quantity.
impl Object for SweepAxis {
    fn read_fields(fields: &Fields) -> Self {
        let parameter = PARAMETER.read(fields, "parameter");
        let values = fields.require("values");
        let values = values.and_then(|place| SweptParameter::values(parameter, &place));
        Self { parameter, values }
    }
}

impl ToSchema for SweepAxis {}

impl PartialSchema for SweepAxis {
    fn schema() -> RefOr<Schema> {
        let axis = ObjectBuilder::new().description(Some("A quantity with the values it takes."));
        let axis = field::with(axis, "parameter", &["The quantity."], &PARAMETER);
        let number = ObjectBuilder::new().schema_type(Type::Number);
        let values = ArrayBuilder::new()
            .items(number)
            .description(Some("Values within the ranges of the question, in any order."));
        let values = values.min_items(Some(*VALUES.start())).max_items(Some(*VALUES.end()));
        field::closed(axis.property("values", values).required("values")).into()
    }
}

/// Who wins where. Every matrix has a row per value of the first axis and in it a column per
/// value of the second; with one axis it is one row, with a column per value.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SweepAnswer {
    /// The axes as asked for.
    pub axes: Vec<AnsweredAxis>,
    /// The strategy advised in each cell if every one could be run; null where none can.
    #[schema(value_type = Vec<Vec<Option<StrategyName>>>)]
    pub winner: Vec<Vec<Option<Cow<'static, str>>>>,
    /// The strategy advised of those that can be run, as a recommendation would name it.
    #[schema(value_type = Vec<Vec<Option<StrategyName>>>)]
    pub winner_runnable: Vec<Vec<Option<Cow<'static, str>>>>,
    /// Second fastest strategy over fastest, minus 1.
    pub margin_over_runner_up: Vec<Vec<f64>>,
    /// Whether the fastest is not known to be faster than `none` (`current`, where given).
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnsweredAxis {
    /// The quantity.
    #[schema(value_type = SweptParameterName)]
    pub parameter: Cow<'static, str>,
    /// Its values.
    pub values: Vec<f64>,
}

/// A row per value of the first axis, in it a column per value of the second.
pub type Matrix<T> = Vec<Vec<T>>;

/// Latencies by strategy, simplest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LatencyMatrices(pub IndexMap<Cow<'static, str>, Matrix<Option<f64>>>);

impl ToSchema for LatencyMatrices {}

impl PartialSchema for LatencyMatrices {
    fn schema() -> RefOr<Schema> {
        let matrix = Matrix::<Option<f64>>::schema();
        let all = ObjectBuilder::new().description(Some("Latencies by strategy."));
        let with = |all: ObjectBuilder, (_, id)| all.property(id, matrix.clone()).required(id);
        Strategy::ALL.into_iter().fold(all, with).into()
    }
}

/// The predictor that an axis of accuracy or overhead belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SweptPredictor {
    /// Its name in the question.
    pub name: String,
    /// The accuracy it has where that is not swept.
    pub accuracy: f64,
    /// The time it takes per layer and step where that is not swept.
    pub overhead_s: f64,
}

/// What a sweep rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SweepProvenance {
    /// The program's version.
    pub version: Cow<'static, str>,
    /// Digest of the catalog.
    pub catalog_digest: String,
    /// Always `analytic`.
    #[schema(value_type = MethodName)]
    pub method: Cow<'static, str>,
    /// `paper` or `calibrated`.
    #[schema(value_type = PresetName)]
    pub preset: Cow<'static, str>,
    /// Seed of every random draw.
    pub seed: u64,
    /// Cells that were priced. Where a grid has many, the others lie between priced ones that agree on
    /// the choice and whose latencies, interpolated, are within 0.5 % of the priced one in the middle.
    pub priced_cells: u64,
    /// Steps drawn over all layers to price a cell; null where formulas do without.
    pub draws: Option<u64>,
}

/// Reads a request; what could not be read is `None` and noted.
pub fn read(request: &Value, violations: &Violations) -> SweepRequest {
    SweepRequest::read(&Located::root(request, violations)).unwrap_or_default()
}
