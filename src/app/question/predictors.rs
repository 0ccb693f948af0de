//! The predictors of a question: stated ones as they are, fits as far as a trace allows.

use crate::app::advisor::TraceFacts;
use crate::app::question::routing::AskedRouting;
use crate::wire::question as wire;
use crate::wire::read::Violations;
use moe_gps_core::predict::{is_learned, needs_token_ids};
use moe_gps_core::question::{
    OverheadCurve, Predictor, PredictorCost, PredictorKind, PredictorPoint, PredictorSource,
};
use moe_gps_core::units::Seconds;

/// What is asked of predictors.
#[derive(Debug, Default)]
pub(super) struct AskedPredictors {
    /// Those whose figures are stated; empty where they are left to us.
    pub(super) stated: Vec<Predictor>,
    /// What is to be fitted.
    pub(super) fits: Vec<AskedFit>,
}

/// A predictor to fit on the trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AskedFit {
    /// Its place among all predictors.
    pub place: usize,
    /// What sort of predictor.
    pub kind: PredictorKind,
    /// Its time per layer and step where measured; else the laws say it.
    pub overhead: Option<Seconds>,
}

/// Checks the predictors.
pub(super) fn check(
    asked: &wire::Question,
    routing: Option<&AskedRouting>,
    violations: &Violations,
) -> AskedPredictors {
    let mut checked = AskedPredictors::default();
    let mut names: Vec<&str> = Vec::new();
    for (index, predictor) in asked.predictors.iter().flatten().enumerate() {
        let at = |field: &str| format!("/predictors/{index}{field}");
        let kind_name = |kind| PredictorKind::ALL.iter().find(|one| one.0 == kind).map(|one| one.1);
        let Some(name) = predictor.fit.map_or(predictor.name.as_deref(), kind_name) else {
            continue;
        };
        if names.contains(&name) {
            violations.note(at("/name"), "unique", format!("the name {name:?} is taken"));
        }
        names.push(name);
        if let Some(kind) = predictor.fit {
            fittable(kind, routing, &at("/fit"), violations);
            let overhead = predictor.overhead_s.map(Seconds::new);
            checked.fits.push(AskedFit { place: index, kind, overhead });
        } else {
            checked.stated.extend(cost(predictor).map(|cost| Predictor {
                name: name.to_owned(),
                kind: None,
                source: PredictorSource::Stated,
                cost,
            }));
        }
    }
    checked
}

/// The point or curve that is stated.
fn cost(predictor: &wire::Predictor) -> Option<PredictorCost> {
    let point = |accuracy: Option<f64>, overhead_s: Option<f64>| {
        Some(PredictorPoint { accuracy: accuracy?, overhead: Seconds::new(overhead_s?) })
    };
    let Some(points) = &predictor.points else {
        return point(predictor.accuracy, predictor.overhead_s).map(PredictorCost::Point);
    };
    let points = points.iter().map(|one| point(one.accuracy, one.overhead_s));
    let points: Vec<PredictorPoint> = points.collect::<Option<_>>()?;
    Some(PredictorCost::Curve(OverheadCurve::fit(&points)))
}

/// Notes what a kind needs and the trace does not have.
fn fittable(
    kind: PredictorKind,
    routing: Option<&AskedRouting>,
    at: &str,
    violations: &Violations,
) {
    // A routing that could not be read has its own violation.
    let Some(routing) = routing else { return };
    let AskedRouting::Trace(used) = routing else {
        let detail = "a predictor is fitted on a trace of routes; give `routing.trace_id`, or \
                      state `accuracy` and `overhead_s`";
        return violations.note(at, "fit", detail);
    };
    let [planning] = &used.traces[..] else {
        let detail = "predictors are fitted on one trace; give `routing.trace_id` instead of \
                      `trace_ids`";
        return violations.note(at, "fit", detail);
    };
    let both = || std::iter::once(planning).chain(&used.holdouts);
    for trace in both().filter(|trace| trace.sequences == 0) {
        let detail = format!(
            "trace {} holds counts only; a predictor is fitted on the routes of each token",
            trace.id
        );
        violations.note(at, "fit", detail);
    }
    let silent = |trace: &&TraceFacts| 0 < trace.sequences && !trace.has_token_ids;
    for trace in both().filter(silent).filter(|_| needs_token_ids(kind)) {
        let detail = format!(
            "trace {} has no token ids; upload one that has (`tokens`, `token_id`), or fit \
             `most_frequent` or `by_position`",
            trace.id
        );
        violations.note(at, "fit", detail);
    }
    if let Some(holdout) = used
        .holdouts
        .first()
        .filter(|holdout| (holdout.layers, holdout.top_k) != (planning.layers, planning.top_k))
    {
        let detail = format!(
            "trace {} has {} layers of {} experts a token, trace {} has {} of {}; a predictor is \
             scored on the layers it was fitted on",
            holdout.id, holdout.layers, holdout.top_k, planning.id, planning.layers, planning.top_k
        );
        violations.note(at, "fit", detail);
    }
    if is_learned(kind) && planning.embedding.is_none() {
        let detail = format!(
            "a learned predictor needs the token embedding of the trace's model; upload it as \
             `PUT /v1/traces/{}/embedding` (application/x-npy, [vocabulary, dim]), or fit \
             `by_token`",
            planning.id
        );
        violations.note(at, "embedding", detail);
    }
}
