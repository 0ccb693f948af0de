//! A distribution forecast; experts are only placed anew, never copied.

use super::{Colours, Placing, Rules, Strategy};
use crate::engines::Engine;
use crate::placement::PlacementError;
use crate::pricing::paper::{Paper, PaperRouting};
use crate::pricing::planner::Planner;
use crate::question::{PredictorPoint, Question, RebalanceMode};
use crate::system::System;
use crate::terms::Terms;

/// A distribution forecast; experts are only placed anew, never copied.
pub const REPLACE_ONLY: Strategy = Strategy::new("replace_only", &ReplaceOnly);

struct ReplaceOnly;

impl Rules for ReplaceOnly {
    fn summary(&self) -> &'static str {
        "experts placed anew by their share of the load, none copied"
    }

    fn letter(&self) -> char {
        'R'
    }

    fn colours(&self) -> Colours {
        Colours { area: "#f2c14e", line: "#c78a00", dashes: "11 3 2 3" }
    }

    fn placing(&self) -> Placing {
        Placing::Planned
    }

    fn slots(&self, planner: &Planner, question: &Question) -> Vec<u32> {
        // Where experts do not fill the devices, every full map holds copies.
        match self.unsupported(&question.system) {
            Some(_) => Vec::new(),
            None => vec![planner.base_slots],
        }
    }

    fn unplanned(&self, obstacle: Option<&PlacementError>) -> String {
        let uneven = "experts do not fill the devices evenly, so that every plan holds copies: see \
                      distribution_only";
        obstacle.map_or_else(|| uneven.to_owned(), ToString::to_string)
    }

    fn is_free(&self, question: &Question) -> bool {
        question.rebalance.mode == RebalanceMode::StartupMap
    }

    fn unsupported(&self, system: &System) -> Option<String> {
        let (experts, n) = (system.model.experts.routed, system.parallelism.expert_parallel);
        (!experts.is_multiple_of(n)).then(|| {
            format!("{experts} experts do not fill {n} devices evenly; without copies they must")
        })
    }

    fn switched_on(&self, engine: &Engine) -> &'static str {
        engine.replaces
    }

    fn paper(
        &self,
        _: &Paper,
        _: &PaperRouting,
        _: Option<PredictorPoint>,
    ) -> Result<Terms, &'static str> {
        Err("the paper has no formula for re-placing experts without copies; ask with the \
             calibrated preset")
    }
}
