//! The strategies that are priced side by side: one file each, and one list.
//!
//! A strategy says what it does to the placement, what it costs by the paper's formulas, and how
//! it is shown. Everything that goes over strategies (prices, sweeps, tables, charts, the API
//! description) goes over [`LIST`].

pub mod distribution_only;
pub mod none;
pub mod replace_only;
pub mod token_to_expert;

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use crate::engines::Engine;
use crate::placement::PlacementError;
use crate::pricing::paper::{Paper, PaperRouting};
use crate::pricing::planner::Planner;
use crate::question::{PredictorPoint, Question};
use crate::system::{Assumptions, System};
use crate::terms::Terms;

pub use distribution_only::DISTRIBUTION_ONLY;
pub use none::NONE;
pub use replace_only::REPLACE_ONLY;
pub use token_to_expert::TOKEN_TO_EXPERT;

/// Every strategy, simplest first: among equals the first is advised.
pub const LIST: &[Strategy] = &[NONE, REPLACE_ONLY, DISTRIBUTION_ONLY, TOKEN_TO_EXPERT];

/// A way of forecasting expert load and acting on the forecast; one of [`LIST`].
#[derive(Clone, Copy)]
pub struct Strategy {
    id: &'static str,
    rules: &'static dyn Rules,
}

/// What a strategy answers.
pub trait Rules: Sync {
    /// What it does, in half a sentence.
    fn summary(&self) -> &'static str;

    /// Its letter on a map of letters, upper case.
    fn letter(&self) -> char;

    /// How it is drawn.
    fn colours(&self) -> Colours;

    /// What it does to the placement in use.
    fn placing(&self) -> Placing;

    /// The numbers of slots per device it plans for, fewest first.
    fn slots(&self, _planner: &Planner, _question: &Question) -> Vec<u32> {
        Vec::new()
    }

    /// Why it has no plan, from the last obstacle met.
    fn unplanned(&self, obstacle: Option<&PlacementError>) -> String {
        obstacle.map(ToString::to_string).unwrap_or_default()
    }

    /// Why no engine can run it on a system, whatever its switches; `None` if some can.
    fn unsupported(&self, _system: &System) -> Option<String> {
        None
    }

    /// How an engine is told to run it.
    fn switched_on(&self, _engine: &Engine) -> &'static str {
        "the engine's static placement"
    }

    /// Whether it costs neither memory nor a pause, so that it may run though nobody knows that it
    /// is faster.
    fn is_free(&self, _question: &Question) -> bool {
        false
    }

    /// Whether tokens are where their experts are, so that nothing is dispatched.
    fn skips_dispatch(&self, _assumptions: &Assumptions) -> bool {
        false
    }

    /// The terms of a layer by the paper's formulas, or why there are none.
    fn paper(
        &self,
        paper: &Paper,
        routing: &PaperRouting,
        predictor: Option<PredictorPoint>,
    ) -> Result<Terms, &'static str>;
}

/// What a strategy does to the placement in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// It stays.
    InUse,
    /// A plan made from forecast shares takes its place, and is renewed.
    Planned,
    /// The plan of that strategy is kept, and replaced in every step where a forecast of its
    /// tokens says that it pays; each predictor is priced on its own.
    EveryStep(Strategy),
}

/// How a strategy is drawn, in colours that every common colour vision distinguishes (Okabe and Ito).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colours {
    /// The colour of an area.
    pub area: &'static str,
    /// The colour of a line.
    pub line: &'static str,
    /// The dashes of a line, in units of its plot; empty for none.
    pub dashes: &'static str,
}

impl Strategy {
    /// [`LIST`] with the ids.
    pub const ALL: [(Self, &'static str); LIST.len()] = {
        let mut all = [(NONE, NONE.id); LIST.len()];
        let mut place = 0;
        while place < all.len() {
            all[place] = (LIST[place], LIST[place].id);
            place += 1;
        }
        all
    };

    /// The strategy of these rules under an id; [`LIST`] must hold it.
    #[must_use]
    pub const fn new(id: &'static str, rules: &'static dyn Rules) -> Self {
        Self { id, rules }
    }

    /// Its id on the wire and in every table.
    #[must_use]
    pub const fn id(self) -> &'static str {
        self.id
    }

    /// The strategy with this id.
    #[must_use]
    pub fn by_id(id: &str) -> Option<Self> {
        LIST.iter().copied().find(|strategy| strategy.id == id)
    }

    /// Whether every one of its predictors is priced on its own.
    #[must_use]
    pub fn forecasts_tokens(self) -> bool {
        matches!(self.placing(), Placing::EveryStep(_))
    }

    /// Whether it plans from forecast shares and renews its plan.
    #[must_use]
    pub fn renews(self) -> bool {
        self.placing() == Placing::Planned
    }

    /// The strategy whose plan it loads: itself, unless it keeps that of another.
    #[must_use]
    pub fn planned_by(self) -> Self {
        if let Placing::EveryStep(kept) = self.placing() { kept } else { self }
    }

    fn place(self) -> usize {
        LIST.iter().take_while(|other| other.id != self.id).count()
    }
}

impl Deref for Strategy {
    type Target = dyn Rules;

    fn deref(&self) -> &Self::Target {
        self.rules
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl PartialEq for Strategy {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Strategy {}

impl PartialOrd for Strategy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Strategy {
    /// Simpler is less.
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_letters_and_colours_tell_strategies_apart() {
        let distinct = |of: &dyn Fn(&Strategy) -> String| {
            assert_eq!(LIST.iter().map(of).collect::<BTreeSet<_>>().len(), LIST.len());
        };
        distinct(&|strategy| strategy.id().to_owned());
        distinct(&|strategy| strategy.letter().to_string());
        distinct(&|strategy| strategy.colours().area.to_owned());
        assert!(LIST.is_sorted());
        assert_eq!(LIST[0], NONE, "what the others are compared with comes first");
        for strategy in LIST {
            assert_eq!(Strategy::by_id(strategy.id()), Some(*strategy));
            assert!(!strategy.planned_by().forecasts_tokens());
        }
    }
}
