//! The least that products take, whatever their size: the host that launched them, and the kernel that
//! a library takes for few rows. Both are steps, which no search over smooth constants finds.

use std::collections::BTreeMap;

use crate::calibrate::parameters::{Family, Sample};
use crate::validate::measured::Case;
use moe_gps_core::cost::gemm::FewRows;
use moe_gps_core::hardware::Stack;
use moe_gps_core::units::Seconds;

/// No product of few rows takes a kernel so long, least of all a small one: it is the host.
const HOST: f64 = 40e-6;

/// Constants that times of the host say nothing of.
pub(super) const HIDDEN: [&str; 7] = [
    "start_s",
    "split_s",
    "tile_overhead_s",
    "vector_start_s",
    "ramp_s",
    "input_row_s",
    "input_passes",
];

/// How far above the least time of all shapes those lie that wait for nothing but the floor.
const NEAR: f64 = 1.3;

/// By how much the floor of few rows differs where they have a kernel of their own.
const STEP: f64 = 1.25;

/// The stack with the floors that the samples show; the same where they are no products.
pub(super) fn set(family: Family, samples: &[Sample], stack: &Stack) -> Stack {
    let mut stack = stack.clone();
    if family != Family::Gemm {
        return stack;
    }
    let floors = floors(samples);
    let constants = &mut stack.gemm.constants;
    (constants.few, constants.host) = (FewRows::NONE, Seconds::ZERO);
    let Some(&(_, many)) = floors.get(floors.len() / 2) else { return stack };
    let timed_by_host = many > HOST;
    if timed_by_host {
        constants.host = Seconds::new(many);
        (constants.input_row, constants.input_passes) = (Seconds::ZERO, 0.0);
    }
    let own = |floor: f64| {
        let slower = floor > many * STEP;
        slower || timed_by_host && floor < many / STEP
    };
    let few: Vec<(f64, f64)> = floors.into_iter().take_while(|(_, floor)| own(*floor)).collect();
    if let Some(&(rows, _)) = few.last() {
        let least = few.iter().map(|(_, floor)| floor).sum::<f64>() / few.len() as f64;
        constants.few = FewRows { rows, least: Seconds::new(least) };
    }
    stack
}

/// The floor of every number of rows, from few to many: the median of what lies near the least.
fn floors(samples: &[Sample]) -> Vec<(f64, f64)> {
    let mut by_rows: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for sample in samples {
        if let Case::Gemm { m, .. } = sample.row.case {
            by_rows.entry(m.to_bits()).or_default().push(sample.row.time.get());
        }
    }
    let floor = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let least = times.get(times.len() / 10).copied().unwrap_or_default();
        times.retain(|time| *time <= least * NEAR);
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    by_rows.into_iter().map(|(rows, times)| (f64::from_bits(rows), floor(times))).collect()
}
