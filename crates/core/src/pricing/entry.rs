//! A priced strategy.

use crate::price::Basis;
use crate::pricing::serving::Served;
use crate::question::{
    OverheadCurve, Predictor, PredictorCost, PredictorKind, PredictorPoint, PredictorSource,
    Question,
};
use crate::strategies::Strategy;
use crate::terms::{PerTerm, Terms};
use crate::units::Seconds;

/// One strategy, and for token-to-expert prediction one predictor, with its price.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The strategy.
    pub strategy: Strategy,
    /// The predictor, for token-to-expert prediction.
    pub predictor: Option<PricedPredictor>,
    /// The placement that it keeps, by its place among those of the question; `None` where there is
    /// none.
    pub placement: Option<usize>,
    /// Why the strategy cannot be run, if it cannot.
    pub infeasible: Option<String>,
    /// Where one layer's time goes, in the mean over the kinds of steps; `None` where there is no
    /// formula.
    pub terms: Option<Terms>,
    /// The same of every kind of step of a running server, in their order; empty for one kind.
    pub by_kind: Vec<Terms>,
    /// What it serves at the step of `none`, where that is the objective.
    pub served: Option<Served>,
}

/// A predictor as priced in one entry.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedPredictor {
    /// Its name in the answer.
    pub name: String,
    /// What sort it is, where known.
    pub kind: Option<PredictorKind>,
    /// Mean share of a token's experts it names.
    pub accuracy: f64,
    /// Its time per layer and step, before any overlap.
    pub overhead: Seconds,
    /// Where the figures come from.
    pub source: PredictorSource,
    /// The curve the point was chosen on.
    pub curve: Option<OverheadCurve>,
}

impl PricedPredictor {
    /// A predictor at the point it was priced at.
    #[must_use]
    pub fn at(predictor: &Predictor, point: PredictorPoint) -> Self {
        Self {
            name: predictor.name.clone(),
            kind: predictor.kind,
            accuracy: point.accuracy,
            overhead: point.overhead,
            source: predictor.source,
            curve: match predictor.cost {
                PredictorCost::Curve(curve) => Some(curve),
                PredictorCost::Point(_) => None,
            },
        }
    }
}

/// How far a term can be trusted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    /// Relative error to expect: 0.1 means ten percent either way.
    pub relative: f64,
    /// Where the figure comes from.
    pub basis: Basis,
}

/// How far each term can be trusted.
pub type Bands = PerTerm<Band>;

impl Bands {
    /// Formulas taken at their word: no band.
    pub const EXACT: Self = Self::all(Band { relative: 0.0, basis: Basis::Roofline });

    /// Whether no term has a band.
    #[must_use]
    pub fn are_exact(&self) -> bool {
        self.named().all(|(_, band)| band.relative <= 0.0)
    }
}

impl Entry {
    /// The latency of one layer.
    #[must_use]
    pub fn latency(&self) -> Option<Seconds> {
        self.terms.map(|terms| terms.total())
    }

    /// Where one layer's time goes in a kind of step, by its place.
    #[must_use]
    pub fn in_kind(&self, kind: usize) -> Option<Terms> {
        if self.by_kind.is_empty() { self.terms } else { self.by_kind.get(kind).copied() }
    }

    /// The latency of one layer, if the strategy can be run.
    #[must_use]
    pub fn feasible_latency(&self) -> Option<Seconds> {
        if self.infeasible.is_some() { None } else { self.latency() }
    }
    /// What strategies are ranked by, if this one can be run: the latency of a layer, or
    /// where throughput is the objective the seconds it takes for the batch asked for.
    #[must_use]
    pub fn cost(&self) -> Option<Seconds> {
        let latency = self.feasible_latency()?;
        Some(self.served.map_or(latency, |served| served.per_batch))
    }

    /// Latency of the whole model: its mixture-of-experts layers and the dense ones.
    #[must_use]
    pub fn model_latency(&self, question: &Question, dense_layer: Seconds) -> Option<Seconds> {
        self.latency().map(|layer| question.whole_step(layer, dense_layer))
    }

    /// Puts other terms in place of these.
    pub fn reprice(&mut self, terms: Terms) {
        if let (Some(served), Some(before)) = (self.served, self.latency()) {
            self.served = Some(served.slowed(terms.total() / before));
        }
        self.terms = Some(terms);
    }
}
