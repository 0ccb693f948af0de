//! Tokens per expert as the measured tables drew them.
//!
//! Every expert's weight is an independent draw from a power law with exponent a, bounded
//! to 1 … 0.8·T, or to 0.01 … 2 where a step has no more choices than experts (T·k ≤ E).
//! Weights are scaled to T·k and rounded; no expert gets more than T tokens; what clipping
//! and rounding leave over goes, one token each, to the experts with the fewest, later ids
//! first, and what they exceed by is taken from them in the same order:
//!
//! ```text
//! x = ((hi^(1−a) − lo^(1−a))·u + lo^(1−a))^(1/(1−a))      u uniform on [0, 1)
//! n = min(T, round(T·k · x / Σ x)), mended to Σ n = T·k
//! ```
//!
//! Source: the collector of aiconfigurator (`collector/helper.py`), read and rewritten; its
//! draws are unseeded, so the measured loads themselves are not known. Checked against the
//! tokens on the busiest device that the tables do give: exact up to 4 tokens.

use crate::duplication_pays::DrawnCase;

/// Tokens per expert of one draw; `uniform` holds one number in [0, 1) per expert.
#[must_use]
pub fn tokens_per_expert(case: &DrawnCase, uniform: &[f64]) -> Vec<u32> {
    let (tokens, top_k) = (f64::from(case.tokens), f64::from(case.top_k));
    let choices = u64::from(case.tokens) * u64::from(case.top_k);
    let (lo, hi): (f64, f64) =
        if choices > u64::from(case.experts) { (1.0, 0.8 * tokens) } else { (0.01, 2.0) };
    let power = 1.0 - case.exponent;
    let weights: Vec<f64> = uniform
        .iter()
        .map(|u| {
            if power.abs() < 1e-9 {
                lo * (hi / lo).powf(*u)
            } else {
                ((hi.powf(power) - lo.powf(power)) * u + lo.powf(power)).powf(power.recip())
            }
        })
        .collect();
    let scale = tokens * top_k / weights.iter().sum::<f64>();
    let mut counts: Vec<u32> =
        weights.iter().map(|x| whole((x * scale).round_ties_even().min(tokens))).collect();
    mend(&mut counts, choices, case.tokens);
    counts
}

/// Brings the sum of `counts` to `choices`, none above `most`.
fn mend(counts: &mut [u32], choices: u64, most: u32) {
    let mut fewest_first: Vec<usize> = (0..counts.len()).rev().collect();
    fewest_first.sort_by_key(|&e| counts[e]);
    let mut sum: u64 = counts.iter().map(|&n| u64::from(n)).sum();
    let reachable = u64::from(most) * counts.len() as u64;
    for &expert in fewest_first.iter().cycle() {
        if sum == choices.min(reachable) {
            break;
        }
        if sum < choices {
            if counts[expert] < most {
                counts[expert] += 1;
                sum += 1;
            }
        } else if let Some(fewer) = counts[expert].checked_sub(1) {
            counts[expert] = fewer;
            sum -= 1;
        } else if let Some(heaviest) = counts.iter_mut().max() {
            *heaviest -= 1;
            sum -= 1;
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rounded count between 0 and a u32"
)]
fn whole(x: f64) -> u32 {
    x.max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn case(experts: u32, top_k: u32, tokens: u32, exponent: f64) -> DrawnCase {
        DrawnCase { experts, top_k, devices: 1, slots: experts, tokens, exponent }
    }

    // T·k = 8 ≤ E = 8: weights at u = 0 are 0.01, at u → 1 two; scaled to 8 in all.
    #[test]
    fn few_tokens_are_drawn_below_one_per_expert_and_the_rest_goes_to_the_last() {
        let uniform = [0.999_999, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        // 2/2.07·8 = 7.73 → clipped at T = 4; the others round to 0; 4 left over.
        assert_eq!(tokens_per_expert(&case(8, 2, 4, 1.01), &uniform), [4, 0, 0, 0, 1, 1, 1, 1]);
    }

    proptest! {
        #[test]
        fn every_choice_is_dealt_and_no_expert_exceeds_the_tokens(
            tokens in 1_u32..3000,
            top_k in 1_u32..8,
            exponent in 0.5..1.5_f64,
            uniform in proptest::collection::vec(0.0..1.0_f64, 16),
        ) {
            let counts = tokens_per_expert(&case(16, top_k, tokens, exponent), &uniform);
            prop_assert_eq!(counts.iter().sum::<u32>(), tokens * top_k);
            prop_assert!(counts.iter().all(|&n| n <= tokens));
        }
    }
}
