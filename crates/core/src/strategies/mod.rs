//! The strategies that are always priced side by side.

pub(crate) mod by_accuracy;
pub(crate) mod mispredicted;
pub(crate) mod predictor_curve;
pub mod token_to_expert;

/// A way of forecasting expert load and acting on the forecast.
///
/// The order is that of simplicity: among equals the smallest is advised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// No forecast, no duplication: the static placement.
    None,
    /// A distribution forecast; experts are only placed anew, never copied.
    ReplaceOnly,
    /// A distribution forecast; hot experts are duplicated.
    DistributionOnly,
    /// A forecast of every token's experts, step by step.
    TokenToExpert,
}

impl Strategy {
    /// Every strategy with its id on the wire, simplest first.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::None, "none"),
        (Self::ReplaceOnly, "replace_only"),
        (Self::DistributionOnly, "distribution_only"),
        (Self::TokenToExpert, "token_to_expert"),
    ];

    /// The strategy's id on the wire.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ReplaceOnly => "replace_only",
            Self::DistributionOnly => "distribution_only",
            Self::TokenToExpert => "token_to_expert",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_strategy_simplest_first_with_its_id() {
        assert!(Strategy::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (strategy, id) in Strategy::ALL {
            assert_eq!(strategy.id(), id);
        }
    }
}
