//! The objective `throughput_at_tpot`: how many sequences a strategy serves at a given step.
//!
//! ```text
//! limit   = step of `none` at the batch asked for
//! served  = most sequences B with memory(B) that fits beside the replicas and step(B) ≤ limit
//! rate    = served · tokens per sequence / step(served)
//! ```
//!
//! A faster strategy may serve more sequences at the same time per output token, and one
//! whose replicas take the KV cache fewer; the batch is solved again for each. Strategies are
//! ranked by the seconds they take for the batch asked for, `asked · tokens per sequence /
//! rate`. Source: `cost-model` §11. Worked number: 64 sequences asked for
//! at 10 ms; a strategy that serves 80 in 10 ms makes 8,000 tokens/s and is ranked at 8 ms.

use std::collections::BTreeMap;

use crate::units::Seconds;

/// Sequences are solved to this share.
const PRECISION: f64 = 1.0 / 512.0;

/// What a strategy serves at the step of `none`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    /// Sequences at once, over all devices.
    pub sequences: u64,
    /// One step of the whole model with that many.
    pub step: Seconds,
    /// Tokens a second, over all devices.
    pub tokens_per_s: f64,
    /// Seconds for as many tokens as the batch asked for has: what strategies are ranked by.
    pub per_batch: Seconds,
}

impl Served {
    /// The same where steps turn out longer or shorter by a factor.
    #[must_use]
    pub fn slowed(self, factor: f64) -> Self {
        Self {
            step: self.step * factor,
            tokens_per_s: self.tokens_per_s / factor,
            per_batch: self.per_batch * factor,
            ..self
        }
    }
}

/// The batch that is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) sequences: u64,
    pub(crate) tokens_per_sequence: f64,
    /// The most sequences that are looked at.
    pub(crate) most: u64,
}

/// What each of `n` strategies serves. `steps` prices all of them at a number of sequences:
/// one step of the whole model, none where that does not fit; `limit` is the longest step.
pub(crate) fn served(
    batch: Batch,
    n: usize,
    limit: Seconds,
    mut steps: impl FnMut(u64) -> Vec<Option<Seconds>>,
) -> Vec<Option<Served>> {
    // Strategies are tried at the same few batches, and all are priced at once.
    let mut known: BTreeMap<u64, Vec<Option<Seconds>>> = BTreeMap::new();
    let mut within = |sequences: u64, index: usize| {
        let priced = known.entry(sequences).or_insert_with(|| steps(sequences));
        let step = priced.get(index).copied().flatten()?;
        (step <= limit * (1.0 + 1e-9)).then_some(step)
    };
    (0..n).map(|index| most(batch, |sequences| within(sequences, index))).collect()
}

/// The most sequences that are within what is allowed: doubling or halving from the batch
/// asked for until the end is passed, then bisection.
fn most(batch: Batch, mut within: impl FnMut(u64) -> Option<Seconds>) -> Option<Served> {
    let mut found = None;
    let (mut low, mut high) = (0, batch.most + 1);
    let mut next = batch.sequences.clamp(1, batch.most);
    while low < next && next < high {
        match within(next) {
            Some(step) => {
                found = Some((next, step));
                low = next;
            }
            None => high = next,
        }
        let precise = (high - low) as f64 <= (low as f64 * PRECISION).max(1.0);
        next = match (low, high) {
            _ if precise => low,
            (0, high) => high / 2,
            (low, high) if high > batch.most => (low * 2).min(batch.most),
            (low, high) => u64::midpoint(low, high),
        };
    }
    found.map(|(sequences, step)| {
        let tokens_per_s = sequences as f64 * batch.tokens_per_sequence / step.get();
        let per_batch = step * (batch.sequences as f64 / sequences as f64);
        Served { sequences, step, tokens_per_s, per_batch }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Batch = Batch { sequences: 64, tokens_per_sequence: 1.0, most: 1 << 20 };

    #[test]
    fn the_faster_strategy_serves_more_and_memory_ends_it() {
        // none: 4 ms + 0.09375 ms a sequence, 10 ms at 64; a faster one 4 + 0.075 ms fits 80;
        // a third is as fast but its replicas leave room for 40 only; a fourth never fits.
        let steps = |sequences: u64| {
            let x = sequences as f64;
            vec![
                Some(Seconds::new((4.0 + 0.09375 * x) * 1e-3)),
                Some(Seconds::new((4.0 + 0.075 * x) * 1e-3)),
                (sequences <= 40).then(|| Seconds::new((4.0 + 0.075 * x) * 1e-3)),
                None,
            ]
        };
        let found = served(BATCH, 4, Seconds::new(10e-3), steps);
        let sequences: Vec<_> = found.iter().map(|s| s.map(|s| s.sequences)).collect();
        assert_eq!(sequences, [Some(64), Some(80), Some(40), None]);
        let faster = found[1].unwrap();
        assert!((faster.tokens_per_s - 8000.0).abs() < 1e-6);
        assert!((faster.per_batch.get() - 8e-3).abs() < 1e-12);
        // 40 sequences in 7 ms: 5,714 tokens/s, 11.2 ms for 64.
        assert!((found[2].unwrap().per_batch.get() - 11.2e-3).abs() < 1e-12);
    }

    #[test]
    fn the_search_ends_at_the_most() {
        let found = served(BATCH, 1, Seconds::new(1.0), |_| vec![Some(Seconds::new(1e-3))]);
        assert_eq!(found[0].unwrap().sequences, BATCH.most);
    }
}
