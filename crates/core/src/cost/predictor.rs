//! What running a token-to-expert predictor costs, from its shape.
//!
//! # Laws
//!
//! - lookup (`by_token`, `by_position`): one gather, its kernel's start-up and the ids found,
//!   read and written like a copy.
//! - feed-forward, widths w0 → w1 → … : one matrix product per step, plus one pass over
//!   each hidden layer for bias and activation, read and written like a copy.
//! - recurrent, layers one after another: sequential in the S tokens of a sequence, so
//!   t = projection + t0 + S · layers · step, however many sequences run side by side.
//!
//! # Source and validity
//!
//! `h200_ops` (PyTorch 2.11 on one H200): lookup 4.8 to 5.0 µs for 512 to 16,384 tokens, so
//! its start-up is a constant of the framework; 4096-128-64-8 16.6 µs for 512 tokens.
//!
//! Two recurrent layers of 64 in 16 bits, PyTorch 2.11 on one H200, 512 tokens of a sequence:
//!
//! | how | time | step |
//! | --- | --- | --- |
//! | cuDNN, replayed from a graph (`docs/measured`) | 2.5 to 3.1 ms | 2.75 µs, t0 20 µs: `recurrent` of the device |
//! | PyTorch's kernels, replayed from a graph (`docs/measured`) | 7.0 to 7.7 ms | 6.9 µs: [`REPLAYED`] |
//! | cuDNN, every kernel started by the host (`h200_ops`: 18.3 ms, 70.2 ms for 2048 tokens; again 14 to 20 and 55 ms) | 14 to 20 ms | 17.2 µs: [`EAGER`] |
//!
//! A device without constants of its own is priced by the last, the longest.

use crate::cost::Laws;
use crate::hardware::Fit;
use crate::price::{Basis, Price};
use crate::units::{Bytes, Seconds};

/// Constants of a recurrent predictor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecurrentConstants {
    /// Start-up, t0.
    pub start: Seconds,
    /// Time of one layer for one token of a sequence.
    pub step: Seconds,
}

/// Kernels started one by one by the host (PyTorch 2.11 on H200).
pub const EAGER: RecurrentConstants =
    RecurrentConstants { start: Seconds::ZERO, step: Seconds::new(17.2e-6) };

/// PyTorch's own kernels, several for every step, replayed from a graph (2.11 on H200).
pub const REPLAYED: RecurrentConstants =
    RecurrentConstants { start: Seconds::ZERO, step: Seconds::new(6.9e-6) };

/// The constants of recurrent predictors, with their error band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecurrentLaw {
    /// The constants.
    pub constants: RecurrentConstants,
    band: f64,
}

impl RecurrentLaw {
    /// A device's own constants, else those of kernels that the host starts.
    #[must_use]
    pub fn bind(fit: Option<&Fit<RecurrentConstants>>) -> Self {
        fit.map_or(Self { constants: EAGER, band: FRAMEWORK_BAND }, |fit| Self {
            constants: fit.constants,
            band: fit.band,
        })
    }
}

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
        let RecurrentLaw { constants, band } = self.recurrent;
        let steps = constants.step * (tokens_per_sequence.max(0.0) * layers);
        Price {
            time: projection.time + constants.start + steps,
            band: projection.band.max(band),
            basis: projection.basis.max(Basis::Fitted),
        }
    }
}
