//! Step latencies over a replay, in bounded memory, and what they tell.

use rand::Rng;

use crate::seed::{Purpose, stream};

/// Values kept; beyond it every second one is dropped.
const KEPT: usize = 1 << 16;
/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;

/// A series of values: the exact mean, and an even subsample for quantiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    values: Vec<f64>,
    /// Every how many values one is kept: a power of two.
    stride: u64,
    n: u64,
    sum: f64,
}

impl Default for Series {
    fn default() -> Self {
        Self { values: Vec::new(), stride: 1, n: 0, sum: 0.0 }
    }
}

/// Mean and quantiles of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepStatistics {
    /// Mean over all steps.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Series {
    /// Adds the next value.
    pub fn push(&mut self, value: f64) {
        if self.n.is_multiple_of(self.stride) {
            if self.values.len() == KEPT {
                self.values = self.values.iter().copied().step_by(2).collect();
                self.stride *= 2;
            }
            if self.n.is_multiple_of(self.stride) {
                self.values.push(value);
            }
        }
        self.n += 1;
        self.sum += value;
    }

    fn mean(&self) -> f64 {
        self.sum / (self.n as f64).max(1.0)
    }
}

/// Mean and nearest-rank quantiles of the steps of several loads, each load counting the
/// same however many steps it has.
#[must_use]
pub(super) fn statistics(loads: &[&Series]) -> StepStatistics {
    let weighed = |load: &&Series| {
        let weight = 1.0 / load.values.len().max(1) as f64;
        load.values.iter().map(|value| (*value, weight)).collect::<Vec<_>>()
    };
    let mut sorted: Vec<(f64, f64)> = loads.iter().flat_map(weighed).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = loads.len() as f64;
    let at = |share: f64| {
        // Weights are at least 1 / KEPT: what rounding leaves is far less.
        let mut left = share * n - 1e-9;
        let reached = |(_, weight): &&(f64, f64)| {
            left -= weight;
            left <= 0.0
        };
        sorted.iter().find(reached).or(sorted.last()).map_or(0.0, |(value, _)| *value)
    };
    StepStatistics {
        mean: loads.iter().map(|load| load.mean()).sum::<f64>() / n,
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
    }
}

/// 95 % interval of mean(`none`) / mean(`other`) over steps, both less the `fixed` time
/// that is no part of what is compared, by a circular block bootstrap with blocks of
/// n^(1/3) steps, which keeps what neighbours have in common (Politis and Romano 1992). Of fewer
/// than 27 steps single ones are drawn, since a block would be most of them, and few steps
/// understate how they scatter: both sides are widened by Student's t over the normal quantile,
/// and by sqrt(n / (n − 1)).
///
/// Of several loads each is drawn from alone and counts the same.
#[must_use]
pub(super) fn speedup_interval(
    none: &[&Series],
    other: &[&Series],
    fixed: f64,
    seed: u64,
) -> [f64; 2] {
    let pairs = none.iter().zip(other);
    let loads: Vec<Blocks> =
        pairs.filter_map(|(none, other)| Blocks::new(&none.values, &other.values, fixed)).collect();
    let Some(first) = loads.first() else { return [1.0, 1.0] };
    let drawn = first.drawn();
    let mut rng = stream(seed, Purpose::Bootstrap, 0);
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (mut x, mut y) = (0.0, 0.0);
            for load in &loads {
                let (above, below) = load.draw(&mut rng);
                let weight = drawn / load.drawn();
                x += above * weight;
                y += below * weight;
            }
            x / y
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let n_steps = loads.iter().map(|load| load.n).min().unwrap_or(1);
    let middle = ratios[RESAMPLES / 2];
    [RESAMPLES / 40, RESAMPLES - 1 - RESAMPLES / 40]
        .map(|at| middle * (ratios[at] / middle).powf(widened(n_steps)))
}

/// How much wider an interval of so many steps is than their bootstrap says.
///
/// Student's t at 97.5 % over the normal quantile by the expansion of Fisher and Cornish (1960).
/// Worked number: 12 steps, t(11) = 2.201 by the tables, 2.201 / 1.960 · sqrt(12 / 11) = 1.173.
fn widened(n_steps: usize) -> f64 {
    if n_steps < 2 {
        return f64::INFINITY;
    }
    let (n, z) = (n_steps as f64, 1.959_964_f64);
    let freedom = n - 1.0;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    let t = z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3);
    t / z * (n / freedom).sqrt()
}

/// The steps of one load, ready to be drawn in blocks.
struct Blocks {
    /// Sums of the first steps, the first block following the last step.
    above: Vec<f64>,
    below: Vec<f64>,
    block: usize,
    n: usize,
}

impl Blocks {
    fn new(none: &[f64], other: &[f64], fixed: f64) -> Option<Self> {
        let n = none.len().min(other.len());
        if n == 0 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 41")]
        let block = if n < 27 { 1 } else { (n as f64).cbrt().ceil() as usize };
        let prefix = |values: &[f64]| -> Vec<f64> {
            let mut sums = vec![0.0];
            let mut sum = 0.0;
            for value in values[..n].iter().chain(&values[..block]) {
                sum += value - fixed;
                sums.push(sum);
            }
            sums
        };
        Some(Self { above: prefix(none), below: prefix(other), block, n })
    }

    /// Steps in one resample.
    fn drawn(&self) -> f64 {
        (self.n.div_ceil(self.block) * self.block) as f64
    }

    /// Sums of both over one resample.
    fn draw(&self, rng: &mut impl Rng) -> (f64, f64) {
        let (mut x, mut y) = (0.0, 0.0);
        for _ in 0..self.n.div_ceil(self.block) {
            let start = usize::try_from(rng.next_u64() % self.n as u64).unwrap_or(0);
            x += self.above[start + self.block] - self.above[start];
            y += self.below[start + self.block] - self.below[start];
        }
        (x, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_mean_exact() {
        let mut series = Series::default();
        for index in 0..200_000_u32 {
            series.push(f64::from(index));
        }
        assert!(series.values.len() <= KEPT);
        let found = statistics(&[&series]);
        assert!((found.mean - 99_999.5).abs() < 1e-6);
        assert!((found.p50 - 100_000.0).abs() < 10.0, "{found:?}");
        assert!((found.p95 - 190_000.0).abs() < 10.0);
    }

    #[test]
    fn equal_series_have_speedup_one_and_noise_widens_the_interval() {
        let (mut flat, mut noisy) = (Series::default(), Series::default());
        let mut rng = stream(1, Purpose::Bootstrap, 9);
        for _ in 0..1000 {
            flat.push(1.0);
            noisy.push(0.5 + f64::from(rng.next_u32() % 1000) / 1000.0);
        }
        let [low, high] = speedup_interval(&[&flat], &[&flat], 0.0, 0);
        assert!((low - 1.0).abs() < 1e-12 && (high - 1.0).abs() < 1e-12);
        let [low, high] = speedup_interval(&[&flat], &[&noisy], 0.0, 0);
        assert!(low < 1.0005 && high > 1.0005 - 0.01 && high - low > 0.01 && high - low < 0.1);
    }

    #[test]
    fn what_is_fixed_is_no_part_of_the_speedup() {
        let (mut slow, mut fast) = (Series::default(), Series::default());
        for _ in 0..50 {
            slow.push(3.0);
            fast.push(2.0);
        }
        // (3 − 1) / (2 − 1) = 2.
        let [low, high] = speedup_interval(&[&slow], &[&fast], 1.0, 0);
        assert!((low - 2.0).abs() < 1e-12 && (high - 2.0).abs() < 1e-12);
    }

    #[test]
    fn few_steps_are_trusted_less() {
        assert!((widened(12) - 1.173).abs() < 1e-3, "{}", widened(12));
        assert!(widened(2) > 5.0 && widened(1000) < 1.002);
        let (mut slow, mut fast) = (Series::default(), Series::default());
        for step in 0..12_u32 {
            slow.push(1.12 + 0.01 * f64::from(step % 3));
            fast.push(1.0);
        }
        // Twelve steps of 1.12, 1.13 and 1.14: 1.13 ± t(11) · 0.0085 / sqrt(12).
        let [low, high] = speedup_interval(&[&slow], &[&fast], 0.0, 0);
        assert!((low - 1.1246).abs() < 1e-3 && (high - 1.1354).abs() < 1e-3, "{low} {high}");
    }

    #[test]
    fn loads_count_the_same_however_many_steps_they_have() {
        let of = |value: f64, n: usize| {
            let mut series = Series::default();
            for _ in 0..n {
                series.push(value);
            }
            series
        };
        let (long, short) = (of(1.0, 300), of(3.0, 3));
        let found = statistics(&[&long, &short]);
        assert!((found.mean - 2.0).abs() < 1e-12, "{found:?}");
        // Half of the weight lies at 1, the other at 3.
        assert_eq!((found.p50, found.p95, found.p99), (1.0, 3.0, 3.0));
        // (1 + 3) / (0.5 + 3): the short load is drawn as the long one.
        let [low, high] = speedup_interval(&[&long, &short], &[&of(0.5, 300), &short], 0.0, 0);
        assert!((low - 4.0 / 3.5).abs() < 1e-12 && (high - 4.0 / 3.5).abs() < 1e-12);
    }
}
