//! What chooses the best tokens of a context for sparse attention to read.
//!
//! # Law
//!
//! ```text
//! t = t0 + ⌈rows/M⌉·f + max(⌈rows/M⌉·kept·v, rows·kept·8 bytes/(β·BW))     rows that choose
//! t = t0                                                                  no row has to
//! ```
//!
//! A multiprocessor takes one row: it counts the leading bits of its scores, reads them again to write
//! those above the edge, and settles those on it. f is what counting and settling take whatever is kept, v the time
//! of one score where few multiprocessors work; where all do, memory bounds them. A row of no more
//! scores than are to be chosen takes all.
//!
//! # Symbols and validity
//!
//! M multiprocessors, BW peak memory bandwidth, β share of it, t0 start-up. Scores in 32 bits, 4096 to
//! 131,072 a row, of which 2048 are chosen, 1 to 8192 rows. Source: an exact kernel of this project on one H200 in CUDA
//! graphs (`tools/measure/sparse_index.py`, 2026-11-30), 29 measurements, of which the law is 5.1 % off in the mean
//! and at most 20 %, in sample; no kernel of an engine was timed, PyTorch's takes 1.5 to 7.5 times as long, and other
//! devices take the same constants. Worked number: 32 rows of 8192 scores on 132 multiprocessors and 4.8 TB/s:
//! 1.5 + 4.1 + 8192 · 0.227e-3 = 7.46 µs.

use crate::hardware::Device;
use crate::price::{Basis, Price};
use crate::units::Seconds;

/// t0, seconds.
const START: f64 = 1.5e-6;
/// f, seconds a row of a multiprocessor.
const ROW: f64 = 4.1e-6;
/// v, seconds.
const VALUE: f64 = 0.227e-9;
/// β.
const MEMORY: f64 = 0.56;
/// Scores are read twice, four bytes each.
const BYTES: f64 = 8.0;
/// Relative error to expect, assumed: one kernel was timed, and engines have their own.
const BAND: f64 = 0.5;

/// The choice in `rows` rows, those that have more scores than are chosen, of `kept` scores in the mean.
#[must_use]
pub fn choice(device: &Device, rows: f64, kept: f64) -> Price {
    let turns = (rows / f64::from(device.multiprocessors)).ceil();
    let memory = rows * kept * BYTES / (MEMORY * device.bandwidth.get());
    let time = START + turns * ROW + (turns * kept * VALUE).max(memory);
    Price { time: Seconds::new(time), band: BAND, basis: Basis::Roofline }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    /// Rows, scores of each, measured microseconds.
    const MEASURED: [(f64, f64, f64); 29] = [
        (1.0, 4096.0, 6.20),
        (1.0, 8192.0, 7.44),
        (1.0, 32_768.0, 14.14),
        (1.0, 131_072.0, 35.27),
        (8.0, 4096.0, 6.32),
        (8.0, 8192.0, 7.66),
        (8.0, 32_768.0, 14.36),
        (8.0, 131_072.0, 35.84),
        (32.0, 4096.0, 6.31),
        (32.0, 8192.0, 7.66),
        (32.0, 32_768.0, 14.72),
        (32.0, 131_072.0, 42.75),
        (64.0, 4096.0, 6.35),
        (64.0, 8192.0, 7.71),
        (64.0, 32_768.0, 14.74),
        (64.0, 131_072.0, 44.14),
        (128.0, 4096.0, 6.52),
        (128.0, 8192.0, 7.86),
        (128.0, 32_768.0, 18.48),
        (128.0, 131_072.0, 56.70),
        (256.0, 4096.0, 11.89),
        (256.0, 8192.0, 15.79),
        (256.0, 32_768.0, 35.75),
        (256.0, 131_072.0, 110.39),
        (2048.0, 4096.0, 92.85),
        (2048.0, 8192.0, 120.23),
        (2048.0, 32_768.0, 273.27),
        (8192.0, 4096.0, 353.88),
        (8192.0, 8192.0, 455.55),
    ];

    #[test]
    fn the_choice_takes_what_was_measured() {
        let h200 = &Catalog::embedded().device("h200-sxm").unwrap().value;
        let worked = choice(h200, 32.0, 8192.0).time.get() * 1e6;
        assert!((worked - 7.460).abs() < 1e-3, "{worked}");
        let error = |(rows, kept, measured): (f64, f64, f64)| {
            choice(h200, rows, kept).time.get() * 1e6 / measured - 1.0
        };
        let errors = MEASURED.map(error).map(f64::abs);
        let mean = errors.iter().sum::<f64>() / MEASURED.len() as f64;
        let most = errors.into_iter().fold(0.0, f64::max);
        assert!(mean < 0.055 && most < 0.21, "{mean} {most}");
    }
}
