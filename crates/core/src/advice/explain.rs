//! The answer in plain words.

use crate::advice::Advised;
use crate::advice::choose::{Choice, Verdict};
use crate::advice::sensitivity::flip::{Change, Parameter};
use crate::advice::uncertainty::{Gain, is_assumed};
use crate::engines;
use crate::named::name_of;
use crate::price::Basis;
use crate::pricing::entry::Entry;
use crate::pricing::routing_evidence::RoutingEvidence;
use crate::question::Question;
use crate::serving::StepKind;
use crate::strategies::NONE;
use crate::system::Preset;
use crate::terms::Terms;
use crate::units::Seconds;

/// A gain below which all that could be gained is little: a choice of ours, as what counts as a large win.
const LITTLE: f64 = 0.05;
/// Share of launches in the layer above which the answer is about launches.
const LAUNCH_SHARE: f64 = 1.0 / 3.0;

/// One paragraph: what is better and how sure that is, what else was looked at, which terms decided, what to doubt.
#[must_use]
pub fn reason(question: &Question, known: &RoutingEvidence, advised: &Advised) -> String {
    let Some(choice) = &advised.choice else {
        return "No allowed strategy can be run: see infeasible_reason of each.".to_owned();
    };
    let chosen = &advised.entries[choice.chosen];
    let mut sentences = vec![verdict_sentence(question, advised, choice)];
    sentences.extend(equivalent(advised, choice));
    sentences.extend(undecided(question, advised, choice));
    sentences.extend(serving(advised, choice));
    sentences.extend(steps(question, advised, choice));
    sentences.extend(deciding_terms(advised, choice));
    sentences.extend(gravest_doubt(advised, choice));
    if let Some(none) = advised.none()
        && chosen.strategy == NONE
        && let (Some(ceiling), Some(latency)) = (advised.ceiling, none.latency())
        && ceiling > Seconds::ZERO
    {
        let gain = latency / ceiling - 1.0;
        let (even, only) = if gain < LITTLE { ("Even perfect", "only ") } else { ("Perfect", "") };
        sentences.push(format!(
            "{even} balance at no cost would make a layer {only}{:.1} % faster.",
            gain * 100.0
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
    let calibrated = question.system.assumptions.preset == Preset::Calibrated;
    if calibrated && advised.bands.expert_ffn.basis == Basis::Roofline {
        sentences.push(format!(
            "The experts' time was not measured on {} with this kernel and number format: it is the \
             datasheet's rates with the efficiencies of other devices.",
            question.system.cluster.device.name
        ));
    }
    if calibrated && let RoutingEvidence::Scalar { .. } = known {
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

/// A gain in words: how much faster or slower, and its interval.
fn in_words(gain: Gain) -> String {
    let Gain { low, mid, high } = gain;
    let (much, way) = if mid >= 1.0 { (mid - 1.0, "faster") } else { (1.0 / mid - 1.0, "slower") };
    let interval =
        if high - low > 1e-6 { format!(", {low:.3} to {high:.3}") } else { String::new() };
    format!("{:.1} % {way} ({mid:.3}×{interval})", much * 100.0)
}

fn verdict_sentence(question: &Question, advised: &Advised, choice: &Choice) -> String {
    let baseline = if question.current.is_some() {
        "the current placement".to_owned()
    } else {
        named(&advised.entries[choice.baseline])
    };
    let gain = |index: usize| advised.uncertainty.gain(&advised.entries, index, choice.baseline);
    if choice.chosen != choice.baseline {
        let id = named(&advised.entries[choice.chosen]);
        let faster = format!("{id} makes a layer {} than {baseline}", in_words(choice.gain));
        return match choice.verdict {
            Verdict::Tie if advised.entries[choice.chosen].strategy.is_free(question) => format!(
                "{faster}; that is not sure, but it costs neither memory nor a pause, so it is named."
            ),
            Verdict::Tie => format!("{faster}, which is not sure."),
            _ => format!("{faster}."),
        };
    }
    let stay = if question.current.is_some() {
        "Keep the current placement"
    } else {
        "Run without balancing"
    };
    let rival =
        choice.runner_up.and_then(|index| Some((named(&advised.entries[index]), gain(index)?)));
    let Some((rival, gain)) = rival else {
        return format!("{stay}: nothing else can be run.");
    };
    let rival = format!("{rival} makes a layer {}", in_words(gain));
    if gain.mid > 1.0 && gain.is_open() {
        format!("{stay}: {rival}, which is not sure, and it is not free.")
    } else if gain.is_open() {
        format!("{stay}: {rival}, which is not sure.")
    } else {
        format!("{stay}: {rival}.")
    }
}

/// What is not known to be faster or slower than the choice.
fn equivalent(advised: &Advised, choice: &Choice) -> Option<String> {
    let names: Vec<String> = choice
        .equivalent
        .iter()
        .filter(|index| {
            **index != choice.baseline
                && Some(**index) != choice.runner_up.filter(|_| choice.chosen == choice.baseline)
        })
        .map(|index| named(&advised.entries[*index]))
        .collect();
    (!names.is_empty()).then(|| format!("Not known to be faster or slower: {}.", names.join(", ")))
}

/// The fastest of those that do not decide, where it is faster than the choice.
fn undecided(question: &Question, advised: &Advised, choice: &Choice) -> Option<String> {
    let cost = |entry: &Entry| entry.cost().map_or(f64::INFINITY, Seconds::get);
    let fastest = advised.entries.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    let decider = &advised.entries[choice.fastest];
    if cost(fastest) >= cost(decider).min(cost(&advised.entries[choice.chosen])) {
        return None;
    }
    let support = engines::support::support(fastest.strategy, &question.system);
    let stated = question.system.engine.as_ref().map(|engine| engine.kind);
    let of_stated = support.iter().find(|one| Some(one.engine) == stated && !one.runnable);
    let why = if !question.allowed.contains(&fastest.strategy) {
        "is not allowed".to_owned()
    } else if let Some(support) = of_stated {
        format!("cannot be run by {}: {}", support.engine.name, support.because)
    } else if support.iter().all(|one| !one.runnable) {
        "is run by no engine today".to_owned()
    } else if is_assumed(fastest) {
        "rests on a predictor that is assumed".to_owned()
    } else {
        return None;
    };
    let ahead = cost(&advised.entries[choice.chosen]) / cost(fastest) - 1.0;
    Some(format!("{} is priced {:.1} % faster still, but it {why}.", named(fastest), ahead * 100.0))
}

/// The doubt that leaves most open.
fn gravest_doubt(advised: &Advised, choice: &Choice) -> Option<String> {
    let other = if choice.chosen == choice.baseline { choice.runner_up? } else { choice.chosen };
    let parts = advised.uncertainty.parts(&advised.entries, other, choice.baseline);
    let (id, gain) = parts.first()?;
    (gain.high / gain.low > 1.02).then(|| {
        format!(
            "The widest doubt is {}: {:.3}× to {:.3}×.",
            id.replace('_', " "),
            gain.low,
            gain.high
        )
    })
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

/// What becomes of every kind of step of a server, and where the advice turns with the length of the
/// output.
fn steps(question: &Question, advised: &Advised, choice: &Choice) -> Option<String> {
    let now = question.serving.filter(|_| advised.steps.len() > 1)?.output_tokens as f64;
    let other = if choice.chosen == choice.baseline { choice.runner_up? } else { choice.chosen };
    let (entry, baseline) = (&advised.entries[other], &advised.entries[choice.baseline]);
    let gains = advised.gains_of_steps(entry, baseline);
    let words: Vec<String> = gains
        .iter()
        .zip(&advised.steps)
        .map(|((kind, gain), step)| {
            let kind = name_of(&StepKind::ALL, kind);
            format!("{kind} {:+.1} % ({:.0} % of steps)", (gain - 1.0) * 100.0, step.share * 100.0)
        })
        .collect();
    let turn = advised.flips.iter().filter(|flip| flip.parameter == Parameter::OutputTokens);
    let turns = turn.filter_map(|flip| {
        let Change { value, interval, becomes } = flip.at?;
        let advice = if becomes != NONE {
            format!("run {}", becomes.id())
        } else if question.current.is_some() {
            "keep what runs now".to_owned()
        } else {
            "leave it off".to_owned()
        };
        let [low, high] = interval;
        Some(if value > now {
            format!("from {high:.0} output tokens on {advice}")
        } else {
            format!("up to {low:.0} output tokens {advice}")
        })
    });
    let all: Vec<String> = std::iter::once(words.join(", ")).chain(turns).collect();
    Some(format!("Steps of {}: {}.", named(entry), all.join("; ")))
}

/// The two terms in which the choice and what it is compared with differ most.
fn deciding_terms(advised: &Advised, choice: &Choice) -> Option<String> {
    let other = if choice.chosen == choice.baseline { choice.runner_up? } else { choice.baseline };
    let other = &advised.entries[other];
    let chosen = &advised.entries[choice.chosen];
    let (mine, theirs): (Terms, Terms) = (chosen.terms?, other.terms?);
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
    Some(format!("Against {} it {} per layer.", named(other), words.join(" and ")))
}

/// Strategy with its predictor, for sentences.
fn named(entry: &Entry) -> String {
    match &entry.predictor {
        Some(predictor) => format!("{} ({})", entry.strategy.id(), predictor.name),
        None => entry.strategy.id().to_owned(),
    }
}
