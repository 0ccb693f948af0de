//! Curves of communication fitted together, each drawn towards its relatives.
//!
//! A library's curves are alike: two group sizes of one operation share a protocol, two
//! operations a link. Fitted alone, a curve with few large messages has a bandwidth by
//! chance. So the logarithms θ of one constant over all curves are taken as drawn from a
//! normal distribution around a common centre, with more covariance the more two curves
//! have in common, and the most probable θ are found:
//!
//! ```text
//! minimise  Σ_rows ρ(ln(t(θ, x)/t) / σ)  +  Σ_constants |z|²,    θ = centre + L·z,  L·Lᵀ = K
//! K[a, b] = Σ over what a and b have in common of spread²
//! ρ(r) = 2·(√(1 + r²) − 1)
//! ```
//!
//! - σ [`NOISE`], by how much measurements scatter; `spread` by how much a constant
//!   differs between curves that differ in one thing, both in ln. ρ grows linearly for
//!   outliers ("soft L1").
//! - Source: partial pooling (Gelman and Hill 2007, "Data Analysis Using Regression and
//!   Multilevel/Hierarchical Models", ch. 12); the search is MINPACK's Levenberg-Marquardt.
//! - Valid for two rows and more; a curve without rows takes what its relatives take.
//! - Worked number: two curves with one constant that share a spread of 2 and differ by
//!   0.5: K = [4.25 4; 4 4.25], so one known exactly at centre + 1 draws the other to
//!   centre + 4/4.25.

use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt};
use nalgebra::{DMatrix, DVector, Dyn, Owned};

/// Scatter of measurements, as a share.
pub const NOISE: f64 = 0.05;

/// Step of a logarithm by which a time is differentiated.
const STEP: f64 = 1e-5;

/// Farthest that a logarithm is from its centre: e to the 12th is five decades.
const FARTHEST: f64 = 12.0;

/// What is believed of the constants of several curves before their rows are seen.
#[derive(Debug, Clone)]
pub struct Relatives {
    /// Logarithm around which each constant lies.
    centres: Vec<f64>,
    /// For each constant the factor L of the covariance between curves.
    factors: Vec<DMatrix<f64>>,
}

impl Relatives {
    /// Constants around `centres`; `covariance` is that of a constant between two curves.
    ///
    /// `None` where it is none: a curve does not vary, or two only with each other.
    #[must_use]
    pub fn new(
        curves: usize,
        centres: &[f64],
        covariance: impl Fn(usize, usize, usize) -> f64,
    ) -> Option<Self> {
        let factor = |constant| {
            let all = DMatrix::from_fn(curves, curves, |a, b| covariance(constant, a, b));
            Some(all.cholesky()?.unpack())
        };
        Some(Self {
            centres: centres.iter().map(|centre| centre.ln()).collect(),
            factors: (0..centres.len()).map(factor).collect::<Option<_>>()?,
        })
    }

    /// The constants of every curve that explain the points best.
    #[must_use]
    pub fn fit<P>(&self, points: &[Point<P>], time: impl Fn(&[f64], &P) -> f64) -> Vec<Vec<f64>> {
        let curves = self.factors.first().map_or(0, DMatrix::nrows);
        let problem = Problem {
            relatives: self,
            points,
            time: &time,
            z: DVector::zeros(curves * self.centres.len()),
        };
        let (found, _) =
            LevenbergMarquardt::new().with_tol(TOLERANCE).with_patience(PATIENCE).minimize(problem);
        (0..curves).map(|curve| found.constants(curve)).collect()
    }
}

/// The search ends when nothing improves by a larger share.
const TOLERANCE: f64 = 1e-8;

/// Evaluations of all rows, for every free constant.
const PATIENCE: usize = 5;

/// A measurement of one of the curves.
#[derive(Debug, Clone, Copy)]
pub struct Point<P> {
    /// Which curve.
    pub curve: usize,
    /// What was measured.
    pub what: P,
    /// Its time in seconds.
    pub time: f64,
}

struct Problem<'a, P, T> {
    relatives: &'a Relatives,
    points: &'a [Point<P>],
    time: &'a T,
    /// Curve after curve of one constant after the other.
    z: DVector<f64>,
}

impl<P, T: Fn(&[f64], &P) -> f64> Problem<'_, P, T> {
    fn constants(&self, curve: usize) -> Vec<f64> {
        let all = self.relatives.centres.iter().zip(&self.relatives.factors).enumerate();
        all.map(|(constant, (centre, factor))| {
            let from = constant * factor.nrows();
            let away: f64 = (0..=curve).map(|i| factor[(curve, i)] * self.z[from + i]).sum();
            (centre + away.clamp(-FARTHEST, FARTHEST)).exp()
        })
        .collect()
    }

    /// The square root of the loss of a point, with its sign.
    fn residual(&self, point: &Point<P>, constants: &[f64]) -> f64 {
        let off = ((self.time)(constants, &point.what) / point.time).ln() / NOISE;
        // ρ = 2·(√(1 + r²) − 1) = r²·2/(1 + √(1 + r²)), without a difference of like numbers.
        off * (2.0 / (1.0 + off.hypot(1.0))).sqrt()
    }
}

impl<P, T: Fn(&[f64], &P) -> f64> LeastSquaresProblem<f64, Dyn, Dyn> for Problem<'_, P, T> {
    type ResidualStorage = Owned<f64, Dyn>;
    type JacobianStorage = Owned<f64, Dyn, Dyn>;
    type ParameterStorage = Owned<f64, Dyn>;

    fn set_params(&mut self, z: &DVector<f64>) {
        self.z.copy_from(z);
    }

    fn params(&self) -> DVector<f64> {
        self.z.clone()
    }

    fn residuals(&self) -> Option<DVector<f64>> {
        let curves = self.relatives.factors.first().map_or(0, DMatrix::nrows);
        let constants: Vec<Vec<f64>> = (0..curves).map(|curve| self.constants(curve)).collect();
        let rows = self.points.iter().map(|point| self.residual(point, &constants[point.curve]));
        let all: Vec<f64> = rows.chain(self.z.iter().copied()).collect();
        Some(DVector::from_vec(all))
    }

    fn jacobian(&self) -> Option<DMatrix<f64>> {
        let rows = self.points.len();
        let mut jacobian = DMatrix::zeros(rows + self.z.len(), self.z.len());
        for (row, point) in self.points.iter().enumerate() {
            let mut constants = self.constants(point.curve);
            for (constant, factor) in self.relatives.factors.iter().enumerate() {
                let value = constants[constant];
                let mut at = |step: f64| {
                    constants[constant] = value * step.exp();
                    self.residual(point, &constants)
                };
                let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                constants[constant] = value;
                for i in 0..=point.curve {
                    let column = constant * factor.nrows() + i;
                    jacobian[(row, column)] = slope * factor[(point.curve, i)];
                }
            }
        }
        for i in 0..self.z.len() {
            jacobian[(rows + i, i)] = 1.0;
        }
        Some(jacobian)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two curves of one constant that share a spread of 2 and differ by 0.5.
    fn two() -> Relatives {
        Relatives::new(2, &[10.0], |_, a, b| if a == b { 4.25 } else { 4.0 }).unwrap()
    }

    #[test]
    fn a_curve_without_rows_takes_what_its_relative_takes() {
        let sure = 10.0 * 1f64.exp();
        let points: Vec<Point<()>> =
            (0..100_000).map(|_| Point { curve: 1, what: (), time: sure }).collect();
        let found = two().fit(&points, |constants, ()| constants[0]);
        assert!((found[1][0] / sure - 1.0).abs() < 1e-4, "{found:?}");
        let drawn = (found[0][0] / 10.0).ln();
        assert!((drawn - 4.0 / 4.25).abs() < 1e-4, "{drawn}");
    }

    #[test]
    fn an_outlier_counts_little_and_no_covariance_is_refused() {
        let times = [20.0, 20.0, 20.0, 200.0];
        let points = times.map(|time| Point { curve: 0, what: (), time });
        let found = two().fit(&points, |constants, ()| constants[0]);
        assert!((found[0][0] / 20.0 - 1.0).abs() < 0.03, "{found:?}");
        assert!(Relatives::new(2, &[1.0], |_, _, _| 1.0).is_none());
    }
}
