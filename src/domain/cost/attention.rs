//! Attention of one device, without its projections (those are matrix products).
//!
//! # Prefill law (flash attention, causal)
//!
//! Queries and keys are cut into blocks of 128. With `n` query blocks of a sequence the
//! causal triangle has n·(n+1)/2 block pairs (fewer under a window, more when a prefix is
//! cached), each query block pays for `v` more (softmax start and end):
//!
//! ```text
//! pair    = 2·128²·(d_qk + d_v) / (η·P/S)
//! compute = ((B·H·(pairs + v·n)·pair/S)⁴ + (longest·pair)⁴)^¼
//! bytes   = B·L·b·(H·(d_qk + d_v) + x·KV·(d_qk + d_v))
//! t       = t0 + compute + bytes/(β·BW) + r·bytes/(bytes + L2)
//! ```
//!
//! Bytes are added, not hidden: engines rotate, split and store queries and keys in
//! passes of their own around the kernel; x says how often keys and values are passed.
//!
//! # Decode law
//!
//! Every cached byte is read once. A device splits each of B·KV streams into as many
//! parts as fill it, none below `chunk` tokens:
//!
//! ```text
//! memory  = bytes/(β·BW) + r·min(1, bytes/B0)
//! compute = B·KV·16·ceil(H/(16·KV))·L·2·(d_qk + d_v) / (η·P)
//! part    = (L·bytes per token/parts / w + o) · max(1, B·KV·parts/S)
//! t       = t0 + (max(memory, compute)⁴ + part⁴)^¼
//! ```
//!
//! # Symbols
//!
//! B sequences, L tokens of context, H query heads and KV key-value streams on this
//! device (1 for latent attention), `d_qk`, `d_v` head widths, S multiprocessors, P peak
//! rate, BW memory bandwidth, w what one multiprocessor reads (bytes/s), o cost of one
//! part (s), r ramp (s) that B0 bytes of cache have paid in full.
//!
//! # Validity
//!
//! Fitted at head width 128, 1 to 64 sequences of 128 to 16384 tokens (prefill), 1 to
//! 256 sequences over 128 to 32768 tokens (decode). Other widths follow the formulas.

use super::band_for;
use super::gemm::norm4;
use crate::domain::hardware::{Device, Fit};
use crate::domain::price::{Basis, Price};
use crate::domain::system::Dtype;
use crate::domain::units::{Bytes, BytesPerSecond, Seconds};

/// Tokens of a query or key block.
const BLOCK: f64 = 128.0;

/// Query heads a decode kernel computes together.
const HEAD_TILE: f64 = 16.0;

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
    /// Passes over keys and values, x.
    pub kv_passes: f64,
    /// Extra time of operands far larger than the cache, r.
    pub ramp: Seconds,
}

/// Fitted constants of the decode law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeConstants {
    /// Start-up, t0.
    pub start: Seconds,
    /// Share of the memory bandwidth reached, β.
    pub memory: f64,
    /// Share of the peak rate reached, η.
    pub compute: f64,
    /// Read rate of one multiprocessor, w.
    pub part_load: BytesPerSecond,
    /// Cost of one part, o.
    pub part_overhead: Seconds,
    /// Fewest tokens of a part.
    pub chunk: f64,
    /// Extra time of a cold cache, r.
    pub ramp: Seconds,
    /// Bytes after which the ramp is paid in full, B0.
    pub ramp_bytes: Bytes,
}

/// The heads of one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Query heads, H.
    pub query: f64,
    /// Key-value heads or streams, KV.
    pub kv: f64,
    /// Width at which scores are formed, `d_qk`.
    pub qk_width: f64,
    /// Width of a value, `d_v`.
    pub v_width: f64,
    /// Cached elements per token and stream (decode).
    pub cached: f64,
}

/// Which tokens attend to which.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Sequences on this device, B.
    pub sequences: f64,
    /// New tokens of each sequence.
    pub new: f64,
    /// Tokens each sequence attends to at its end, new ones included, L.
    pub context: f64,
    /// Tokens a query looks back at, if limited.
    pub window: Option<f64>,
}

/// Both attention laws bound to a device and its formats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionLaw {
    prefill: PrefillConstants,
    decode: DecodeConstants,
    rate: f64,
    bandwidth: f64,
    multiprocessors: f64,
    l2: f64,
    activation_bytes: f64,
    kv_bytes: f64,
    bands: [(f64, Basis); 2],
}

impl AttentionLaw {
    /// Binds constants to a device and the formats of activations and cache.
    #[must_use]
    pub fn bind(
        prefill: &Fit<PrefillConstants>,
        decode: &Fit<DecodeConstants>,
        device: &Device,
        activations: Dtype,
        kv: Dtype,
    ) -> Self {
        Self {
            prefill: prefill.constants,
            decode: decode.constants,
            rate: device.peak.of(activations).get(),
            bandwidth: device.bandwidth.get(),
            multiprocessors: f64::from(device.multiprocessors),
            l2: device.l2.get(),
            activation_bytes: activations.bytes(),
            kv_bytes: kv.bytes(),
            bands: [
                band_for(prefill.band, prefill.basis, activations),
                band_for(decode.band, decode.basis, kv),
            ],
        }
    }

    /// The time of causal attention of whole prompts or of chunks of them.
    #[must_use]
    pub fn prefill(&self, heads: &Heads, span: &Span) -> Seconds {
        let c = &self.prefill;
        if span.sequences <= 0.0 || span.new <= 0.0 {
            return c.start;
        }
        let rows = (span.new / BLOCK).ceil();
        let columns = (span.context.max(span.new) / BLOCK).ceil();
        let reach = span.window.map_or(columns, |w| (w / BLOCK).ceil() + 1.0).min(columns);
        // Row j of the block triangle (j = 1 ..= rows) has columns − rows + j pairs, cut
        // off at `reach`: a triangle up to the cut, then full rows.
        let ramped = (reach - (columns - rows)).clamp(0.0, rows);
        let pairs =
            ramped * (columns - rows) + ramped * (ramped + 1.0) / 2.0 + (rows - ramped) * reach;
        let width = heads.qk_width + heads.v_width;
        let pair = 2.0 * BLOCK * BLOCK * width * self.multiprocessors / (c.compute * self.rate);
        let total = span.sequences * heads.query * (pairs + c.block_overhead * rows) * pair
            / self.multiprocessors;
        let longest = (reach + c.block_overhead) * pair;
        let bytes = span.sequences
            * self.activation_bytes
            * width
            * (span.new * heads.query + c.kv_passes * span.context.max(span.new) * heads.kv);
        Seconds::new(
            c.start.get()
                + norm4(total, longest)
                + bytes / (c.memory * self.bandwidth)
                + c.ramp.get() * bytes / (bytes + self.l2),
        )
    }

    /// The time of attention of one new token per sequence over its cache.
    #[must_use]
    pub fn decode(&self, heads: &Heads, span: &Span) -> Seconds {
        let c = &self.decode;
        let context = span.window.map_or(span.context, |w| span.context.min(w));
        if span.sequences <= 0.0 || context <= 0.0 {
            return c.start;
        }
        let per_token = heads.cached * self.kv_bytes;
        let streams = span.sequences * heads.kv;
        let bytes = streams * context * per_token;
        let memory = bytes / (c.memory * self.bandwidth)
            + c.ramp.get() * (bytes / c.ramp_bytes.get()).min(1.0);
        let padded = HEAD_TILE * (heads.query / heads.kv / HEAD_TILE).ceil();
        let compute = streams * padded * context * 2.0 * (heads.qk_width + heads.v_width)
            / (c.compute * self.rate);
        let parts = (context / c.chunk).max(1.0).min((self.multiprocessors / streams).max(1.0));
        let part = (context * per_token / parts / c.part_load.get() + c.part_overhead.get())
            * (streams * parts / self.multiprocessors).max(1.0);
        Seconds::new(c.start.get() + norm4(memory.max(compute), part))
    }

    /// The prefill time with its error band.
    #[must_use]
    pub fn price_prefill(&self, heads: &Heads, span: &Span) -> Price {
        let (band, basis) = self.bands[0];
        Price { time: self.prefill(heads, span), band, basis }
    }

    /// The decode time with its error band.
    #[must_use]
    pub fn price_decode(&self, heads: &Heads, span: &Span) -> Price {
        let (band, basis) = self.bands[1];
        Price { time: self.decode(heads, span), band, basis }
    }
}
