//! What an accuracy counts, and what that is in right choices.
//!
//! ```text
//! per_choice  a = x            mean share of a token's k experts that are named
//! exact_set   a = x^(1/k)      share x of tokens all of whose experts are named
//! top1        a = x            share x of tokens whose first expert is named
//! ```
//!
//! a accuracy per choice, by which everything is priced, x what was measured, k experts of a token.
//! Exact where k = 1. Otherwise choices are taken as independent and equally hard, which nobody has
//! shown: per choice, an exact-set accuracy x is x at least and 1 − (1 − x)/k at most, whatever the
//! choices have to do with each other. Papers state all three (pre-attention prediction, arXiv
//! 2511.10676, the exact set). Worked number: 0.9303 of the exact six of DeepSeek-V2-Lite are
//! 0.9303^(1/6) = 0.988031 a choice, and 0.988383 at most.

/// What an accuracy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccuracyMetric {
    /// Right choices.
    #[default]
    PerChoice,
    /// Tokens all of whose experts are named.
    ExactSet,
    /// Tokens whose first expert is named.
    Top1,
}

impl AccuracyMetric {
    /// Every metric with its name on the wire.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::PerChoice, "per_choice"), (Self::ExactSet, "exact_set"), (Self::Top1, "top1")];

    /// The accuracy per choice.
    #[must_use]
    pub fn per_choice(self, measured: f64, top_k: u32) -> f64 {
        match self {
            Self::PerChoice | Self::Top1 => measured,
            Self::ExactSet => measured.powf(1.0 / f64::from(top_k.max(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_sets_become_choices_within_what_is_possible() {
        let found = AccuracyMetric::ExactSet.per_choice(0.9303, 6);
        assert!((found - 0.988_031).abs() < 5e-7, "{found}");
        for top_k in 1..9 {
            for step in 0..=20 {
                let exact = f64::from(step) / 20.0;
                let choice = AccuracyMetric::ExactSet.per_choice(exact, top_k);
                let most = 1.0 - (1.0 - exact) / f64::from(top_k);
                assert!(exact <= choice + 1e-12 && choice <= most + 1e-12, "{exact} {top_k}");
            }
        }
        for (metric, _) in AccuracyMetric::ALL {
            assert!((metric.per_choice(0.7, 1) - 0.7).abs() < 1e-12);
        }
    }
}
