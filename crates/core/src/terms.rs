//! The terms a layer's latency is made of.

use super::units::Seconds;

/// Declares the terms once: their fields, their names on the wire, and what goes over all of them.
macro_rules! terms {
    ($($(#[$doc:meta])* $term:ident,)*) => {
        /// One value of every term of a layer, in the order of a step.
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        pub struct PerTerm<T> {
            $($(#[$doc])* pub $term: T,)*
        }

        /// The names of the terms on the wire (without the `_s`), in the order of a step.
        pub const NAMES: &[&str] = &[$(stringify!($term)),*];

        impl<T: Copy> PerTerm<T> {
            /// The same value of every term.
            #[must_use]
            pub const fn all(value: T) -> Self {
                Self { $($term: value),* }
            }

            /// What `f` makes of two values of the same term, term by term.
            pub fn with<U: Copy, V>(&self, other: &PerTerm<U>, f: impl Fn(T, U) -> V) -> PerTerm<V> {
                PerTerm { $($term: f(self.$term, other.$term)),* }
            }

            /// Every term with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, T)> {
                NAMES.iter().copied().zip([$(self.$term),*])
            }
        }
    };
}

terms! {
    /// Attention with its projections and norms.
    attention,
    /// The all-reduce after tensor-parallel attention.
    all_reduce,
    /// Router matrix and top-k selection.
    router,
    /// Tokens on their way to the experts.
    dispatch,
    /// Routed and shared experts on the slowest device.
    expert_ffn,
    /// Expert outputs on their way back.
    combine,
    /// The predictor, as far as it is exposed.
    predictor,
    /// Stalls and slowdown of rebalancing, spread over its interval.
    rebalance,
    /// What runs beside something else: zero or negative.
    overlap_hidden,
    /// Everything else, such as kernel launches.
    other,
}

/// Where the time of one layer goes; the terms add up to its latency.
pub type Terms = PerTerm<Seconds>;

impl Terms {
    /// The latency of the layer: the sum of all terms.
    #[must_use]
    pub fn total(&self) -> Seconds {
        self.named().map(|(_, time)| time).sum()
    }

    /// Every term times `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        self.with(&Self::default(), |term, _| term * factor)
    }

    /// The sum of two layers, term by term.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, |one, two| one + two)
    }
}
