//! How a trace is cut into the steps an engine would have run, and into the part that
//! plans and the part that scores.

use std::ops::Range;

/// In which order tokens form steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOrder {
    /// Prefill: consecutive tokens in (sequence, position) order, so many at a time; the
    /// last partial step is dropped.
    Prefill {
        /// T, at least 1.
        tokens_per_step: u64,
    },
    /// Decode: the next token of each of so many sequences. A sequence that ends hands its
    /// place to the next one not yet started; once none is left to start, steps end.
    /// Consecutive text would overstate the imbalance: neighbours route alike.
    Decode {
        /// B, at least 1.
        sequences: u64,
    },
    /// The steps as they were recorded (counts only).
    Recorded,
}

/// Which steps to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlan {
    /// In which order tokens form steps.
    pub order: StepOrder,
    /// Which tokens (of routes) or recorded steps (of counts).
    pub range: Range<u64>,
    /// Whether the experts of each token are wanted beside the counts.
    pub with_routes: bool,
}

/// Where the first part of `extent` things ends, when it is to hold `fraction` of them.
///
/// Both parts keep at least one thing where there are two or more.
///
/// ```
/// use moe_gps_core::trace::steps::split_point;
/// assert_eq!(split_point(101, 0.5), 50);
/// assert_eq!(split_point(3, 0.99), 2);
/// ```
#[must_use]
pub fn split_point(extent: u64, fraction: f64) -> u64 {
    if extent < 2 {
        return extent;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product lies between 0 and extent, and `as` saturates"
    )]
    let at = (extent as f64 * fraction.clamp(0.0, 1.0)).floor() as u64;
    at.clamp(1, extent - 1)
}

/// How many decode steps sequences of these lengths give with `lanes` running at once.
///
/// Follows the rule of [`StepOrder::Decode`].
#[must_use]
pub fn decode_steps(lengths: impl IntoIterator<Item = u64>, lanes: u64) -> u64 {
    // The lane that ends first takes the next sequence; steps end with the first lane
    // that finds none.
    let mut ends = std::collections::BinaryHeap::new();
    for length in lengths.into_iter().filter(|length| *length > 0) {
        let start = if (ends.len() as u64) < lanes {
            0
        } else {
            match ends.pop() {
                Some(std::cmp::Reverse(end)) => end,
                None => 0,
            }
        };
        ends.push(std::cmp::Reverse(start + length));
    }
    if lanes == 0 || (ends.len() as u64) < lanes { 0 } else { ends.pop().map_or(0, |end| end.0) }
}

/// The experts of the tokens of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepRoutes {
    /// Layers.
    pub n_layers: usize,
    /// Tokens of the step.
    pub n_tokens: usize,
    /// Experts per token.
    pub top_k: usize,
    /// Ids, `[layer][token][k]`.
    pub ids: Vec<u16>,
}

impl StepRoutes {
    /// The ids of one layer, `[token][k]`.
    #[must_use]
    pub fn layer(&self, layer_idx: usize) -> &[u16] {
        let stride = self.n_tokens * self.top_k;
        &self.ids[layer_idx * stride..][..stride]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_keep_something() {
        assert_eq!(split_point(2, 0.0), 1);
        assert_eq!(split_point(2, 1.0), 1);
        assert_eq!(split_point(1, 0.5), 1);
        assert_eq!(split_point(0, 0.5), 0);
        assert_eq!(split_point(10, 0.3), 3);
    }

    #[test]
    fn decode_ends_when_a_lane_starves() {
        // Two lanes, lengths 3, 5, 4: lane 0 runs 3 then 4 (to 7), lane 1 runs 5 and starves.
        assert_eq!(decode_steps([3, 5, 4], 2), 5);
        assert_eq!(decode_steps([3, 5, 4], 4), 0);
        assert_eq!(decode_steps([3, 5, 4], 1), 12);
        assert_eq!(decode_steps([3, 5], 0), 0);
        assert_eq!(decode_steps([512; 20], 16), 512);
    }
}
