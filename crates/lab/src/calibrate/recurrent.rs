//! Start-up and step of recurrent predictors, fitted to rows of the kernel that a profile prices.
//!
//! ```text
//! t − projection = t0 + S · layers · step
//! ```
//!
//! by least squares of relative errors, which two equations solve. Held out: rows of one number of
//! sequences and tokens at a time.

use crate::calibrate::evidence::{Evidence, LeftOut};
use crate::validate::compute;
use crate::validate::measured::{Case, Measured, Software};
use moe_gps_core::cost::predictor::RecurrentConstants;
use moe_gps_core::hardware::{Device, Fit, Provenance};
use moe_gps_core::price::Basis;
use moe_gps_core::units::Seconds;

/// Constants of recurrent predictors with the software and the rows they rest on.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// The constants.
    pub constants: RecurrentConstants,
    /// The software of the first row.
    pub software: Software,
    /// What they rest on.
    pub evidence: Evidence,
}

/// Whether a row says something of these constants.
#[must_use]
pub fn is_of(row: &Measured) -> bool {
    matches!(row.case, Case::PredictorLstm { .. }) && compute::recurrent(&row.software).is_none()
}

/// One row: layers times tokens, time of the products, whole time, and what is held out with it.
struct Point {
    steps: f64,
    products: f64,
    time: f64,
    shape: [u64; 2],
}

/// Fits the constants to the rows `at`.
pub fn fit(
    rows: &[Measured],
    at: &[usize],
    device: &Device,
    left_out: &mut LeftOut,
) -> Option<Recurrent> {
    let points: Vec<Point> = at.iter().filter_map(|&i| point(&rows[i], device)).collect();
    let all: Vec<&Point> = points.iter().collect();
    let constants = solve(&all).filter(|_| points.len() == at.len());
    let Some(constants) = constants else {
        let why = "predictor_lstm: measure three rows or more, of two numbers of tokens a sequence";
        left_out.add(why, at.len());
        return None;
    };
    let errors: Vec<f64> = points.iter().map(|point| error(point, &constants)).collect();
    let unseen: Option<Vec<f64>> = points
        .iter()
        .map(|point| {
            let others: Vec<&Point> =
                points.iter().filter(|other| other.shape != point.shape).collect();
            Some(error(point, &solve(&others)?))
        })
        .collect();
    let evidence = Evidence::of(at, &errors, unseen.as_deref())?;
    Some(Recurrent { constants, software: rows[*at.first()?].software.clone(), evidence })
}

fn point(row: &Measured, device: &Device) -> Option<Point> {
    let Case::PredictorLstm { sequences, tokens, layers, .. } = row.case else { return None };
    let nothing = RecurrentConstants { start: Seconds::ZERO, step: Seconds::ZERO };
    let provenance = Provenance::default();
    let none = Fit { constants: nothing, band: 0.1, basis: Basis::Fitted, provenance };
    let device = Device { recurrent: Some(none), ..device.clone() };
    Some(Point {
        steps: tokens * layers,
        products: compute::price(row, &device).ok()?.time.get(),
        time: row.time.get(),
        shape: [sequences.to_bits(), tokens.to_bits()],
    })
}

/// The constants of least squared relative error; nothing where points do not decide them.
fn solve(points: &[&Point]) -> Option<RecurrentConstants> {
    let first = points.first()?;
    if points.len() < 3 || points.iter().all(|point| point.steps.to_bits() == first.steps.to_bits())
    {
        return None;
    }
    let sum = |of: &dyn Fn(&Point) -> f64| -> f64 {
        points.iter().map(|point| of(point) / (point.time * point.time)).sum()
    };
    let left = |point: &Point| point.time - point.products;
    let (ones, steps, squares) =
        (sum(&|_| 1.0), sum(&|point| point.steps), sum(&|point| point.steps * point.steps));
    let (times, moments) = (sum(&left), sum(&|point| left(point) * point.steps));
    let determinant = ones * squares - steps * steps;
    let start = (times * squares - moments * steps) / determinant;
    // Without a start-up the step alone is fitted.
    let (start, step) = if start > 0.0 {
        (start, (ones * moments - steps * times) / determinant)
    } else {
        (0.0, moments / squares)
    };
    let found = RecurrentConstants { start: Seconds::new(start), step: Seconds::new(step) };
    (start.is_finite() && step > 0.0).then_some(found)
}

fn error(point: &Point, constants: &RecurrentConstants) -> f64 {
    let predicted = point.products + constants.start.get() + point.steps * constants.step.get();
    predicted / point.time - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::measured::{Launch, Op, Subset};
    use moe_gps_core::cost::sample;
    use moe_gps_core::system::Operands;

    fn row(kernel: &str, sequences: f64, tokens: f64, time: f64) -> Measured {
        let kernel = kernel.to_owned();
        Measured {
            line: 1,
            device: "sample".to_owned(),
            software: Software {
                framework: "PyTorch".to_owned(),
                version: "2.11".to_owned(),
                kernel,
            },
            op: Op::PredictorLstm,
            format: String::new(),
            operands: Operands::BF16,
            subset: Subset::All,
            launch: Launch::None,
            case: Case::PredictorLstm {
                sequences,
                tokens,
                input: 4096.0,
                width: 64.0,
                layers: 2.0,
            },
            time: Seconds::new(time),
            simulated: None,
        }
    }

    #[test]
    fn start_and_step_come_back() {
        let device = sample::device();
        let mut rows = Vec::new();
        for (sequences, tokens) in
            [(1.0, 512.0), (4.0, 512.0), (1.0, 2048.0), (16.0, 1.0), (64.0, 1.0)]
        {
            let products = point(&row("cudnn", sequences, tokens, 1.0), &device).unwrap().products;
            rows.push(row("cudnn", sequences, tokens, products + 20e-6 + 2.0 * tokens * 3e-6));
        }
        let at: Vec<usize> = (0..rows.len()).collect();
        let found = fit(&rows, &at, &device, &mut LeftOut::default()).unwrap();
        approx::assert_relative_eq!(found.constants.start.get(), 20e-6, max_relative = 1e-6);
        approx::assert_relative_eq!(found.constants.step.get(), 3e-6, max_relative = 1e-6);
        assert!(found.evidence.errors.max < 1e-9 && found.evidence.held_out.unwrap().max < 1e-6);
        let mut left_out = LeftOut::default();
        assert!(fit(&rows[..2], &[0, 1], &device, &mut left_out).is_none());
        assert_eq!(left_out.0.values().sum::<usize>(), 2);
        assert!(is_of(&rows[0]) && !is_of(&row("pytorch", 1.0, 512.0, 7e-3)));
    }
}
