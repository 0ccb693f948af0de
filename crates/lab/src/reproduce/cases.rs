//! What the paper's figures were made of: models, data sets, links, predictors.
//!
//! Four A100, one sequence of 512 tokens, prefill (`MoE-GPS`, arXiv 2506.07366). What is not
//! known of the paper is ours and said so in the text: the variants of LLaMA-MoE and Switch,
//! the values on the axes, and the family of predictors.

use serde_json::{Value, json};

use moe_gps_core::trend::Trend;

/// A model of the paper.
#[derive(Debug)]
pub(super) struct PaperCase {
    /// Names its files.
    pub(super) id: &'static str,
    /// Names it to people.
    pub(super) title: &'static str,
    /// Its id in the catalog.
    pub(super) model: &'static str,
    /// Attention, all-reduce and balanced expert FFN of a layer, seconds, for the paper's
    /// formulas. We computed them with LLMCompass; the paper does not state its own. Where
    /// they are absent, our closed forms take their place.
    pub(super) layer: Option<[f64; 3]>,
    /// Measured times of a layer by the fields of `measured_layer`, in place of those and of the laws.
    pub(super) own_layer: Option<Value>,
}

/// The models, the paper's main one first, with one's own times of its layer.
pub(super) fn all(own_layer: Option<&Value>) -> [PaperCase; 3] {
    let mut cases = CASES;
    cases[0].own_layer = own_layer.cloned();
    cases
}

const CASES: [PaperCase; 3] = [
    PaperCase {
        id: "mixtral",
        title: "Mixtral 8x7B",
        model: "mixtral-8x7b",
        layer: Some([0.246e-3, 0.0546e-3, 0.591e-3]),
        own_layer: None,
    },
    PaperCase {
        id: "llama-moe",
        title: "LLaMA-MoE 3.5B (4 of 16)",
        model: "llama-moe-3.5b-4-16",
        layer: None,
        own_layer: None,
    },
    PaperCase {
        id: "switch",
        title: "Switch base, 8 experts",
        model: "switch-base-8",
        layer: None,
        own_layer: None,
    },
];

/// A data set with what the paper says of Mixtral's routing on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DataSet {
    pub(super) name: &'static str,
    pub(super) skewness: f64,
    pub(super) distribution_error: f64,
}

/// The paper's data sets.
pub(super) const DATA_SETS: [DataSet; 3] = [
    DataSet { name: "MMLU", skewness: 1.39, distribution_error: 0.018 },
    DataSet { name: "Alpaca Eval", skewness: 1.40, distribution_error: 0.0098 },
    DataSet { name: "SST2", skewness: 1.99, distribution_error: 0.16 },
];

/// The paper's links by catalog id, and what to call them.
pub(super) const LINKS: [(&str, &str); 2] = [("nvlink3", "NVLink 3"), ("pcie4", "PCIe 4")];

/// Bandwidths the paper sweeps, bytes per second.
pub(super) const PAPER_BANDWIDTHS: [f64; 4] = [32e9, 64e9, 200e9, 600e9];

/// Where a question is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) data_set: DataSet,
    pub(super) link: &'static str,
}

/// Accuracy and time per layer, seconds, of the feed-forward predictor; our choice, since the
/// paper states neither.
pub(super) const FFN: (f64, f64) = (0.85, 0.153e-3);
/// Other times of that predictor, seconds: a round one, and what a network of its widths takes
/// for 512 tokens on an H200 (`measurements/h200_ops_bf16.csv.gz`, `predictor_ffn`).
pub(super) const FFN_TIMES: [f64; 2] = [40e-6, 16.568e-6];
/// Predictors that were measured beside the attention of the headline's layer: one sequence of 512
/// tokens, Mixtral's widths, attention divided by four (`docs/measured/`, H200, bf16, CUDA graphs).
pub(super) const MEASURED: [MeasuredPredictor; 3] = [
    MeasuredPredictor {
        name: "feed-forward",
        op: "predictor_ffn",
        alone: 15.589e-6,
        before: 18.670e-6,
        beside: 5.355e-6,
    },
    MeasuredPredictor {
        name: "two-layer linear",
        op: "predictor_linear",
        alone: 10.105e-6,
        before: 12.926e-6,
        beside: 5.051e-6,
    },
    MeasuredPredictor {
        name: "LSTM",
        op: "predictor_lstm",
        alone: 2584.4e-6,
        before: 2864.241e-6,
        beside: 2856.741e-6,
    },
];

/// What a measured predictor costs, seconds.
pub(super) struct MeasuredPredictor {
    /// What it is.
    pub(super) name: &'static str,
    /// Its operator in the table.
    pub(super) op: &'static str,
    /// The network alone.
    pub(super) alone: f64,
    /// What it adds to attention in series with it.
    pub(super) before: f64,
    /// What it adds to attention from a second stream.
    pub(super) beside: f64,
}

impl MeasuredPredictor {
    /// Its costs by where it runs.
    pub(super) fn costs(&self) -> [(&'static str, f64); 3] {
        [
            ("alone", self.alone),
            ("before attention", self.before),
            ("beside attention", self.beside),
        ]
    }
}

/// Predictors of the stated one's accuracy that take these times, seconds.
pub(super) fn of_times(overheads: &[f64]) -> Value {
    let predictor = |overhead: &f64| json!({"name": format!("{overhead:e}"), "accuracy": FFN.0, "overhead_s": overhead});
    overheads.iter().map(predictor).collect()
}

/// Times of a predictor from nothing to somewhat above the stated one, seconds.
pub(super) fn overheads() -> Vec<f64> {
    (0..=32).map(|step| 5e-6 * f64::from(step)).collect()
}

/// Growth of a predictor's time with its accuracy; ours, since the paper's is not known.
pub(super) const GROWTH: f64 = 4.2;

/// The predictor of the maps.
pub(super) fn stated() -> Value {
    json!([{"name": "ffn", "accuracy": FFN.0, "overhead_s": FFN.1}])
}

/// Predictors from 0.3 to 1 on the exponential through one that takes the feed-forward one's time for
/// this accuracy.
pub(super) fn family(through: f64) -> Value {
    let predictor = |step: u32| {
        let accuracy = 0.3 + 0.0125 * f64::from(step);
        let overhead = FFN.1 * (GROWTH * (accuracy - through)).exp();
        json!({"name": format!("{accuracy:.4}"), "accuracy": accuracy, "overhead_s": overhead})
    };
    (0..=56).map(predictor).collect()
}

/// The errors of the paper's data sets over their skewness.
pub(super) fn errors() -> Value {
    let point = |of: &DataSet| json!({"skewness": of.skewness, "distribution_error": of.distribution_error});
    DATA_SETS.iter().map(point).collect()
}

/// The stated predictor with an accuracy that changes with skewness as `measured` (skewness, accuracy)
/// does, and is its own on the paper's first data set; constant where nothing was measured.
pub(super) fn accuracies(measured: &[(f64, f64)]) -> Option<Trend> {
    let measured = Trend::through(measured.to_vec())?;
    let own = measured.at(DATA_SETS[0].skewness);
    let points = measured.points().map(|(at, accuracy)| (at, (FFN.0 * accuracy / own).min(1.0)));
    Trend::through(points.collect())
}

/// The predictor of the maps over skewness.
pub(super) fn stated_over_skewness(accuracies: Option<&Trend>) -> Value {
    let mut predictors = stated();
    if let Some(trend) = accuracies.filter(|trend| trend.range().0 < trend.range().1) {
        let point = |(at, accuracy)| json!({"skewness": at, "accuracy": accuracy});
        let points: Value = trend.points().map(point).collect();
        predictors = json!([{"name": "ffn", "accuracy_points": points, "overhead_s": FFN.1}]);
    }
    predictors
}

/// Skewness from 1 to 3.
pub(super) fn skewness() -> Vec<f64> {
    (0..=40).map(|step| 1.0 + 0.05 * f64::from(step)).collect()
}

/// Bandwidths from 4 to 600 GB/s at even ratios.
pub(super) fn bandwidths() -> Vec<f64> {
    (0..=40).map(|step| 4e9 * 150.0_f64.powf(f64::from(step) / 40.0)).collect()
}

/// The question of a model under a preset.
pub(super) fn question(case: &PaperCase, preset: &str, at: Point, predictors: &Value) -> Value {
    let mut question = json!({
        "model": case.model,
        "cluster": {"device": "a100-sxm4-80gb", "devices": 4, "link": at.link},
        "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 512, "dtype": "bf16"},
        "routing": {
            "skewness": at.data_set.skewness,
            "distribution_error": at.data_set.distribution_error,
        },
        "predictors": predictors,
        "assumptions": {"preset": preset},
    });
    if let Some(own) = &case.own_layer {
        question["measured_layer"] = own.clone();
    } else if let (Some([attention, all_reduce, ffn]), "paper") = (case.layer, preset) {
        question["measured_layer"] = json!({
            "attention_s": attention, "all_reduce_s": all_reduce, "expert_ffn_balanced_s": ffn,
        });
    }
    question
}

#[cfg(test)]
mod tests {
    use super::MEASURED;

    #[test]
    fn measured_predictors_are_those_of_the_table() {
        let table = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/measured/h200_pytorch_bf16.operators.csv.gz"
        );
        let bytes = crate::validate::report::content(table.as_ref()).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let seconds = |op: &str| {
            let row = text.lines().find(|line| {
                line.split(',').nth(4) == Some(op)
                    && line.contains("batch=1;seq=512;")
                    && (line.contains("hidden=4096") || line.contains("dims=4096-"))
            });
            row.unwrap().rsplit_once(',').unwrap().1.parse::<f64>().unwrap()
        };
        let attention = seconds("attention_block");
        for measured in &MEASURED {
            let beside =
                |way: &str| seconds(&format!("{}_{way}_attention", measured.op)) - attention;
            let found = [seconds(measured.op), beside("before"), beside("beside")];
            for ((way, stated), found) in measured.costs().into_iter().zip(found) {
                assert!((stated - found).abs() < 1e-9, "{} {way}: {found}", measured.name);
            }
        }
    }
}
