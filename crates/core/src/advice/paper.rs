//! Paper mode: the formulas of MoE-GPS as they stand, one layer at a time.
//!
//! ```text
//! a2a(f) as in `comm::paper`
//! none   = attention + all_reduce + 2·a2a(s) + s·ffn
//! DO     = attention + all_reduce + 2·a2a(s) + load(ε_DO)·ffn
//! T2E    = attention + all_reduce + predictor + a2a(1) + load(1 − accuracy)·ffn
//! load(e) = 1 | 1 + e | 1 + (N−1)·e        optimistic | typical | pessimistic
//! ```
//!
//! N devices, T tokens per step, d hidden size, b bytes per element, W link bandwidth per
//! direction, L link latency, s expert skewness, ffn the balanced expert FFN of one
//! device. Source: MoE-GPS (arXiv 2506.07366) as reconstructed in `cost-model` §3; the
//! scatter is skipped by T2E because tokens are already where their experts are.

use crate::comm;
use crate::pricing::entry::{Bands, Entry, PricedPredictor};
use crate::question::{Predictor, PredictorCost, PredictorPoint};
use crate::strategies::Strategy;
use crate::system::{Assumptions, ErrorModel, PredictorOverlap};
use crate::terms::Terms;
use crate::units::{Bytes, BytesPerSecond, Seconds};

/// What the paper's formulas need to know of a layer and the link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaperLayer {
    /// Attention of the layer.
    pub attention: Seconds,
    /// All-reduce after attention.
    pub all_reduce: Seconds,
    /// Expert FFN of one device under balanced load.
    pub expert_ffn: Seconds,
    /// Devices, N.
    pub n_devices: u32,
    /// Activations of one step, T·d·b.
    pub activations: Bytes,
    /// Link bandwidth per direction, W.
    pub bandwidth: BytesPerSecond,
    /// Link latency, L.
    pub latency: Seconds,
}

/// Routing of one layer in the paper's two numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaperRouting {
    /// Expert skewness, s.
    pub skewness: f64,
    /// Distribution error of the forecast, ε.
    pub distribution_error: f64,
}

/// The paper's model of one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Paper<'a> {
    /// Times and link.
    pub layer: PaperLayer,
    /// Routing of every layer; a scalar stands for all.
    pub routing: Vec<PaperRouting>,
    /// Switches.
    pub assumptions: &'a Assumptions,
}

impl Paper<'_> {
    /// Prices every strategy, each predictor on its own.
    #[must_use]
    pub fn entries(&self, predictors: &[Predictor]) -> Vec<Entry> {
        let replace_only = Entry {
            strategy: Strategy::ReplaceOnly,
            predictor: None,
            infeasible: Some(
                "the paper has no formula for re-placing experts without copies; \
                 ask with the calibrated preset"
                    .to_owned(),
            ),
            terms: None,
            bands: Bands::EXACT,
            served: None,
        };
        let entry = |strategy, predictor, terms| Entry {
            strategy,
            predictor,
            infeasible: None,
            terms: Some(terms),
            bands: Bands::EXACT,
            served: None,
        };
        let mut entries = vec![
            entry(Strategy::None, None, self.none()),
            replace_only,
            entry(Strategy::DistributionOnly, None, self.distribution_only()),
        ];
        for predictor in predictors {
            let point = match &predictor.cost {
                PredictorCost::Point(point) => *point,
                PredictorCost::Curve(curve) => {
                    crate::strategies::predictor_curve::optimum(curve, |point| {
                        self.token_to_expert(point).total()
                    })
                }
            };
            let priced = PricedPredictor::at(predictor, point);
            entries.push(entry(Strategy::TokenToExpert, Some(priced), self.token_to_expert(point)));
        }
        entries
    }

    /// Without any strategy: the busiest device sets communication and compute.
    #[must_use]
    pub fn none(&self) -> Terms {
        self.mean(|routing| {
            let exchange = self.all_to_all(routing.skewness);
            self.terms(exchange, routing.skewness, exchange)
        })
    }

    /// Duplication on a distribution forecast: compute is balanced, communication is not.
    #[must_use]
    pub fn distribution_only(&self) -> Terms {
        self.mean(|routing| {
            let exchange = self.all_to_all(routing.skewness);
            self.terms(exchange, self.load(routing.distribution_error, routing), exchange)
        })
    }

    /// Duplication on a forecast of every token's experts.
    #[must_use]
    pub fn token_to_expert(&self, predictor: PredictorPoint) -> Terms {
        self.mean(|routing| {
            let exchange = self.all_to_all(1.0);
            let dispatch =
                if self.assumptions.t2e_skips_scatter { Seconds::ZERO } else { exchange };
            let exposed = match self.assumptions.predictor_overlap {
                PredictorOverlap::Serial => predictor.overhead,
                PredictorOverlap::Attention => {
                    (predictor.overhead - self.layer.attention).max(Seconds::ZERO)
                }
            };
            let load = self.load(1.0 - predictor.accuracy, routing);
            Terms { predictor: exposed, ..self.terms(dispatch, load, exchange) }
        })
    }

    /// The fastest strategy's own formula with perfect balance at no cost.
    #[must_use]
    pub fn ceiling(&self, strategy: Strategy) -> Terms {
        let exchange = self.all_to_all(1.0);
        let skips = strategy == Strategy::TokenToExpert && self.assumptions.t2e_skips_scatter;
        self.terms(if skips { Seconds::ZERO } else { exchange }, 1.0, exchange)
    }

    fn terms(&self, dispatch: Seconds, load: f64, combine: Seconds) -> Terms {
        Terms {
            attention: self.layer.attention,
            all_reduce: self.layer.all_reduce,
            dispatch,
            expert_ffn: self.layer.expert_ffn * load,
            combine,
            ..Terms::default()
        }
    }

    /// One all-to-all whose busiest device receives `factor` times the mean.
    fn all_to_all(&self, factor: f64) -> Seconds {
        let PaperLayer { activations, n_devices, bandwidth, latency, .. } = self.layer;
        let k_comm = self.assumptions.k_comm;
        comm::paper::all_to_all(activations, n_devices, factor, k_comm, bandwidth, latency)
    }

    /// Load of the busiest device under forecast error `error`, balanced load being 1.
    fn load(&self, error: f64, routing: &PaperRouting) -> f64 {
        let load = match self.assumptions.error_model {
            ErrorModel::Optimistic => 1.0,
            ErrorModel::Typical => 1.0 + error,
            ErrorModel::Pessimistic => 1.0 + f64::from(self.layer.n_devices - 1) * error,
        };
        if self.assumptions.cap_at_baseline { load.min(routing.skewness) } else { load }
    }

    fn mean(&self, layer: impl Fn(&PaperRouting) -> Terms) -> Terms {
        let sum =
            self.routing.iter().fold(Terms::default(), |sum, routing| sum.plus(&layer(routing)));
        sum.scaled(1.0 / self.routing.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{Overlap, Preset};

    pub(crate) fn paper_assumptions() -> Assumptions {
        Assumptions::preset(Preset::Paper)
    }

    fn mixtral(assumptions: &Assumptions, bandwidth: f64, s: f64, error: f64) -> Paper<'_> {
        Paper {
            layer: PaperLayer {
                attention: Seconds::new(0.246e-3),
                all_reduce: Seconds::new(0.0546e-3),
                expert_ffn: Seconds::new(0.591e-3),
                n_devices: 4,
                activations: Bytes::new(512.0 * 4096.0 * 2.0),
                bandwidth: BytesPerSecond::new(bandwidth),
                latency: Seconds::new(8.92e-6),
            },
            routing: vec![PaperRouting { skewness: s, distribution_error: error }],
            assumptions,
        }
    }

    #[test]
    fn worked_numbers_of_the_formulas() {
        let assumptions = paper_assumptions();
        assert_eq!(assumptions.overlap, Overlap::None);
        let point = PredictorPoint { accuracy: 0.85, overhead: Seconds::new(0.153e-3) };
        for (bandwidth, s, error, none, distribution_only, token_to_expert) in [
            (300e9, 1.39, 0.018, 1.147_218, 0.927_366, 1.144_791),
            (300e9, 1.40, 0.0098, 1.153_180, 0.922_572, 1.144_791),
            (300e9, 1.99, 0.16, 1.504_963, 1.014_433, 1.144_791),
            (32e9, 1.39, 0.018, 1.208_251, 0.988_399, 1.166_746),
            (32e9, 1.99, 0.16, 1.592_342, 1.101_812, 1.166_746),
        ] {
            let paper = mixtral(&assumptions, bandwidth, s, error);
            let close = |terms: Terms, ms: f64| (terms.total().get() * 1e3 - ms).abs() < 6e-7;
            assert!(close(paper.none(), none), "{:?}", paper.none().total());
            assert!(close(paper.distribution_only(), distribution_only));
            assert!(close(paper.token_to_expert(point), token_to_expert));
        }
    }

    #[test]
    fn paper_mode_is_linear_in_skewness() {
        let assumptions = paper_assumptions();
        let at = |s| mixtral(&assumptions, 32e9, s, 0.018).none().total().get();
        assert!((at(2.0) - f64::midpoint(at(1.0), at(3.0))).abs() < 1e-15);
    }
}
