//! Where the advice changes when one quantity of the question does.

pub mod decision_map;
pub mod flip;
pub(crate) mod scenario;
pub mod sweep;

use crate::advice::sensitivity::flip::{Answer, Effort, Flip, Parameter, flips};
use crate::advice::sensitivity::scenario::Scenario;
use crate::pricing::entry::Entry;
use crate::pricing::error::PricingError;
use crate::question::Question;
use crate::strategies::{self, Strategy};

/// Searched by formulas, a value costs next to nothing.
const BY_FORMULAS: Effort = Effort { grid: 64, halvings: 40 };
/// Searched on drawn loads.
const DRAWN: Effort = Effort { grid: 12, halvings: 8 };

/// Where the strategy `held` is no longer chosen, one quantity at a time.
pub(crate) fn all_flips(
    scenario: &Scenario,
    held: Strategy,
) -> Result<Vec<Flip<Strategy>>, PricingError> {
    let found: Vec<_> =
        Parameter::ALL.into_iter().flat_map(|one| along(scenario, one, held)).collect();
    // What was searched since the pricing was stopped found nothing.
    scenario.stop().check()?;
    Ok(found)
}

/// Where the strategy `held` is no longer chosen, along one quantity.
fn along(scenario: &Scenario, parameter: Parameter, held: Strategy) -> Vec<Flip<Strategy>> {
    let range = scenario.range(parameter);
    let Some(now) = scenario.value(parameter) else {
        return vec![Flip { parameter, at: None, range }];
    };
    let effort = if scenario.by_formulas() { BY_FORMULAS } else { DRAWN };
    let mut changed = scenario.clone();
    let answer = |value| {
        let found = changed.set(parameter, value).ok().and_then(|()| changed.chosen_by(held));
        let (chosen, lead) = found.unwrap_or((strategies::NONE, f64::NAN));
        Answer { chosen, lead }
    };
    flips(parameter, range, (now, held), effort, answer)
}

/// Adds to entries what they serve, where that is the objective.
pub(crate) fn serve(scenario: &Scenario, question: &Question, entries: &mut [Entry]) {
    if !question.throughput_at_tpot || scenario.by_formulas() {
        return;
    }
    for (entry, found) in entries.iter_mut().zip(scenario.clone().entries()) {
        entry.served = found.served;
        entry.infeasible = found.infeasible;
    }
}
