//! Token-to-expert prediction priced over accuracy: never slower for knowing more.
//!
//! A predictor can be made to know less at will, so the best use of accuracy a is no slower
//! than that of any accuracy below. Single accuracies priced on drawn steps miss this by
//! the luck of the draws and of the plans. So a few accuracies are priced, each is taken
//! at the least of itself and those below, and between two the terms are interpolated:
//!
//! ```text
//! t(a_i) = min over j ≤ i of priced(a_j)      t(0) = the kept plan, for knowing nothing
//! t(a)   = t(a_i) + (a − a_i)/(a_{i+1} − a_i) · (t(a_{i+1}) − t(a_i))
//! ```
//!
//! Worked number: 2.0 ms kept, 1.8 ms at accuracy 1/4 and 1.9 ms at 1/2 give 1.9 ms at 1/8
//! and 1.8 ms at 3/8.

use crate::terms::Terms;

/// Accuracies that are priced, least first; the last one is perfect.
pub(crate) const ANCHORS: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

/// Terms over accuracy, before the predictor's own time.
#[derive(Debug, Clone)]
pub(crate) struct ByAccuracy {
    anchors: Vec<(f64, Terms)>,
}

impl ByAccuracy {
    /// From the terms of the plan that is kept where nothing is known, and the terms
    /// `at` each of [`ANCHORS`], named by its index.
    pub(crate) fn new(kept: Terms, at: impl Fn(usize) -> Terms) -> Self {
        let last = ANCHORS.len() - 1;
        let perfect = at(last);
        // What the truth itself does not improve, no forecast will.
        if perfect.total() >= kept.total() {
            return Self::unpriced(kept);
        }
        let mut anchors = vec![(0.0, kept)];
        let mut least = kept;
        for (index, accuracy) in ANCHORS.into_iter().enumerate() {
            let terms = if index < last { at(index) } else { perfect };
            if terms.total() < least.total() {
                least = terms;
            }
            anchors.push((accuracy, least));
        }
        Self { anchors }
    }

    /// Where the plan is kept whatever is known.
    pub(crate) fn unpriced(kept: Terms) -> Self {
        Self { anchors: vec![(0.0, kept), (1.0, kept)] }
    }

    /// The terms at an accuracy from 0 to 1.
    pub(crate) fn at(&self, accuracy: f64) -> Terms {
        let above = self.anchors.partition_point(|(anchor, _)| *anchor < accuracy);
        let above = above.clamp(1, self.anchors.len() - 1);
        let ((low, less), (high, more)) = (self.anchors[above - 1], self.anchors[above]);
        let share = (accuracy - low) / (high - low);
        // One end as it is: sums of rounded parts need not give the whole back.
        if less == more || share <= 0.0 {
            less
        } else if share >= 1.0 {
            more
        } else {
            less.scaled(1.0 - share).plus(&more.scaled(share))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Seconds;

    fn terms(milliseconds: f64) -> Terms {
        Terms { expert_ffn: Seconds::new(milliseconds * 1e-3), ..Terms::default() }
    }

    #[test]
    fn more_accuracy_is_never_slower() {
        let priced = |accuracy: f64| terms(if accuracy < 0.3 { 1.8 } else { 1.9 });
        let by_accuracy = ByAccuracy::new(terms(2.0), |anchor| priced(ANCHORS[anchor]));
        let at = |accuracy| by_accuracy.at(accuracy).total().get() * 1e3;
        for (accuracy, milliseconds) in [(0.0, 2.0), (0.125, 1.9), (0.25, 1.8), (0.375, 1.8)] {
            assert!((at(accuracy) - milliseconds).abs() < 1e-12, "{accuracy}");
        }
        assert!((at(1.0) - 1.8).abs() < 1e-12);
    }

    #[test]
    fn what_perfection_does_not_improve_keeps_its_plan() {
        let by_accuracy = ByAccuracy::new(terms(2.0), |anchor| terms(3.0 - ANCHORS[anchor]));
        assert_eq!(by_accuracy.at(0.6), terms(2.0));
    }
}
