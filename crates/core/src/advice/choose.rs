//! Which strategy to run, and how sure that is.
//!
//! The verdict judges one thing: the chosen entry against the baseline, which is what runs now
//! where the question says so, else `none`. Chosen is the simplest strategy that is surely faster
//! than the baseline and not surely slower than the fastest. Where none is, the baseline stays,
//! unless another is ahead that costs nothing.

use crate::advice::uncertainty::{Gain, Uncertainty, is_assumed};
use crate::engines;
use crate::pricing::entry::Entry;
use crate::question::Question;
use crate::strategies::{NONE, Strategy};
use crate::system::Preset;
use crate::units::Seconds;

/// How sure a recommendation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The chosen strategy is faster than the baseline, or the baseline than all others, whatever
    /// the doubts.
    Recommended,
    /// What runs now is kept.
    Keep,
    /// Neither the baseline nor the strategy that is ahead of it is known to be the faster.
    Tie,
    /// Something is missing that could change the answer.
    InsufficientEvidence,
    /// Nothing can be run.
    CannotRun,
}

impl Verdict {
    /// Every verdict with its name on the wire.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Recommended, "recommended"),
        (Self::Keep, "keep"),
        (Self::Tie, "tie"),
        (Self::InsufficientEvidence, "insufficient_evidence"),
        (Self::CannotRun, "cannot_run"),
    ];

    /// The verdict's name on the wire.
    #[must_use]
    pub fn id(self) -> &'static str {
        Self::ALL.iter().find(|(verdict, _)| *verdict == self).map_or("", |(_, id)| id)
    }
}

/// The choice among priced strategies.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Index of the chosen entry.
    pub chosen: usize,
    /// Index of what it is judged against.
    pub baseline: usize,
    /// What the chosen entry gains over the baseline; exactly 1 where it is the baseline.
    pub gain: Gain,
    /// Index of the fastest entry of those that decide.
    pub fastest: usize,
    /// Index of the best entry of another strategy than the chosen one.
    pub runner_up: Option<usize>,
    /// Second fastest strategy over fastest, minus 1.
    pub margin: f64,
    /// How much less that margin may be.
    pub margin_band: f64,
    /// How sure.
    pub verdict: Verdict,
    /// Whether some rival of the baseline is not known to be faster or slower than it, and none to
    /// be faster.
    pub is_open: bool,
    /// Entries that can be run and are not known to be faster or slower than the chosen one.
    pub equivalent: Vec<usize>,
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

/// Which entries decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deciding {
    /// All that are allowed.
    All,
    /// Those that can be run: by the stated engine, else by any; or by the asker, who names a
    /// strategy with a predictor he has measured. In the paper preset all.
    Runnable,
}

impl Deciding {
    fn decides(self, question: &Question, entry: &Entry) -> bool {
        question.allowed.contains(&entry.strategy)
            && (self == Self::All
                || question.system.assumptions.preset == Preset::Paper
                || (!is_assumed(entry)
                    && (runs_somewhere(entry.strategy, question)
                        || question.names_allowed && entry.strategy.forecasts_tokens())))
    }
}

/// Whether predictors can decide the answer; where they cannot, they need not be priced to find
/// it.
pub(crate) fn predictors_decide(question: &Question) -> bool {
    question.system.assumptions.preset == Preset::Paper || question.names_allowed
}

/// The entry of what runs now where the question says so, else of `none`: `none` stands for the
/// stated map as it is, else the fastest of the stated strategy.
#[must_use]
pub fn baseline(question: &Question, entries: &[Entry]) -> Option<usize> {
    let stated = question.current.as_ref();
    let strategy = stated
        .filter(|current| current.physical_to_logical.is_none())
        .and_then(|current| current.strategy)
        .unwrap_or(NONE);
    let of = |index: &usize| entries[*index].strategy == strategy;
    (0..entries.len()).filter(of).min_by(|a, b| by_cost(entries, *a, *b))
}

fn cost(entries: &[Entry], index: usize) -> f64 {
    entries[index].cost().map_or(f64::INFINITY, Seconds::get)
}

/// The faster first, and of equals the simpler.
fn by_cost(entries: &[Entry], a: usize, b: usize) -> std::cmp::Ordering {
    let order = cost(entries, a).total_cmp(&cost(entries, b));
    order.then(entries[a].strategy.cmp(&entries[b].strategy)).then(a.cmp(&b))
}

/// What was chosen against what.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pick {
    chosen: usize,
    baseline: usize,
    verdict: Verdict,
    is_open: bool,
}

/// Entries that decide, fastest first.
fn ranked(question: &Question, entries: &[Entry], who: Deciding) -> Vec<usize> {
    let decides =
        |index: &usize| entries[*index].cost().is_some() && who.decides(question, &entries[*index]);
    let mut ranked: Vec<usize> = (0..entries.len()).filter(decides).collect();
    ranked.sort_by(|a, b| by_cost(entries, *a, *b));
    ranked
}

fn pick(
    question: &Question,
    entries: &[Entry],
    uncertainty: &Uncertainty,
    who: Deciding,
) -> Option<Pick> {
    let ranked = ranked(question, entries, who);
    let baseline = baseline(question, entries).filter(|index| entries[*index].cost().is_some());
    let gain = |one: usize, over: usize| uncertainty.gain(entries, one, over);
    let simplest = |of: &mut dyn Iterator<Item = usize>| {
        of.min_by(|a, b| {
            entries[*a].strategy.cmp(&entries[*b].strategy).then(by_cost(entries, *a, *b))
        })
    };
    let Some(baseline) = baseline else {
        // Nothing to judge against: the fastest runs.
        let fastest = *ranked.first()?;
        return Some(Pick { chosen: fastest, baseline: fastest, ..SURE });
    };
    let rivals: Vec<usize> = ranked.into_iter().filter(|index| *index != baseline).collect();
    let may_stay =
        question.current.is_some() || question.allowed.contains(&entries[baseline].strategy);
    let stays = |is_open: bool| {
        let verdict = match question.current {
            Some(_) => Verdict::Keep,
            None if is_open => Verdict::Tie,
            None => Verdict::Recommended,
        };
        Some(Pick { chosen: baseline, baseline, verdict, is_open })
    };
    let Some(&fastest) = rivals.first() else {
        return if may_stay { stays(false) } else { None };
    };
    let sure = |index: &usize| gain(*index, baseline).is_some_and(|gain| gain.is_sure());
    let near = |index: &usize| gain(fastest, *index).is_none_or(|gain| !gain.is_sure());
    let mut winners = rivals.iter().copied().filter(|index| sure(index) && near(index));
    if let Some(chosen) = simplest(&mut winners) {
        return Some(Pick { chosen, baseline, ..SURE });
    }
    let ahead = |index: &usize| cost(entries, *index) * WORTH_LOADING < cost(entries, baseline);
    let free = |index: &usize| entries[*index].strategy.is_free(question);
    let is_open = rivals.iter().any(|one| gain(*one, baseline).is_some_and(|gain| gain.is_open()));
    let mut free = rivals.iter().copied().filter(|index| ahead(index) && free(index));
    if let Some(chosen) = simplest(&mut free) {
        return Some(Pick { chosen, baseline, verdict: Verdict::Tie, is_open });
    }
    if may_stay {
        return stays(is_open);
    }
    let verdict = if is_open { Verdict::Tie } else { Verdict::Recommended };
    Some(Pick { chosen: fastest, baseline, verdict, is_open })
}

/// A map that costs nothing to run is still to be loaded: what gains less is not worth it.
const WORTH_LOADING: f64 = 1.001;

/// What nothing speaks against, for either entry.
const SURE: Pick = Pick { chosen: 0, baseline: 0, verdict: Verdict::Recommended, is_open: false };

/// What a choice comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decided {
    /// The strategy chosen.
    pub strategy: Strategy,
    /// Second fastest strategy over the fastest, minus 1.
    pub margin: f64,
    /// Whether that is a tie.
    pub is_tie: bool,
}

/// The strategy chosen by those that decide; `None` if nothing can be run.
#[must_use]
pub fn decided(
    question: &Question,
    entries: &[Entry],
    uncertainty: &Uncertainty,
    who: Deciding,
) -> Option<Decided> {
    let pick = pick(question, entries, uncertainty, who)?;
    Some(Decided {
        strategy: entries[pick.chosen].strategy,
        margin: margin(question, entries, uncertainty, who).0,
        is_tie: pick.verdict == Verdict::Tie,
    })
}

/// By how much, as ln of a ratio, `held` is chosen: negative where it is not, and continuous
/// where prices are. It says where to look for the value at which it no longer is.
#[must_use]
pub fn lead(
    question: &Question,
    entries: &[Entry],
    uncertainty: &Uncertainty,
    held: Strategy,
) -> f64 {
    let Some(baseline) = baseline(question, entries) else { return f64::NAN };
    let least = |index: usize| {
        let gain = uncertainty.gain(entries, index, baseline);
        gain.map_or(f64::NEG_INFINITY, |gain| gain.low.ln())
    };
    let ranked = ranked(question, entries, Deciding::Runnable);
    let of = |held_ones: bool| {
        let those = ranked.iter().filter(|index| (entries[**index].strategy == held) == held_ones);
        those.map(|index| least(*index)).fold(f64::NEG_INFINITY, f64::max)
    };
    if held == entries[baseline].strategy { -of(false) } else { of(true) }
}

/// Second fastest strategy over fastest, minus 1, and how much less that may be.
fn margin(
    question: &Question,
    entries: &[Entry],
    uncertainty: &Uncertainty,
    who: Deciding,
) -> (f64, f64) {
    let ranked = ranked(question, entries, who);
    let Some(&fastest) = ranked.first() else { return (0.0, 0.0) };
    let other = |index: &&usize| entries[**index].strategy != entries[fastest].strategy;
    let gain =
        ranked.iter().find(other).and_then(|second| uncertainty.gain(entries, fastest, *second));
    gain.map_or((0.0, 0.0), |gain| (gain.mid - 1.0, gain.mid - gain.low))
}

/// Chooses among entries; `None` if none can be run.
#[must_use]
pub fn choose(question: &Question, entries: &[Entry], uncertainty: &Uncertainty) -> Option<Choice> {
    // Where nothing that is allowed can be run, what is allowed is judged all the same.
    let picked = |who| Some((who, pick(question, entries, uncertainty, who)?));
    let found = picked(Deciding::Runnable).or_else(|| picked(Deciding::All));
    let (who, Pick { chosen, baseline, verdict, is_open }) = found?;
    let ranked = ranked(question, entries, who);
    let strategy = entries[chosen].strategy;
    let gain = |one: usize, over: usize| uncertainty.gain(entries, one, over);
    let open =
        |index: &usize| *index != chosen && gain(*index, chosen).is_some_and(|gain| gain.is_open());
    let (margin, margin_band) = margin(question, entries, uncertainty, who);
    let mut choice = Choice {
        chosen,
        baseline,
        gain: gain(chosen, baseline)?,
        fastest: ranked.first().copied().unwrap_or(chosen),
        runner_up: ranked.iter().copied().find(|index| entries[*index].strategy != strategy),
        margin,
        margin_band,
        verdict,
        is_open,
        equivalent: ranked.iter().copied().filter(open).collect(),
        missing: Vec::new(),
        best_runnable: ranked
            .iter()
            .map(|index| entries[*index].strategy)
            .find(|strategy| runs_somewhere(*strategy, question)),
    };
    choice.weigh(is_assumed(&entries[chosen]).then(|| {
        format!(
            "{} wins only with a predictor whose accuracy and cost are assumed; state `predictors` \
             you have measured",
            strategy.id()
        )
    }).into_iter());
    Some(choice)
}

/// Whether the stated engine, or without one any engine, can run a strategy.
fn runs_somewhere(strategy: Strategy, question: &Question) -> bool {
    let system = &question.system;
    match &system.engine {
        Some(stated) => engines::support::runnable(strategy, stated.kind, system),
        None => {
            engines::LIST.iter().any(|engine| engines::support::runnable(strategy, engine, system))
        }
    }
}
