//! Paper mode: the formulas of MoE-GPS as they stand, one layer at a time.
//!
//! ```text
//! a2a(f) as in `comm::paper`
//! layer   = attention + all_reduce + dispatch + load·ffn + combine + predictor + rebalance
//! load(e) = 1 | 1 + e | 1 + (N−1)·e        optimistic | typical | pessimistic
//! ```
//!
//! N devices, T tokens per step, d hidden size, b bytes per element, W link bandwidth per
//! direction, L link latency, e forecast error, ffn the balanced expert FFN of one
//! device; rebalance what is seen of copying one expert to every device, nothing in the paper
//! ([`CopyOverlap`](crate::system::CopyOverlap)). Each strategy has its own formula in its file under [`crate::strategies`]. Source:
//! MoE-GPS (arXiv 2506.07366).

use crate::comm;
use crate::pricing::entry::{Entry, PricedPredictor};
use crate::question::{Predictor, PredictorCost, PredictorPoint};
use crate::strategies::token_to_expert::predictor_curve::optimum;
use crate::strategies::{LIST, Strategy};
use crate::system::{Assumptions, ErrorModel};
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
    /// One expert's weights over the link, B/W.
    pub copy: Seconds,
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
        let mut entries = Vec::with_capacity(LIST.len() + predictors.len());
        for strategy in LIST.iter().copied() {
            if strategy.forecasts_tokens() {
                entries.extend(predictors.iter().map(|one| self.predicted(strategy, one)));
            } else {
                entries.push(self.entry(strategy, None));
            }
        }
        entries
    }

    /// The entry of one predictor, at its own point or the best of its curve.
    fn predicted(&self, strategy: Strategy, predictor: &Predictor) -> Entry {
        let latency = |point| {
            let terms = self.terms_of(strategy, Some(point));
            terms.map_or(Seconds::new(f64::INFINITY), |terms| terms.total())
        };
        let point = match &predictor.cost {
            PredictorCost::Point(point) => *point,
            PredictorCost::Curve(curve) => optimum(curve, latency),
        };
        self.entry(strategy, Some((predictor, point)))
    }

    fn entry(&self, strategy: Strategy, at: Option<(&Predictor, PredictorPoint)>) -> Entry {
        let terms = self.terms_of(strategy, at.map(|(_, point)| point));
        Entry {
            placement: None,
            strategy,
            predictor: at.map(|(predictor, point)| PricedPredictor::at(predictor, point)),
            infeasible: terms.err().map(str::to_owned),
            terms: terms.ok(),
            by_kind: Vec::new(),
            served: None,
        }
    }

    /// The mean over layers of a strategy's terms, or why there is no formula.
    pub fn terms_of(
        &self,
        strategy: Strategy,
        predictor: Option<PredictorPoint>,
    ) -> Result<Terms, &'static str> {
        let mut sum = Terms::default();
        for routing in &self.routing {
            sum = sum.plus(&strategy.paper(self, routing, predictor)?);
        }
        Ok(sum.scaled(1.0 / self.routing.len() as f64))
    }

    /// The fastest strategy's own formula with perfect balance at no cost.
    #[must_use]
    pub fn ceiling(&self, strategy: Strategy) -> Terms {
        let exchange = self.all_to_all(1.0);
        let skips = strategy.skips_dispatch(self.assumptions);
        self.terms(if skips { Seconds::ZERO } else { exchange }, 1.0, exchange)
    }

    /// The terms of a layer whose busiest device takes `load` times the balanced experts.
    pub(crate) fn terms(&self, dispatch: Seconds, load: f64, combine: Seconds) -> Terms {
        Terms {
            attention: self.layer.attention,
            all_reduce: self.layer.all_reduce,
            dispatch,
            expert_ffn: self.layer.expert_ffn * load,
            combine,
            ..Terms::default()
        }
    }

    /// What is seen of the copies that strategies with copies make before the layer: one expert to
    /// every device.
    pub(crate) fn copying(&self) -> Seconds {
        self.assumptions.copy_overlap.exposed(self.layer.copy, self.layer.attention)
    }

    /// One all-to-all whose busiest device receives `factor` times the mean.
    pub(crate) fn all_to_all(&self, factor: f64) -> Seconds {
        let PaperLayer { activations, n_devices, bandwidth, latency, .. } = self.layer;
        let k_comm = self.assumptions.k_comm;
        comm::paper::all_to_all(activations, n_devices, factor, k_comm, bandwidth, latency)
    }

    /// Load of the busiest device under forecast error `error`, balanced load being 1.
    pub(crate) fn load(&self, error: f64, routing: &PaperRouting) -> f64 {
        let load = match self.assumptions.error_model {
            ErrorModel::Optimistic => 1.0,
            ErrorModel::Typical => 1.0 + error,
            ErrorModel::Pessimistic => 1.0 + f64::from(self.layer.n_devices - 1) * error,
        };
        if self.assumptions.cap_at_baseline { load.min(routing.skewness) } else { load }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::{DISTRIBUTION_ONLY, NONE, TOKEN_TO_EXPERT};
    use crate::system::{CopyOverlap, MisrouteRepair, Overlap, Preset};

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
                copy: Bytes::new(352_321_536.0) / BytesPerSecond::new(bandwidth),
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
            let close = |strategy, point, ms: f64| {
                let latency = paper.terms_of(strategy, point).unwrap().total();
                assert!((latency.get() * 1e3 - ms).abs() < 6e-7, "{strategy:?} {latency:?}");
            };
            close(NONE, None, none);
            close(DISTRIBUTION_ONLY, None, distribution_only);
            close(TOKEN_TO_EXPERT, Some(point), token_to_expert);
        }
    }

    #[test]
    fn wrong_tokens_and_copies_cost_what_their_switches_say() {
        let point = PredictorPoint { accuracy: 0.85, overhead: Seconds::new(0.153e-3) };
        let microseconds = |strategy, bandwidth, assumptions: &Assumptions| {
            let paper = mixtral(assumptions, bandwidth, 1.39, 0.018);
            paper.terms_of(strategy, Some(point)).unwrap().total().get() * 1e6
        };
        let paper = paper_assumptions();
        // a2a(1) = 8.92 + 4,194,304 · 3/16 / 300,000 = 11.54144 µs, a2a(1.39) = 12.56380 µs.
        for (misroute_repair, seen) in [
            (MisrouteRepair::None, 0.0),
            (MisrouteRepair::WrongTokens, 0.15 * 11.541_44),
            (MisrouteRepair::FullExchange, 12.563_801_6),
        ] {
            let repaired = Assumptions { misroute_repair, ..paper.clone() };
            let more = microseconds(TOKEN_TO_EXPERT, 300e9, &repaired)
                - microseconds(TOKEN_TO_EXPERT, 300e9, &paper);
            assert!((more - seen).abs() < 1e-6, "{misroute_repair:?}: {more}");
        }
        // 352,321,536 bytes over 32 GB/s take 11,010.048 µs, over 2 TB/s 176.160768 µs.
        for (copy_overlap, bandwidth, seen) in [
            (CopyOverlap::Free, 32e9, 0.0),
            (CopyOverlap::Attention, 32e9, 11_010.048 - 246.0),
            (CopyOverlap::Attention, 2e12, 0.0),
            (CopyOverlap::Exposed, 2e12, 176.160_768),
        ] {
            let copied = Assumptions { copy_overlap, ..paper.clone() };
            for (strategy, seen) in
                [(NONE, 0.0), (DISTRIBUTION_ONLY, seen), (TOKEN_TO_EXPERT, seen)]
            {
                let more = microseconds(strategy, bandwidth, &copied)
                    - microseconds(strategy, bandwidth, &paper);
                assert!((more - seen).abs() < 1e-6, "{copy_overlap:?} {strategy:?}: {more}");
            }
        }
    }

    #[test]
    fn paper_mode_is_linear_in_skewness() {
        let assumptions = paper_assumptions();
        let of = |s| mixtral(&assumptions, 32e9, s, 0.018).terms_of(NONE, None);
        let at = |s| of(s).unwrap().total().get();
        assert!((at(2.0) - f64::midpoint(at(1.0), at(3.0))).abs() < 1e-15);
    }
}
