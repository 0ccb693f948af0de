//! The all-to-all of the MoE-GPS paper.

use crate::units::{Bytes, BytesPerSecond, Seconds};

/// One all-to-all as the paper prices it.
///
/// ```text
/// a2a(f) = L + k_comm · T·d·b · (N − 1) · f / N² / W
/// ```
///
/// - `tokens` is T·d·b, the bytes of all tokens of the step; `f` is 1 when received
///   tokens are balanced, the expert skewness otherwise; `k_comm` copies of a token.
/// - Source: Ma, Du, Chen, arXiv 2506.07366, as settled in `docs/cost-model.md`.
/// - Valid in paper mode only.
/// - Worked number: 4 MiB, 4 devices, f = 1.39, 300e9 B/s, 8.92 µs: 12.564 µs.
#[must_use]
pub fn all_to_all(
    tokens: Bytes,
    devices: u32,
    factor: f64,
    k_comm: f64,
    bandwidth: BytesPerSecond,
    latency: Seconds,
) -> Seconds {
    let n = f64::from(devices);
    latency + tokens * (k_comm * (n - 1.0) * factor / (n * n)) / bandwidth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_of_the_paper_has_this_all_to_all() {
        let time = |factor| {
            all_to_all(
                Bytes::new(4_194_304.0),
                4,
                factor,
                1.0,
                BytesPerSecond::new(300e9),
                Seconds::new(8.92e-6),
            )
        };
        assert!((time(1.39).get() - 12.563_802e-6).abs() < 1e-11, "{:?}", time(1.39));
        // attention + all-reduce + 2·a2a(s) + s·ffn = 1.147218 ms
        let layer = 0.246e-3 + 0.0546e-3 + 2.0 * time(1.39).get() + 1.39 * 0.591e-3;
        assert!((layer / 1.147_218e-3 - 1.0).abs() < 1e-6, "{layer}");
    }
}
