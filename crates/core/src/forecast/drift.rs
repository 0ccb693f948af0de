//! How far the loads of parts of a trace, or of traces, are from each other.

use crate::routing::forecast::sampling_error_of;
use crate::trace::counts::ExpertCounts;
use crate::trace::stats::{distribution_error, mean, mean_distribution_error};

/// How far loads are from each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// Distribution error, mean over layers, of a plan for the row on the load of the column.
    pub errors: Vec<Vec<f64>>,
    /// The largest error off the diagonal.
    pub most: f64,
    /// Mean off the diagonal.
    pub mean: f64,
    /// What the mean would be if all parts were samples of one distribution.
    ///
    /// ```text
    /// sqrt(2/π) · Σ_e sqrt(p_e (1 − p_e) · (1/n + 1/m))
    /// ```
    ///
    /// p: pooled shares; n, m: assignments of the two parts. Neighbouring tokens route
    /// alike, so real text lies above it even without drift.
    pub by_chance: f64,
}

/// Compares loads with the same layers and experts, each with each; `None` for fewer than
/// two that hold tokens.
#[must_use]
pub fn between(parts: &[ExpertCounts]) -> Option<Drift> {
    let error = |a: &ExpertCounts, b| mean_distribution_error(a, b).unwrap_or(0.0);
    let errors: Vec<Vec<f64>> =
        parts.iter().map(|a| parts.iter().map(|b| error(a, b)).collect()).collect();
    let pairs = || {
        (0..parts.len()).flat_map(|a| (0..parts.len()).map(move |b| (a, b))).filter(|(a, b)| a != b)
    };
    Some(Drift {
        most: pairs().map(|(a, b)| errors[a][b]).fold(0.0, f64::max),
        mean: mean(pairs().map(|(a, b)| errors[a][b]))?,
        by_chance: mean(pairs().map(|(a, b)| by_chance(&parts[a], &parts[b])))?,
        errors,
    })
}

/// The mean distribution error between two samples of one distribution.
fn by_chance(a: &ExpertCounts, b: &ExpertCounts) -> f64 {
    let of_layer = |(a, b): (&[f64], &[f64])| {
        distribution_error(a, b)?;
        let (n, m): (f64, f64) = (a.iter().sum(), b.iter().sum());
        let pooled: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a + b) / (n + m)).collect();
        Some(sampling_error_of(&pooled, 1.0 / (1.0 / n + 1.0 / m)))
    };
    mean(a.layers().zip(b.layers()).filter_map(of_layer)).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::sample::{Chances, Draws};

    fn load(values: &[f64]) -> ExpertCounts {
        ExpertCounts::from_values(1, values.len(), values.to_vec()).unwrap()
    }

    #[test]
    fn parts_are_compared_each_with_each() {
        let found = between(&[load(&[1.0, 1.0]), load(&[3.0, 1.0]), load(&[1.0, 1.0])]).unwrap();
        assert_eq!(found.errors, [[0.0, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.0]]);
        assert!((found.mean - 1.0 / 3.0).abs() < 1e-12 && (found.most - 0.5).abs() < 1e-12);
        assert!(between(&[load(&[1.0, 1.0])]).is_none());
    }

    #[test]
    fn samples_of_one_distribution_differ_by_chance_only() {
        let shares = [0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05];
        let draws = Draws::new(4, 0, 40, shares.len());
        let parts: Vec<ExpertCounts> = (0..40)
            .map(|draw| {
                let mut counts = vec![0.0; shares.len()];
                draws.counts(draw, &Chances::new(&shares, 4000.0, 1), &mut counts);
                load(&counts)
            })
            .collect();
        let found = between(&parts).unwrap();
        assert!((found.mean / found.by_chance - 1.0).abs() < 0.1, "{found:?}");
    }
}
