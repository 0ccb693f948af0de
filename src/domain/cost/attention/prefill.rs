//! Attention over whole prompts or chunks of them: flash attention, causal.
//!
//! # Law
//!
//! Queries and keys are cut into blocks of 128. With `n` query blocks of a sequence the
//! causal triangle has n·(n+1)/2 block pairs (fewer under a window, more when a prefix is
//! cached), each query block pays for `v` more (softmax start and end):
//!
//! ```text
//! pair    = 2·128²·(d_qk + d_v) / (η·P/S)
//! total   = B·H·(pairs + v·n)·pair/S,   longest = (reach + v)·pair
//! compute = max(total + e·longest, longest)
//! compute = compute + y·max(0, compute − 3 ms)
//! bytes   = B·L·b·(H·(d_qk + d_v) + x·KV·(d_qk + d_v))
//! t       = t0 + compute + bytes/(β·BW) + r·bytes/(bytes + L2) + g·B·new
//! ```
//!
//! The last multiprocessors to finish leave the others idle for a part e of the longest
//! row of blocks (0 for kernels that schedule rows themselves). Beyond some milliseconds
//! of full load the device lowers its clock: each second takes y longer. Bytes are added,
//! not hidden: engines rotate, split and store queries and keys in passes of their own
//! around the kernel; x says how often keys and values are passed, and g is a kernel that
//! runs one block per token whatever its heads (vLLM writes its cache so).

use super::{Heads, Machine, Span};
use crate::domain::units::Seconds;

/// Tokens of a query or key block.
const BLOCK: f64 = 128.0;

/// Full load that a device holds at its highest clock.
const FULL_CLOCK: f64 = 3e-3;

/// Fitted constants of the prefill law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrefillConstants {
    /// Start-up, t0.
    pub start: Seconds,
    /// Share of the peak rate reached, η.
    pub compute: f64,
    /// Share of the memory bandwidth reached, β.
    pub memory: f64,
    /// Block pairs that starting and ending a query block costs, v.
    pub block_overhead: f64,
    /// Share of the longest row of blocks that nothing hides, e.
    pub tail: f64,
    /// Extra share of the time beyond 3 ms, at a lower clock, y.
    pub sustained: f64,
    /// Passes over keys and values, x.
    pub kv_passes: f64,
    /// Extra time of operands far larger than the cache, r.
    pub ramp: Seconds,
    /// Time of a token in kernels of one block per token, g.
    pub per_token: Seconds,
}

/// The time of causal attention of whole prompts or of chunks of them.
pub(super) fn time(
    c: &PrefillConstants,
    machine: &Machine,
    element: f64,
    heads: &Heads,
    span: &Span,
) -> Seconds {
    if span.sequences <= 0.0 || span.new <= 0.0 {
        return c.start;
    }
    let multiprocessors = machine.multiprocessors;
    let rows = (span.new / BLOCK).ceil();
    let columns = (span.context.max(span.new) / BLOCK).ceil();
    let reach = span.window.map_or(columns, |w| (w / BLOCK).ceil() + 1.0).min(columns);
    // Row j of the block triangle (j = 1 ..= rows) has columns − rows + j pairs, cut
    // off at `reach`: a triangle up to the cut, then full rows.
    let ramped = (reach - (columns - rows)).clamp(0.0, rows);
    let pairs = ramped * (columns - rows) + ramped * (ramped + 1.0) / 2.0 + (rows - ramped) * reach;
    let width = heads.qk_width + heads.v_width;
    let pair = 2.0 * BLOCK * BLOCK * width * multiprocessors / (c.compute * machine.rate);
    let total =
        span.sequences * heads.query * (pairs + c.block_overhead * rows) * pair / multiprocessors;
    let longest = (reach + c.block_overhead) * pair;
    let compute = (total + c.tail * longest).max(longest);
    let bytes = span.sequences
        * element
        * width
        * (span.new * heads.query + c.kv_passes * span.context.max(span.new) * heads.kv);
    Seconds::new(
        c.start.get()
            + compute
            + c.sustained * (compute - FULL_CLOCK).max(0.0)
            + bytes / (c.memory * machine.bandwidth)
            + c.ramp.get() * bytes / (bytes + machine.l2)
            + c.per_token.get() * span.sequences * span.new,
    )
}
