//! Attention of one new token per sequence over its cache.
//!
//! # Law
//!
//! Every cached byte is read once. A device gives each of s = B·KV streams to one
//! multiprocessor, or splits it into as many parts as fill the device, none below `chunk`
//! tokens, and merges the parts in a second kernel. Libraries do not compare: they split
//! contexts longer than L* while there are fewer than s* streams per multiprocessor:
//!
//! ```text
//! memory  = bytes/(β·BW) + r·yᵃ/(1 + yᵃ) · s/(s + s0),   y = bytes/B0
//! compute = s·16·ceil(H/(16·KV))·L·2·(d_qk + d_v) / (η·P)
//! part(n) = (L·bytes per token/n / w + o) · ceil(s/S)
//! n       = max(1, min(L/chunk, S/s))
//! whole   = ‖work, part(1)‖,   split = t_merge + ‖work, part(n)‖
//! t       = t0 + [B > 1 and KV > 1]·t_gather
//!         + min(whole, split at L*)             if L ≤ L*, s < s*·S
//!         + whole                               if L ≤ L*, s ≥ s*·S
//!         + split                               if L > L*, s < s*·S
//!         + max(whole, split at s*·S streams)   if L > L*, s ≥ s*·S
//! work    = max(memory, compute),   ‖x, y‖ = (x⁸ + y⁸)^⅛
//! ```
//!
//! Where splitting begins and ends the other kernel is often the faster one: minimum and
//! maximum keep the time of more tokens from falling below that of fewer.
//!
//! The ramp is the time until the memory delivers in full: it is paid as the cache grows
//! past B0 and as more streams are read side by side. Kernels for ungrouped heads (as
//! many keys as queries) have their own β, r and o.

use super::{Heads, Machine, Span};
use crate::domain::units::{Bytes, BytesPerSecond, Seconds};

/// Query heads a kernel computes together.
const HEAD_TILE: f64 = 16.0;

/// Fitted constants of the decode law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeConstants {
    /// Start-up, t0.
    pub start: Seconds,
    /// Share of the memory bandwidth reached, β.
    pub memory: f64,
    /// The same where every query head has its own keys.
    pub memory_ungrouped: f64,
    /// Share of the peak rate reached, η.
    pub compute: f64,
    /// Read rate of one multiprocessor, w.
    pub part_load: BytesPerSecond,
    /// Cost of one part, o.
    pub part_overhead: Seconds,
    /// The same where every query head has its own keys.
    pub part_overhead_ungrouped: Seconds,
    /// Fewest tokens of a part.
    pub chunk: f64,
    /// Time of the kernel that merges parts, `t_merge`.
    pub merge: Seconds,
    /// Extra time until memory delivers in full, r.
    pub ramp: Seconds,
    /// The same where every query head has its own keys.
    pub ramp_ungrouped: Seconds,
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
    let (share, ramp, overhead) = if heads.query > heads.kv {
        (c.memory, c.ramp, c.part_overhead)
    } else {
        (c.memory_ungrouped, c.ramp_ungrouped, c.part_overhead_ungrouped)
    };
    let per_token = heads.cached * element;
    let padded = HEAD_TILE * (heads.query / heads.kv / HEAD_TILE).ceil();
    let work = |streams: f64, context: f64| {
        let bytes = streams * context * per_token;
        let grown = (bytes / c.ramp_bytes.get()).powf(c.ramp_power);
        let memory = bytes / (share * machine.bandwidth)
            + ramp.get() * grown / (1.0 + grown) * streams / (streams + c.ramp_streams);
        let compute = streams * padded * context * 2.0 * (heads.qk_width + heads.v_width)
            / (c.compute * machine.rate);
        memory.max(compute)
    };
    let in_parts = |streams: f64, context: f64, n: f64| {
        let part = context * per_token / n / c.part_load.get() + overhead.get();
        norm8(work(streams, context), part * (streams / multiprocessors).ceil())
    };
    let split = |streams: f64, context: f64| {
        let n = (context / c.chunk).min(multiprocessors / streams).max(1.0);
        c.merge.get() + in_parts(streams, context, n)
    };
    let streams = span.sequences * heads.kv;
    let most = c.split_streams * multiprocessors;
    let whole = || in_parts(streams, context, 1.0);
    let best = match (context > c.split_context, streams < most) {
        (true, true) => split(streams, context),
        (true, false) => whole().max(split(most, context)),
        (false, true) => whole().min(split(streams, c.split_context)),
        (false, false) => whole(),
    };
    let gather = if span.sequences > 1.0 && heads.kv > 1.0 { c.gather.get() } else { 0.0 };
    Seconds::new(c.start.get() + best + gather)
}

/// The larger of two times that overlap except near equality: (a⁸ + b⁸)^⅛.
fn norm8(a: f64, b: f64) -> f64 {
    let (large, small) = (a.max(b), a.min(b));
    let ratio = (small / large).powi(8);
    large * (1.0 + ratio).sqrt().sqrt().sqrt()
}
