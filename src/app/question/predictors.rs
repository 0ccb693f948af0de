//! The predictors of a question: stated ones as they are, fits as far as a trace allows.

use crate::app::advisor::TraceFacts;
use crate::app::question::routing::AskedRouting;
use crate::wire::question as wire;
use crate::wire::read::Violations;
use moe_gps_core::predict::metric::AccuracyMetric;
use moe_gps_core::predict::{is_learned, needs_token_ids};
use moe_gps_core::question::{
    OverheadCurve, Predictor, PredictorCost, PredictorKind, PredictorPoint, PredictorSource,
};
use moe_gps_core::trend::Trend;
use moe_gps_core::units::Seconds;

/// What is asked of predictors.
#[derive(Debug, Default)]
pub(super) struct AskedPredictors {
    /// Those whose figures are stated; empty where they are left to us.
    pub(super) stated: Vec<Predictor>,
    /// What is to be fitted.
    pub(super) fits: Vec<AskedFit>,
    /// How stated accuracies were taken.
    pub(super) warnings: Vec<String>,
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
    top_k: Option<u32>,
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
            let top_k = top_k.unwrap_or(1);
            let trend = trend(predictor, top_k);
            if let (Some(trend), Some(routing)) = (&trend, routing) {
                checked.warnings.extend(unreached(&at("/accuracy_points"), trend, routing));
            }
            checked.warnings.extend(counted_otherwise(predictor, &at("/metric"), top_k));
            checked.stated.extend(cost(predictor, top_k).map(|cost| Predictor {
                name: name.to_owned(),
                kind: None,
                source: PredictorSource::Stated,
                cost,
                accuracy_over_skewness: trend,
            }));
        }
    }
    checked
}

/// The point or curve that is stated, its accuracies per choice; one over skewness as at its first point.
fn cost(predictor: &wire::Predictor, top_k: u32) -> Option<PredictorCost> {
    let metric = predictor.metric.unwrap_or_default();
    let point = |accuracy: Option<f64>, overhead_s: Option<f64>| {
        let accuracy = metric.per_choice(accuracy?, top_k);
        Some(PredictorPoint { accuracy, overhead: Seconds::new(overhead_s?) })
    };
    let first = || predictor.accuracy_points.as_ref()?.first()?.accuracy;
    let Some(points) = &predictor.points else {
        let accuracy = predictor.accuracy.or_else(first);
        return point(accuracy, predictor.overhead_s).map(PredictorCost::Point);
    };
    let points = points.iter().map(|one| point(one.accuracy, one.overhead_s));
    let points: Vec<PredictorPoint> = points.collect::<Option<_>>()?;
    Some(PredictorCost::Curve(OverheadCurve::fit(&points)))
}

/// The accuracy per choice over skewness that is stated.
fn trend(predictor: &wire::Predictor, top_k: u32) -> Option<Trend> {
    let metric = predictor.metric.unwrap_or_default();
    let point = |point: &wire::AccuracyPoint| {
        Some((point.skewness?, metric.per_choice(point.accuracy?, top_k)))
    };
    Trend::through(predictor.accuracy_points.as_ref()?.iter().map(point).collect::<Option<_>>()?)
}

/// Says where points over skewness stop short of the question's, or nobody knows it.
pub(super) fn unreached(pointer: &str, trend: &Trend, routing: &AskedRouting) -> Option<String> {
    let (low, high) = trend.range();
    match routing {
        AskedRouting::Balancedness { .. } => Some(format!(
            "{pointer} changes nothing here: the balance of devices does not say how skewed experts are"
        )),
        AskedRouting::Skewness { skewness, .. } if !(low..=high).contains(skewness) => {
            Some(format!(
                "{pointer}: the skewness of {skewness} lies beyond the points, {low} to {high}; the nearest \
             one is held"
            ))
        }
        _ => None,
    }
}

/// Says how accuracies were taken that count something else than choices.
fn counted_otherwise(predictor: &wire::Predictor, pointer: &str, top_k: u32) -> Option<String> {
    let metric = predictor.metric?;
    let of_curve = predictor.points.iter().flatten().map(|point| point.accuracy);
    let over_skewness = predictor.accuracy_points.iter().flatten().map(|point| point.accuracy);
    let stated = predictor.accuracy.or_else(|| of_curve.chain(over_skewness).flatten().next())?;
    let taken = metric.per_choice(stated, top_k);
    match metric {
        AccuracyMetric::PerChoice => None,
        _ if top_k == 1 => Some(format!(
            "{pointer} changes nothing here: with one expert a token all metrics are the same"
        )),
        AccuracyMetric::ExactSet => Some(format!(
            "{pointer}: {stated} of exact sets of {top_k} is taken as {taken:.4} a choice, as if choices \
             were independent; it is {stated} at least and {:.4} at most",
            1.0 - (1.0 - stated) / f64::from(top_k)
        )),
        AccuracyMetric::Top1 => Some(format!(
            "{pointer} changes nothing here: {stated} of first choices is taken as {stated} of all \
             {top_k} choices, which are harder; measure `per_choice` where you can"
        )),
    }
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
