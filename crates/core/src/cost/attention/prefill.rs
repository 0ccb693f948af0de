//! Attention over whole prompts or chunks of them: flash attention, causal.
//!
//! # Law
//!
//! Queries and keys are cut into blocks of 128, the last of them as fine as `ρ` tokens. With `n` query blocks of a sequence the
//! causal triangle has n·(n+1)/2 block pairs (fewer under a window, more when a prefix is
//! cached), each query block pays for `v` more (softmax start and end):
//!
//! ```text
//! pair    = 2·128²·(d_qk + d_v + σ) / (η·P/S)
//! total   = B·H·(pairs + v·n)·pair/S,   longest = (reach + v)·pair
//! compute = max(total + e·longest, longest)
//! compute = compute + y·max(0, compute − 3 ms)
//! bytes   = B·L·b·(H·(d_qk + d_v) + x·KV·(d_qk + d_v))
//! t       = t0 + compute + bytes/(β·BW) + r·bytes/(bytes + L2)
//!         + g·B·new·min(KV·d_qk, 512)/512
//! ```
//!
//! σ is what the softmax of a score costs, in columns of a head: narrow heads wait for exponentials.
//! The last multiprocessors to finish leave the others idle for a part e of the longest
//! row of blocks (0 for kernels that schedule rows themselves). Beyond some milliseconds
//! of full load the device lowers its clock: each second takes y longer. Bytes are added,
//! not hidden: engines rotate, split and store queries and keys in passes of their own
//! around the kernel; x says how often keys and values are passed, and g is a kernel that
//! runs one block of threads per token, a thread for each of its keys' elements up to 512
//! (vLLM writes its cache so, `reshape_and_cache_flash`). Such blocks wait for memory, and
//! fewer large ones fit a multiprocessor: a token takes as long as its block has threads.
//! Worked number: 1 ns for a full block, 1000 tokens of 2 heads of 128: 0.5 µs.

use crate::cost::attention::{Heads, Machine, Span};
use crate::units::Seconds;

/// Threads of the block that writes a token into the cache, at most.
const CACHE_THREADS: f64 = 512.0;

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
    /// Tokens to which the last block of a sequence is cut, ρ.
    pub row_tile: f64,
    /// Blocks of keys that a block of queries reads besides those of its window.
    pub window_blocks: f64,
    /// Columns of a head that the softmax of a score costs, σ.
    pub softmax_width: f64,
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
    /// Time of a token whose keys fill a block of the kernel that writes the cache, g.
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
    let blocks = |tokens: f64| (tokens / c.row_tile).ceil() * c.row_tile / BLOCK;
    let rows = blocks(span.new);
    let columns = blocks(span.context.max(span.new));
    let windowed = |w: f64| (w / BLOCK).ceil() + c.window_blocks;
    let reach = span.window.map_or(columns, windowed).min(columns);
    // Row j of the block triangle (j = 1 ..= rows) has columns − rows + j pairs, cut
    // off at `reach`: a triangle up to the cut, then full rows.
    let ramped = (reach - (columns - rows)).clamp(0.0, rows);
    let pairs = ramped * (columns - rows) + ramped * (ramped + 1.0) / 2.0 + (rows - ramped) * reach;
    let width = heads.qk_width + heads.v_width;
    let per_score = width + c.softmax_width;
    let pair = 2.0 * BLOCK * BLOCK * per_score * multiprocessors / (c.compute * machine.rate);
    let total =
        span.sequences * heads.query * (pairs + c.block_overhead * rows) * pair / multiprocessors;
    let longest = (reach + c.block_overhead) * pair;
    let compute = (total + c.tail * longest).max(longest);
    let threads = (heads.kv * heads.qk_width).min(CACHE_THREADS);
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
            + c.per_token.get() * span.sequences * span.new * threads / CACHE_THREADS,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_costs_as_many_threads_as_its_keys_have_elements_up_to_a_full_block() {
        let free = PrefillConstants {
            start: Seconds::ZERO,
            compute: 1.0,
            memory: 1.0,
            row_tile: BLOCK,
            window_blocks: 1.0,
            softmax_width: 0.0,
            block_overhead: 0.0,
            tail: 0.0,
            sustained: 0.0,
            kv_passes: 0.0,
            ramp: Seconds::ZERO,
            per_token: Seconds::new(1e-9),
        };
        let machine = Machine { rate: 1e30, bandwidth: 1e30, multiprocessors: 1.0, l2: 1.0 };
        let span = Span { sequences: 1.0, new: 1000.0, context: 1000.0, window: None };
        for (kv, expected) in [(1.0, 0.25e-6), (2.0, 0.5e-6), (4.0, 1e-6), (8.0, 1e-6)] {
            let heads = Heads { query: 8.0, kv, qk_width: 128.0, v_width: 128.0, cached: 256.0 };
            let time = time(&free, &machine, 2.0, &heads, &span).get();
            assert!((time - expected).abs() < 1e-12, "{kv} {time}");
        }
    }
}
