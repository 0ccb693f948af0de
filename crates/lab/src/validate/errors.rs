//! Relative errors summed up.
//!
//! e = predicted / measured − 1; mean, median, 90th percentile and maximum are of |e|,
//! the signed mean of e. Quantiles lie between the two nearest ranks, linearly.

use std::collections::{BTreeMap, BTreeSet};

use crate::validate::measured::{Measured, Op, Subset};
use crate::validate::price::{Estimate, Unpriced};

/// What errors add up to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// How many.
    pub rows: u64,
    /// Mean of their absolute values.
    pub mean: f64,
    /// Median of their absolute values.
    pub median: f64,
    /// 90th percentile of their absolute values.
    pub p90: f64,
    /// Largest absolute value.
    pub max: f64,
    /// Mean with their signs.
    pub signed_mean: f64,
}

impl Errors {
    /// Sums up relative errors; nothing where there are none.
    #[must_use]
    pub fn of(errors: &[f64]) -> Option<Self> {
        let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let max = *sizes.last()?;
        let n = sizes.len() as f64;
        Some(Self {
            rows: sizes.len() as u64,
            mean: sizes.iter().sum::<f64>() / n,
            median: quantile(&sizes, 0.5),
            p90: quantile(&sizes, 0.9),
            max,
            signed_mean: errors.iter().sum::<f64>() / n,
        })
    }
}

/// A quantile of sorted, non-empty values.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let below = at as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64)
}

/// By what rows of one table are distinguished.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The device, as the table names it.
    pub device: String,
    /// The software in one line.
    pub stack: String,
    /// The number format, as the table names it.
    pub format: String,
    /// The operator.
    pub op: Op,
    /// The part of its rows.
    pub subset: Subset,
}

/// The rows of one table that are alike.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// Relative errors of the priced rows, in the order of the table.
    pub errors: Vec<f64>,
    /// How many of them lie within their error bands; nothing where there are no bands.
    pub within: Option<u64>,
    /// Rows that could not be priced.
    pub unpriced: u64,
    /// What was priced with something else's constants, and whose.
    pub notes: BTreeSet<String>,
}

/// Sorts the rows of one table into groups.
#[must_use]
pub fn grouped(
    rows: &[Measured],
    estimates: &[Result<Estimate, Unpriced>],
) -> BTreeMap<GroupKey, Group> {
    let mut groups: BTreeMap<GroupKey, Group> = BTreeMap::new();
    for (row, estimate) in rows.iter().zip(estimates) {
        let key = GroupKey {
            device: row.device.clone(),
            stack: row.software.label(),
            format: row.format.clone(),
            op: row.op,
            subset: row.subset,
        };
        let group = groups.entry(key).or_default();
        match estimate {
            Ok(estimate) => {
                let error = estimate.time / row.time - 1.0;
                group.errors.push(error);
                if let Some(band) = estimate.band {
                    *group.within.get_or_insert(0) += u64::from(error.abs() <= band);
                }
                group.notes.extend(estimate.note.clone());
            }
            Err(_) => group.unpriced += 1,
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn sums_and_quantiles_of_errors() {
        let errors = Errors::of(&[-0.4, 0.1, 0.2, 0.3, -0.05]).unwrap();
        assert_eq!(errors.rows, 5);
        assert_relative_eq!(errors.mean, 0.21);
        assert_relative_eq!(errors.median, 0.2);
        // Sorted: 0.05 0.1 0.2 0.3 0.4; rank 3.6.
        assert_relative_eq!(errors.p90, 0.36);
        assert_relative_eq!(errors.max, 0.4);
        assert_relative_eq!(errors.signed_mean, 0.03, epsilon = 1e-12);
        assert_eq!(Errors::of(&[]), None);
        assert_relative_eq!(Errors::of(&[-0.5]).unwrap().p90, 0.5);
    }
}
