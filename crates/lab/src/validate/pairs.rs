//! Rows that differ in one thing only: uneven against even loads, with and without a plan.

use std::collections::BTreeMap;

use crate::duplication_pays::{Sides, Verdicts};
use crate::validate::measured::{Case, Loads, Measured};
use crate::validate::price::{Estimate, Unpriced};
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
        let priced = |&time| Ok(Estimate { time: Seconds::new(time), note: None });
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
