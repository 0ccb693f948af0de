//! What predictors of known kinds and shapes cost on a question's device, by the laws.

use moe_gps_core::cost::Laws;
use moe_gps_core::hardware::Device;
use moe_gps_core::predict;
use moe_gps_core::pricing::kinds::served_steps;
use moe_gps_core::question::{PredictorKind, Question};
use moe_gps_core::system::Workload;
use moe_gps_core::units::Seconds;

/// The laws of the question's device and what a predictor runs on, in the mean over a server's steps.
pub(super) struct PredictorCosts<'a> {
    laws: Laws,
    question: &'a Question,
    tokens: f64,
    sequences: f64,
}

/// Inputs and outputs of a learned predictor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Values of an embedding row.
    pub(super) inputs: f64,
    /// Experts of all layers it names in one pass.
    pub(super) outputs: f64,
    /// The layers that share the pass.
    pub(super) layers: f64,
}

impl<'a> PredictorCosts<'a> {
    /// The costs on a question's device; `None` where it has no laws.
    pub(super) fn new(question: &'a Question) -> Option<Self> {
        let system = &question.system;
        let device = &system.cluster.device;
        let stack = Device::stack_of(system)?;
        let steps = served_steps(question);
        let mean = |of: fn(&Workload) -> u64| {
            if steps.is_empty() {
                return of(&system.workload) as f64;
            }
            steps.iter().map(|(share, step)| share * of(&step.workload) as f64).sum()
        };
        Some(Self {
            laws: Laws::bind(device, stack, &system.workload.dtypes),
            question,
            tokens: mean(|workload| workload.tokens_per_step),
            sequences: mean(|workload| workload.sequences).max(1.0),
        })
    }

    /// Time per layer and step.
    ///
    /// A table of the most frequent experts costs nothing; other tables are one gather; a
    /// network runs once for the layers that share it.
    pub(super) fn overhead(&self, kind: PredictorKind, ends: Ends) -> Seconds {
        let Ends { inputs, outputs, layers } = ends;
        match kind {
            PredictorKind::MostFrequent => Seconds::ZERO,
            PredictorKind::ByToken | PredictorKind::ByPosition => {
                let top_k = f64::from(self.question.system.model.experts.top_k);
                self.laws.predictor_lookup(self.tokens, top_k).time
            }
            PredictorKind::Ffn => {
                let [first, second] = predict::FFN_WIDTHS.map(|width| width as f64);
                let widths = [inputs, first, second, outputs];
                self.laws.predictor_ffn(self.tokens, &widths).time / layers
            }
            PredictorKind::Lstm => {
                let (width, depth) = (predict::LSTM_WIDTH as f64, predict::LSTM_LAYERS as f64);
                let length = self.tokens / self.sequences;
                let law = self.laws.predictor_lstm(self.sequences, length, inputs, width, depth);
                law.time / layers
            }
        }
    }
}
