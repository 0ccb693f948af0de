//! Rows that differ in one thing only: uneven against even loads, with and without a plan.

use std::collections::BTreeMap;

use crate::duplication_pays::{Sides, Verdicts};
use crate::validate::errors::Errors;
use crate::validate::measured::{Case, Loads, Measured, Subset};
use crate::validate::price::{Estimate, Unpriced};
use moe_gps_core::advice::uncertainty::{RESPONSE, UNMODELLED};
use moe_gps_core::units::Seconds;

/// Times of one row: measured, predicted.
type Times = (f64, f64);

/// Relative errors of time(uneven)/time(even), over the rows of experts with known loads
/// that have an even counterpart of the same shape and number of tokens.
#[must_use]
pub fn skew_response(rows: &[Measured], estimates: &[Result<Estimate, Unpriced>]) -> Vec<f64> {
    let mut even: BTreeMap<_, Times> = BTreeMap::new();
    let mut uneven: Vec<(_, Times)> = Vec::new();
    for (row, estimate) in rows.iter().zip(estimates) {
        let (Case::Experts(case), Ok(estimate)) = (&row.case, estimate) else { continue };
        let Loads::Counts { tokens, zipf } = &case.loads else { continue };
        let shape = [case.hidden, case.intermediate, tokens.iter().sum()].map(f64::to_bits);
        let key = (&row.device, &row.software, &case.model, shape, tokens.len(), case.looped);
        let times = (row.time.get(), estimate.time.get());
        if *zipf > 0.0 {
            uneven.push((key, times));
        } else {
            even.insert(key, times);
        }
    }
    uneven
        .into_iter()
        .filter_map(|(key, (measured, predicted))| {
            let (even_measured, even_predicted) = even.get(&key)?;
            Some((predicted / even_predicted) / (measured / even_measured) - 1.0)
        })
        .collect()
}

/// The intervals of gains on pairs of rows of one device and software, in ln.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairsOf {
    /// ln measured gain, ln predicted gain, and half of the interval around that.
    pub gains: Vec<[f64; 3]>,
}

impl PairsOf {
    /// How many measured gains lie in their intervals.
    #[must_use]
    pub fn covered(&self) -> usize {
        self.gains.iter().filter(|[measured, mid, half]| (measured - mid).abs() <= *half).count()
    }

    /// How many have the other sign, outside the interval.
    #[must_use]
    pub fn opposite(&self) -> usize {
        let opposite = |[measured, mid, half]: &&[f64; 3]| {
            measured * mid < 0.0 && (measured - mid).abs() > *half
        };
        self.gains.iter().filter(opposite).count()
    }

    /// The median half of an interval, and the median error.
    #[must_use]
    pub fn medians(&self) -> [f64; 2] {
        let median = |of: &dyn Fn(&[f64; 3]) -> f64| {
            let values: Vec<f64> = self.gains.iter().map(of).collect();
            Errors::of(&values).map_or(0.0, |errors| errors.median)
        };
        [median(&|[_, _, half]| *half), median(&|[measured, mid, _]| measured - mid)]
    }
}

/// Of standard deviations, as many as hold nine values of ten: what error bands hold, too.
const NINE_OF_TEN: f64 = 1.645;

/// Rows that differ in their loads only, against the same row under equal loads; with a plan against
/// without: the measured gain and the interval that an answer would print for it.
///
/// Loads drawn for no more choices than experts are left out, since the rule of the later tables is not
/// known: there a step of one token on one of eight devices takes the time of one expert's weights, where the
/// rule ([`crate::duplication_pays::draw`]) puts all its experts on the last device, as earlier tables do.
#[must_use]
pub fn gains(
    rows: &[Measured],
    estimates: &[Result<Estimate, Unpriced>],
) -> BTreeMap<(String, String), PairsOf> {
    let mut bare: BTreeMap<_, (f64, &Estimate)> = BTreeMap::new();
    let mut others: Vec<(_, (f64, &Estimate))> = Vec::new();
    for (row, estimate) in rows.iter().zip(estimates) {
        let (Case::Experts(case), Ok(estimate)) = (&row.case, estimate) else { continue };
        if row.subset == Subset::Excluded {
            continue;
        }
        let of = |pairs: f64, exponent: u64| {
            let of_group = [case.group_tokens.unwrap_or_default(), case.group_pairs, pairs.round()];
            let shape = [case.hidden, case.intermediate].map(f64::to_bits);
            let software = (&row.device, &row.software, &row.format, &case.model, case.looped);
            (software, shape, of_group.map(f64::to_bits), exponent)
        };
        let timed = (row.time.get(), estimate);
        match &case.loads {
            Loads::Counts { tokens, zipf } if *zipf <= 0.0 => {
                bare.insert(of(tokens.iter().sum(), 0), timed);
            }
            Loads::Counts { tokens, .. } => others.push((of(tokens.iter().sum(), 0), timed)),
            Loads::Drawn(drawn) => {
                let pairs = f64::from(drawn.tokens) * f64::from(drawn.top_k);
                if pairs <= f64::from(drawn.experts) {
                    continue;
                }
                let each = pairs / f64::from(drawn.devices);
                let exponent = drawn.exponent.to_bits();
                if drawn.plan_slots.is_some() {
                    others.push((of(each, exponent), timed));
                } else {
                    others.push((of(each, 0), timed));
                    bare.insert(of(each, exponent), timed);
                }
            }
        }
    }
    let mut found: BTreeMap<(String, String), PairsOf> = BTreeMap::new();
    for (key, (time, estimate)) in others {
        let Some((base, from)) = bare.get(&key) else { continue };
        let (Some(one), Some(other)) = (from.doubts, estimate.doubts) else { continue };
        let mid = (from.time / estimate.time).ln();
        let doubts = [
            one.memory - other.memory,
            one.arithmetic - other.arithmetic,
            NINE_OF_TEN * one.draws,
            NINE_OF_TEN * other.draws,
            UNMODELLED,
            RESPONSE * mid,
        ];
        let half = doubts.iter().map(|d| d * d).sum::<f64>().sqrt();
        let gain = [(base / time).ln(), mid, half];
        let ((device, software, ..), ..) = key;
        found.entry((device.clone(), software.label())).or_default().gains.push(gain);
    }
    found
}

/// How often the faster of EPLB's plan and contiguous experts was named, under equal loads.
#[must_use]
pub fn duels(rows: &[Measured], estimates: &[Result<Estimate, Unpriced>]) -> Verdicts {
    let mut without: BTreeMap<_, Times> = BTreeMap::new();
    let mut with: Vec<(_, Times)> = Vec::new();
    for (row, estimate) in rows.iter().zip(estimates) {
        let (Case::Experts(case), Ok(estimate)) = (&row.case, estimate) else { continue };
        let Loads::Drawn(drawn) = &case.loads else { continue };
        let (exponent, [tokens, top_k, experts, devices, plan]) = drawn.key();
        let key = (
            &row.device,
            &row.software,
            exponent,
            [tokens, top_k, experts, devices],
            case.hidden.to_bits(),
        );
        let times = (row.time.get(), estimate.time.get());
        if plan > 0 {
            with.push((key, times));
        } else {
            without.insert(key, times);
        }
    }
    let mut verdicts = Verdicts::default();
    for (key, (measured, predicted)) in with {
        let Some((bare_measured, bare_predicted)) = without.get(&key) else { continue };
        let sides = |in_order: f64, balanced: f64| Sides {
            in_order: Seconds::new(in_order),
            balanced: Seconds::new(balanced),
        };
        verdicts.add(&sides(*bare_measured, measured), &sides(*bare_predicted, predicted));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::draws::Drawn;
    use crate::validate::measured::{ExpertCase, Launch, Op, Software, Subset};
    use moe_gps_core::system::Operands;

    fn row(loads: Loads, time: f64) -> Measured {
        Measured {
            line: 2,
            device: "d".to_owned(),
            software: Software::default(),
            format: String::new(),
            operands: Operands::BF16,
            op: Op::GroupedExpertFfn,
            subset: Subset::All,
            case: Case::Experts(ExpertCase {
                model: "m".to_owned(),
                hidden: 4096.0,
                intermediate: 14336.0,
                gated: true,
                group_tokens: None,
                group_pairs: 0.0,
                loads,
                looped: false,
            }),
            time: Seconds::new(time),
            launch: Launch::None,
            simulated: None,
        }
    }

    fn estimates(times: &[f64]) -> Vec<Result<Estimate, Unpriced>> {
        let priced = |&time| Ok(Estimate::of(Seconds::new(time)));
        times.iter().map(priced).collect()
    }

    #[test]
    fn ratios_are_compared_with_ratios() {
        let counts = |tokens: [f64; 2], zipf| Loads::Counts { tokens: tokens.to_vec(), zipf };
        let rows = [
            row(counts([4.0, 4.0], 0.0), 1.0),
            row(counts([6.0, 2.0], 1.0), 1.5),
            row(counts([9.0, 2.0], 1.0), 1.5),
        ];
        // Measured 1.5 times as long, predicted 2.0/1.25 = 1.6 times; the last has no partner.
        let errors = skew_response(&rows, &estimates(&[1.25, 2.0, 9.0]));
        assert_eq!(errors.len(), 1);
        assert!((errors[0] - (1.6 / 1.5 - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn clear_pairs_are_won_or_lost() {
        let loads = |tokens, plan_slots| {
            Loads::Drawn(Drawn {
                exponent: 1.2,
                tokens,
                top_k: 8,
                experts: 64,
                devices: 8,
                plan_slots,
            })
        };
        let rows = [
            row(loads(1, None), 1.0),
            row(loads(1, Some(64)), 0.5),
            row(loads(1, Some(72)), 1.2),
            row(loads(2, None), 1.0),
            row(loads(2, Some(64)), 1.02),
            row(loads(3, Some(64)), 1.0),
        ];
        let found = duels(&rows, &estimates(&[2.0, 1.0, 1.5, 2.0, 1.0, 1.0]));
        let expected = Verdicts { wins: 1, wins_named: 1, losses: 1, losses_named: 0 };
        assert_eq!(found, expected);
    }
}
