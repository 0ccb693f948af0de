//! Attention of one new token per sequence over its cache.
//!
//! # Law
//!
//! Every cached byte is read once. A device gives each of s = B·KV streams to one
//! multiprocessor, or splits it into as many parts as fill the device, none below `chunk`
//! tokens, and merges the parts in a second kernel; the faster of the two is taken:
//!
//! ```text
//! memory  = bytes/(β·BW) + r·yᵃ/(1 + yᵃ) · s/(s + s0),   y = bytes/B0
//! compute = s·16·ceil(H/(16·KV))·L·2·(d_qk + d_v) / (η·P)
//! part(n) = (L·bytes per token/n / w + o) · max(1, s·n/S)
//! n       = max(1, min(L/chunk, S/s))
//! t       = t0 + min(‖work, part(1)‖, t_merge + ‖work, part(n)‖) + [B > 1 and KV > 1]·t_gather
//! work    = max(memory, compute),   ‖x, y‖ = (x⁸ + y⁸)^⅛
//! ```
//!
//! The ramp is the time until the memory delivers in full: it is paid as the cache grows
//! past B0 and as more streams are read side by side. Kernels for ungrouped heads (as
//! many keys as queries) have their own β and r.

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
    let (share, ramp) = if heads.query > heads.kv {
        (c.memory, c.ramp)
    } else {
        (c.memory_ungrouped, c.ramp_ungrouped)
    };
    let per_token = heads.cached * element;
    let streams = span.sequences * heads.kv;
    let bytes = streams * context * per_token;
    let grown = (bytes / c.ramp_bytes.get()).powf(c.ramp_power);
    let memory = bytes / (share * machine.bandwidth)
        + ramp.get() * grown / (1.0 + grown) * streams / (streams + c.ramp_streams);
    let padded = HEAD_TILE * (heads.query / heads.kv / HEAD_TILE).ceil();
    let compute = streams * padded * context * 2.0 * (heads.qk_width + heads.v_width)
        / (c.compute * machine.rate);
    let work = memory.max(compute);
    let part = |n: f64| {
        (context * per_token / n / c.part_load.get() + c.part_overhead.get())
            * (streams * n / multiprocessors).max(1.0)
    };
    let parts = (context / c.chunk).min(multiprocessors / streams).max(1.0);
    let best = norm8(work, part(1.0)).min(c.merge.get() + norm8(work, part(parts)));
    let gather = if span.sequences > 1.0 && heads.kv > 1.0 { c.gather.get() } else { 0.0 };
    Seconds::new(c.start.get() + best + gather)
}

/// The larger of two times that overlap except near equality: (a⁸ + b⁸)^⅛.
fn norm8(a: f64, b: f64) -> f64 {
    let (large, small) = (a.max(b), a.min(b));
    let ratio = (small / large).powi(8);
    large * (1.0 + ratio).sqrt().sqrt().sqrt()
}
