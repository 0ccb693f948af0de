//! Kernels that stream rows through memory: norms, activations, copies, top-k.
//!
//! # Law
//!
//! ```text
//! t = t0 + ((width·e·n/(n + s))⁴ + (n·r + bytes/(β·BW))⁴)^¼    norms, activations
//! t = t0 + bytes/(β·BW)                                          copies
//! t = t0 + tokens·max(experts, 32)·4 bytes / (β·BW)              softmax and top-k
//! ```
//!
//! Bytes are what a fused kernel must move: a norm reads and writes a row, a gated
//! activation reads two rows and writes one, a copy reads and writes. Kernels that pass
//! more often have a smaller β. e is the time one multiprocessor needs per element of a
//! row, which is all there is to see while rows are fewer than multiprocessors; up to s
//! rows are split among several, so one row alone takes less. r is what every row costs
//! besides, its reduction: narrow rows reach less of the bandwidth. A warp of 32 lanes
//! takes one token's scores, so fewer experts are not cheaper.
//!
//! # Symbols and validity
//!
//! BW peak memory bandwidth, β share of it, t0 start-up, n rows. Widths 768 to 14336, 1 to
//! 8192 rows, 8 to 256 experts; copies up to 4 GB. Source: fitted, see
//! `docs/calibration.md`. Worked number: 2000 rows of 1000 16-bit elements at t0 2 µs,
//! e 0 and r 1 ns on 4 TB/s with β 0.5: 2 + 2 + 8 MB/(2 TB/s) = 8 µs; one row at e 3 ns, s 2
//! and r 0 (its 2 ns of bytes vanish): 2 + 3/3 = 3 µs.

use crate::cost::gemm::norm4;
use crate::hardware::{Chosen, Device, Fit};
use crate::price::{Basis, Price};
use crate::system::Dtype;
use crate::units::{Bytes, Seconds};

/// Lanes of a warp.
const LANES: f64 = 32.0;

/// Fitted constants of a kernel that streams rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowConstants {
    /// Start-up, t0.
    pub start: Seconds,
    /// Time per element of one row, e.
    pub per_element: Seconds,
    /// Rows up to which one is split among several multiprocessors, s.
    pub split_rows: f64,
    /// Time of a row besides its elements, r.
    pub per_row: Seconds,
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
    split_rows: f64,
    per_row: f64,
    per_byte: f64,
    element: f64,
    band: f64,
    basis: Basis,
}

impl RowLaw {
    /// Binds constants to a device and a format of rows.
    #[must_use]
    pub fn bind(fit: &Fit<RowConstants>, device: &Device, rows: Dtype) -> Self {
        let chosen = Chosen { fit, own: rows != Dtype::Fp32 };
        Self {
            start: fit.constants.start.get(),
            per_element: fit.constants.per_element.get(),
            split_rows: fit.constants.split_rows,
            per_row: fit.constants.per_row.get(),
            per_byte: 1.0 / (fit.constants.memory * device.bandwidth.get()),
            element: rows.bytes(),
            band: chosen.band(),
            basis: chosen.basis(),
        }
    }

    /// The price of moving `bytes` once in and once out, as a copy does.
    #[must_use]
    pub fn copy(&self, bytes: Bytes) -> Price {
        self.price(self.start + 2.0 * bytes.get() * self.per_byte)
    }

    /// The price of reading and writing that many rows once.
    #[must_use]
    pub fn pass(&self, rows: f64, width: f64) -> Price {
        self.copy(Bytes::new(rows.max(0.0) * width * self.element))
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
        let one = width * self.per_element * rows / (rows + self.split_rows);
        let all = rows * self.per_row + bytes * self.per_byte;
        self.price(self.start + norm4(one, all))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::sample;
    use crate::units::BytesPerSecond;

    #[test]
    fn worked_numbers_come_out() {
        let device = Device { bandwidth: BytesPerSecond::new(4e12), ..sample::device() };
        let norm = |per_element, split_rows, per_row| {
            let constants = RowConstants {
                start: Seconds::new(2e-6),
                per_element: Seconds::new(per_element),
                split_rows,
                per_row: Seconds::new(per_row),
                memory: 0.5,
            };
            let fit = Fit { constants, ..device.stacks[0].norm.clone() };
            RowLaw::bind(&fit, &device, Dtype::Bf16)
        };
        let many = norm(0.0, 0.0, 1e-9).norm(2000.0, 1000.0).time.get();
        assert!((many - 8e-6).abs() < 1e-12, "{many}");
        let one = norm(3e-9, 2.0, 0.0).norm(1.0, 1000.0).time.get();
        assert!((one - 3e-6).abs() < 1e-12, "{one}");
    }
}
