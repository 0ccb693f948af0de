//! What a sweep may vary of its question, and everything that speaks against it.

use serde_json::Value;

use crate::app::advisor::AdviceError;
use crate::app::default_predictors;
use crate::app::question::{self, Answerable, AskedRouting, ReadQuestion};
use crate::app::references::References;
use crate::wire::question::{Method, Question};
use crate::wire::read::Violations;
use crate::wire::sweep::{self as wire, MOST_CELLS, SweepAxis, SweptParameter};
use crate::wire::violation::Violation;
use moe_gps_core::advice::sensitivity::flip::Parameter;
use moe_gps_core::advice::sensitivity::sweep::Axis;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::question::Question as CheckedQuestion;

/// A sweep that can be computed.
#[derive(Debug)]
pub(super) struct Checked {
    /// The question as it stands.
    pub(super) base: Answerable,
    /// One or two axes.
    pub(super) axes: Vec<CheckedAxis>,
    /// The question at every number of devices, where that is an axis.
    pub(super) by_devices: Option<Vec<CheckedQuestion>>,
}

/// A quantity and the values it takes.
#[derive(Debug)]
pub(super) struct CheckedAxis {
    pub(super) parameter: SweptParameter,
    pub(super) values: Vec<f64>,
}

impl CheckedAxis {
    /// The axis, where its quantity is varied inside one system.
    pub(super) fn varied(&self) -> Option<Axis<'_>> {
        match self.parameter {
            SweptParameter::Varied(parameter) => Some(Axis { parameter, values: &self.values }),
            SweptParameter::Devices => None,
        }
    }
}

impl Checked {
    /// What the user should know of this sweep.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.base.warnings.clone();
        let changes_layer = |axis: &&CheckedAxis| {
            matches!(
                axis.parameter,
                SweptParameter::Devices | SweptParameter::Varied(Parameter::TokensPerStep)
            )
        };
        if let Some(axis) = self.axes.iter().find(changes_layer)
            && self.base.question.measured_layer.is_some()
        {
            warnings.push(format!(
                "`measured_layer` holds for the question as it stands; its times are kept over \
                 all of {}",
                axis.parameter.id()
            ));
        }
        warnings
    }
}

/// A sweep as it was read.
#[derive(Debug)]
pub struct ReadSweep {
    /// Its question.
    pub question: Option<ReadQuestion>,
    axes: Option<Vec<SweepAxis>>,
    violations: Vec<Violation>,
}

/// Reads a sweep and its question, field by field.
#[must_use]
pub fn read(request: &Value) -> ReadSweep {
    let violations = Violations::default();
    let wire::SweepRequest { question, axes } = wire::read(request, &violations);
    ReadSweep { question: question.map(question::read), axes, violations: violations.into_vec() }
}

/// Checks a sweep, or says everything that is wrong with it.
pub(super) fn check(
    asked: &ReadSweep,
    catalog: &Catalog,
    references: &References,
) -> Result<Checked, AdviceError> {
    let violations = Violations::from(asked.violations.clone());
    let base = match &asked.question {
        None => None,
        Some(asked) => match asked.answerable(catalog, references) {
            Ok(base) => Some(base),
            Err(AdviceError::Refused(found)) => {
                violations.note_under("/question", found);
                None
            }
            Err(error) => return Err(error),
        },
    };
    if let (Some(asked), Some(base)) = (&asked.question, &base) {
        only_formulas(&asked.asked, base, &violations);
    }
    let axes = asked.axes.as_deref().unwrap_or_default();
    several(axes, &violations);
    let mut by_devices = None;
    for (index, axis) in axes.iter().enumerate() {
        let (Some(parameter), Some(base)) = (axis.parameter, &base) else { continue };
        let at = format!("/axes/{index}");
        match parameter {
            SweptParameter::Varied(parameter) => {
                variable(parameter, axis, base, &at, &violations);
            }
            SweptParameter::Devices => {
                if let (Some(asked), Some(values)) = (&asked.question, &axis.values) {
                    let at = format!("{at}/values");
                    let asked = &asked.asked;
                    by_devices = devices(asked, values, catalog, references, &at, &violations)?;
                }
            }
        }
    }
    let whole =
        |axis: SweepAxis| Some(CheckedAxis { parameter: axis.parameter?, values: axis.values? });
    let axes = asked.axes.clone().and_then(|axes| axes.into_iter().map(whole).collect());
    match (base, axes) {
        (Some(mut base), Some(axes)) if violations.is_empty() => {
            if base.assume_predictors {
                base.question.predictors = default_predictors::predictors(&base.question);
            }
            Ok(Checked { base, axes, by_devices })
        }
        _ => Err(AdviceError::Refused(violations.into_vec())),
    }
}

/// Notes what only a replay or a fit can answer.
fn only_formulas(asked: &Question, base: &Answerable, violations: &Violations) {
    if asked.method == Some(Method::Simulated) {
        let detail = "a sweep is analytic; leave `method` out, or ask for single recommendations";
        violations.note("/question/method", "choice", detail);
    }
    if base.question.throughput_at_tpot {
        let detail = "a sweep compares step latencies; leave `objective` out";
        violations.note("/question/objective", "choice", detail);
    }
    for fit in &base.fits {
        let detail = "a sweep fits no predictors; state `accuracy` and `overhead_s`, such as a \
                      recommendation has found";
        violations.note(format!("/question/predictors/{}/fit", fit.place), "choice", detail);
    }
}

/// Notes what is wrong with the axes together.
fn several(axes: &[SweepAxis], violations: &Violations) {
    if let [first, second] = axes
        && let (Some(one), Some(other)) = (first.parameter, second.parameter)
        && one == other
    {
        let detail = format!("`{}` is on both axes; give each quantity once", one.id());
        violations.note("/axes/1/parameter", "unique", detail);
    }
    let cells = axes.iter().map(|axis| axis.values.as_ref().map_or(1, Vec::len));
    let cells = cells.fold(1, usize::saturating_mul);
    if MOST_CELLS < cells {
        let detail = format!("the axes span {cells} cells; a sweep has at most {MOST_CELLS}");
        violations.note("/axes", "range", detail);
    }
}

/// Notes where the question has nothing to vary, and values its model does not allow.
fn variable(
    parameter: Parameter,
    axis: &SweepAxis,
    base: &Answerable,
    at: &str,
    violations: &Violations,
) {
    match parameter {
        Parameter::Skewness => {
            if let AskedRouting::Balancedness { .. } = base.routing {
                let detail = "the balance of devices does not say how skewed experts are; give \
                              `routing.skewness`, shares or a trace";
                violations.note(format!("{at}/parameter"), "choice", detail);
            }
            let experts = &base.question.system.model.experts;
            let most = f64::from(experts.routed) / f64::from(experts.top_k);
            for (place, skewness) in axis.values.iter().flatten().enumerate() {
                if most < *skewness {
                    let detail = format!(
                        "{skewness} is out of range; with {} experts and top-{} it must be from \
                         1 to {most}",
                        experts.routed, experts.top_k
                    );
                    violations.note(format!("{at}/values/{place}"), "range", detail);
                }
            }
        }
        Parameter::TokensPerStep if base.question.serving.is_some() => {
            let detail = "the steps of a server follow from its requests; vary `output_tokens`";
            violations.note(format!("{at}/parameter"), "choice", detail);
        }
        Parameter::OutputTokens if base.question.serving.is_none() => {
            let detail = "only a server has output tokens; ask about the phase `serving`";
            violations.note(format!("{at}/parameter"), "choice", detail);
        }
        Parameter::PredictorAccuracy | Parameter::PredictorOverhead if base.assume_predictors => {
            let detail = format!(
                "the question states no predictor whose `{}` could vary; give `predictors`",
                parameter.id()
            );
            violations.note(format!("{at}/parameter"), "choice", detail);
        }
        _ => {}
    }
}

/// The question at every number of devices, checked as a question of its own.
fn devices(
    asked: &Question,
    values: &[f64],
    catalog: &Catalog,
    references: &References,
    at: &str,
    violations: &Violations,
) -> Result<Option<Vec<CheckedQuestion>>, AdviceError> {
    let mut questions = Vec::with_capacity(values.len());
    let mut asked = asked.clone();
    for (place, value) in values.iter().enumerate() {
        let Some(cluster) = &mut asked.cluster else { return Ok(None) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 4096")]
        let whole = *value as u32;
        cluster.devices = Some(whole);
        match question::answerable(&asked, Vec::new(), catalog, references) {
            Ok(Answerable { mut question, assume_predictors, .. }) => {
                if assume_predictors {
                    question.predictors = default_predictors::predictors(&question);
                }
                questions.push(question);
            }
            Err(AdviceError::Refused(found)) => {
                for found in found {
                    let detail =
                        format!("with {whole} devices, at {}: {}", found.pointer, found.detail);
                    violations.note(format!("{at}/{place}"), &found.rule, detail);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(questions))
}
