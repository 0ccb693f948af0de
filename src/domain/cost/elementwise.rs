//! Kernels that stream rows through memory: norms, activations, copies, top-k.
//!
//! # Law
//!
//! ```text
//! t = t0 + ((width·e)⁴ + (bytes/(β·BW))⁴)^¼             norms, activations (copies: e = 0)
//! t = t0 + tokens·max(experts, 32)·4 bytes / (β·BW)     softmax and top-k
//! ```
//!
//! Bytes are what a fused kernel must move: a norm reads and writes a row, a gated
//! activation reads two rows and writes one, a copy reads and writes. Kernels that pass
//! more often have a smaller β. e is the time one multiprocessor needs per element of a
//! row, which is all there is to see while rows are fewer than multiprocessors. A warp of
//! 32 lanes takes one token's scores, so fewer experts are not cheaper.
//!
//! # Symbols and validity
//!
//! BW peak memory bandwidth, β share of it, t0 start-up. Widths 768 to 14336, 1 to 8192
//! tokens, 8 to 256 experts; copies up to 4 GB.

use super::band_for;
use super::gemm::norm4;
use crate::domain::hardware::{Device, Fit};
use crate::domain::price::{Basis, Price};
use crate::domain::system::Dtype;
use crate::domain::units::{Bytes, Seconds};

/// Lanes of a warp.
const LANES: f64 = 32.0;

/// Fitted constants of a kernel that streams rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowConstants {
    /// Start-up, t0.
    pub start: Seconds,
    /// Time per element of one row.
    pub per_element: Seconds,
    /// Share of the memory bandwidth reached, β.
    pub memory: f64,
}

/// Fitted constants of softmax and top-k.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopKConstants {
    /// Start-up of its kernels, t0.
    pub start: Seconds,
    /// Share of the memory bandwidth reached by the scores, β.
    pub memory: f64,
}

/// A row-streaming law bound to a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowLaw {
    start: f64,
    per_element: f64,
    per_byte: f64,
    element: f64,
    band: f64,
    basis: Basis,
}

impl RowLaw {
    /// Binds constants to a device and a format of rows.
    #[must_use]
    pub fn bind(fit: &Fit<RowConstants>, device: &Device, rows: Dtype) -> Self {
        let (band, basis) = band_for(fit.band, fit.basis, rows);
        Self {
            start: fit.constants.start.get(),
            per_element: fit.constants.per_element.get(),
            per_byte: 1.0 / (fit.constants.memory * device.bandwidth.get()),
            element: rows.bytes(),
            band,
            basis,
        }
    }

    /// The price of moving `bytes` once in and once out, as a copy does.
    #[must_use]
    pub fn copy(&self, bytes: Bytes) -> Price {
        self.price(self.start + 2.0 * bytes.get() * self.per_byte)
    }

    /// The price of normalising that many rows.
    #[must_use]
    pub fn norm(&self, rows: f64, width: f64) -> Price {
        self.rows(rows, width, 2.0)
    }

    /// The price of a gated activation over rows whose output has that width.
    #[must_use]
    pub fn gated_activation(&self, rows: f64, width: f64) -> Price {
        self.rows(rows, width, 3.0)
    }

    fn rows(&self, rows: f64, width: f64, passes: f64) -> Price {
        if rows <= 0.0 {
            return self.price(self.start);
        }
        let bytes = passes * rows * width * self.element;
        self.price(self.start + norm4(width * self.per_element, bytes * self.per_byte))
    }

    const fn price(&self, seconds: f64) -> Price {
        Price { time: Seconds::new(seconds), band: self.band, basis: self.basis }
    }
}

/// The top-k law bound to a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopKLaw {
    start: f64,
    per_score: f64,
    band: f64,
    basis: Basis,
}

impl TopKLaw {
    /// Binds constants to a device.
    #[must_use]
    pub fn bind(fit: &Fit<TopKConstants>, device: &Device) -> Self {
        Self {
            start: fit.constants.start.get(),
            per_score: Dtype::Fp32.bytes() / (fit.constants.memory * device.bandwidth.get()),
            band: fit.band,
            basis: fit.basis,
        }
    }

    /// The price of choosing experts for that many tokens.
    #[must_use]
    pub fn price(&self, tokens: f64, experts: f64) -> Price {
        let time = self.start + tokens.max(0.0) * experts.max(LANES) * self.per_score;
        Price { time: Seconds::new(time), band: self.band, basis: self.basis }
    }
}
