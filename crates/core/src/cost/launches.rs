//! How many kernels a layer launches when no graph is replayed.
//!
//! The count times the host time per launch (`assumptions.launch`, or what the device's profile
//! says, [`HOST_LAUNCH`] in the catalog) is the time of the host, beside which the device computes;
//! [`exposed`] is what eager execution adds. Under CUDA graphs it is about zero: the start-up
//! constants of the laws already hold what replay costs.
//!
//! Counts are those of the kernels the laws price, one per priced operator, as unfused
//! frameworks launch them: attention has two norms, three projections (one fused QKV, one
//! output, one rotary and cache write) and the kernel itself; latent attention has two
//! more projections (compression of queries, compression of keys and values) and their
//! norms; the router is a product and a top-k; experts are six kernels (sort, gather, two
//! products, activation, sum); a dense or shared block is three (two products, one
//! activation); collectives are one each and counted by whoever places them.

use crate::model::Attention;
use crate::units::Seconds;

/// Host time of one launch: 605 µs for the 21 kernels of a layer.
///
/// Source: Mixtral 8x7B in eager PyTorch, 32 layers deep, on four ranks of an H200 host (this
/// project, 2026); a constant of the host and its framework, not of the device.
pub const HOST_LAUNCH: Seconds = Seconds::new(2.881e-5);

/// Share of a layer's time that passes between kernels when each is launched by itself: 3 to 10 %
/// were measured (as [`HOST_LAUNCH`]).
const GAPS: f64 = 0.07;

/// What a layer takes in eager execution beyond the device's time; nothing under graphs.
///
/// ```text
/// other = max(0, host − device) + 7 % · max(host, device)
/// ```
///
/// - Worked numbers (source as [`HOST_LAUNCH`]): host 605, 606, 695, 734 µs beside 533, 787, 1,572,
///   3,026 µs of the device make 647, 842, 1,682, 3,238 µs; measured 623, 862, 1,701, 3,255.
#[must_use]
pub fn exposed(host: Seconds, device: Seconds) -> Seconds {
    if host <= Seconds::ZERO {
        return Seconds::ZERO;
    }
    (host - device).max(Seconds::ZERO) + host.max(device) * GAPS
}

/// Launches of attention with its norms.
#[must_use]
pub const fn attention(kind: &Attention) -> f64 {
    match kind {
        Attention::Grouped { .. } => 6.0,
        Attention::Latent { .. } | Attention::Shared { .. } => 10.0,
    }
}

/// Launches of the router: product, softmax with top-k.
pub const ROUTER: f64 = 2.0;

/// Launches of a device's routed experts.
pub const EXPERTS: f64 = 6.0;

/// Launches of a dense feed-forward block or of the shared experts.
pub const DENSE: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eager_layers_take_what_was_measured() {
        for (host, device, worked, measured) in [
            (605.0, 533.0, 647.35, 623.0),
            (606.0, 787.0, 842.09, 862.0),
            (695.0, 1572.0, 1682.04, 1701.0),
            (734.0, 3026.0, 3237.82, 3255.0),
        ] {
            let us = |time: f64| Seconds::new(time * 1e-6);
            let eager = device + exposed(us(host), us(device)).get() * 1e6;
            assert!((eager - worked).abs() < 1e-6, "{eager}");
            assert!((eager / measured - 1.0).abs() < 0.04, "{eager} {measured}");
        }
        assert_eq!(exposed(Seconds::ZERO, Seconds::new(1e-3)), Seconds::ZERO);
    }
}
