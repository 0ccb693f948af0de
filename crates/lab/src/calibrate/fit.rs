//! One law's constants fitted to the measurements of one piece of software.

use crate::calibrate::held_out::{folds, held_out};
use crate::calibrate::parameters::{Family, Parameter, Sample};
use crate::calibrate::simplex::minimise;
use moe_gps_core::hardware::{Device, Stack};

/// Parts the shapes are split into; each is held out once.
const FOLDS: usize = 3;

/// Evaluations of the loss from one starting point, for every free constant.
const EVALUATIONS: usize = 200;

/// Rounds they are spread over.
const ROUNDS: usize = 3;

/// Weight of the squared logarithmic error beside the absolute one: outliers count.
const SQUARED: f64 = 0.3;

/// What leaving the bounds of a constant costs per unit of its logarithm.
const OUT_OF_BOUNDS: f64 = 0.02;

/// Constants that were fitted, with the relative errors they leave.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// A stack that holds them.
    pub stack: Stack,
    /// Of every row the fit had seen, in order.
    pub errors: Vec<f64>,
    /// Of every row by a fit without its shape; `None` with fewer shapes than parts.
    pub held_out: Option<Vec<f64>>,
}

/// Why measurements were not fitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFitted {
    /// Fewer measurements than would decide the constants.
    #[error("{rows} rows cannot decide {constants} constants: measure at least {}", .constants + 1)]
    TooFew {
        /// Rows there are.
        rows: usize,
        /// Free constants of the law.
        constants: usize,
    },
}

/// Fits a law, starting from the constants of `start`.
pub fn fit(
    family: Family,
    free: &[&Parameter],
    samples: &[Sample],
    device: &Device,
    start: &Stack,
) -> Result<Fitted, NotFitted> {
    let constants = free.len();
    if samples.len() <= constants {
        return Err(NotFitted::TooFew { rows: samples.len(), constants });
    }
    let stack = family
        .variants(samples, start, free)
        .iter()
        .flat_map(|variant| starts(free, variant).into_iter().map(|x| (variant.clone(), x)))
        .map(|(variant, x)| search(family, free, samples, device, (&variant, &x)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map_or_else(|| start.clone(), |(stack, _)| stack);
    let predicted = family.times(samples, device, &stack);
    let errors = relative(samples, &predicted);
    let held_out = unseen(family, free, samples, device, &stack);
    Ok(Fitted { stack, errors, held_out })
}

/// Fixed starting points: the constants as they are, and every other one halved or doubled.
fn starts(free: &[&Parameter], stack: &Stack) -> Vec<Vec<f64>> {
    let logs = logs(free, stack);
    let turned = |sign: f64| -> Vec<f64> {
        let ln2 = std::f64::consts::LN_2;
        let step = |i: usize| if i.is_multiple_of(2) { sign * ln2 } else { -sign * ln2 };
        logs.iter().enumerate().map(|(i, x)| x + step(i)).collect()
    };
    vec![logs.clone(), turned(1.0), turned(-1.0)]
}

fn logs(free: &[&Parameter], stack: &Stack) -> Vec<f64> {
    free.iter().map(|p| (p.get)(stack).clamp(p.low, p.high).ln()).collect()
}

/// A stack with constants from logarithms, within bounds and rounded to four digits.
fn with(free: &[&Parameter], stack: &Stack, logs: &[f64]) -> Stack {
    let mut stack = stack.clone();
    for (parameter, x) in free.iter().zip(logs) {
        (parameter.set)(&mut stack, x.exp().clamp(parameter.low, parameter.high));
    }
    stack
}

/// The best stack from one starting point, and its loss.
fn search(
    family: Family,
    free: &[&Parameter],
    samples: &[Sample],
    device: &Device,
    (stack, start): (&Stack, &[f64]),
) -> (Stack, f64) {
    let loss = |logs: &[f64]| {
        let predicted = family.times(samples, device, &with(free, stack, logs));
        let outside: f64 = free
            .iter()
            .zip(logs)
            .map(|(p, x)| (p.low.ln() - x).max(x - p.high.ln()).max(0.0))
            .sum();
        loss_of(samples, &predicted) + OUT_OF_BOUNDS * outside
    };
    let (found, least) = minimise(&loss, start, EVALUATIONS * free.len(), ROUNDS);
    let mut found = with(free, stack, &found);
    for parameter in free {
        let value = (parameter.get)(&found);
        (parameter.set)(&mut found, four_digits(value).clamp(parameter.low, parameter.high));
    }
    (found, least)
}

/// Mean absolute logarithmic error, and some of the squared one.
pub(super) fn loss_of(samples: &[Sample], predicted: &[f64]) -> f64 {
    let times = samples.iter().map(|sample| sample.row.time.get());
    let sum: f64 = times
        .zip(predicted)
        .map(|(measured, predicted)| {
            let error = (predicted / measured).ln();
            error.abs() + SQUARED * error * error
        })
        .sum();
    sum / samples.len().max(1) as f64
}

fn relative(samples: &[Sample], predicted: &[f64]) -> Vec<f64> {
    let pairs = samples.iter().zip(predicted);
    pairs.map(|(sample, predicted)| predicted / sample.row.time.get() - 1.0).collect()
}

/// Errors of every row under a fit that had not seen its shape.
fn unseen(
    family: Family,
    free: &[&Parameter],
    samples: &[Sample],
    device: &Device,
    start: &Stack,
) -> Option<Vec<f64>> {
    let shapes: Vec<_> = samples.iter().map(|sample| family.shape(sample.row)).collect();
    held_out(
        samples,
        &folds(&shapes, FOLDS)?,
        // Not from the constants that have seen every shape, but a factor of 2 off them.
        |seen| {
            let starts = starts(free, start);
            let found = starts.iter().skip(1);
            let found = found.map(|x| search(family, free, seen, device, (start, x)));
            found.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(stack, _)| stack)
        },
        |unseen, stack| relative(unseen, &family.times(unseen, device, stack)),
    )
}

/// A number with four significant digits.
pub(super) fn four_digits(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::errors::Errors;
    use crate::validate::measured::{Case, Launch, Measured, Op, Software, Subset};
    use moe_gps_core::cost::sample;
    use moe_gps_core::system::Operands;
    use moe_gps_core::units::Seconds;

    fn product(m: f64, n: f64, k: f64) -> Measured {
        Measured {
            line: 2,
            device: "sample".to_owned(),
            software: Software::default(),
            format: String::new(),
            operands: Operands::BF16,
            op: Op::Gemm,
            subset: Subset::All,
            case: Case::Gemm { m, n, k },
            time: Seconds::ZERO,
            launch: Launch::None,
            simulated: None,
        }
    }

    /// Products of a device whose constants are known.
    fn measured(stack: &Stack) -> Vec<Measured> {
        let mut rows = Vec::new();
        for (n, k) in [(2048.0, 4096.0), (4096.0, 4096.0), (8192.0, 2048.0), (14336.0, 4096.0)] {
            for m in [1.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0] {
                rows.push(product(m, n, k));
            }
        }
        let device = sample::device();
        let samples: Vec<Sample> =
            rows.iter().map(|row| Sample { row, draws: Vec::new() }).collect();
        let times = Family::Gemm.times(&samples, &device, stack);
        for (row, time) in rows.iter_mut().zip(times) {
            row.time = Seconds::new(time);
        }
        rows
    }

    fn free(samples: &[Sample]) -> Vec<&'static Parameter> {
        Family::Gemm.free(samples)
    }

    #[test]
    fn times_made_by_a_law_give_its_constants_back() {
        let device = sample::device();
        let mut truth = device.stacks[0].clone();
        truth.gemm.constants.compute = 0.6;
        truth.gemm.constants.memory = 0.8;
        truth.gemm.constants.start = Seconds::new(3e-6);
        let rows = measured(&truth);
        let samples: Vec<Sample> =
            rows.iter().map(|row| Sample { row, draws: Vec::new() }).collect();
        let fitted =
            fit(Family::Gemm, &free(&samples), &samples, &device, &device.stacks[0]).unwrap();
        let found = &fitted.stack.gemm.constants;
        let mean = |errors: &[f64]| Errors::of(errors).unwrap().mean;
        assert!(mean(&fitted.errors) < 0.005, "{:?}", fitted.errors);
        let held_out = fitted.held_out.unwrap();
        assert!(mean(&held_out) < 0.05, "{held_out:?}");
        assert!((found.compute - 0.6).abs() < 0.02, "{found:?}");
        assert!((found.start.get() - 3e-6).abs() < 0.5e-6, "{found:?}");
    }

    #[test]
    fn too_few_rows_are_refused() {
        let device = sample::device();
        let rows = measured(&device.stacks[0]);
        let samples: Vec<Sample> =
            rows[..8].iter().map(|row| Sample { row, draws: Vec::new() }).collect();
        let refused =
            fit(Family::Gemm, &free(&samples), &samples, &device, &device.stacks[0]).unwrap_err();
        assert_eq!(refused.to_string(), "8 rows cannot decide 8 constants: measure at least 9");
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert!((four_digits(1.234_56e-6) - 1.235e-6).abs() < 1e-20);
    }
}
