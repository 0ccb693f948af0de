//! The kinds of steps of a question: one, or those of a running server.

use std::borrow::Cow;

use crate::engines;
use crate::pricing::entry::{Band, Bands};
use crate::pricing::error::PricingError;
use crate::pricing::layer::LayerCosts;
use crate::question::Question;
use crate::serving::ServedStep;
use crate::system::{Communication, Workload};
use crate::terms::Terms;

/// One kind of step, as a question of its own.
#[derive(Debug, Clone)]
pub(crate) struct Kind<'a> {
    /// Its share of all steps.
    pub(crate) share: f64,
    pub(crate) question: Cow<'a, Question>,
    pub(crate) pattern: Communication,
}

impl Kind<'_> {
    /// The laws of its layer.
    pub(crate) fn costs(&self) -> Result<LayerCosts, PricingError> {
        LayerCosts::of(&self.question, self.pattern)
    }
}

/// The steps of the question's server, if it asks about one, with the share of each kind.
#[must_use]
pub fn served_steps(question: &Question) -> Vec<(f64, ServedStep)> {
    let Some(serving) = &question.serving else { return Vec::new() };
    let steps = serving.steps(question.system.workload.dtypes);
    let all: f64 = steps.iter().map(|step| step.per_request).sum();
    steps.into_iter().map(|step| (step.per_request / all, step)).collect()
}

/// What every kind of step computes, in the order of [`kinds`].
pub(crate) fn workloads(question: &Question) -> Vec<Workload> {
    let served = served_steps(question);
    if served.is_empty() {
        return vec![question.system.workload];
    }
    served.into_iter().map(|(_, step)| step.workload).collect()
}

/// The kinds of steps of a question; alone, a step has the communication `pattern`.
pub(crate) fn kinds(question: &Question, pattern: Communication) -> Vec<Kind<'_>> {
    let of = |(share, step): (f64, ServedStep)| {
        let mut asked = question.clone();
        (asked.system.workload, asked.serving) = (step.workload, None);
        let pattern = engines::defaults::communication(&asked.system).pattern;
        Kind { share, question: Cow::Owned(asked), pattern }
    };
    let served = served_steps(question);
    if served.is_empty() {
        return vec![Kind { share: 1.0, question: Cow::Borrowed(question), pattern }];
    }
    served.into_iter().map(of).collect()
}

/// The mean over kinds of steps of their terms.
pub(crate) fn mean_terms(mut of_kinds: impl Iterator<Item = (f64, Terms)>) -> Terms {
    match of_kinds.next() {
        Some((share, only)) if share >= 1.0 => only,
        first => first
            .into_iter()
            .chain(of_kinds)
            .map(|(share, terms)| terms.scaled(share))
            .fold(Terms::default(), |sum, terms| sum.plus(&terms)),
    }
}

/// The widest band of every term.
pub(crate) fn widest_bands<'b>(mut of_kinds: impl Iterator<Item = &'b Bands>) -> Bands {
    let wider = |one: Band, other: Band| Band {
        relative: one.relative.max(other.relative),
        basis: one.basis.max(other.basis),
    };
    let first = of_kinds.next().copied().unwrap_or(Bands::EXACT);
    of_kinds.fold(first, |widest, bands| widest.with(bands, wider))
}
