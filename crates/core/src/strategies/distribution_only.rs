//! A distribution forecast; hot experts are copied by their share of the load.
//!
//! ```text
//! paper: attention + all_reduce + 2·a2a(s) + load(ε)·ffn + copying
//! ```
//!
//! ε distribution error of the forecast, load(e) the busiest device under forecast error e; the
//! copies balance compute, not communication; copying what is seen of making them, nothing in the paper
//! (MoE-GPS, arXiv 2506.07366).

use super::{Colours, Placing, Rules, Strategy};
use crate::engines::Engine;
use crate::placement::PlacementError;
use crate::pricing::paper::{Paper, PaperRouting};
use crate::pricing::planner::Planner;
use crate::question::{PredictorPoint, Question};
use crate::terms::Terms;

/// A distribution forecast; hot experts are duplicated.
pub const DISTRIBUTION_ONLY: Strategy = Strategy::new("distribution_only", &DistributionOnly);

struct DistributionOnly;

impl Rules for DistributionOnly {
    fn summary(&self) -> &'static str {
        "experts copied by their share of the load"
    }

    fn letter(&self) -> char {
        'D'
    }

    fn colours(&self) -> Colours {
        Colours { area: "#3b7fb8", line: "#1f659f", dashes: "2 3" }
    }

    fn placing(&self) -> Placing {
        Placing::Planned
    }

    fn slots(&self, planner: &Planner, question: &Question) -> Vec<u32> {
        planner.slot_choices(question)
    }

    fn unplanned(&self, _: Option<&PlacementError>) -> String {
        "no number of expert slots suits the experts, the devices, the engine and the copies \
         allowed"
            .to_owned()
    }

    fn switched_on(&self, engine: &Engine) -> &'static str {
        engine.duplicates
    }

    fn paper(
        &self,
        paper: &Paper,
        routing: &PaperRouting,
        _: Option<PredictorPoint>,
    ) -> Result<Terms, &'static str> {
        let exchange = paper.all_to_all(routing.skewness);
        let load = paper.load(routing.distribution_error, routing);
        Ok(Terms { rebalance: paper.copying(), ..paper.terms(exchange, load, exchange) })
    }
}
