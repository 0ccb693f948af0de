//! A quantity over skewness: stated points, log-linear between them.
//!
//! ```text
//! y(s) = y_a · (y_b / y_a)^((s − s_a) / (s_b − s_a))        s_a ≤ s ≤ s_b
//! ```
//!
//! s expert skewness, y a forecast's distribution error or a predictor's accuracy, `(s_a, y_a)` and
//! `(s_b, y_b)` the points beside s. Of the MoE-GPS paper (arXiv 2506.07366) both are known at its data
//! sets only: its forecast errs more and its predictors less where routing is more skewed. Valid
//! between the points; beyond them the nearest one is held, as nobody has measured there. Worked
//! number: an error of 0.0098 at 1.40 and of 0.16 at 1.99 is √(0.0098 · 0.16) = 0.039598 at 1.695.

/// Points of a quantity over skewness; one point is a constant.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    /// (skewness, value), by skewness.
    points: Vec<(f64, f64)>,
}

impl Trend {
    /// The same value at every skewness.
    #[must_use]
    pub fn constant(value: f64) -> Self {
        Self { points: vec![(1.0, value)] }
    }

    /// Through points (skewness, value) of different skewness, in any order, with values above zero;
    /// `None` without any.
    #[must_use]
    pub fn through(mut points: Vec<(f64, f64)>) -> Option<Self> {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        (!points.is_empty()).then_some(Self { points })
    }

    /// The value at a skewness.
    #[must_use]
    pub fn at(&self, skewness: f64) -> f64 {
        let above = self.points.partition_point(|(at, _)| *at < skewness);
        let last = self.points.len() - 1;
        if above == 0 || above > last {
            return self.points[above.min(last)].1;
        }
        let ((low, less), (high, more)) = (self.points[above - 1], self.points[above]);
        less * (more / less).powf((skewness - low) / (high - low))
    }

    /// The points (skewness, value), by skewness.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied()
    }

    /// Least and greatest skewness of a point.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        (self.points[0].0, self.points[self.points.len() - 1].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_joined_log_linearly_and_held_beyond() {
        let trend = Trend::through(vec![(1.99, 0.16), (1.40, 0.0098), (1.39, 0.018)]).unwrap();
        assert!((trend.at(1.695) - 0.039_597_98).abs() < 1e-8, "{}", trend.at(1.695));
        for (skewness, value) in
            [(1.0, 0.018), (1.39, 0.018), (1.40, 0.0098), (1.99, 0.16), (3.0, 0.16)]
        {
            assert!((trend.at(skewness) - value).abs() < 1e-12, "{skewness}");
        }
        assert_eq!(trend.range(), (1.39, 1.99));
        assert!((Trend::constant(0.25).at(7.0) - 0.25).abs() < 1e-15);
        assert_eq!(Trend::through(Vec::new()), None);
    }
}
