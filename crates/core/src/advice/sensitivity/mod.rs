//! Where the advice changes when one quantity of the question does.

pub(crate) mod copies;
pub mod decision_map;
pub mod flip;
mod grid;
pub(crate) mod scenario;
pub mod sweep;

use crate::advice::choose::predictors_decide;
use crate::advice::pricing::paper as by_formulas;
use crate::advice::sensitivity::flip::{Answer, Effort, Flip, Parameter, flips};
use crate::advice::sensitivity::scenario::Scenario;
use crate::pricing::entry::Entry;
use crate::pricing::error::PricingError;
use crate::question::Question;
use crate::strategies::{self, Strategy};

/// Searched by formulas, a value costs next to nothing.
const BY_FORMULAS: Effort =
    Effort { grid: 64, halvings: 40, aside: &[1e-9, 1e-7, 1e-5, 1e-3], digits: None };
/// Searched on drawn loads.
const DRAWN: Effort = Effort { grid: 12, halvings: 5, aside: &[0.03, 0.12, 0.5], digits: Some(3) };

/// Where the strategy `held` is no longer chosen, one quantity at a time.
pub(crate) fn all_flips(
    scenario: &Scenario,
    held: Strategy,
) -> Result<Vec<Flip<Strategy>>, PricingError> {
    let mut scenario = scenario.clone();
    if !predictors_decide(&scenario.question) {
        scenario.forget_predictors();
    }
    let scenario = &scenario;
    let found: Vec<_> =
        Parameter::ALL.into_iter().flat_map(|one| along(scenario, one, held)).collect();
    // What was searched since the pricing was stopped found nothing.
    scenario.stop().check()?;
    Ok(found)
}

/// A change is worth telling if the new strategy gains so much not far beyond it; formulas are
/// taken at their word.
const WORTH_TELLING: f64 = 1.02;

/// Where the strategy `held` is no longer chosen, along one quantity.
fn along(scenario: &Scenario, parameter: Parameter, held: Strategy) -> Vec<Flip<Strategy>> {
    let range = scenario.range(parameter);
    // A quantity that the question has not changes nothing.
    let Some(now) = scenario.value(parameter) else { return Vec::new() };
    let effort = if scenario.by_formulas() { BY_FORMULAS } else { DRAWN };
    let mut changed = scenario.clone();
    let answer = |value| {
        let found = changed.set(parameter, value).ok().and_then(|()| changed.chosen_by(held));
        let (chosen, lead) = found.unwrap_or((strategies::NONE, f64::NAN));
        Answer { chosen, lead }
    };
    let mut beyond = scenario.clone();
    let worth = |value: f64, becomes: Strategy| {
        let factor: f64 = if value > now { 2.0 } else { 0.5 };
        let mut gains = |share: f64| {
            let at = (value * factor.powf(share)).clamp(range.0, range.1);
            beyond.set(parameter, at).is_ok() && beyond.gain(becomes, held) > WORTH_TELLING
        };
        scenario.by_formulas() || [1.0, 0.3, 0.6].into_iter().any(&mut gains)
    };
    let (mut near, mut asked) = (scenario.clone(), Vec::new());
    let ask = |value| {
        let value = scenario.askable(parameter, value);
        let known = asked.iter().find(|(at, _)| value.total_cmp(at).is_eq());
        if let Some((_, answer)) = known {
            return Some((value, *answer));
        }
        let answer = scenario.answered(parameter, value, &mut near)?;
        asked.push((value, answer));
        Some((value, answer))
    };
    let mut found = flips(parameter, range, (now, held), effort, answer, worth, ask);
    if parameter == Parameter::OutputTokens {
        let changes = found.iter_mut().filter_map(|flip| flip.at.as_mut());
        changes.for_each(|change| change.value = change.value.round());
    }
    found
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
