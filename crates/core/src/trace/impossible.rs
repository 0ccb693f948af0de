//! Loads that no router gives.
//!
//! A router sends every token to k different experts, so none takes more than 1/k of the choices;
//! and no trained model leaves all but one device's block of experts empty in every layer.

use std::fmt;

use crate::trace::counts::ExpertCounts;

/// How far above its limit a share may lie, relatively: counts of some recorders are rounded means,
/// good to 0.4 % in the roughest that we have seen.
const ROUNDED: f64 = 0.01;

/// An expert that takes more than top-k allows.
///
/// ```text
/// s_e = c_e / Σ c  ≤  1 / k
/// ```
///
/// c: choices of each expert (1); k: experts of a token (1). Exact: a token chooses an expert once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeyondTopK {
    /// The expert.
    pub expert: usize,
    /// Its share of the layer's choices.
    pub share: f64,
    /// Experts of a token.
    pub top_k: u32,
}

impl BeyondTopK {
    /// The busiest expert of a layer, if it takes more than it can.
    ///
    /// ```
    /// use moe_gps_core::trace::impossible::BeyondTopK;
    /// let found = BeyondTopK::of(&[60.0, 20.0, 20.0], 2).unwrap();
    /// assert_eq!((found.expert, found.share), (0, 0.6));
    /// assert_eq!(BeyondTopK::of(&[50.0, 30.0, 20.0], 2), None);
    /// ```
    #[must_use]
    pub fn of(counts: &[f64], top_k: u32) -> Option<Self> {
        let total: f64 = counts.iter().sum();
        let (expert, most) = counts.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
        let share = most / total;
        let found = Self { expert, share, top_k };
        (total > 0.0 && share * f64::from(top_k) > 1.0 + ROUNDED).then_some(found)
    }

    /// The worst of several layers, with its place and how many layers have one.
    pub fn worst<'a>(
        layers: impl Iterator<Item = &'a [f64]>,
        top_k: u32,
    ) -> Option<(usize, Self, usize)> {
        let found =
            layers.enumerate().filter_map(|(nth, layer)| Some((nth, Self::of(layer, top_k)?)));
        let found: Vec<(usize, Self)> = found.collect();
        let worst = found.iter().max_by(|a, b| a.1.share.total_cmp(&b.1.share))?;
        Some((worst.0, worst.1, found.len()))
    }
}

impl fmt::Display for BeyondTopK {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expert {} takes {:.1} % of the choices; with top-{} no expert takes more than {:.1} % \
             ({ONE_GPU})",
            self.expert,
            self.share * 100.0,
            self.top_k,
            100.0 / f64::from(self.top_k)
        )
    }
}

/// The likely cause, and the way out.
pub(crate) const ONE_GPU: &str = "a dump of one GPU's experts looks like this: add up the counts of \
                                  all ranks, or give the files of all ranks in one archive";

/// A contiguous block of E/n experts that takes everything, as the dump of one of n GPUs does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneBlock {
    /// First expert of the block.
    pub first: usize,
    /// Its last.
    pub last: usize,
    /// Experts of a layer.
    pub of: usize,
}

impl OneBlock {
    /// The smallest block that holds the load of every layer; `None` if only all experts do.
    #[must_use]
    pub fn of(counts: &ExpertCounts) -> Option<Self> {
        let used = |layer: &[f64]| {
            let first = layer.iter().position(|count| *count > 0.0)?;
            Some((first, layer.iter().rposition(|count| *count > 0.0)?))
        };
        let (first, last) =
            counts.layers().filter_map(used).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let of = counts.n_experts();
        let blocks = (2..=of).rev().filter(|blocks| of.is_multiple_of(*blocks));
        let size = blocks.map(|blocks| of / blocks).find(|size| first / size == last / size)?;
        let first = first / size * size;
        Some(Self { first, last: first + size - 1, of })
    }
}

impl fmt::Display for OneBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "experts {} to {} of {} take everything in every layer ({ONE_GPU})",
            self.first, self.last, self.of
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_dump_of_one_gpu_is_both() {
        // 16 of 256 experts, one of them at 19.8 %, where 12.5 % is the limit of top-8.
        let mut layer = vec![0.0; 256];
        layer[32..48].fill(802.0 / 15.0);
        layer[40] = 198.0;
        let found = BeyondTopK::of(&layer, 8).unwrap();
        assert_eq!((found.expert, found.top_k), (40, 8));
        let said = found.to_string();
        let wanted =
            "expert 40 takes 19.8 % of the choices; with top-8 no expert takes more than 12.5 %";
        assert!(said.starts_with(wanted), "{said}");
        let counts = ExpertCounts::from_values(1, 256, layer).unwrap();
        assert_eq!(OneBlock::of(&counts), Some(OneBlock { first: 32, last: 47, of: 256 }));
    }

    #[test]
    fn every_layer_must_lie_in_the_block() {
        let counts = |values: &[f64]| ExpertCounts::from_values(2, 4, values.to_vec()).unwrap();
        let block = OneBlock::of(&counts(&[0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 3.0]));
        assert_eq!(block, Some(OneBlock { first: 2, last: 3, of: 4 }));
        assert_eq!(OneBlock::of(&counts(&[0.0, 0.0, 1.0, 2.0, 1.0, 0.0, 0.0, 3.0])), None);
        assert_eq!(OneBlock::of(&counts(&[0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0])), None);
        assert_eq!(OneBlock::of(&counts(&[0.0; 8])), None);
    }

    #[test]
    fn rounded_counts_at_the_limit_are_possible() {
        assert_eq!(BeyondTopK::of(&[0.502, 0.3, 0.198], 2), None);
        assert_eq!(BeyondTopK::of(&[0.0; 4], 2), None);
        let rows: [&[f64]; 3] = [&[6.0, 2.0, 2.0], &[4.0, 3.0, 3.0], &[1.0, 8.0, 1.0]];
        let (layer, worst, n) = BeyondTopK::worst(rows.into_iter(), 2).unwrap();
        assert_eq!((layer, worst.expert, n), (2, 1, 2));
    }

    proptest! {
        #[test]
        fn what_a_router_gives_is_possible(
            tokens in prop::collection::vec(prop::sample::subsequence((0..9).collect::<Vec<_>>(), 3), 1..60),
        ) {
            let mut counts = vec![0.0; 9];
            tokens.iter().flatten().for_each(|expert: &usize| counts[*expert] += 1.0);
            prop_assert_eq!(BeyondTopK::of(&counts, 3), None);
        }
    }
}
