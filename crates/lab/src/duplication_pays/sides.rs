//! What the busiest device computes, with experts in order and under EPLB's plan.

use moe_gps_core::placement::{PlacementError, Shape, eplb};

/// Tokens of every slot of the busiest device, experts in order over devices.
///
/// Ties go to the lower device; with no tokens it is the first.
#[must_use]
pub fn in_order(load: &[u32], devices: u32) -> Vec<f64> {
    let loads: Vec<f64> = load.iter().map(|&n| f64::from(n)).collect();
    let per_device = load.len().div_ceil(devices.max(1) as usize).max(1);
    busiest(&loads, per_device).map(<[f64]>::to_vec).unwrap_or_default()
}

/// Tokens of every slot of the busiest device under EPLB's plan for that very load.
///
/// Replicas share an expert's tokens evenly and get whole tokens: shares are rounded down
/// and what is left goes to the largest remainders, the busiest device first.
pub fn balanced(load: &[u32], devices: u32, slots: u32) -> Result<Vec<f64>, PlacementError> {
    let loads: Vec<f64> = load.iter().map(|&n| f64::from(n)).collect();
    let experts = u32::try_from(load.len()).unwrap_or(u32::MAX);
    let map = eplb::flat(&loads, Shape::new(experts, devices, slots)?)?;
    let map = map.physical_to_logical();
    let mut replicas = vec![0.0; load.len()];
    for &expert in map {
        replicas[expert as usize] += 1.0;
    }
    let shares: Vec<f64> = map.iter().map(|&e| loads[e as usize] / replicas[e as usize]).collect();
    let per_device = slots as usize / devices as usize;
    let Some(own) = busiest(&shares, per_device) else { return Ok(Vec::new()) };
    let mut counts: Vec<f64> = own.iter().map(|share| share.floor()).collect();
    let floors: f64 = shares.iter().map(|share| share.floor()).sum();
    let mut left = loads.iter().sum::<f64>() - floors;
    let mut by_remainder: Vec<usize> = (0..own.len()).collect();
    by_remainder.sort_by(|&a, &b| own[b].fract().total_cmp(&own[a].fract()));
    for slot in by_remainder {
        // Slots elsewhere with a strictly larger remainder come first.
        let larger = shares.iter().filter(|share| share.fract() > own[slot].fract()).count();
        let own_larger = own.iter().filter(|share| share.fract() > own[slot].fract()).count();
        let elsewhere = (larger - own_larger) as f64;
        if left - elsewhere < 1.0 {
            break;
        }
        counts[slot] += 1.0;
        left -= 1.0;
    }
    Ok(counts)
}

/// The device's part of `tokens` with the largest sum.
fn busiest(tokens: &[f64], per_device: usize) -> Option<&[f64]> {
    let mut best: Option<(f64, &[f64])> = None;
    for part in tokens.chunks(per_device) {
        let sum: f64 = part.iter().sum();
        if best.is_none_or(|(most, _)| sum > most) {
            best = Some((sum, part));
        }
    }
    best.map(|(_, part)| part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_group_of_neighbours_is_the_busiest_device() {
        assert_eq!(in_order(&[1, 5, 4, 3], 2), [4.0, 3.0]);
        assert_eq!(in_order(&[2, 2, 4, 0], 2), [2.0, 2.0]);
    }

    #[test]
    fn the_plan_pairs_heavy_with_light() {
        // 9 → 0, 5 → 1, 3 → 1, 1 → 0: 10 against 8
        assert_eq!(balanced(&[9, 5, 3, 1], 2, 4).unwrap(), [9.0, 1.0]);
    }

    #[test]
    fn replicas_get_whole_tokens_and_the_busiest_device_the_remainder() {
        // One token, five slots on one device: shares of a fifth, one of them gets it.
        assert_eq!(balanced(&[1], 1, 5).unwrap(), [1.0, 0.0, 0.0, 0.0, 0.0]);
        // Two devices of two slots: shares 3.5, 3.5 and 1, 1: each device 4.5.
        assert_eq!(balanced(&[7, 1, 1], 2, 4).unwrap(), [4.0, 1.0]);
    }

    #[test]
    fn a_load_that_does_not_fit_is_refused() {
        assert!(balanced(&[1, 1, 1], 2, 3).is_err());
    }
}
