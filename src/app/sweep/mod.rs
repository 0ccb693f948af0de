//! The use case of a decision map: one question, one or two quantities varied.

mod check;

use std::time::{Duration, Instant};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde_json::Value;

use crate::app::advisor::AdviceError;
use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::recommendations::refusal;
use crate::app::references::{self, References};
use crate::app::{default_predictors, routing_evidence};
use crate::wire::question::Question as AskedQuestion;
use crate::wire::read::Violations;
use crate::wire::sweep::{
    AnsweredAxis, LatencyMatrices, SweepAnswer, SweepProvenance, SweptParameter, SweptPredictor,
};
use moe_gps_core::advice;
use moe_gps_core::advice::sensitivity::decision_map::{DecisionMap, MapAxis};
use moe_gps_core::advice::sensitivity::flip::Parameter;
use moe_gps_core::advice::sensitivity::sweep::{
    Axis, Cell, DRAWS, FEW_CELLS, HeldPredictor, Predictors, Sweep, outer_axis, transposed,
    varied_predictor,
};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::pricing::error::PricingError;
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::question::{PredictorCost, Question};
use moe_gps_core::strategies::Strategy;
use moe_gps_core::system::Preset;
use moe_gps_core::units::Seconds;

use check::{Checked, CheckedAxis};
pub use check::{ReadSweep, read};

/// Sweeps computed at once; each uses every core.
pub const AT_ONCE: usize = 2;

/// Sweeps for a client.
pub async fn sweep(app: &App, request: Value) -> Result<SweepAnswer, AppError> {
    computed(app, request).await.map(SweepAnswer::from)
}

/// Computes a sweep for a client, who may go away before the end.
pub async fn computed(app: &App, request: Value) -> Result<Computed, AppError> {
    let asked = read(&request);
    let question = asked.question.as_ref().map(|question| &question.asked);
    let named = references::look_up(app, question.unwrap_or(&AskedQuestion::default())).await?;
    let _turn = app.sweeps.acquire().await;
    let cancel = Cancel::default();
    let _when_dropped = cancel.on_drop();
    let open = move || named.open().map_err(|error| error.under("/question"));
    let compute = move || compute_within(&asked, &open()?, Some(LONGEST), &cancel);
    let made = tokio::task::spawn_blocking(compute).await;
    let made = made.map_err(|error| AppError::Internal(format!("a sweep panicked: {error}")))?;
    made.map_err(refusal)
}

/// A computed sweep.
#[derive(Debug, Clone)]
pub struct Computed {
    /// Who wins where.
    pub map: DecisionMap,
    /// What the user should know although the question is answerable.
    pub warnings: Vec<String>,
    predictor: Option<SweptPredictor>,
    provenance: SweepProvenance,
}

impl From<Computed> for SweepAnswer {
    fn from(Computed { map, warnings, predictor, provenance }: Computed) -> Self {
        let latency = |strategy| map.matrix(|cell| cell.latency(strategy).map(Seconds::get));
        Self {
            winner: map.matrix(|cell| cell.winner.map(|winner| winner.id().into())),
            winner_runnable: map
                .matrix(|cell| cell.winner_runnable.map(|winner| winner.id().into())),
            margin_over_runner_up: map.matrix(|cell| cell.margin),
            tie: map.matrix(|cell| cell.tie),
            layer_latency_s: LatencyMatrices(
                Strategy::ALL.map(|(strategy, id)| (id.into(), latency(strategy))).into(),
            ),
            predictor,
            warnings,
            provenance,
            axes: map
                .axes
                .into_iter()
                .map(|MapAxis { parameter, values }| AnsweredAxis {
                    parameter: parameter.into(),
                    values,
                })
                .collect(),
        }
    }
}

/// How long a sweep may be expected to take over HTTP.
pub const LONGEST: Duration = Duration::from_secs(5);

/// Computes a sweep, unless it is canceled.
pub fn compute(
    asked: &ReadSweep,
    references: &References,
    cancel: &Cancel,
) -> Result<Computed, AdviceError> {
    compute_within(asked, references, None, cancel)
}

/// Computes a sweep, unless it is canceled or of many cells and expected to take longer than
/// `longest`.
pub fn compute_within(
    asked: &ReadSweep,
    references: &References,
    longest: Option<Duration>,
    cancel: &Cancel,
) -> Result<Computed, AdviceError> {
    let catalog = Catalog::embedded();
    let mut checked = check::check(asked, catalog, references)?;
    let loaded = routing_evidence::load(&checked.base, cancel)?;
    if let Some(skewness) = loaded.known.mean_skewness() {
        let of_devices = checked.by_devices.iter_mut().flatten();
        let all = std::iter::once(&mut checked.base.question).chain(of_devices);
        all.for_each(|question| question.predict_at(skewness));
    }
    let predictor = held_predictor(&checked, &loaded.known, cancel)?;
    let swept = Swept { checked: &checked, known: &loaded.known, predictor, cancel };
    if let Some(longest) = longest {
        swept.refuse_beyond(longest)?;
    }
    let cells = swept.cells()?;

    let question = &checked.base.question;
    let paper = question.system.assumptions.preset == Preset::Paper;
    Ok(Computed {
        predictor: predictor.map(|(index, point)| SweptPredictor {
            name: question.predictors[index].name.clone(),
            accuracy: point.accuracy,
            overhead_s: point.overhead.get(),
        }),
        warnings: checked.warnings(),
        provenance: SweepProvenance {
            version: env!("CARGO_PKG_VERSION").into(),
            catalog_digest: catalog.digest().to_owned(),
            method: "analytic".into(),
            preset: if paper { "paper" } else { "calibrated" }.into(),
            seed: question.seed,
            priced_cells: cells.iter().filter(|cell| cell.is_priced).count() as u64,
            draws: (!paper).then_some(DRAWS.over(loaded.known.n_layers()) as u64),
        },
        map: DecisionMap {
            axes: checked
                .axes
                .into_iter()
                .map(|axis| MapAxis { parameter: axis.parameter.id(), values: axis.values })
                .collect(),
            cells,
        },
    })
}

/// The predictor whose accuracy or overhead is swept, and where it is held besides: the
/// only one, or that of the fastest entry as the question stands.
fn held_predictor(
    checked: &Checked,
    known: &RoutingEvidence,
    cancel: &Cancel,
) -> Result<HeldPredictor, AdviceError> {
    let question = &checked.base.question;
    let is_swept = |axis: &CheckedAxis| {
        matches!(
            axis.parameter,
            SweptParameter::Varied(Parameter::PredictorAccuracy | Parameter::PredictorOverhead)
        )
    };
    if !checked.axes.iter().any(is_swept) {
        return Ok(None);
    }
    if let [only] = &question.predictors[..]
        && let PredictorCost::Point(point) = only.cost
    {
        return Ok(Some((0, point)));
    }
    Ok(varied_predictor(&advice::price(question, known, cancel)?.entries))
}

/// A checked sweep, ready to be computed.
struct Swept<'a> {
    checked: &'a Checked,
    known: &'a RoutingEvidence,
    predictor: HeldPredictor,
    cancel: &'a Cancel,
}

impl Swept<'_> {
    /// The cells of a question along axes that are varied inside its system.
    fn along(&self, question: &Question, varied: &[Axis]) -> Result<Vec<Cell>, PricingError> {
        let predictors: Predictors = &default_predictors::predictors;
        let sweep = Sweep {
            question,
            known: self.known,
            predictor: self.predictor,
            predictors: self.checked.base.assume_predictors.then_some(predictors),
            stop: self.cancel,
        };
        sweep.cells(varied)
    }

    /// Refuses a sweep of many cells that is expected to take longer, by the time that one row of
    /// it takes on one thread.
    fn refuse_beyond(&self, longest: Duration) -> Result<(), AdviceError> {
        let axes = &self.checked.axes;
        let cells: usize = axes.iter().map(|axis| axis.values.len()).product();
        if cells <= FEW_CELLS {
            return Ok(());
        }
        let mut varied: Vec<Axis> = axes.iter().filter_map(CheckedAxis::varied).collect();
        let mut question = Some(&self.checked.base.question);
        let rows;
        if let Some(questions) = &self.checked.by_devices {
            question = questions.last();
            rows = questions.len();
        } else {
            let place = outer_axis(&varied);
            let outer = &mut varied[place];
            rows = outer.values.len();
            outer.values = &outer.values[rows / 2..=rows / 2];
        }
        let Some(question) = question else { return Ok(()) };
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let Ok(alone) = alone else { return Ok(()) };
        let began = Instant::now();
        alone.install(|| self.along(question, &varied))?;
        let all = began.elapsed().as_secs_f64() * rows as f64 / rayon::current_num_threads() as f64;
        let longest = longest.as_secs_f64();
        if all <= longest {
            return Ok(());
        }
        let detail = format!(
            "these {cells} cells are expected to take {all:.1} s on this server, where a sweep may \
             take {longest} s: give fewer values (about {:.0} cells fit), or use `moe-gps sweep`",
            cells as f64 * longest / all
        );
        let violations = Violations::default();
        violations.note("/axes", "range", detail);
        Err(AdviceError::Refused(violations.into_vec()))
    }

    /// The cells row by row.
    fn cells(&self) -> Result<Vec<Cell>, AdviceError> {
        let axes = &self.checked.axes;
        let varied: Vec<Axis> = axes.iter().filter_map(CheckedAxis::varied).collect();
        let along = |question: &Question| self.along(question, &varied);
        let Some(questions) = &self.checked.by_devices else {
            return Ok(along(&self.checked.base.question)?);
        };
        let rows: Vec<Vec<Cell>> = questions.par_iter().map(along).collect::<Result<_, _>>()?;
        let first = axes.first().map(|axis| axis.parameter);
        let by_row = first == Some(SweptParameter::Devices) && !varied.is_empty();
        Ok(if by_row { rows.concat() } else { transposed(&rows) })
    }
}
