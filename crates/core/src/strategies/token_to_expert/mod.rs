//! A forecast of every token's experts, step by step.
//!
//! ```text
//! paper: attention + all_reduce + predictor + repair + a2a(1) + load(1 − accuracy)·ffn + copying
//! ```
//!
//! The dispatch is saved because tokens are already where their experts are, unless
//! `t2e_skips_scatter` is off; repair brings those that are not to theirs
//! ([`MisrouteRepair`]), copying is what is seen of the copies: in the
//! paper both cost nothing (MoE-GPS, arXiv 2506.07366). On sampled and recorded steps the plan
//! of `distribution_only` is kept and replaced where that pays: [`stepwise`].

pub(crate) mod by_accuracy;
pub(crate) mod mispredicted;
pub(crate) mod predictor_curve;
pub mod stepwise;

use super::{Colours, DISTRIBUTION_ONLY, Placing, Rules, Strategy};
use crate::pricing::paper::{Paper, PaperRouting};
use crate::question::PredictorPoint;
use crate::system::{Assumptions, MisrouteRepair, System};
use crate::terms::Terms;

/// A forecast of every token's experts, step by step.
pub const TOKEN_TO_EXPERT: Strategy = Strategy::new("token_to_expert", &TokenToExpert);

struct TokenToExpert;

impl Rules for TokenToExpert {
    fn summary(&self) -> &'static str {
        "experts copied by a forecast of every token"
    }

    fn letter(&self) -> char {
        'T'
    }

    fn colours(&self) -> Colours {
        Colours { area: "#b5451b", line: "#b5451b", dashes: "" }
    }

    fn placing(&self) -> Placing {
        Placing::EveryStep(DISTRIBUTION_ONLY)
    }

    fn unsupported(&self, _: &System) -> Option<String> {
        Some("no engine places experts by a forecast of every token".to_owned())
    }

    fn skips_dispatch(&self, assumptions: &Assumptions) -> bool {
        assumptions.t2e_skips_scatter
    }

    fn paper(
        &self,
        paper: &Paper,
        routing: &PaperRouting,
        predictor: Option<PredictorPoint>,
    ) -> Result<Terms, &'static str> {
        let point = predictor.ok_or("no predictor is given")?;
        let exchange = paper.all_to_all(1.0);
        let repair = paper.assumptions.misroute_repair;
        let dispatch = if self.skips_dispatch(paper.assumptions) {
            let uneven =
                if repair == MisrouteRepair::FullExchange { routing.skewness } else { 1.0 };
            paper.all_to_all(uneven) * repair.share(point.accuracy)
        } else {
            exchange
        };
        let load = paper.load(1.0 - point.accuracy, routing);
        let terms = paper.terms(dispatch, load, exchange);
        let overlap = paper.assumptions.predictor_overlap;
        Ok(Terms {
            predictor: overlap.exposed(point.overhead, terms.attention),
            rebalance: paper.copying(),
            ..terms
        })
    }
}
