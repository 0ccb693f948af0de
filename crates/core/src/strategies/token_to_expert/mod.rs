//! A forecast of every token's experts, step by step.
//!
//! ```text
//! paper: attention + all_reduce + predictor + a2a(1) + load(1 − accuracy)·ffn
//! ```
//!
//! The dispatch is saved because tokens are already where their experts are, unless
//! `t2e_skips_scatter` is off (MoE-GPS, arXiv 2506.07366). On sampled and recorded steps the plan
//! of `distribution_only` is kept and replaced where that pays: [`stepwise`].

pub(crate) mod by_accuracy;
pub(crate) mod mispredicted;
pub(crate) mod predictor_curve;
pub mod stepwise;

use super::{Colours, DISTRIBUTION_ONLY, Placing, Rules, Strategy};
use crate::pricing::paper::{Paper, PaperRouting};
use crate::question::PredictorPoint;
use crate::system::{Assumptions, System};
use crate::terms::Terms;
use crate::units::Seconds;

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
        let dispatch =
            if self.skips_dispatch(paper.assumptions) { Seconds::ZERO } else { exchange };
        let load = paper.load(1.0 - point.accuracy, routing);
        let terms = paper.terms(dispatch, load, exchange);
        let overlap = paper.assumptions.predictor_overlap;
        Ok(Terms { predictor: overlap.exposed(point.overhead, terms.attention), ..terms })
    }
}
