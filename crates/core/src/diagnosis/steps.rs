//! How uneven single steps are: finite batches scatter around the mean load.

use crate::placement::SlotMap;
use crate::placement::balance::Balance;
use crate::trace::counts::ExpertCounts;

/// Imbalance of the steps of one plan.
#[derive(Debug, Clone, PartialEq)]
pub struct StepImbalance {
    maps: Vec<SlotMap>,
    /// Of every step: Σ max / Σ mean over layers.
    values: Vec<f64>,
}

impl StepImbalance {
    /// Follows these maps, one per layer.
    #[must_use]
    pub fn new(maps: Vec<SlotMap>) -> Self {
        Self { maps, values: Vec::new() }
    }

    /// Takes in a step.
    pub fn add(&mut self, step: &ExpertCounts) {
        let (max, mean) = self
            .maps
            .iter()
            .zip(step.layers())
            .map(|(map, load)| Balance::of_map(map, load))
            .fold((0.0, 0.0), |(max, mean), b| (max + b.max, mean + b.mean));
        self.values.push(Balance { max, mean }.imbalance());
    }

    /// Steps taken in.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.values.len()
    }

    /// The imbalance of every step, in order.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Mean, and the value that 95 % of the steps do not exceed (nearest rank).
    #[must_use]
    pub fn mean_and_p95(&self) -> Option<(f64, f64)> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * 95).div_ceil(100).checked_sub(1)?;
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        sorted.get(rank).map(|p95| (mean, *p95))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_scatter_though_their_sum_is_even() {
        let maps = vec![SlotMap::contiguous(2, 2).unwrap(); 2];
        let mut found = StepImbalance::new(maps);
        for values in [[3.0, 1.0, 2.0, 2.0], [1.0, 3.0, 2.0, 2.0]] {
            found.add(&ExpertCounts::from_values(2, 2, values.to_vec()).unwrap());
        }
        // (3 + 2) / (2 + 2)
        assert_eq!(found.values(), [1.25, 1.25]);
        assert_eq!(found.mean_and_p95(), Some((1.25, 1.25)));
        assert_eq!(StepImbalance::new(Vec::new()).mean_and_p95(), None);
    }
}
