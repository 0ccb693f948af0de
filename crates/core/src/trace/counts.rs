//! How many tokens each expert took, layer by layer, and the kernels that count them.

/// Tokens per expert and layer, c[l, e]; one token counts once for each of its k experts.
///
/// Values are `f64` because some recordings hold means; sums of integers stay exact up
/// to 2^53.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertCounts {
    n_layers: usize,
    n_experts: usize,
    values: Vec<f64>,
}

impl ExpertCounts {
    /// Counts of zero.
    #[must_use]
    pub fn zeros(n_layers: usize, n_experts: usize) -> Self {
        Self { n_layers, n_experts, values: vec![0.0; n_layers * n_experts] }
    }

    /// Counts from their rows, layer after layer; `None` if the length does not fit.
    #[must_use]
    pub fn from_values(n_layers: usize, n_experts: usize, values: Vec<f64>) -> Option<Self> {
        (values.len() == n_layers * n_experts).then_some(Self { n_layers, n_experts, values })
    }

    /// Number of layers.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.n_layers
    }

    /// Number of experts of a layer.
    #[must_use]
    pub fn n_experts(&self) -> usize {
        self.n_experts
    }

    /// The counts of one layer.
    #[must_use]
    pub fn layer(&self, layer_idx: usize) -> &[f64] {
        &self.values[layer_idx * self.n_experts..][..self.n_experts]
    }

    /// The counts of one layer, to be changed.
    pub fn layer_mut(&mut self, layer_idx: usize) -> &mut [f64] {
        &mut self.values[layer_idx * self.n_experts..][..self.n_experts]
    }

    /// The layers in order.
    #[must_use]
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.n_experts.max(1))
    }

    /// Every count, layer after layer.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Sets every count to zero.
    pub fn clear(&mut self) {
        self.values.fill(0.0);
    }

    /// Adds the counts of another part of the same trace.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn add(&mut self, other: &Self) {
        assert_eq!((self.n_layers, self.n_experts), (other.n_layers, other.n_experts));
        for (mine, theirs) in self.values.iter_mut().zip(&other.values) {
            *mine += theirs;
        }
    }
}

/// Histogram of small ids, fast enough to run at the speed of memory.
///
/// Equal ids in a row would make every increment wait for the one before it, so eight
/// histograms take turns and are summed at the end.
#[derive(Debug, Clone)]
pub struct Histogram {
    n_experts: usize,
    /// Counts of each id, one per histogram; a power of two of them.
    counts: Vec<[u32; LANES]>,
    /// Whether an id was beyond `counts`.
    overflowed: bool,
}

/// Histograms that take turns.
const LANES: usize = 8;
/// Values of one byte.
const BYTE: usize = 256;

impl Histogram {
    /// An empty histogram of ids below `n_experts`.
    #[must_use]
    pub fn new(n_experts: usize) -> Self {
        let n_values = n_experts.max(BYTE).next_power_of_two();
        Self { n_experts, counts: vec![[0; LANES]; n_values], overflowed: false }
    }

    /// Counts ids of one byte.
    pub fn add_bytes(&mut self, ids: &[u8]) {
        // A byte is below 256, so the compiler drops the bounds checks.
        let counts = &mut self.counts[..BYTE];
        let (chunks, tail) = ids.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, id) in chunk.iter().enumerate() {
                counts[usize::from(*id)][lane] += 1;
            }
        }
        for id in tail {
            counts[usize::from(*id)][0] += 1;
        }
    }

    /// Counts ids of two bytes, lowest byte first.
    pub fn add_words(&mut self, ids: &[[u8; 2]]) {
        // With the mask no id can leave the table, so no bounds are checked; `seen` tells
        // whether one would have.
        let mask = self.counts.len() - 1;
        let counts = &mut self.counts[..=mask];
        let mut seen = 0;
        let (chunks, tail) = ids.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, id) in chunk.iter().enumerate() {
                let id = usize::from(u16::from_le_bytes(*id));
                seen |= id;
                counts[id & mask][lane] += 1;
            }
        }
        for id in tail {
            let id = usize::from(u16::from_le_bytes(*id));
            seen |= id;
            counts[id & mask][0] += 1;
        }
        self.overflowed |= seen > mask;
    }

    /// Adds what was counted to `totals` and starts again from zero.
    ///
    /// Returns whether every id was below the number of experts; if not, the totals are
    /// not to be used.
    #[must_use]
    pub fn drain_into(&mut self, totals: &mut [u64]) -> bool {
        let (known, strange) = self.counts.split_at(self.n_experts);
        for (total, lanes) in totals.iter_mut().zip(known) {
            *total += lanes.iter().map(|count| u64::from(*count)).sum::<u64>();
        }
        let sound = !self.overflowed && strange.iter().flatten().all(|count| *count == 0);
        self.counts.fill([0; LANES]);
        self.overflowed = false;
        sound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_kernels_count_like_a_plain_loop(
            ids in prop::collection::vec(0_u8..60, 0..300),
        ) {
            let mut plain = vec![0_u64; 60];
            for id in &ids {
                plain[usize::from(*id)] += 1;
            }
            let mut histogram = Histogram::new(60);
            let mut bytes = vec![0; 60];
            histogram.add_bytes(&ids);
            prop_assert!(histogram.drain_into(&mut bytes));
            prop_assert_eq!(&bytes, &plain);
            let mut words = vec![0; 60];
            let pairs: Vec<[u8; 2]> = ids.iter().map(|id| [*id, 0]).collect();
            histogram.add_words(&pairs);
            prop_assert!(histogram.drain_into(&mut words));
            prop_assert_eq!(words, plain);
        }
    }

    #[test]
    fn strangers_are_reported() {
        for (pair, sound) in [([3, 0], true), ([4, 0], false), ([0, 1], false), ([3, 9], false)] {
            let mut histogram = Histogram::new(4);
            histogram.add_words(&[[0, 0], pair]);
            assert_eq!(histogram.drain_into(&mut [0; 4]), sound, "{pair:?}");
        }
        let mut histogram = Histogram::new(4);
        histogram.add_bytes(&[0, 3, 4, 255]);
        assert!(!histogram.drain_into(&mut [0; 4]));
    }

    #[test]
    fn layers_are_rows() {
        let counts = ExpertCounts::from_values(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(counts.layer(1), [4.0, 5.0, 6.0]);
        assert_eq!(counts.layers().len(), 2);
        assert!(ExpertCounts::from_values(2, 3, vec![0.0; 5]).is_none());
    }
}
