//! How many kernels a layer launches when no graph is replayed.
//!
//! The count times the host time per launch (`assumptions.launch`, or the device's eager
//! launch time) is what eager execution adds. Under CUDA graphs it is about zero: the
//! start-up constants of the laws already hold what replay costs.
//!
//! Counts are those of the kernels the laws price, one per priced operator, as unfused
//! frameworks launch them: attention has two norms, three projections (one fused QKV, one
//! output, one rotary and cache write) and the kernel itself; latent attention has two
//! more projections (compression of queries, compression of keys and values) and their
//! norms; the router is a product and a top-k; experts are six kernels (sort, gather, two
//! products, activation, sum); a dense or shared block is three (two products, one
//! activation); collectives are one each and counted by whoever places them.

use crate::model::Attention;

/// Launches of attention with its norms.
#[must_use]
pub const fn attention(kind: &Attention) -> f64 {
    match kind {
        Attention::Grouped { .. } => 6.0,
        Attention::Latent { .. } => 10.0,
    }
}

/// Launches of the router: product, softmax with top-k.
pub const ROUTER: f64 = 2.0;

/// Launches of a device's routed experts.
pub const EXPERTS: f64 = 6.0;

/// Launches of a dense feed-forward block or of the shared experts.
pub const DENSE: f64 = 3.0;
