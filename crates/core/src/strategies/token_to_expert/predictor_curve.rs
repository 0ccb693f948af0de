//! The best point of a predictor family whose cost grows with its accuracy.

use crate::question::{OverheadCurve, PredictorPoint};
use crate::units::Seconds;

/// Accuracies tried before the best neighbourhood is refined.
const GRID: usize = 64;
/// Width of the final bracket of accuracy.
const TOLERANCE: f64 = 1e-9;

/// The point of `curve` with the least latency, to 1e-6 of accuracy or better.
///
/// The latency is U-shaped over accuracy where predictor time grows exponentially, but a
/// cap or overlap may bend it: a grid finds the valley, golden sections its bottom.
pub(crate) fn optimum(
    curve: &OverheadCurve,
    latency: impl Fn(PredictorPoint) -> Seconds,
) -> PredictorPoint {
    let point = |accuracy| PredictorPoint { accuracy, overhead: curve.overhead(accuracy) };
    let at =
        |index: usize| curve.lowest + (curve.highest - curve.lowest) * index as f64 / GRID as f64;
    let cost = |accuracy| latency(point(accuracy)).get();
    let costs: Vec<f64> = (0..=GRID).map(|index| cost(at(index))).collect();
    let mut best = 0;
    for index in 1..=GRID {
        if costs[index] < costs[best] {
            best = index;
        }
    }
    let (mut low, mut high) = (at(best.saturating_sub(1)), at((best + 1).min(GRID)));
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    while high - low > TOLERANCE {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if cost(left) <= cost(right) {
            high = right;
        } else {
            low = left;
        }
    }
    let inner = f64::midpoint(low, high);
    // The ends of the stated range are points as good as any.
    let ends = [curve.lowest, curve.highest, inner];
    let best = ends.into_iter().fold(inner, |a, b| if cost(b) < cost(a) { b } else { a });
    point(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bottom_of_the_u_is_found() {
        // t = 1e-6·e^(6a) + (1 − a)·0.591e-3: dt/da = 0 at a = ln(98.5)/6 = 0.764976.
        let curve =
            OverheadCurve { at_zero: Seconds::new(1e-6), growth: 6.0, lowest: 0.3, highest: 1.0 };
        let best = optimum(&curve, |point| {
            point.overhead + Seconds::new(0.591e-3) * (1.0 - point.accuracy)
        });
        assert!((best.accuracy - 98.5_f64.ln() / 6.0).abs() < 1e-6, "{best:?}");
    }

    #[test]
    fn the_ends_of_the_range_count() {
        let curve =
            OverheadCurve { at_zero: Seconds::new(1e-3), growth: 5.0, lowest: 0.6, highest: 0.9 };
        assert!((optimum(&curve, |point| point.overhead).accuracy - 0.6).abs() < 1e-12);
    }
}
