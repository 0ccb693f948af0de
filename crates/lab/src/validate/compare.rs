//! A published simulator beside the laws: the errors of both against measured kernels.
//!
//! The simulator is LLMCompass (Zhang et al., ISCA 2024, commit 2e015fd). With its own
//! assumptions, its launch time on the closed form of a product and its link formula, the
//! laws should answer what it answers.

use std::collections::BTreeMap;

use crate::validate::measured::{Case, Measured, Op};
use crate::validate::price::{Estimate, Unpriced};
use moe_gps_core::comm::llmcompass;
use moe_gps_core::comm::profile::Collective;
use moe_gps_core::cost::closed_form::{A100_80GB, LLMCOMPASS_GEMM_LAUNCH};
use moe_gps_core::units::{BytesPerSecond, Seconds};

/// 12 links of 25 GB/s, as LLMCompass describes an A100.
const LINKS: BytesPerSecond = BytesPerSecond::new(12.0 * 25e9);

/// Latency of a link in LLMCompass's description of an A100.
const LINK_LATENCY: Seconds = Seconds::new(8.92e-6);

/// Relative errors of both on the rows of one operator.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// The simulator against measured kernels.
    pub simulator: Vec<f64>,
    /// The laws with their fitted constants against measured kernels, on the same rows.
    pub laws: Vec<f64>,
    /// The laws with the simulator's assumptions against measured kernels.
    pub assumed: Vec<f64>,
    /// The laws with the simulator's assumptions against the simulator.
    pub assumed_to_simulator: Vec<f64>,
}

/// Compares on every row that a simulator has answered, operator by operator.
#[must_use]
pub fn simulator(
    rows: &[Measured],
    estimates: &[Result<Estimate, Unpriced>],
) -> BTreeMap<Op, Comparison> {
    let mut all: BTreeMap<Op, Comparison> = BTreeMap::new();
    for (row, estimate) in rows.iter().zip(estimates) {
        let (Some(simulated), Ok(estimate)) = (row.simulated, estimate) else { continue };
        let found = all.entry(row.op).or_default();
        found.simulator.push(simulated / row.time - 1.0);
        found.laws.push(estimate.time / row.time - 1.0);
        if let Some(assumed) = with_its_assumptions(&row.case) {
            found.assumed.push(assumed / row.time - 1.0);
            found.assumed_to_simulator.push(assumed / simulated - 1.0);
        }
    }
    all
}

/// What the laws say with LLMCompass's launch time and link.
#[must_use]
pub fn with_its_assumptions(case: &Case) -> Option<Seconds> {
    match case {
        Case::Gemm { m, n, k } => {
            Some(A100_80GB.with_start(LLMCOMPASS_GEMM_LAUNCH).time(*m, *n, *k))
        }
        Case::Collective { operation: Collective::AllReduce, devices, size, .. } => {
            Some(llmcompass::all_reduce(*size, *devices, LINKS, LINK_LATENCY))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moe_gps_core::comm::profile::CollectiveKernel;
    use moe_gps_core::units::Bytes;

    // Its own answers: 54.6 µs for 4 MiB over 4 devices; 2216.0 µs with its launch time for
    // M = 2048, K = N = 12288.
    #[test]
    fn its_assumptions_give_about_its_answers() {
        let all_reduce = Case::Collective {
            kernel: CollectiveKernel::Nccl,
            operation: Collective::AllReduce,
            devices: 4,
            size: Bytes::new(4_194_304.0),
        };
        let time = with_its_assumptions(&all_reduce).unwrap().get();
        assert!((time - 54.6e-6).abs() < 0.1e-6, "{time}");
        let product = Case::Gemm { m: 2048.0, n: 12288.0, k: 12288.0 };
        let time = with_its_assumptions(&product).unwrap().get();
        assert!((time / 2216.0e-6 - 1.0).abs() < 0.02, "{time}");
        assert_eq!(with_its_assumptions(&Case::NoLaw("nothing")), None);
    }
}
