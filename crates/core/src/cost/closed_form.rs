//! The plain closed form of a matrix product, used by the paper preset.
//!
//! # Law
//!
//! t = t0 + max(2·M·N·K / (η·P), bytes / (β·BW)), bytes = b·(M·K + K·N + M·N)
//!
//! # Source
//!
//! Fitted to LLMCompass's published A100-80GB measurements (20 products through PyTorch):
//! η = 0.896 of P = 311.9 TFLOP/s, β = 0.942 of BW = 2039 GB/s, 2.9 % mean error in
//! sample, 4.1 % leave-one-out. Its t0 of 31.2 µs is mostly host launch; LLMCompass
//! itself adds 21 µs per product, 12 µs per softmax and 45 µs per norm or activation.
//!
//! # Worked number
//!
//! M = 2048, K = N = 12288, 16 bit: compute 618.5 GFLOP / 279.5 TFLOP/s = 2213 µs, memory
//! 402.7 MB / 1921 GB/s = 210 µs, with t0 2244 µs; measured 2359 µs (−4.9 %).

use crate::units::{BytesPerSecond, FlopsPerSecond, Seconds};

/// Constants of the closed form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClosedForm {
    /// Start-up, t0.
    pub start: Seconds,
    /// Rate reached, η·P.
    pub rate: FlopsPerSecond,
    /// Bandwidth reached, β·BW.
    pub bandwidth: BytesPerSecond,
    /// Bytes per element, b.
    pub element: f64,
}

/// The A100-80GB as LLMCompass's authors measured it, start-up included.
pub const A100_80GB: ClosedForm = ClosedForm {
    start: Seconds::new(31.2e-6),
    rate: FlopsPerSecond::new(0.896 * 311.9e12),
    bandwidth: BytesPerSecond::new(0.942 * 2039e9),
    element: 2.0,
};

/// Launch time LLMCompass adds to a matrix product on the A100.
pub const LLMCOMPASS_GEMM_LAUNCH: Seconds = Seconds::new(21e-6);

/// Launch time LLMCompass adds to a softmax on the A100.
pub const LLMCOMPASS_SOFTMAX_LAUNCH: Seconds = Seconds::new(12e-6);

/// Launch time LLMCompass adds to a norm or an activation on the A100.
pub const LLMCOMPASS_ROW_LAUNCH: Seconds = Seconds::new(45e-6);

impl ClosedForm {
    /// The time of `C[m,n] = A[m,k]·B[k,n]`.
    #[must_use]
    pub fn time(&self, m: f64, n: f64, k: f64) -> Seconds {
        let compute = 2.0 * m * n * k / self.rate.get();
        let memory = self.element * (m * k + k * n + m * n) / self.bandwidth.get();
        self.start + Seconds::new(compute.max(memory))
    }

    /// The same form with another start-up time.
    #[must_use]
    pub const fn with_start(self, start: Seconds) -> Self {
        Self { start, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use rstest::rstest;

    #[test]
    fn the_worked_number_comes_out() {
        let time = A100_80GB.time(2048.0, 12288.0, 12288.0).get();
        assert_relative_eq!(time, 2244.4e-6, max_relative = 1e-3);
    }

    // The calibrated knee of an expert matrix is at M = 145.
    #[rstest]
    #[case(100.0, true)]
    #[case(144.0, true)]
    #[case(150.0, false)]
    fn the_knee_of_a_large_matrix_is_at_145_rows(#[case] m: f64, #[case] flat: bool) {
        let slope = A100_80GB.time(m + 1.0, 1e7, 1e7) - A100_80GB.time(m, 1e7, 1e7);
        let linear = Seconds::new(2.0 * 1e14 / A100_80GB.rate.get());
        assert_eq!(slope.get() < 0.5 * linear.get(), flat);
    }
}
