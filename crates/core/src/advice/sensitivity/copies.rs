//! From where on the copies of experts hide behind attention.
//!
//! ```text
//! hidden: B/W ≤ attention
//! ```
//!
//! B bytes of one expert, the least that a device can receive, W bandwidth of its link. By the paper's
//! formulas as they stand; calibrated with the link's efficiency and latency
//! ([`copies_per_layer`]), in the kind of step whose attention is shortest. Worked number: a Mixtral
//! expert (352.3 MB) hides behind attention of 0.246 ms from 1,432.2 GB/s on.

use crate::advice::sensitivity::flip::{Answer, Effort, Flip, Parameter, flips};
use crate::advice::sensitivity::scenario::Scenario;
use crate::pricing::kinds::kinds;
use crate::pricing::paper_layer::paper_layer;
use crate::question::Question;
use crate::rebalance::copies_per_layer;
use crate::system::Communication;
use crate::units::Seconds;

/// What changes how long copies and attention take.
const QUANTITIES: [Parameter; 3] =
    [Parameter::LinkBandwidth, Parameter::InterNodeBandwidth, Parameter::TokensPerStep];

/// Where copies begin or cease to hide, one quantity at a time: true for hidden, with what they are
/// over a whole range where nothing changes.
pub(crate) fn thresholds(scenario: &Scenario, pattern: Communication) -> Vec<(bool, Flip<bool>)> {
    let effort = Effort { aside: &[1e-6, 1e-4, 1e-2], digits: None, ..super::BY_FORMULAS };
    let Some(held) = slack(&scenario.question, pattern).map(is_hidden) else { return Vec::new() };
    let along = |parameter: Parameter| {
        let now = scenario.value(parameter)?;
        let at = |value: f64| {
            let value = scenario.askable(parameter, value);
            slack(&scenario.with(parameter, value).question, pattern).map(|slack| (value, slack))
        };
        let answer = |value: f64| {
            let slack = at(value).map_or(f64::NAN, |(_, slack)| slack);
            let lead = if held { slack } else { -slack };
            Answer { chosen: is_hidden(slack), lead }
        };
        let ask = |value: f64| at(value).map(|(value, slack)| (value, is_hidden(slack)));
        let range = scenario.range(parameter);
        Some(flips(parameter, range, (now, held), effort, answer, |_, _| true, ask))
    };
    QUANTITIES.into_iter().filter_map(along).flatten().map(|flip| (held, flip)).collect()
}

fn is_hidden(slack: f64) -> bool {
    slack >= 0.0
}

/// By how much attention outlasts one copy, seconds.
fn slack(question: &Question, pattern: Communication) -> Option<f64> {
    if super::by_formulas(question) {
        let layer = paper_layer(question).0;
        return Some((layer.attention - layer.copy).get());
    }
    let attention = kinds(question, pattern)
        .iter()
        .map(|kind| kind.costs().ok().map(|costs| costs.attention()))
        .reduce(|one, other| Some(one?.min(other?)));
    let copy: Seconds = copies_per_layer(&question.system, 1.0).time;
    Some((attention.flatten()? - copy).get())
}
