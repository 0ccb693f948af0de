//! What running a token-to-expert predictor costs, from its shape.
//!
//! # Laws
//!
//! - lookup (`by_token`, `by_position`): one gather, its kernel's start-up and the ids found,
//!   read and written like a copy.
//! - feed-forward, widths w0 → w1 → … : one matrix product per step, plus one pass over
//!   each hidden layer for bias and activation, read and written like a copy.
//! - recurrent, w layers: sequential in the tokens of a sequence, so
//!   t = projection + S · layers · step, however many sequences run side by side.
//!
//! # Source and validity
//!
//! `h200_ops` (PyTorch 2.11 on one H200): lookup 4.8 to 5.0 µs for 512 to 16,384 tokens, so
//! like the step below its start-up is a constant of the framework; 4096-128-64-8
//! 16.6 µs for 512 tokens; two recurrent layers of 64 over 512 tokens 18.3 ms, over 2048
//! tokens 70.2 ms, at 1 to 16 sequences: 17.2 µs per layer and token, kernel start-up and
//! nothing else, so the step is a constant of the framework, not of the device.

use crate::cost::Laws;
use crate::price::{Basis, Price};
use crate::units::{Bytes, Seconds};

/// Time of one recurrent layer for one token (PyTorch 2.11 on H200).
pub const RECURRENT_STEP: Seconds = Seconds::new(17.2e-6);

/// Start-up of one gather (PyTorch 2.11 on H200).
pub const GATHER_START: Seconds = Seconds::new(4.8e-6);

/// Relative error to expect of a start-up or step, where the framework is another one.
const FRAMEWORK_BAND: f64 = 0.15;

/// Bytes of a table row: the k experts found, as 32-bit ids.
const ID_BYTES: f64 = 4.0;

impl Laws {
    /// One gather of `top_k` expert ids for every token.
    #[must_use]
    pub fn predictor_lookup(&self, tokens: f64, top_k: f64) -> Price {
        let copy = |bytes| self.copy.copy(Bytes::new(bytes));
        let ids = copy(tokens.max(0.0) * top_k * ID_BYTES);
        let time = GATHER_START + (ids.time - copy(0.0).time);
        Price { time, band: FRAMEWORK_BAND, basis: ids.basis.max(Basis::Fitted) }
    }

    /// A feed-forward predictor of the given widths, input first.
    #[must_use]
    pub fn predictor_ffn(&self, tokens: f64, widths: &[f64]) -> Price {
        let mut time = Seconds::ZERO;
        let mut band: f64 = 0.0;
        let mut basis = Basis::Measured;
        let products = widths.windows(2).map(|pair| self.gemm.price(tokens, pair[1], pair[0]));
        let hidden = widths.iter().skip(1).rev().skip(1);
        let passes = hidden.map(|width| self.copy.pass(tokens, *width));
        for price in products.chain(passes) {
            time += price.time;
            band = band.max(price.band);
            basis = basis.max(price.basis);
        }
        Price { time, band, basis }
    }

    /// A recurrent predictor: a projection, then `layers` sequential passes over every
    /// sequence.
    #[must_use]
    pub fn predictor_lstm(
        &self,
        sequences: f64,
        tokens_per_sequence: f64,
        input: f64,
        width: f64,
        layers: f64,
    ) -> Price {
        let projection = self.gemm.price(sequences * tokens_per_sequence, width, input);
        let steps = RECURRENT_STEP * (tokens_per_sequence.max(0.0) * layers);
        Price {
            time: projection.time + steps,
            band: projection.band.max(FRAMEWORK_BAND),
            basis: projection.basis.max(Basis::Fitted),
        }
    }
}
