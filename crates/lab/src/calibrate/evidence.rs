//! What fitted constants rest on, and what was not used.

use std::collections::BTreeMap;

use crate::validate::errors::Errors;
use crate::validate::measured::Software;

/// The rows that constants were fitted to, and how far these are from them.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The rows, as indices into what was given.
    pub rows: Vec<usize>,
    /// Errors of those rows.
    pub errors: Errors,
    /// Errors of shapes a fit had not seen; `None` with too few shapes to hold any out.
    pub held_out: Option<Errors>,
    /// Relative error of every row, in order: in sample, and held out.
    pub residuals: Vec<(f64, Option<f64>)>,
}

impl Evidence {
    /// Sums up the relative errors of `rows`, in sample and held out; nothing without rows.
    #[must_use]
    pub fn of(rows: &[usize], errors: &[f64], held_out: Option<&[f64]>) -> Option<Self> {
        let unseen = |i: usize| held_out.map(|all| all[i]);
        Some(Self {
            rows: rows.to_vec(),
            errors: Errors::of(errors)?,
            held_out: held_out.and_then(Errors::of),
            residuals: errors.iter().enumerate().map(|(i, error)| (*error, unseen(i))).collect(),
        })
    }

    /// Errors on unseen shapes where there are such, else those of the fitted rows.
    #[must_use]
    pub fn expected(&self) -> Errors {
        self.held_out.unwrap_or(self.errors)
    }

    /// The error to expect: the 90th percentile, held out where there is such.
    #[must_use]
    pub fn band(&self) -> f64 {
        self.expected().p90.max(0.02)
    }
}

/// Measurements of the same thing by the software that was measured.
pub type ByVersion<'a, T> = BTreeMap<&'a Software, Vec<T>>;

/// Those of the version measured most, the last of several, and how many others there are:
/// a profile has one law for a library.
#[must_use]
pub fn measured_most<T>(versions: ByVersion<T>) -> (Vec<T>, usize) {
    let all: usize = versions.values().map(Vec::len).sum();
    let chosen = versions.into_values().max_by_key(Vec::len).unwrap_or_default();
    let others = all - chosen.len();
    (chosen, others)
}

/// Rows that no fit used, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut(pub BTreeMap<String, usize>);

impl LeftOut {
    /// So many rows for that reason; none are not mentioned.
    pub fn add(&mut self, why: impl Into<String>, rows: usize) {
        if rows > 0 {
            *self.0.entry(why.into()).or_default() += rows;
        }
    }
}
