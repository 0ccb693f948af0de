//! Strategies priced over steps: sampled from expected shares, or recorded.
//!
//! [`Steps`] is what both have in common: every layer of every step, under all plans that are
//! followed, is priced, and the prices are summed. Sampled steps (`sampled_steps`) are the same
//! few dozen for every strategy and serve every question that differs in one quantity; recorded
//! ones (`recorded_steps`) come in batches, in time, with plans that are renewed as the steps go
//! by. Layers are independent of each other and sums are made in order, so the result does not
//! depend on the number of threads.

mod accumulator;
pub mod interval;
mod load_window;
pub(crate) mod prices;
mod recorded_steps;
pub mod replay;
pub(crate) mod sampled_steps;
pub mod slot_search;
mod statistics;
pub mod transfer;
pub mod transfer_replay;

use crate::pricing::device_load::DeviceLoad;
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::slot_shares::SlotShares;
use crate::strategies::token_to_expert::stepwise::{Moved, Stepwise, Told};
use crate::trace::counts::ExpertCounts;

pub use prices::plans::{LayerImbalance, PlanSummary};
pub use statistics::{Series, StepStatistics};

/// Recorded steps served at a time.
pub const BATCH: usize = 64;

/// A recorded step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which of the loads it belongs to.
    pub load: usize,
    /// Tokens per expert and layer.
    pub counts: ExpertCounts,
}

/// One layer of one step, under every plan that is followed.
pub struct LayerStep<'a> {
    /// Which layer.
    pub layer: usize,
    /// Its place among the steps that are shown together.
    pub at: usize,
    /// Tokens per expert.
    pub counts: &'a [f64],
    /// The devices' loads under every plan.
    pub loads: &'a [DeviceLoad],
    placed: &'a dyn Fn(usize) -> &'a SlotShares,
    renewal: &'a dyn Fn(usize) -> Moved,
}

/// What came of one layer of one step.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    routed: Routed,
    /// The same with every device taking the mean.
    balanced: Routed,
    /// Experts moved for it.
    moved: Moved,
    /// max/mean device load.
    imbalance: f64,
}

/// The steps of a question.
pub trait Steps {
    /// Shows `see` what `price` makes of every layer of every step, some steps at a time: the load
    /// of each step, and per layer the price of each step.
    fn each<O: Send>(
        &mut self,
        price: impl Fn(&LayerStep) -> O + Sync,
        see: impl FnMut(&[usize], &[Vec<O>]),
    );

    /// Shows `see` what `price` makes of every layer of every step, one after the other.
    fn every<O: Copy + Send>(
        &mut self,
        price: impl Fn(&LayerStep) -> O + Sync,
        mut see: impl FnMut(O),
    ) {
        self.each(price, |_, layers| layers.iter().flatten().for_each(|priced| see(*priced)));
    }
}

/// The mean of a price over layers and steps.
pub(crate) fn mean(steps: &mut impl Steps, price: impl Fn(&LayerStep) -> Routed + Sync) -> Routed {
    let (mut sum, mut n) = (Routed::default(), 0.0);
    steps.every(price, |priced| {
        sum += priced;
        n += 1.0;
    });
    sum.scaled(1.0 / n)
}

impl<'a> LayerStep<'a> {
    /// A plan, by its place in `loads`.
    #[must_use]
    pub fn placed(&self, plan: usize) -> &'a SlotShares {
        (self.placed)(plan)
    }

    /// The step under a plan as it is.
    fn kept(&self, plan: usize, costs: &LayerCosts) -> Outcome {
        let load = &self.loads[plan];
        Outcome {
            routed: costs.routed(load),
            balanced: costs.balanced(load),
            moved: (self.renewal)(plan),
            imbalance: self.placed(plan).imbalance(self.counts),
        }
    }

    /// The step where a forecast of its tokens may replace the plan, beside what came of the plan
    /// as it is.
    fn replanned(
        &self,
        plan: usize,
        kept: &Outcome,
        forecast: &[f64],
        costs: &LayerCosts,
        stepwise: &Stepwise,
    ) -> Outcome {
        let placed = self.placed(plan);
        let told = Told {
            counts: self.counts,
            forecast,
            true_load: self.loads[plan],
            told_load: costs.loaded(placed, forecast),
        };
        let replanned = || stepwise.replanned(costs, &placed.map, forecast);
        let stepped = stepwise.step(costs, &told, replanned);
        let mut moved = stepped.moved;
        moved.time += kept.moved.time;
        moved.bytes += kept.moved.bytes;
        Outcome {
            routed: stepped.routed,
            moved,
            imbalance: stepped.imbalance.unwrap_or(kept.imbalance),
            ..*kept
        }
    }
}
