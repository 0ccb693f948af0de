//! Attention of one device, without its projections (those are matrix products).
//!
//! The laws are those of [`prefill`] and [`decode`].
//!
//! # Symbols
//!
//! B sequences, L tokens of context, H query heads and KV key-value streams on this
//! device (1 for latent attention), `d_qk`, `d_v` head widths, S multiprocessors, P peak
//! rate, BW memory bandwidth, w what one multiprocessor reads (bytes/s), o cost of one
//! part (s), r ramp (s), b bytes per element.
//!
//! # Validity
//!
//! Fitted at head width 128, 1 to 64 sequences of 128 to 16384 tokens (prefill), 1 to
//! 256 sequences over 128 to 32768 tokens (decode). Other widths follow the formulas.

pub mod decode;
pub mod prefill;

pub use decode::DecodeConstants;
pub use prefill::PrefillConstants;

use crate::hardware::{Chosen, Device};
use crate::price::{Basis, Price};
use crate::system::Operands;
use crate::units::Seconds;

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
    machine: Machine,
    operands: Operands,
    bands: [(f64, Basis); 2],
}

/// What the laws need of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Machine {
    /// Peak rate of what is multiplied.
    rate: f64,
    /// Memory bandwidth.
    bandwidth: f64,
    /// Multiprocessors.
    multiprocessors: f64,
    /// Last-level cache.
    l2: f64,
}

impl AttentionLaw {
    /// Binds constants to a device and the formats of the cache (stored) and of attention.
    #[must_use]
    pub fn bind(
        prefill: &Chosen<PrefillConstants>,
        decode: &Chosen<DecodeConstants>,
        device: &Device,
        operands: Operands,
    ) -> Self {
        Self {
            prefill: prefill.fit.constants,
            decode: decode.fit.constants,
            machine: Machine {
                rate: device.peak.of(operands.computed).get(),
                bandwidth: device.bandwidth.get(),
                multiprocessors: f64::from(device.multiprocessors),
                l2: device.l2.get(),
            },
            operands,
            bands: [(prefill.band(), prefill.basis()), (decode.band(), decode.basis())],
        }
    }

    /// The time of causal attention of whole prompts or of chunks of them.
    #[must_use]
    pub fn prefill(&self, heads: &Heads, span: &Span) -> Seconds {
        prefill::time(&self.prefill, &self.machine, self.operands.computed.bytes(), heads, span)
    }

    /// The time of attention of one new token per sequence over its cache.
    #[must_use]
    pub fn decode(&self, heads: &Heads, span: &Span) -> Seconds {
        decode::time(&self.decode, &self.machine, self.operands.stored.bytes(), heads, span)
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
