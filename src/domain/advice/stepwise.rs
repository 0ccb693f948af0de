//! Token-to-expert prediction, step by step: a new plan where it pays, else the old one.

use super::layer::{LayerCosts, Routed};
use super::loads::Placed;
use super::plan::Planner;
use crate::domain::memory::expert_bytes;
use crate::domain::placement::moves::Moves;
use crate::domain::question::{PredictorPoint, Question};
use crate::domain::rebalance::copies_per_layer;
use crate::domain::system::{PredictorOverlap, System};
use crate::domain::terms::Terms;
use crate::domain::units::{Bytes, Seconds};

/// Decides every step of token-to-expert prediction.
#[derive(Debug, Clone)]
pub struct Stepwise {
    /// Makes the plans.
    pub planner: Planner,
    system: System,
    one_copy: Seconds,
}

/// Experts moved before one layer of one step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moved {
    /// How long the busiest device receives.
    pub time: Seconds,
    /// Over all devices.
    pub bytes: Bytes,
}

impl Stepwise {
    /// For one question.
    #[must_use]
    pub fn new(question: &Question, planner: Planner) -> Self {
        let one_copy = copies_per_layer(&question.system, 1.0).time;
        Self { planner, system: question.system.clone(), one_copy }
    }

    /// One layer of one step: the plan made from the `forecast` loads if the forecast says
    /// that it saves more than its copies cost, else the kept one; priced on true `counts`.
    #[must_use]
    pub fn step(
        &self,
        costs: &LayerCosts,
        kept: &Placed,
        counts: &[f64],
        forecast: &[f64],
        slots: u32,
    ) -> (Routed, Moved) {
        let stay = costs.step(kept, forecast).total();
        // A plan cannot save more than perfect balance nor cost less than one copy: most
        // steps end here, without planning.
        if stay - costs.balanced_step(kept, forecast).total() > self.one_copy
            && let Ok(map) = self.planner.plan(forecast, slots)
        {
            let moves = Moves::between(&kept.map, &map);
            let placed = self.planner.placed(map, forecast);
            let time = copies_per_layer(&self.system, f64::from(moves.most())).time;
            if costs.step(&placed, forecast).total() + time < stay {
                let bytes = expert_bytes(&self.system) * (moves.total() as f64);
                return (costs.step(&placed, counts), Moved { time, bytes });
            }
        }
        (costs.step(kept, counts), Moved::default())
    }

    /// The terms of a layer from its mean routed part, before the predictor's own time.
    #[must_use]
    pub fn unpredicted(&self, costs: &LayerCosts, routed: &Routed, rebalance: Seconds) -> Terms {
        let mut routed = *routed;
        if self.system.assumptions.t2e_skips_scatter {
            routed.dispatch = Seconds::ZERO;
        }
        Terms { rebalance, ..costs.terms(&routed) }
    }

    /// The same with the time of a predictor, as far as it is exposed.
    #[must_use]
    pub fn predicted(&self, terms: Terms, point: PredictorPoint) -> Terms {
        let predictor = match self.system.assumptions.predictor_overlap {
            PredictorOverlap::Serial => point.overhead,
            PredictorOverlap::Attention => (point.overhead - terms.attention).max(Seconds::ZERO),
        };
        Terms { predictor, ..terms }
    }
}
