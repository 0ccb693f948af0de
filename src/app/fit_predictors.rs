//! Predictors fitted on the trace of a question, scored on its held-out tokens.

use std::fs::File;
use std::ops::Range;

use crate::app::advisor::{AdviceError, Progress, TraceFacts};
use crate::app::predictor_cost::{Ends, PredictorCosts};
use crate::app::question::{Answerable, AskedFit, AskedRouting, TraceUse};
use crate::app::routing_evidence;
use crate::wire::violation::Violation;
use moe_gps_core::cancel::Cancel;
use moe_gps_core::evaluate::replay::Foreseen;
use moe_gps_core::formats::trace::embedding::{EmbeddingError, read_rows};
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::named::name_of;
use moe_gps_core::predict::score::Accuracy;
use moe_gps_core::predict::{self, Embedding, PredictError, Tokens, Watch};
use moe_gps_core::question::{
    Predictor, PredictorCost, PredictorKind, PredictorPoint, PredictorSource, Question,
};
use moe_gps_core::trace::counts::ExpertCounts;
use moe_gps_core::units::Seconds;

/// Routed choices (token × layer × k) of a part that are held in memory: 64 MB of them.
const MOST_CHOICES: usize = 1 << 25;
/// Part of the whole work that fitting is shown as.
const SHOWN: f64 = 0.05;

/// The fitted predictors of a question.
#[derive(Debug, Default)]
pub(super) struct Fits {
    fitted: Vec<Fitted>,
    /// The held-out tokens that were predicted, by their place in the trace.
    predicted: Range<u64>,
    n_layers: usize,
    top_k: usize,
}

/// One of them.
#[derive(Debug)]
struct Fitted {
    kind: PredictorKind,
    accuracy: Accuracy,
    /// What it names for the held-out tokens, `[layer][token][k]`.
    named: Vec<u16>,
}

/// Fits what the question asks for and puts it among the question's predictors.
pub(super) fn fit(asked: &mut Answerable, progress: &dyn Progress) -> Result<Fits, AdviceError> {
    let AskedRouting::Trace(used) = &asked.routing else { return Ok(Fits::default()) };
    let (Some(planning), [scoring, ..]) =
        (used.traces.first(), routing_evidence::scoring_traces(used))
    else {
        return Ok(Fits::default());
    };
    if asked.fits.is_empty() {
        return Ok(Fits::default());
    }
    progress.report(0.0, "fitting");
    let mut warnings = Vec::new();
    let (held_out, predicted) = held_out(used, scoring, &mut warnings)?;
    let mut fits = Fits {
        fitted: Vec::new(),
        predicted,
        n_layers: held_out.n_layers(),
        top_k: held_out.top_k(),
    };
    let mut parts = TraceParts { used, planning, held_out: &held_out, read: [None, None] };
    let mut predictors = Vec::new();
    for (n, AskedFit { place, kind, overhead: stated }) in asked.fits.iter().enumerate() {
        let share = 1.0 / asked.fits.len() as f64;
        let watch = Watched { progress, from: n as f64 * share, share };
        let part = parts.of(*kind, &mut warnings)?;
        let table = part.table.as_ref();
        let named = predict::fit(*kind, &part.tokens, table, asked.question.seed, &watch)
            .and_then(|fitted| fitted.predict(&held_out, &watch))
            .map_err(unfit)?;
        let accuracy = Accuracy::of(&named, &held_out);
        let by_law = || overhead(&asked.question, *kind, &part.tokens, table);
        let overhead = stated.unwrap_or_else(by_law);
        predictors.push((*place, predictor(*kind, accuracy.mean, overhead)));
        fits.fitted.push(Fitted { kind: *kind, accuracy, named });
    }
    for (place, predictor) in predictors {
        asked.question.predictors.insert(place.min(asked.question.predictors.len()), predictor);
    }
    asked.warnings.extend(warnings);
    Ok(fits)
}

/// Memory that fitting takes, at most: the choices of the part they are scored on, of the parts they
/// are fitted on, and what each of them names, two bytes each; and the embedding.
pub(super) fn memory_bytes(asked: &Answerable) -> u64 {
    let AskedRouting::Trace(used) = &asked.routing else { return 0 };
    let learned = asked.fits.iter().filter(|fit| predict::is_learned(fit.kind)).count();
    let parts = u64::from(learned < asked.fits.len()) + u64::from(0 < learned);
    let held = used.traces.first().filter(|_| !asked.fits.is_empty()).map_or(0, |trace| {
        let choices = trace.tokens.saturating_mul(trace.layers).saturating_mul(trace.top_k.max(1));
        2 * choices.min(MOST_CHOICES as u64) * (1 + parts + asked.fits.len() as u64)
    });
    let embedding = used.traces.first().and_then(|trace| trace.embedding.as_ref());
    let table = embedding.filter(|_| 0 < learned).and_then(|path| std::fs::metadata(path).ok());
    held + table.map_or(0, |file| file.len())
}

fn predictor(kind: PredictorKind, accuracy: f64, overhead: Seconds) -> Predictor {
    let name = name_of(&PredictorKind::ALL, &kind);
    Predictor {
        name: name.to_owned(),
        kind: Some(kind),
        source: PredictorSource::Fitted,
        cost: PredictorCost::Point(PredictorPoint { accuracy, overhead }),
        accuracy_over_skewness: None,
    }
}

/// The cost of a predictor from the shape it was fitted in.
fn overhead(
    question: &Question,
    kind: PredictorKind,
    tokens: &Tokens,
    table: Option<&Embedding>,
) -> Seconds {
    let layers = tokens.n_layers() as f64;
    let inputs = table.map_or(0.0, |table| table.dim() as f64);
    let ends = Ends { inputs, outputs: layers * tokens.n_experts as f64, layers };
    PredictorCosts::new(question).map_or(Seconds::ZERO, |costs| costs.overhead(kind, ends))
}

fn unfit(error: PredictError) -> AdviceError {
    match error {
        PredictError::Canceled(_) => AdviceError::Canceled,
        other => {
            AdviceError::Refused(vec![Violation::new("/predictors", "fit", other.to_string())])
        }
    }
}

/// The first held-out tokens, as many as are held in memory.
fn held_out(
    used: &TraceUse,
    scoring: &TraceFacts,
    warnings: &mut Vec<String>,
) -> Result<(Tokens, Range<u64>), AdviceError> {
    let fail = |source| scoring.unread(source);
    let trace = routing_evidence::open(scoring)?;
    let range = routing_evidence::scoring_range(used, &trace).map_err(fail)?;
    let most = most_tokens(&trace);
    let predicted = range.start..range.end.min(range.start + most);
    if predicted.end < range.end {
        warnings.push(format!(
            "fitted predictors were scored on the first {most} of {} held-out tokens; in later \
             steps they err at random with the accuracy found",
            range.end - range.start
        ));
    }
    let runs = trace.sample_runs(predicted.clone(), most).map_err(fail)?;
    Ok((trace.read_tokens(&runs).map_err(fail)?, predicted))
}

fn most_tokens(trace: &StoredTrace) -> u64 {
    let row = trace.header().n_layers() * trace.header().top_k.unwrap_or(1) as usize;
    (MOST_CHOICES / row.max(1)).max(1) as u64
}

/// The planning parts, read when first needed: for tables, and for learned predictors.
struct TraceParts<'a> {
    used: &'a TraceUse,
    planning: &'a TraceFacts,
    held_out: &'a Tokens,
    read: [Option<Part>; 2],
}

/// A planning part with the embedding rows it needs.
struct Part {
    tokens: Tokens,
    table: Option<Embedding>,
}

impl TraceParts<'_> {
    fn of(
        &mut self,
        kind: PredictorKind,
        warnings: &mut Vec<String>,
    ) -> Result<&Part, AdviceError> {
        let learned = predict::is_learned(kind);
        let part = match self.read[usize::from(learned)].take() {
            Some(part) => part,
            None => self.read(learned, warnings)?,
        };
        Ok(self.read[usize::from(learned)].insert(part))
    }

    fn read(&self, learned: bool, warnings: &mut Vec<String>) -> Result<Part, AdviceError> {
        let fail = |source| self.planning.unread(source);
        let trace = routing_evidence::open(self.planning)?;
        let end = routing_evidence::planning_end(self.used, &trace).map_err(fail)?;
        let mut most = most_tokens(&trace);
        if learned {
            most = most.min(predict::LEARNED_TOKENS as u64);
        }
        let runs = trace.sample_runs(0..end, most).map_err(fail)?;
        let tokens = trace.read_tokens(&runs).map_err(fail)?;
        if (tokens.len() as u64) < end {
            warnings.push(format!(
                "{} predictors were fitted on {} of {end} planning tokens, evenly spread",
                if learned { "learned" } else { "counting" },
                tokens.len()
            ));
        }
        let table = if learned { Some(self.table(&tokens)?) } else { None };
        Ok(Part { tokens, table })
    }

    /// The embedding rows of both parts.
    fn table(&self, tokens: &Tokens) -> Result<Embedding, AdviceError> {
        let fail = |source| self.planning.unread(source);
        let path = self.planning.embedding.as_deref();
        let path = path.ok_or_else(|| unfit(PredictError::NoEmbedding))?;
        let mut ids = [&tokens.token_ids[..], &self.held_out.token_ids].concat();
        ids.sort_unstable();
        ids.dedup();
        let file = File::open(path).map_err(fail)?;
        read_rows(&file, ids).map_err(|error| match error {
            EmbeddingError::Damaged(source) => fail(source),
            other => {
                let violation = Violation::new("/predictors", "embedding", other.to_string());
                AdviceError::Refused(vec![violation])
            }
        })
    }
}

/// Hands a fit's progress on.
struct Watched<'a> {
    progress: &'a dyn Progress,
    from: f64,
    share: f64,
}

impl Watch for Watched<'_> {
    fn progress(&self, done: f64) {
        self.progress.report(SHOWN * (self.from + done * self.share), "fitting");
    }

    fn cancel(&self) -> &Cancel {
        self.progress.cancel()
    }
}

impl Fits {
    /// Whether nothing was fitted.
    pub(super) fn is_empty(&self) -> bool {
        self.fitted.is_empty()
    }

    /// Room for what the predictors foresee of a batch of steps.
    pub(super) fn foreseen(&self) -> Vec<Foreseen> {
        let of = |fitted: &Fitted| Foreseen { kind: fitted.kind, steps: Vec::new() };
        self.fitted.iter().map(of).collect()
    }

    /// Adds what they foresee of a step of these tokens in these layers, over so many
    /// experts.
    pub(super) fn foresee(
        &self,
        tokens: &[u64],
        layers: &[usize],
        n_experts: usize,
        into: &mut [Foreseen],
    ) {
        let known = tokens.iter().all(|token| self.predicted.contains(token));
        for (fitted, foreseen) in self.fitted.iter().zip(into) {
            foreseen.steps.push(known.then(|| self.counts(fitted, tokens, layers, n_experts)));
        }
    }

    fn counts(
        &self,
        fitted: &Fitted,
        tokens: &[u64],
        layers: &[usize],
        n_experts: usize,
    ) -> ExpertCounts {
        let stride = fitted.named.len() / self.n_layers.max(1);
        let mut counts = ExpertCounts::zeros(layers.len(), n_experts);
        for (nth, layer) in layers.iter().enumerate() {
            let named = &fitted.named[layer * stride..][..stride];
            let row = counts.layer_mut(nth);
            for token in tokens {
                let at = usize::try_from(token - self.predicted.start).unwrap_or(usize::MAX);
                for expert in &named[at * self.top_k..][..self.top_k] {
                    row[usize::from(*expert)] += 1.0;
                }
            }
        }
        counts
    }

    /// The accuracy per layer of the fitted predictor of this name.
    pub(super) fn accuracy_per_layer(&self, name: &str) -> Option<Vec<f64>> {
        let of = |fitted: &&Fitted| name_of(&PredictorKind::ALL, &fitted.kind) == name;
        self.fitted.iter().find(of).map(|fitted| fitted.accuracy.per_layer.clone())
    }
}
