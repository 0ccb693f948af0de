//! The answer in plain words.

use crate::advice::Advised;
use crate::advice::choose::{Choice, Verdict};
use crate::pricing::entry::Entry;
use crate::pricing::routing_evidence::RoutingEvidence;
use crate::question::Question;
use crate::strategies;
use crate::system::Preset;
use crate::terms::Terms;
use crate::units::Seconds;

/// Share of launches in the layer above which the answer is about launches.
const LAUNCH_SHARE: f64 = 1.0 / 3.0;

/// One paragraph: what is better, what it costs, which terms decided, what to doubt.
#[must_use]
pub fn reason(question: &Question, known: &RoutingEvidence, advised: &Advised) -> String {
    let Some(choice) = &advised.choice else {
        return "No allowed strategy can be run: see infeasible_reason of each.".to_owned();
    };
    let chosen = &advised.entries[choice.chosen];
    let mut sentences = Vec::new();
    sentences.extend(better_reference(advised, choice));
    sentences.push(verdict_sentence(advised, choice));
    sentences.extend(serving(advised, choice));
    sentences.extend(deciding_terms(advised, choice));
    if let Some(none) = advised.none()
        && chosen.strategy == strategies::NONE
        && let (Some(ceiling), Some(latency)) = (advised.ceiling, none.latency())
        && ceiling > Seconds::ZERO
    {
        sentences.push(format!(
            "Even perfect balance at no cost would make a layer only {:.1} % faster.",
            (latency / ceiling - 1.0) * 100.0
        ));
    }
    if let Some(terms) = chosen.terms {
        let share = terms.other / terms.total();
        if share > LAUNCH_SHARE {
            sentences.push(format!(
                "{:.0} % of the layer is kernel launches: replay CUDA graphs before balancing.",
                share * 100.0
            ));
        }
    }
    if question.system.assumptions.preset == Preset::Calibrated
        && let RoutingEvidence::Scalar { .. } = known
    {
        sentences.push(
            "Only a scalar skewness is known: which experts are hot, and so the load of each \
             device, is assumed."
                .to_owned(),
        );
    }
    for missing in &choice.missing {
        sentences.push(format!("Missing evidence: {missing}."));
    }
    sentences.join(" ")
}

fn verdict_sentence(advised: &Advised, choice: &Choice) -> String {
    let chosen = &advised.entries[choice.chosen];
    let id = named(chosen);
    let speedup = advised
        .none()
        .and_then(Entry::latency)
        .zip(chosen.latency())
        .map_or(1.0, |(none, latency)| none / latency);
    let gain = if chosen.strategy == strategies::NONE {
        "Run without balancing".to_owned()
    } else if speedup >= 1.0 {
        format!("{id} makes a layer {:.1} % faster than none", (speedup - 1.0) * 100.0)
    } else {
        format!("{id} is {:.1} % slower than none", (1.0 / speedup - 1.0) * 100.0)
    };
    let runner_up = choice.runner_up.map(|index| &advised.entries[index]);
    let against_none = runner_up.is_some_and(|entry| entry.strategy == strategies::NONE);
    match (choice.verdict, runner_up.map(named)) {
        (_, None) => format!("{gain}; nothing else can be run."),
        (Verdict::Tie, Some(runner_up)) => format!(
            "{gain}. {runner_up} is equal within the error band (margin {:.2} %, band {:.2} %), so \
             the simplest is named.",
            choice.margin * 100.0,
            choice.margin_band * 100.0
        ),
        // The gain over `none` is the margin already.
        (_, Some(_)) if against_none && choice.chosen == choice.fastest => {
            format!("{gain} (error band {:.2} %).", choice.margin_band * 100.0)
        }
        (_, Some(runner_up)) => format!(
            "{gain}, and {:.1} % ahead of {runner_up} (error band {:.2} %).",
            choice.margin * 100.0,
            choice.margin_band * 100.0
        ),
    }
}

/// What is served at the step of `none`, where that is the objective.
fn serving(advised: &Advised, choice: &Choice) -> Option<String> {
    let served = advised.entries[choice.chosen].served?;
    let none = advised.none()?.served?;
    Some(format!(
        "At the step time of none at the batch asked for it serves {} sequences and {:.0} tokens/s, \
         none serves {} and {:.0}.",
        served.sequences, served.tokens_per_s, none.sequences, none.tokens_per_s
    ))
}

/// The two terms in which chosen and runner-up differ most.
fn deciding_terms(advised: &Advised, choice: &Choice) -> Option<String> {
    let runner_up = &advised.entries[choice.runner_up?];
    let chosen = &advised.entries[choice.chosen];
    let (mine, theirs): (Terms, Terms) = (chosen.terms?, runner_up.terms?);
    let mut differences: Vec<(&str, f64)> = mine
        .with(&theirs, |x, y| (x - y).get() * 1e6)
        .named()
        .filter(|(_, difference)| difference.abs() >= 0.005)
        .collect();
    differences.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    differences.truncate(2);
    if differences.is_empty() {
        return None;
    }
    let words: Vec<String> = differences
        .iter()
        .map(|(name, difference)| {
            let way = if *difference < 0.0 { "saves" } else { "costs" };
            format!("{way} {:.1} µs of {name}", difference.abs())
        })
        .collect();
    Some(format!("Against {} it {} per layer.", named(runner_up), words.join(" and ")))
}

/// A reference that beats every strategy by more than the error band.
fn better_reference(advised: &Advised, choice: &Choice) -> Option<String> {
    let fastest = advised.entries[choice.fastest].latency()?;
    let reference = advised.references.iter().find(|r| r.id == "tensor_experts")?;
    let gain = fastest / reference.layer_latency - 1.0;
    (gain > choice.margin_band.max(0.02)).then(|| {
        format!(
            "Consider serving without expert parallelism first: with every expert sharded over \
             all devices ({}) a layer would be {:.1} % faster than under any strategy here.",
            reference.id,
            gain * 100.0
        )
    })
}

/// Strategy with its predictor, for sentences.
fn named(entry: &Entry) -> String {
    match &entry.predictor {
        Some(predictor) => format!("{} ({})", entry.strategy.id(), predictor.name),
        None => entry.strategy.id().to_owned(),
    }
}
