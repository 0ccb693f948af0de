//! Token-to-expert prediction, step by step: a new plan where it pays, else the old one.

use std::borrow::Borrow;

use crate::memory::expert_bytes;
use crate::placement::SlotMap;
use crate::placement::moves::Moves;
use crate::pricing::device_load::DeviceLoad;
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::planner::Planner;
use crate::pricing::slot_shares::SlotShares;
use crate::question::{PredictorPoint, Question};
use crate::rebalance::copies_per_layer;
use crate::system::System;
use crate::terms::Terms;
use crate::units::{Bytes, Seconds};

/// Decides every step of token-to-expert prediction.
#[derive(Debug, Clone)]
pub struct Stepwise<'a> {
    /// Makes the plans.
    pub planner: Planner,
    system: &'a System,
    one_copy: Seconds,
}

/// Experts moved before one layer of one step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moved {
    /// How long the busiest device receives, as far as it is seen.
    pub time: Seconds,
    /// Over all devices.
    pub bytes: Bytes,
}

/// One layer of one step under token-to-expert prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stepped {
    /// The part of its time that depends on loads.
    pub routed: Routed,
    /// Experts moved for it.
    pub moved: Moved,
    /// max/mean device load under a plan of its own; none where the old plan was kept.
    pub imbalance: Option<f64>,
}

/// One layer of one step, as it is and as a predictor tells it.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Tokens per expert.
    pub counts: &'a [f64],
    /// Tokens per expert by the predictor.
    pub forecast: &'a [f64],
    /// `counts` under the kept plan.
    pub true_load: DeviceLoad,
    /// `forecast` under the kept plan.
    pub told_load: DeviceLoad,
}

/// A plan made for one step from forecast loads; no link's speed is in it.
#[derive(Debug, Clone)]
pub struct Replanned {
    placed: SlotShares,
    moves: Moves,
    /// The forecast under the plan.
    told_load: DeviceLoad,
}

impl<'a> Stepwise<'a> {
    /// For one question.
    #[must_use]
    pub fn new(question: &'a Question, planner: Planner) -> Self {
        let one_copy = copies_per_layer(&question.system, 1.0).time;
        Self { planner, system: &question.system, one_copy }
    }

    /// The plan for one step's forecast loads, beside the kept one.
    #[must_use]
    pub fn replanned(
        &self,
        costs: &LayerCosts,
        kept: &SlotMap,
        forecast: &[f64],
    ) -> Option<Replanned> {
        let map = self.planner.quick_plan(forecast, kept.shape().slots_per_device()).ok()?;
        let moves = Moves::between(kept, &map);
        let placed = self.planner.placed(map, forecast);
        let told_load = costs.loaded(&placed, forecast);
        Some(Replanned { placed, moves, told_load })
    }

    /// One layer of one step: the plan made from the forecast loads if the forecast says
    /// that it saves more than its copies cost, else the kept one; priced on true counts.
    #[must_use]
    pub fn step<P: Borrow<Replanned>>(
        &self,
        costs: &LayerCosts,
        told: &Told,
        replanned: impl FnOnce() -> Option<P>,
    ) -> Stepped {
        let stay = costs.routed(&told.told_load).total();
        let exposed =
            |copying| self.system.assumptions.copy_overlap.exposed(copying, costs.attention());
        // A plan cannot save more than perfect balance nor cost less than one copy: most
        // steps end here, without planning.
        if stay - costs.balanced(&told.told_load).total() > exposed(self.one_copy)
            && let Some(replanned) = replanned()
        {
            let Replanned { placed, moves, told_load } = replanned.borrow();
            let time = exposed(copies_per_layer(self.system, f64::from(moves.most())).time);
            if costs.routed(told_load).total() + time < stay {
                let bytes = expert_bytes(self.system) * (moves.total() as f64);
                let routed = costs.routed(&costs.loaded(placed, told.counts));
                let imbalance = Some(placed.imbalance(told.counts));
                return Stepped { routed, moved: Moved { time, bytes }, imbalance };
            }
        }
        let routed = costs.routed(&told.true_load);
        Stepped { routed, moved: Moved::default(), imbalance: None }
    }

    /// The terms of a layer from its mean routed part under a predictor of this accuracy, before the
    /// predictor's own time.
    #[must_use]
    pub fn unpredicted(
        &self,
        costs: &LayerCosts,
        routed: &Routed,
        rebalance: Seconds,
        accuracy: f64,
    ) -> Terms {
        let mut routed = *routed;
        let assumptions = &self.system.assumptions;
        if assumptions.t2e_skips_scatter {
            routed.dispatch = routed.dispatch * assumptions.misroute_repair.share(accuracy);
        }
        Terms { rebalance, ..costs.terms(&routed) }
    }

    /// The same with the time of a predictor, as far as it is exposed.
    #[must_use]
    pub fn predicted(&self, terms: Terms, point: PredictorPoint) -> Terms {
        let overlap = self.system.assumptions.predictor_overlap;
        Terms { predictor: overlap.exposed(point.overhead, terms.attention), ..terms }
    }
}
