//! Which strategy wins over a grid: one or two quantities changed, all else held.
//!
//! Every cell is the choice of the question in which the quantities have the cell's values.
//! The quantity whose change costs most is set once per row of cells, the other in every
//! cell; rows are priced in parallel. Of a large grid over tokens most cells are interpolated
//! between priced ones that agree (`grid.rs`).

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::advice::choose::{Deciding, decided};
use crate::advice::communication;
use crate::advice::pricing::Pricing;
use crate::advice::sensitivity::flip::Parameter;
use crate::advice::sensitivity::grid;
use crate::advice::sensitivity::scenario::Scenario;
use crate::cancel::Cancel;
use crate::pricing::entry::Entry;
use crate::pricing::error::PricingError;
use crate::pricing::routing_evidence::RoutingEvidence;
use crate::question::{Predictor, Question};
use crate::strategies::Strategy;
use crate::units::Seconds;

pub use crate::advice::sensitivity::scenario::{DRAWS, HeldPredictor, varied_predictor};

/// Of so many cells every one is priced.
pub const FEW_CELLS: usize = 400;

/// Makes the predictors of a question anew.
pub type Predictors<'a> = &'a (dyn Fn(&Question) -> Vec<Predictor> + Sync);

/// What is swept over.
pub struct Sweep<'a> {
    /// The question as it stands.
    pub question: &'a Question,
    /// What is known of its routing.
    pub known: &'a RoutingEvidence,
    /// The predictor that accuracy and overhead belong to.
    pub predictor: HeldPredictor,
    /// Where predictors follow from the tokens of a step: how.
    pub predictors: Option<Predictors<'a>>,
    /// What may end the sweep.
    pub stop: &'a Cancel,
}

/// A quantity and its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis<'a> {
    /// The quantity.
    pub parameter: Parameter,
    /// Its values, in any order.
    pub values: &'a [f64],
}

/// The choice under one pair of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The strategy chosen if every one could be run.
    pub winner: Option<Strategy>,
    /// The strategy chosen of those that can be run.
    pub winner_runnable: Option<Strategy>,
    /// Second fastest strategy over fastest, minus 1.
    pub margin: f64,
    /// Whether the strategy ahead is not known to be faster than the baseline.
    pub tie: bool,
    /// Latency of a layer under every strategy, in their order; `None` where infeasible.
    pub layer_latency: [Option<Seconds>; Strategy::ALL.len()],
    /// Whether it was priced, not interpolated between cells that agree on the choice.
    pub is_priced: bool,
}

impl Sweep<'_> {
    /// The cells of a grid, those of the first value of the first axis first. Without any axis:
    /// the question as it is, in one cell.
    pub fn cells(&self, axes: &[Axis]) -> Result<Vec<Cell>, PricingError> {
        let pattern = communication(self.question).0;
        let pricing = Pricing::new(self.question, self.known, pattern, self.stop);
        let scenario = Scenario::around(&pricing, self.predictor)?;
        let (outer, inner, turned) = match *axes {
            [] => return Ok(vec![Cell::of(&mut scenario.clone())?]),
            [only] => (only, None, false),
            [first, second, ..] if outer_axis(axes) == 1 => (second, Some(first), true),
            [first, second, ..] => (first, Some(second), false),
        };
        let open = |value: f64| {
            let mut row = scenario.clone();
            self.set(&mut row, outer.parameter, value).map(|()| row)
        };
        let Some(inner) = inner else {
            let cell = |value: &f64| Cell::of(&mut open(*value)?);
            return outer.values.par_iter().map(cell).collect();
        };
        let cell = |row: &mut Scenario, value: f64| {
            self.set(row, inner.parameter, value)?;
            Cell::of(row)
        };
        let rows: Vec<Vec<Cell>> = if is_interpolated(&scenario, outer, inner) {
            grid::cells(outer, inner, open, cell)?
        } else {
            let row = |value: &f64| {
                let mut row = open(*value)?;
                inner.values.iter().map(|value| cell(&mut row, *value)).collect()
            };
            outer.values.par_iter().map(row).collect::<Result<_, PricingError>>()?
        };
        Ok(if turned { transposed(&rows) } else { rows.concat() })
    }

    /// Changes one quantity, and the predictors where they follow from it.
    fn set(
        &self,
        scenario: &mut Scenario,
        parameter: Parameter,
        value: f64,
    ) -> Result<(), PricingError> {
        scenario.set(parameter, value)?;
        if let Some(predictors) = self.predictors.filter(|_| parameter == Parameter::TokensPerStep)
        {
            scenario.question.predictors = predictors(&scenario.question);
        }
        Ok(())
    }
}

impl Cell {
    /// Latency of a layer under a strategy; `None` where it is infeasible.
    #[must_use]
    pub fn latency(&self, strategy: Strategy) -> Option<Seconds> {
        let place = Strategy::ALL.iter().position(|(one, _)| *one == strategy)?;
        self.layer_latency[place]
    }

    fn of(scenario: &mut Scenario) -> Result<Self, PricingError> {
        let (entries, uncertainty) = scenario.priced_with_doubts()?;
        let decide = |who| decided(&scenario.question, &entries, &uncertainty, who);
        let (all, runnable) = (decide(Deciding::All), decide(Deciding::Runnable));
        let latency = |strategy| {
            let of = entries.iter().filter(|entry| entry.strategy == strategy);
            of.filter_map(Entry::feasible_latency).reduce(Seconds::min)
        };
        Ok(Self {
            winner: all.map(|decided| decided.strategy),
            winner_runnable: runnable.map(|decided| decided.strategy),
            margin: all.map_or(0.0, |decided| decided.margin),
            tie: all.is_some_and(|decided| decided.is_tie),
            layer_latency: Strategy::ALL.map(|(strategy, _)| latency(strategy)),
            is_priced: true,
        })
    }
}

/// Whether most cells of a grid lie between priced ones: where there are many, and steps would be
/// drawn for every one.
fn is_interpolated(scenario: &Scenario, outer: Axis, inner: Axis) -> bool {
    outer.values.len() * inner.values.len() > FEW_CELLS
        && cost(inner.parameter) <= cost(Parameter::TokensPerStep)
        && !scenario.by_formulas()
}

/// The place of the axis whose values are set once a row: that whose change costs most.
#[must_use]
pub fn outer_axis(axes: &[Axis]) -> usize {
    let dearer = |one: &Axis, other: &Axis| cost(one.parameter) < cost(other.parameter);
    usize::from(matches!(axes, [first, second, ..] if dearer(second, first)))
}

/// The cells of columns, one column after the other, row by row.
#[must_use]
pub fn transposed(columns: &[Vec<Cell>]) -> Vec<Cell> {
    let rows = columns.first().map_or(0, Vec::len);
    (0..rows).flat_map(|row| columns.iter().map(move |column| column[row])).collect()
}

/// How much has to be made anew when a quantity changes: the more, the smaller.
const fn cost(parameter: Parameter) -> u8 {
    match parameter {
        Parameter::Skewness => 0,
        Parameter::TokensPerStep | Parameter::OutputTokens => 1,
        Parameter::LinkBandwidth | Parameter::InterNodeBandwidth => 2,
        Parameter::PredictorAccuracy | Parameter::PredictorOverhead => 3,
    }
}
