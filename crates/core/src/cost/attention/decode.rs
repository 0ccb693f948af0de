//! Attention of one new token per sequence over its cache.
//!
//! # Law
//!
//! Every cached byte is read once. A device gives each of s = B·KV streams to one
//! multiprocessor after the other, or splits it into parts and merges them in a second
//! kernel. The parts aim at ν rounds of the device and have at least `chunk` tokens; and as
//! merging many takes long, a stream of c chunks has at most √(m·c) of them. Libraries do
//! not compare: they split contexts longer than L* while there are fewer than s* streams
//! per multiprocessor:
//!
//! ```text
//! bytes   = s·L·bytes per token · [H > KV ? γ : 1],   y = bytes/B0
//! memory  = bytes/(β·BW) + r·[H > KV ? 1 : φ]·yᵃ/(1 + yᵃ) · s/(s + s0)
//! compute = s·16·ceil(H/(16·KV))·L·2·(d_qk + d_v) / (η·P)
//! p       = max(s, min(s·c, s·√(m·c), ν·S)) parts with c = L/chunk, or s whole streams
//! h       = H/KV ≤ g* ? ceil(H/KV / t_h) : H/KV tiles of heads, each of which reads a part
//! read(p) = ‖max(memory, compute), (bytes/p/w + o·[H > KV ? 1 : φ])·max(p·h/S, ceil(s·h/S))‖
//! whole   = read(s),   split = t_merge + read(p),   ‖x, y‖ = (x⁸ + y⁸)^⅛
//! t       = t0 + [B > 1 and KV > 1]·t_gather + u·B·H·(d_qk + d_v)·b/BW
//!         + min(whole, split at L*)             if L ≤ L*, s < s*·S
//!         + whole                               if L ≤ L*, s ≥ s*·S
//!         + split                               if L > L*, s < s*·S
//!         + max(whole, split at s*·S streams)   if L > L*, s ≥ s*·S
//! ```
//!
//! u is how often queries and outputs are passed, b their bytes an element. Where splitting begins and ends the other kernel is often the faster one: minimum and
//! maximum keep the time of more tokens from falling below that of fewer.
//!
//! Rounds of parts are what short contexts wait for: o is about what reading 128 tokens
//! takes. `TensorRT-LLM` has chunk = 128, m = 8, ν = 8, s* = 4 in its source
//! (`computeMultiBlockCount`); `FlashAttention` aims at one round. The ramp is the time
//! until the memory delivers in full: it is paid as the cache grows past B0 and as more
//! streams are read side by side. Ungrouped heads (as many keys as queries) may have a
//! kernel of their own, which pays φ of the overhead and of the ramp; γ is how many of the
//! cached bytes grouped heads read, 1 unless the library holds them in narrower numbers.

use crate::cost::attention::{Heads, Machine, Span};
use crate::units::{Bytes, BytesPerSecond, Seconds};

/// Query heads a kernel computes together.
const HEAD_TILE: f64 = 16.0;

/// Bytes of an element of queries and outputs, which keep 16 bits.
const QUERY_BYTES: f64 = 2.0;

/// Fitted constants of the decode law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeConstants {
    /// Start-up, t0.
    pub start: Seconds,
    /// Share of the memory bandwidth reached, β.
    pub memory: f64,
    /// Share of the cached bytes that grouped heads read, γ.
    pub grouped_bytes: f64,
    /// Share of the peak rate reached, η.
    pub compute: f64,
    /// Read rate of one multiprocessor, w.
    pub part_load: BytesPerSecond,
    /// Cost of one part, o.
    pub part_overhead: Seconds,
    /// Share of that and of the ramp where every query head has its own keys, φ.
    pub ungrouped: f64,
    /// Fewest tokens of a part.
    pub chunk: f64,
    /// Chunks of a stream times this is the most its parts may be, squared: m.
    pub most_parts: f64,
    /// Rounds of parts that splitting aims at, ν.
    pub part_rounds: f64,
    /// Time of the kernel that merges parts, `t_merge`.
    pub merge: Seconds,
    /// Extra time until memory delivers in full, r.
    pub ramp: Seconds,
    /// Bytes at which half of the ramp is paid, B0.
    pub ramp_bytes: Bytes,
    /// How sharply the ramp is paid around them, a.
    pub ramp_power: f64,
    /// Streams at which half of the ramp is paid, s0.
    pub ramp_streams: f64,
    /// Time of the kernel that gathers several sequences of several heads, `t_gather`.
    pub gather: Seconds,
    /// Tokens of context up to which a stream is never split, L*.
    pub split_context: f64,
    /// Streams per multiprocessor from which none is split, s*.
    pub split_streams: f64,
    /// Query heads of one stream that a part serves, `t_h`; more of them read it again.
    pub head_tile: f64,
    /// Most query heads of one stream that such parts serve, g*; beyond it every head has its own.
    pub most_group: f64,
    /// Passes over queries and outputs, u.
    pub query_passes: f64,
}

/// The time of attention of one new token per sequence over its cache.
pub(super) fn time(
    c: &DecodeConstants,
    machine: &Machine,
    element: f64,
    heads: &Heads,
    span: &Span,
) -> Seconds {
    let context = span.window.map_or(span.context, |w| span.context.min(w));
    if span.sequences <= 0.0 || context <= 0.0 {
        return c.start;
    }
    let multiprocessors = machine.multiprocessors;
    let (read, paid) =
        if heads.query > heads.kv { (c.grouped_bytes, 1.0) } else { (1.0, c.ungrouped) };
    let per_token = heads.cached * element * read;
    let group = heads.query / heads.kv;
    let padded = HEAD_TILE * (group / HEAD_TILE).ceil();
    let tiles = if group > c.most_group { group } else { (group / c.head_tile).ceil().max(1.0) };
    let read_in = |streams: f64, context: f64, parts: f64| {
        let bytes = streams * context * per_token;
        let grown = (bytes / c.ramp_bytes.get()).powf(c.ramp_power);
        let memory = bytes / (c.memory * machine.bandwidth)
            + paid * c.ramp.get() * grown / (1.0 + grown) * streams / (streams + c.ramp_streams);
        let compute = streams * padded * context * 2.0 * (heads.qk_width + heads.v_width)
            / (c.compute * machine.rate);
        let part = bytes / parts / c.part_load.get() + paid * c.part_overhead.get();
        let rounds =
            (parts * tiles / multiprocessors).max((streams * tiles / multiprocessors).ceil());
        norm8(memory.max(compute), part * rounds)
    };
    let split = |streams: f64, context: f64| {
        let chunks = context / c.chunk;
        let parts = streams * chunks.min((c.most_parts * chunks).sqrt());
        let parts = parts.min(c.part_rounds * multiprocessors).max(streams);
        c.merge.get() + read_in(streams, context, parts)
    };
    let streams = span.sequences * heads.kv;
    let most = c.split_streams * multiprocessors;
    let whole = || read_in(streams, context, streams);
    let best = match (context > c.split_context, streams < most) {
        (true, true) => split(streams, context),
        (true, false) => whole().max(split(most, context)),
        (false, true) => whole().min(split(streams, c.split_context)),
        (false, false) => whole(),
    };
    let gather = if span.sequences > 1.0 && heads.kv > 1.0 { c.gather.get() } else { 0.0 };
    let rows = span.sequences * heads.query * (heads.qk_width + heads.v_width) * QUERY_BYTES;
    let passed = c.query_passes * rows / machine.bandwidth;
    Seconds::new(c.start.get() + best + gather + passed)
}

/// The larger of two times that overlap except near equality: (a⁸ + b⁸)^⅛.
fn norm8(a: f64, b: f64) -> f64 {
    let (large, small) = (a.max(b), a.min(b));
    let ratio = (small / large).powi(8);
    large * (1.0 + ratio).sqrt().sqrt().sqrt()
}
