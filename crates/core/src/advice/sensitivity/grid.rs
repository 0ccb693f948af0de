//! The cells of a large grid, most of them between priced ones that agree.
//!
//! Cells are priced at the ends and in the middle of a stretch of a row. Where the three agree on all
//! that is chosen, and what the ends say of the middle is within [`TOLERANCE`] of its price, the cells
//! between are interpolated; else both halves are looked at in the same way, down to neighbours. Then
//! the same is asked of every column between three rows, so that most rows need no plans of their own.
//!
//! ```text
//! ln t(x) = (1 − s)·ln t(low) + s·ln t(high)      s = (x − low) / (high − low)
//! ```
//!
//! t: latency of a layer under a strategy; x: the quantity, of tokens and bandwidths its logarithm.
//! Worked number: 100 µs at 16 tokens and 400 µs at 256 are 200 µs at 64.

use rayon::prelude::*;

use crate::advice::sensitivity::flip::Parameter;
use crate::advice::sensitivity::sweep::{Axis, Cell};
use crate::units::Seconds;

/// How far an interpolated latency or margin may be from the priced one where both are known.
pub(super) const TOLERANCE: f64 = 0.005;

/// Rows and columns that are looked at first are this far apart: islands of fewer cells in which
/// another strategy is chosen may be missed.
const STRIDE: usize = 12;

/// A row or column of cells, as far as they are known.
type Line = Vec<Option<Cell>>;

/// The cells of a grid, row by row. `open` prepares the row of one value of `outer`, of which `price`
/// then prices the cell at a value of `inner`.
pub(super) fn cells<R, E: Send>(
    outer: Axis,
    inner: Axis,
    open: impl Fn(f64) -> Result<R, E> + Sync,
    price: impl Fn(&mut R, f64) -> Result<Cell, E> + Sync,
) -> Result<Vec<Vec<Cell>>, E> {
    let (rows, columns) = (Ordered::new(outer), Ordered::new(inner));
    let mut grid: Vec<Line> = vec![vec![None; columns.values.len()]; rows.values.len()];
    let fill = |grid: &mut Vec<Line>, which: &[usize]| -> Result<(), E> {
        let lacking: Vec<usize> =
            which.iter().copied().filter(|row| grid[*row].iter().any(Option::is_none)).collect();
        let made = lacking.par_iter().map(|row| {
            let mut line = grid[*row].clone();
            let mut opened = open(rows.values[*row])?;
            columns.fill(&mut line, &mut |value| price(&mut opened, value))?;
            Ok(line)
        });
        let made: Vec<Line> = made.collect::<Result<_, E>>()?;
        for (row, line) in lacking.into_iter().zip(made) {
            grid[row] = line;
        }
        Ok(())
    };
    let nodes = nodes(rows.values.len());
    fill(&mut grid, &nodes)?;
    let mut stretches: Vec<[usize; 2]> = nodes.windows(2).map(|pair| [pair[0], pair[1]]).collect();
    while !stretches.is_empty() {
        stretches.retain(|[low, high]| high - low > 1);
        let middles: Vec<usize> = stretches.iter().map(|stretch| middle(*stretch)).collect();
        fill(&mut grid, &middles)?;
        for stretch in &stretches {
            for column in 0..columns.values.len() {
                let mut line: Line =
                    grid[stretch[0]..=stretch[1]].iter().map(|row| row[column]).collect();
                if rows.interpolate(&mut line, stretch[0]) {
                    for (row, cell) in grid[stretch[0]..].iter_mut().zip(line) {
                        row[column] = cell;
                    }
                }
            }
        }
        let halves =
            |[low, high]: [usize; 2]| [[low, middle([low, high])], [middle([low, high]), high]];
        stretches = stretches.into_iter().flat_map(halves).collect();
    }
    let known = |line: Line| columns.as_asked(line.into_iter().flatten().collect());
    Ok(rows.as_asked(grid.into_iter().map(known).collect()))
}

/// Places that are looked at first in a line of so many cells.
fn nodes(n: usize) -> Vec<usize> {
    (0..n).filter(|at| at % STRIDE == 0 || *at == n - 1).collect()
}

const fn middle([low, high]: [usize; 2]) -> usize {
    low + (high - low) / 2
}

/// The values of an axis from the least to the greatest.
struct Ordered {
    /// Where each stands on the axis.
    places: Vec<usize>,
    values: Vec<f64>,
    /// What is interpolated over.
    at: Vec<f64>,
}

impl Ordered {
    fn new(axis: Axis) -> Self {
        let mut places: Vec<usize> = (0..axis.values.len()).collect();
        places.sort_by(|a, b| axis.values[*a].total_cmp(&axis.values[*b]));
        let values: Vec<f64> = places.iter().map(|place| axis.values[*place]).collect();
        let at = |value: &f64| match axis.parameter {
            Parameter::TokensPerStep
            | Parameter::OutputTokens
            | Parameter::LinkBandwidth
            | Parameter::InterNodeBandwidth => value.ln(),
            Parameter::Skewness | Parameter::PredictorAccuracy | Parameter::PredictorOverhead => {
                *value
            }
        };
        Self { places, at: values.iter().map(at).collect(), values }
    }

    /// What belongs to the values, in the order of the axis.
    fn as_asked<T>(&self, of: Vec<T>) -> Vec<T> {
        let mut placed: Vec<(usize, T)> = self.places.iter().copied().zip(of).collect();
        placed.sort_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, one)| one).collect()
    }

    /// Fills a line over all values.
    fn fill<E>(
        &self,
        line: &mut Line,
        price: &mut impl FnMut(f64) -> Result<Cell, E>,
    ) -> Result<(), E> {
        let nodes = nodes(line.len());
        for node in &nodes {
            self.price(line, *node, price)?;
        }
        nodes.windows(2).try_for_each(|pair| self.fill_between(line, [pair[0], pair[1]], price))
    }

    fn price<E>(
        &self,
        line: &mut Line,
        place: usize,
        price: &mut impl FnMut(f64) -> Result<Cell, E>,
    ) -> Result<(), E> {
        if line[place].is_none() {
            line[place] = Some(price(self.values[place])?);
        }
        Ok(())
    }

    fn fill_between<E>(
        &self,
        line: &mut Line,
        stretch: [usize; 2],
        price: &mut impl FnMut(f64) -> Result<Cell, E>,
    ) -> Result<(), E> {
        let [low, high] = stretch;
        if line[low..=high].iter().all(Option::is_some) {
            return Ok(());
        }
        let middle = middle(stretch);
        self.price(line, middle, price)?;
        let mut part = line[low..=high].to_vec();
        if self.interpolate(&mut part, low) {
            line[low..=high].copy_from_slice(&part);
            return Ok(());
        }
        self.fill_between(line, [low, middle], price)?;
        self.fill_between(line, [middle, high], price)
    }

    /// Fills a stretch of a line from its ends and its middle, its first cell being that of the value
    /// at `first`; `false` where these do not agree, or are not known.
    fn interpolate(&self, line: &mut [Option<Cell>], first: usize) -> bool {
        let last = line.len() - 1;
        let half = middle([0, last]);
        let (Some(low), Some(between), Some(high)) = (line[0], line[half], line[last]) else {
            return false;
        };
        let share = |place: usize, from: usize, to: usize| {
            let at = |place: usize| self.at[first + place];
            if at(to) > at(from) { (at(place) - at(from)) / (at(to) - at(from)) } else { 0.0 }
        };
        let told = low.towards(&high, share(half, 0, last));
        if !told.is_some_and(|told| told.is_near(&between)) {
            return false;
        }
        for (place, cell) in line.iter_mut().enumerate().filter(|(_, cell)| cell.is_none()) {
            let (one, other, from, to) = if place < half {
                (&low, &between, 0, half)
            } else {
                (&between, &high, half, last)
            };
            *cell = one.towards(other, share(place, from, to));
        }
        true
    }
}

impl Cell {
    /// Between two cells that agree on what is chosen, the share `share` of the way to the other.
    fn towards(&self, other: &Self, share: f64) -> Option<Self> {
        let mut cell = Self { is_priced: false, ..*self };
        let same = self.winner == other.winner
            && self.winner_runnable == other.winner_runnable
            && self.tie == other.tie;
        if !same {
            return None;
        }
        cell.margin += share * (other.margin - self.margin);
        for (latency, other) in cell.layer_latency.iter_mut().zip(other.layer_latency) {
            *latency = match (*latency, other) {
                (None, None) => None,
                (Some(one), Some(other)) => {
                    let ln = |seconds: Seconds| seconds.get().ln();
                    Some(Seconds::new((ln(one) + share * (ln(other) - ln(one))).exp()))
                }
                _ => return None,
            };
        }
        Some(cell)
    }

    /// Whether the choice is the same, and all figures within [`TOLERANCE`].
    fn is_near(&self, priced: &Self) -> bool {
        let mut latencies = self.layer_latency.iter().zip(&priced.layer_latency);
        let near = |(one, other): (&Option<Seconds>, &Option<Seconds>)| match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => (*one / *other - 1.0).abs() <= TOLERANCE,
            _ => false,
        };
        self.winner == priced.winner
            && self.winner_runnable == priced.winner_runnable
            && self.tie == priced.tie
            && (self.margin - priced.margin).abs() <= TOLERANCE
            && latencies.all(near)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::strategies::{DISTRIBUTION_ONLY, NONE};

    fn cell(seconds: f64, copies: bool) -> Cell {
        let winner = Some(if copies { DISTRIBUTION_ONLY } else { NONE });
        Cell {
            winner,
            winner_runnable: winner,
            margin: 0.1,
            tie: false,
            layer_latency: [Some(Seconds::new(seconds)), None, None, None],
            is_priced: true,
        }
    }

    #[test]
    fn the_worked_number_comes_out() {
        let between = cell(100e-6, false).towards(&cell(400e-6, false), 0.5).unwrap();
        assert!((between.layer_latency[0].unwrap().get() - 200e-6).abs() < 1e-18);
        assert!(!between.is_priced);
        assert_eq!(cell(100e-6, false).towards(&cell(400e-6, true), 0.5), None);
    }

    /// A grid over skewness and tokens: a curved latency, and a border between two winners.
    fn grid(rows: &[f64], columns: &[f64]) -> (Vec<Vec<Cell>>, usize) {
        let priced = AtomicUsize::new(0);
        let price = |skewness: &mut f64, tokens: f64| {
            priced.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(law(*skewness, tokens))
        };
        let outer = Axis { parameter: Parameter::Skewness, values: rows };
        let inner = Axis { parameter: Parameter::TokensPerStep, values: columns };
        let Ok(cells) = cells(outer, inner, Ok, price);
        (cells, priced.into_inner())
    }

    fn law(skewness: f64, tokens: f64) -> Cell {
        cell(50e-6 + skewness * tokens * 1e-8, skewness * tokens.ln() > 14.0)
    }

    #[test]
    fn few_cells_are_priced_and_all_are_as_if_they_were() {
        // In no order, some twice.
        let rows: Vec<f64> = (0..100).map(|i| 1.0 + f64::from(i * 37 % 90) / 45.0).collect();
        let columns: Vec<f64> = (0..100).map(|i| 16.0 * 1.07_f64.powi(i * 61 % 95)).collect();
        let (found, n_priced) = grid(&rows, &columns);
        assert!(n_priced < 2500, "{n_priced}");
        for (row, skewness) in found.iter().zip(&rows) {
            for (cell, tokens) in row.iter().zip(&columns) {
                let exact = law(*skewness, *tokens);
                assert!(cell.is_near(&exact), "{skewness} {tokens}: {cell:?} for {exact:?}");
            }
        }
        let counted = found.iter().flatten().filter(|cell| cell.is_priced).count();
        assert_eq!(counted, n_priced);
    }

    #[test]
    fn a_line_of_one_or_two_cells_is_priced() {
        let (found, n_priced) = grid(&[2.0], &[16.0, 32.0]);
        assert_eq!((found, n_priced), (vec![vec![law(2.0, 16.0), law(2.0, 32.0)]], 2));
    }
}
