//! The terms a layer's latency is made of.

use crate::units::Seconds;

/// How many terms there are.
pub const TERMS: usize = 10;

/// Where the time of one layer goes; the terms add up to its latency.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Terms {
    /// Attention with its projections and norms.
    pub attention: Seconds,
    /// The all-reduce after tensor-parallel attention.
    pub all_reduce: Seconds,
    /// Router matrix and top-k selection.
    pub router: Seconds,
    /// Tokens on their way to the experts.
    pub dispatch: Seconds,
    /// Routed and shared experts on the slowest device.
    pub expert_ffn: Seconds,
    /// Expert outputs on their way back.
    pub combine: Seconds,
    /// The predictor, as far as it is exposed.
    pub predictor: Seconds,
    /// Stalls and slowdown of rebalancing, spread over its interval.
    pub rebalance: Seconds,
    /// What runs beside something else: zero or negative.
    pub overlap_hidden: Seconds,
    /// Everything else, such as kernel launches.
    pub other: Seconds,
}

impl Terms {
    /// The latency of the layer: the sum of all terms.
    #[must_use]
    pub fn total(&self) -> Seconds {
        self.named().into_iter().map(|(_, time)| time).sum()
    }

    /// Every term times `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        self.combined(&Self::default(), |term, _| term * factor)
    }

    /// The sum of two layers, term by term.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combined(other, |one, two| one + two)
    }

    fn combined(&self, other: &Self, f: impl Fn(Seconds, Seconds) -> Seconds) -> Self {
        Self {
            attention: f(self.attention, other.attention),
            all_reduce: f(self.all_reduce, other.all_reduce),
            router: f(self.router, other.router),
            dispatch: f(self.dispatch, other.dispatch),
            expert_ffn: f(self.expert_ffn, other.expert_ffn),
            combine: f(self.combine, other.combine),
            predictor: f(self.predictor, other.predictor),
            rebalance: f(self.rebalance, other.rebalance),
            overlap_hidden: f(self.overlap_hidden, other.overlap_hidden),
            other: f(self.other, other.other),
        }
    }

    /// Every term with its name on the wire (without the `_s`), in the order of a step.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, Seconds); TERMS] {
        [
            ("attention", self.attention),
            ("all_reduce", self.all_reduce),
            ("router", self.router),
            ("dispatch", self.dispatch),
            ("expert_ffn", self.expert_ffn),
            ("combine", self.combine),
            ("predictor", self.predictor),
            ("rebalance", self.rebalance),
            ("overlap_hidden", self.overlap_hidden),
            ("other", self.other),
        ]
    }
}
