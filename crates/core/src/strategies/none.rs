//! No forecast and no copies: the placement in use stays.
//!
//! ```text
//! paper: attention + all_reduce + 2·a2a(s) + s·ffn
//! ```
//!
//! s expert skewness, a2a(f) the all-to-all whose busiest device receives f times the mean, ffn
//! the balanced expert FFN of one device (MoE-GPS, arXiv 2506.07366).

use super::{Colours, Placing, Rules, Strategy};
use crate::pricing::paper::{Paper, PaperRouting};
use crate::question::PredictorPoint;
use crate::terms::Terms;

/// No forecast, no duplication: the static placement.
pub const NONE: Strategy = Strategy::new("none", &StaticPlacement);

struct StaticPlacement;

impl Rules for StaticPlacement {
    fn summary(&self) -> &'static str {
        "the static placement"
    }

    fn letter(&self) -> char {
        'N'
    }

    fn colours(&self) -> Colours {
        Colours { area: "#d4d4d4", line: "#777", dashes: "8 4" }
    }

    fn placing(&self) -> Placing {
        Placing::InUse
    }

    fn paper(
        &self,
        paper: &Paper,
        routing: &PaperRouting,
        _: Option<PredictorPoint>,
    ) -> Result<Terms, &'static str> {
        let exchange = paper.all_to_all(routing.skewness);
        Ok(paper.terms(exchange, routing.skewness, exchange))
    }
}
