//! Which strategy to run, and how sure that is.

use crate::engines;
use crate::pricing::entry::Entry;
use crate::pricing::margin::resolution;
use crate::question::{PredictorSource, Question};
use crate::strategies::Strategy;
use crate::system::Preset;
use crate::units::Seconds;

/// How sure a recommendation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The margin is larger than its error band.
    Recommended,
    /// It is not: the simplest of the equals is named.
    Tie,
    /// Something is missing that could change the answer.
    InsufficientEvidence,
}

impl Verdict {
    /// The verdict's name on the wire.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Recommended => "recommended",
            Self::Tie => "tie",
            Self::InsufficientEvidence => "insufficient_evidence",
        }
    }
}

/// The choice among priced strategies.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Index of the chosen entry.
    pub chosen: usize,
    /// Index of the fastest entry; differs from `chosen` under a tie.
    pub fastest: usize,
    /// Index of the best entry of another strategy than the chosen one.
    pub runner_up: Option<usize>,
    /// Second fastest strategy over fastest, minus 1.
    pub margin: f64,
    /// Error band of that margin.
    pub margin_band: f64,
    /// How sure.
    pub verdict: Verdict,
    /// What is missing for a surer answer.
    pub missing: Vec<String>,
    /// The best strategy the stated engine (or, without one, any engine) can run.
    pub best_runnable: Option<Strategy>,
}

impl Choice {
    /// Adds what is missing for a surer answer.
    pub(crate) fn weigh(&mut self, missing: impl Iterator<Item = String>) {
        self.missing.extend(missing);
        if !self.missing.is_empty() {
            self.verdict = Verdict::InsufficientEvidence;
        }
    }
}

/// The fastest entry of every strategy that may be chosen, fastest first.
fn ranked(entries: &[Entry], allowed: &[Strategy]) -> Vec<(usize, Strategy, Seconds)> {
    let mut best: Vec<(usize, Strategy, Seconds)> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(latency) = entry.cost() else { continue };
        if !allowed.contains(&entry.strategy) {
            continue;
        }
        match best.iter_mut().find(|(_, strategy, _)| *strategy == entry.strategy) {
            Some(known) if latency < known.2 => *known = (index, entry.strategy, latency),
            Some(_) => {}
            None => best.push((index, entry.strategy, latency)),
        }
    }
    best.sort_by(|a, b| a.2.get().total_cmp(&b.2.get()).then(a.1.cmp(&b.1)));
    best
}

/// The strategies in order, and the one among them that is taken.
struct Pick {
    ranked: Vec<(usize, Strategy, Seconds)>,
    /// How far each is inside the error band of the fastest; negative where it is distinguished.
    inside: Vec<f64>,
    chosen: usize,
    preset: Preset,
}

impl Pick {
    /// Second fastest strategy over fastest, minus 1, and the error band of that margin.
    fn margin(&self, entries: &[Entry]) -> (f64, f64) {
        let [(fastest, _, least), (second, _, latency), ..] = self.ranked[..] else {
            return (0.0, 0.0);
        };
        (relative(latency, least), band(entries, fastest, second, self.preset))
    }

    /// Whether the fastest strategy is not told from the second.
    fn is_tie(&self, (margin, band): (f64, f64)) -> bool {
        1 < self.ranked.len() && margin <= band
    }
}

fn pick(question: &Question, entries: &[Entry]) -> Option<Pick> {
    let ranked = ranked(entries, &question.allowed);
    let &(fastest, _, least) = ranked.first()?;
    let preset = question.system.assumptions.preset;
    let inside = |&(index, _, latency): &(usize, Strategy, Seconds)| {
        band(entries, fastest, index, preset) - relative(latency, least)
    };
    let inside: Vec<f64> = ranked.iter().map(inside).collect();
    let equals = ranked.iter().zip(&inside).filter(|(_, inside)| **inside >= 0.0);
    let simplest = equals.map(|(one, _)| one).min_by_key(|(_, strategy, _)| *strategy);
    let chosen = simplest.map_or(fastest, |(index, _, _)| *index);
    Some(Pick { ranked, inside, chosen, preset })
}

/// The error band of the margin between two entries.
fn band(entries: &[Entry], fastest: usize, other: usize, preset: Preset) -> f64 {
    let terms_of = |index: usize| entries[index].terms.unwrap_or_default();
    resolution(&terms_of(fastest), &terms_of(other), &entries[fastest].bands, preset)
}

/// The strategy chosen among entries and the fastest one; `None` if none can be run.
#[must_use]
pub fn winner(question: &Question, entries: &[Entry]) -> Option<(Strategy, Strategy)> {
    let Pick { ranked, chosen, .. } = pick(question, entries)?;
    Some((entries[chosen].strategy, ranked.first()?.1))
}

/// The strategy chosen among entries, and by how much `held` is: how far it is inside the
/// error band of its margin, or a simpler one outside; negative where it is not chosen.
#[must_use]
pub fn chosen_by(
    question: &Question,
    entries: &[Entry],
    held: Strategy,
) -> Option<(Strategy, f64)> {
    let Pick { ranked, inside, chosen, .. } = pick(question, entries)?;
    let mut lead = f64::INFINITY;
    let mut runs = false;
    for ((_, strategy, _), inside) in ranked.iter().zip(inside) {
        if *strategy == held {
            runs = true;
            lead = lead.min(inside);
        } else if *strategy < held {
            lead = lead.min(-inside);
        }
    }
    Some((entries[chosen].strategy, if runs { lead } else { f64::NEG_INFINITY }))
}

/// The strategy chosen, its margin, and whether that is within its error band; `None` if no
/// strategy can be run.
#[must_use]
pub fn decided(question: &Question, entries: &[Entry]) -> Option<(Strategy, f64, bool)> {
    let pick = pick(question, entries)?;
    let margin = pick.margin(entries);
    Some((entries[pick.chosen].strategy, margin.0, pick.is_tie(margin)))
}

/// Chooses among entries; `None` if none can be run.
#[must_use]
pub fn choose(question: &Question, entries: &[Entry]) -> Option<Choice> {
    let pick = pick(question, entries)?;
    let (margin, margin_band) = pick.margin(entries);
    let tie = pick.is_tie((margin, margin_band));
    let Pick { ranked, chosen, .. } = pick;
    let fastest = ranked.first()?.0;
    let strategy = entries[chosen].strategy;
    let runner_up =
        ranked.iter().find(|(_, other, _)| *other != strategy).map(|(index, _, _)| *index);
    let mut missing = Vec::new();
    if let Some(predictor) = &entries[chosen].predictor
        && predictor.source == PredictorSource::Assumed
    {
        missing.push(format!(
            "{} wins only with a predictor whose accuracy and cost are assumed; state `predictors` \
             you have measured",
            strategy.id()
        ));
    }
    let verdict = if missing.is_empty() {
        if tie { Verdict::Tie } else { Verdict::Recommended }
    } else {
        Verdict::InsufficientEvidence
    };
    let best_runnable = ranked
        .iter()
        .map(|(_, strategy, _)| *strategy)
        .find(|strategy| runs_somewhere(*strategy, question));
    Some(Choice {
        chosen,
        fastest,
        runner_up,
        margin,
        margin_band,
        verdict,
        missing,
        best_runnable,
    })
}

/// Whether the stated engine, or without one any engine, can run a strategy.
fn runs_somewhere(strategy: Strategy, question: &Question) -> bool {
    let stated = question.system.engine.as_ref().map(|engine| engine.kind);
    engines::support::support(strategy, &question.system)
        .iter()
        .any(|support| support.runnable && stated.is_none_or(|engine| engine == support.engine))
}

fn relative(latency: Seconds, least: Seconds) -> f64 {
    if least > Seconds::ZERO { latency / least - 1.0 } else { 0.0 }
}
