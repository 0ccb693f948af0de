//! The predictors priced when a question names none.

use crate::app::predictor_cost::{Ends, PredictorCosts};
use moe_gps_core::question::{
    Predictor, PredictorCost, PredictorKind, PredictorPoint, PredictorSource, Question,
};

/// Accuracies reached on held-out text by predictors fitted on the recordings of our own
/// small models (mixtral-like, python: 0.707, 0.723, 0.768), rounded (`api` contract).
const ACCURACIES: [(PredictorKind, &str, f64); 3] = [
    (PredictorKind::ByToken, "by_token", 0.71),
    (PredictorKind::Ffn, "ffn", 0.72),
    (PredictorKind::Lstm, "lstm", 0.77),
];

/// Typical predictors with what they cost on the question's device, by the laws.
///
/// The feed-forward one is priced layer by layer; the recurrent one runs once over the
/// sequence for all layers, and its time is shared.
pub(super) fn predictors(question: &Question) -> Vec<Predictor> {
    let Some(costs) = PredictorCosts::new(question) else { return Vec::new() };
    let model = &question.system.model;
    let inputs = f64::from(model.hidden_size);
    let outputs = f64::from(model.experts.routed);
    let overhead = |kind| {
        let shared = if kind == PredictorKind::Lstm { model.moe_layers.max(1) } else { 1 };
        costs.overhead(kind, Ends { inputs, outputs, layers: f64::from(shared) })
    };
    ACCURACIES
        .into_iter()
        .map(|(kind, name, accuracy)| Predictor {
            name: name.to_owned(),
            kind: Some(kind),
            source: PredictorSource::Assumed,
            cost: PredictorCost::Point(PredictorPoint { accuracy, overhead: overhead(kind) }),
            accuracy_over_skewness: None,
        })
        .collect()
}
