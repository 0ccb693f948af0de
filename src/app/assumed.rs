//! The predictors priced when a question names none.

use crate::domain::cost::Laws;
use crate::domain::question::{
    Predictor, PredictorCost, PredictorKind, PredictorPoint, PredictorSource, Question,
};
use crate::domain::units::Seconds;

/// Accuracies reached on held-out text by predictors fitted on the recordings of our own
/// small models (mixtral-like, python: 0.707, 0.723, 0.768), rounded (`api` contract).
const ACCURACIES: [(PredictorKind, &str, f64); 3] = [
    (PredictorKind::ByToken, "by_token", 0.71),
    (PredictorKind::Ffn, "ffn", 0.72),
    (PredictorKind::Lstm, "lstm", 0.77),
];

/// Hidden widths of the feed-forward predictor and width of the recurrent one (MoE-GPS).
const FFN_WIDTHS: [f64; 2] = [128.0, 64.0];
const LSTM_WIDTH: f64 = 64.0;
const LSTM_LAYERS: f64 = 2.0;

/// Typical predictors with what they cost on the question's device, by the laws.
///
/// The recurrent one runs once over the sequence for all layers; its time is shared.
pub(super) fn predictors(question: &Question) -> Vec<Predictor> {
    let system = &question.system;
    let device = &system.cluster.device;
    let engine = system.engine.as_ref().map(|engine| engine.name);
    let Some(stack) = device.default_stack(engine) else { return Vec::new() };
    let laws = Laws::bind(device, stack, &system.workload.dtypes);
    let model = &system.model;
    let tokens = system.workload.tokens_per_step as f64;
    let sequences = system.workload.sequences.max(1) as f64;
    let hidden = f64::from(model.hidden_size);
    let experts = f64::from(model.experts.routed);
    let overhead = |kind| -> Seconds {
        match kind {
            PredictorKind::Ffn => {
                let widths = [hidden, FFN_WIDTHS[0], FFN_WIDTHS[1], experts];
                laws.predictor_ffn(tokens, &widths).time
            }
            PredictorKind::Lstm => {
                let length = tokens / sequences;
                let all = laws.predictor_lstm(sequences, length, hidden, LSTM_WIDTH, LSTM_LAYERS);
                all.time / f64::from(model.moe_layers.max(1))
            }
            PredictorKind::MostFrequent | PredictorKind::ByToken | PredictorKind::ByPosition => {
                laws.predictor_lookup(tokens, f64::from(model.experts.top_k)).time
            }
        }
    };
    ACCURACIES
        .into_iter()
        .map(|(kind, name, accuracy)| Predictor {
            name: name.to_owned(),
            kind: Some(kind),
            source: PredictorSource::Assumed,
            cost: PredictorCost::Point(PredictorPoint { accuracy, overhead: overhead(kind) }),
        })
        .collect()
}
