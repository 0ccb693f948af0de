//! The curve of one collective of one library on one number of devices.
//!
//! A [`Curve`] over the bytes that cross a link: floor, bandwidth and two ramps are free.
//! With few sizes the second ramp is left out, with hardly any both are. Gathering and
//! scattering run one ring and exchange its protocol at a size, so their second ramp is a
//! step; an all-reduce goes from trees to rings as well, and sends of an all-to-all grow
//! channel by channel: theirs is drawn out.

use super::fit::{folds, four_digits};
use super::simplex::minimise;
use crate::domain::comm::profile::{Collective, CollectiveKernel, Congestion, Curve, Fitted, Ramp};
use crate::domain::units::{Bytes, BytesPerSecond, Seconds};
use crate::domain::validate::errors::Errors;
use crate::domain::validate::measured::{Case, Launch, Measured};

/// Which law measurements of collectives speak of.
pub type Key = (CollectiveKernel, Collective, u32);

/// Evaluations of the loss, and rounds they are spread over.
const EVALUATIONS: (usize, usize) = (4000, 4);

/// Fewest rows for a curve without ramps, with one, with two.
const ROWS: [usize; 3] = [3, 6, 10];

/// How suddenly the second ramp of an operation is paid.
const fn sharpness(operation: Collective) -> f64 {
    match operation {
        Collective::AllGather | Collective::ReduceScatter => 3.0,
        Collective::AllReduce | Collective::AllToAll => 1.0,
    }
}

/// A curve that was fitted, with what is known of its errors.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedCurve {
    /// The curve and its errors below and from 1 MiB, held out where possible.
    pub fitted: Fitted,
    /// Errors of the rows it was fitted to.
    pub errors: Errors,
    /// Errors of sizes the fit had not seen.
    pub held_out: Option<Errors>,
    /// Relative error of every row, in order: in sample, and held out.
    pub residuals: Vec<(f64, Option<f64>)>,
}

/// The law a measurement speaks of, if it is of a collective without launch time.
#[must_use]
pub fn key(row: &Measured) -> Option<Key> {
    match row.case {
        Case::Collective { kernel, operation, devices, .. }
            if row.launch == Launch::None && devices > 1 =>
        {
            Some((kernel, operation, devices))
        }
        _ => None,
    }
}

/// Fits one curve; `None` with too few rows.
#[must_use]
pub fn fit(rows: &[&Measured]) -> Option<FittedCurve> {
    let points: Vec<Point> = rows.iter().filter_map(|row| Point::of(row)).collect();
    let curve = curve_of(&points)?;
    let errors: Vec<f64> = points.iter().map(|point| point.error(&curve)).collect();
    let held_out = held_out(&points);
    let known = held_out.as_ref().unwrap_or(&errors);
    let mean = |small: bool| {
        let chosen = points.iter().zip(known).filter(|(point, _)| point.is_small() == small);
        let chosen: Vec<f64> = chosen.map(|(_, error)| *error).collect();
        Errors::of(&chosen).or_else(|| Errors::of(known)).map_or(0.0, |errors| errors.mean)
    };
    let fitted = Fitted {
        curve,
        error_small: four_digits(mean(true)),
        error_large: four_digits(mean(false)),
    };
    let residual = |(i, error): (usize, &f64)| (*error, held_out.as_ref().map(|all| all[i]));
    Some(FittedCurve {
        fitted,
        errors: Errors::of(&errors)?,
        held_out: held_out.as_deref().and_then(Errors::of),
        residuals: errors.iter().enumerate().map(residual).collect(),
    })
}

/// A measured operation: its size, what of it crosses a link, and its time.
struct Point {
    size: Bytes,
    wire: Bytes,
    time: f64,
    sharpness: f64,
}

impl Point {
    fn of(row: &Measured) -> Option<Self> {
        let Case::Collective { operation, devices, size, .. } = row.case else { return None };
        let wire = size * operation.wire_factor(f64::from(devices));
        Some(Self { size, wire, time: row.time.get(), sharpness: sharpness(operation) })
    }

    fn error(&self, curve: &Curve) -> f64 {
        curve.time(self.wire).get() / self.time - 1.0
    }

    fn is_small(&self) -> bool {
        self.size.get() < 1_048_576.0
    }
}

/// A curve from logarithms of its constants: floor, bandwidth, then time and half of ramps,
/// the second of that sharpness.
fn curve(logs: &[f64], sharpness: f64) -> Curve {
    let value = |i: usize| logs.get(i).map(|x| four_digits(x.clamp(-40.0, 40.0).exp()));
    let ramp = |i: usize, sharpness: f64| match (value(i), value(i + 1)) {
        (Some(time), Some(half)) => {
            Ramp { time: Seconds::new(time), half: Bytes::new(half), sharpness }
        }
        _ => Ramp::NONE,
    };
    Curve {
        floor: Seconds::new(value(0).unwrap_or_default()),
        overlap: 1.0,
        bandwidth: BytesPerSecond::new(value(1).unwrap_or(1.0)),
        ramps: [ramp(2, 1.0), ramp(4, sharpness)],
        congestion: Congestion::NONE,
    }
}

fn curve_of(points: &[Point]) -> Option<Curve> {
    let ramps = ROWS.iter().filter(|rows| points.len() >= **rows).count().checked_sub(1)?;
    let floor = points.iter().map(|point| point.time).fold(f64::INFINITY, f64::min);
    let fastest = points.iter().map(|point| point.wire.get() / point.time).fold(1.0, f64::max);
    let start = [floor * 0.9, fastest * 1.1, floor * 0.3, 3e4, floor * 2.0, 3e6].map(f64::ln);
    let start = &start[..2 + 2 * ramps];
    let sharpness = points.first()?.sharpness;
    let loss = |logs: &[f64]| {
        let curve = curve(logs, sharpness);
        let sum: f64 = points
            .iter()
            .map(|point| {
                let error = (1.0 + point.error(&curve)).ln();
                error.abs() + 0.3 * error * error
            })
            .sum();
        sum / points.len() as f64
    };
    Some(curve(&minimise(&loss, start, EVALUATIONS.0, EVALUATIONS.1).0, sharpness))
}

fn held_out(points: &[Point]) -> Option<Vec<f64>> {
    let sizes: Vec<Vec<u64>> = points.iter().map(|p| vec![p.size.get().to_bits()]).collect();
    let folds = folds(&sizes)?;
    let mut errors = vec![0.0; points.len()];
    for fold in 0..=folds.iter().copied().max()? {
        let seen: Vec<Point> = points
            .iter()
            .zip(&folds)
            .filter(|(_, of)| **of != fold)
            .map(|(p, _)| Point { ..*p })
            .collect();
        let curve = curve_of(&seen)?;
        for (i, point) in points.iter().enumerate().filter(|(i, _)| folds[*i] == fold) {
            errors[i] = point.error(&curve);
        }
    }
    Some(errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::validate::measured::{Op, Software, Subset};

    #[test]
    fn times_made_by_a_curve_give_it_back() {
        let truth = curve(&[10e-6, 300e9, 20e-6, 3e6].map(f64::ln), 1.0);
        let row = |exponent: i32| {
            let size = Bytes::new(f64::from(exponent).exp2());
            Measured {
                line: 2,
                device: "d".to_owned(),
                software: Software::default(),
                op: Op::AllReduce,
                subset: Subset::of_size(size),
                case: Case::Collective {
                    kernel: CollectiveKernel::Nccl,
                    operation: Collective::AllReduce,
                    devices: 4,
                    size,
                },
                time: truth.time(size * 1.5),
                launch: Launch::None,
                simulated: None,
            }
        };
        let rows: Vec<Measured> = (10..30).map(row).collect();
        let found = fit(&rows.iter().collect::<Vec<_>>()).unwrap();
        assert!(found.errors.mean < 0.01, "{found:?}");
        assert!(found.held_out.unwrap().mean < 0.1, "{found:?}");
        assert!((found.fitted.curve.bandwidth.get() / 300e9 - 1.0).abs() < 0.02, "{found:?}");
        assert!(fit(&rows[..2].iter().collect::<Vec<_>>()).is_none());
    }
}
