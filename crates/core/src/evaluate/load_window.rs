//! What the planner of a layer has seen of its loads when it renews a plan.
//!
//! Engines look back on a window of steps. Kept are only sums: of all steps so far, and, for
//! every renewal to come, of the steps that its window leaves out, so that memory does not
//! grow with the window.
//!
//! ```text
//! seen(t) = all(t) − all(t − w)               t ≥ w
//! seen(t) = all(t) + planned · min(1, (w − t) / n)   t < w
//! ```
//!
//! t: steps replayed, of all loads; w: steps of the window; n: steps of the planning parts. A
//! window that reaches back into the planning part takes its mean. Without a window everything
//! is seen. Worked number: 100 planning steps, a window of 20: after 10 steps the planner sees
//! these 10 and a tenth of the planning part.

use std::collections::VecDeque;

use crate::question::Rebalance;

/// What has been seen of every load.
#[derive(Debug, Clone)]
pub(super) struct LoadWindow {
    /// Tokens per expert of the planning part of every load.
    planned: Vec<Vec<f64>>,
    /// Steps the planning parts are together.
    planned_steps: f64,
    /// The same of all steps replayed.
    replayed: Vec<Vec<f64>>,
    /// For renewals to come, the step they are due and `replayed` where their window begins.
    left_out: VecDeque<(u64, Vec<Vec<f64>>)>,
}

impl LoadWindow {
    /// Nothing but the planning parts, where a step has so many (token, expert) pairs.
    pub(super) fn new(planned: Vec<Vec<f64>>, assignments: f64) -> Self {
        let pairs: f64 = planned.iter().flatten().sum();
        Self {
            replayed: planned.iter().map(|load| vec![0.0; load.len()]).collect(),
            planned,
            planned_steps: pairs / assignments,
            left_out: VecDeque::new(),
        }
    }

    /// Called before step `at`, counted over all loads.
    pub(super) fn before_step(&mut self, at: u64, rebalance: &Rebalance) {
        let Some(window) = rebalance.window_steps else { return };
        let due = at.saturating_add(window);
        if due.is_multiple_of(rebalance.interval_steps) {
            self.left_out.push_back((due, self.replayed.clone()));
        }
    }

    /// Adds a step of a load.
    pub(super) fn add(&mut self, load: usize, counts: &[f64]) {
        for (sum, count) in self.replayed[load].iter_mut().zip(counts) {
            *sum += count;
        }
    }

    /// What the planner sees before step `at`: tokens per expert of every load.
    pub(super) fn seen(&mut self, at: u64, rebalance: &Rebalance) -> Vec<Vec<f64>> {
        while self.left_out.front().is_some_and(|(due, _)| *due < at) {
            self.left_out.pop_front();
        }
        if let Some((due, left_out)) = self.left_out.front()
            && *due == at
        {
            return self.added(left_out, -1.0);
        }
        let missing = rebalance.window_steps.map(|window| window.saturating_sub(at) as f64);
        let part = missing.map_or(1.0, |missing| (missing / self.planned_steps).min(1.0));
        self.added(&self.planned, part)
    }

    /// The planning parts of every load.
    pub(super) fn planned(&self) -> &[Vec<f64>] {
        &self.planned
    }

    /// All steps replayed, and so many times `other`.
    fn added(&self, other: &[Vec<f64>], times: f64) -> Vec<Vec<f64>> {
        let of_load = |(all, other): (&Vec<f64>, &Vec<f64>)| {
            all.iter().zip(other).map(|(all, other)| all + times * other).collect()
        };
        self.replayed.iter().zip(other).map(of_load).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::RebalanceMode;

    const MODE: RebalanceMode = RebalanceMode::Sync;

    /// What is seen at every renewal over 40 steps; step t has t pairs of the one expert.
    fn seen(window_steps: Option<u64>, interval_steps: u64) -> Vec<f64> {
        let rebalance = Rebalance { mode: MODE, interval_steps, window_steps };
        // 100 planning steps of 10 pairs.
        let mut past = LoadWindow::new(vec![vec![1000.0]], 10.0);
        let mut found = Vec::new();
        for at in 0..41 {
            past.before_step(at, &rebalance);
            if at > 0 && at % interval_steps == 0 {
                found.push(past.seen(at, &rebalance)[0][0]);
            }
            past.add(0, &[at as f64]);
        }
        found
    }

    #[test]
    fn a_window_forgets_what_is_older() {
        let sum = |range: std::ops::Range<u64>| range.sum::<u64>() as f64;
        // After 10 steps a window of 20 holds them and the mean of 10 planning steps.
        assert_eq!(seen(Some(20), 10), [sum(0..10) + 100.0, sum(0..20), sum(10..30), sum(20..40)]);
        // One shorter than the interval, and one longer than all there is.
        assert_eq!(seen(Some(3), 20), [sum(17..20), sum(37..40)]);
        assert_eq!(seen(Some(1000), 20), [sum(0..20) + 1000.0, sum(0..40) + 1000.0]);
        assert_eq!(seen(None, 20), [sum(0..20) + 1000.0, sum(0..40) + 1000.0]);
    }

    #[test]
    fn loads_are_kept_apart() {
        let rebalance = Rebalance { mode: MODE, interval_steps: 4, window_steps: Some(2) };
        let mut past = LoadWindow::new(vec![vec![8.0, 0.0], vec![0.0, 8.0]], 4.0);
        for at in 0..4 {
            past.before_step(at, &rebalance);
            past.add(usize::from(at % 2 == 1), &[1.0, at as f64]);
        }
        past.before_step(4, &rebalance);
        assert_eq!(past.seen(4, &rebalance), [[1.0, 2.0], [1.0, 3.0]]);
        assert_eq!(past.planned(), [[8.0, 0.0], [0.0, 8.0]]);
    }
}
