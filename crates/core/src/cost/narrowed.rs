//! Laws in a narrow number format beside those of the wider ones.
//!
//! Kernels of a narrow format are not always faster: in the tables half of the 8-bit products of few
//! rows take longer than the 16-bit ones, for they quantise the other operand first or were tuned
//! less. Whoever runs such a shape keeps the wider kernel, so a term never takes longer in a narrower
//! format:
//!
//! ```text
//! t = min(own, wider ones),   band = own·(1 + band of own)/t − 1 where a wider one is taken
//! ```
//!
//! Wider than 4-bit floats that are multiplied as such are 8-bit and 16-bit floats; wider than
//! anything else that is not 16-bit are 16-bit floats. Worked number: 12 µs ± 10 % in fp8 beside
//! 10 µs ± 5 % in bf16 are 10 µs with a band of 32 %.

use crate::cost::attention::{AttentionLaw, Heads, Span};
use crate::cost::gemm::GemmLaw;
use crate::hardware::Device;
use crate::price::Price;
use crate::system::{Dtype, Operands};

/// A law in the format that is asked for, and in those that are wider.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Narrowed<L> {
    /// In the very format.
    pub own: L,
    wider: [Option<L>; 2],
}

/// The formats, wider first, that a device could fall back to from `operands`.
pub(super) fn wider(device: &Device, operands: Operands) -> [Option<Operands>; 2] {
    let eight = Operands::of(Dtype::Fp8, Dtype::Fp8);
    let four_bit = matches!(operands.computed, Dtype::Nvfp4 | Dtype::Mxfp4);
    [
        (!operands.are_wide()).then_some(Operands::BF16),
        (four_bit && device.peak.has(Dtype::Fp8)).then_some(eight),
    ]
}

impl<L: Copy> Narrowed<L> {
    /// Binds a law in its format and in every wider one.
    pub fn of(device: &Device, operands: Operands, bind: impl Fn(Operands) -> L) -> Self {
        let wider = wider(device, operands);
        Self { own: bind(operands), wider: wider.map(|operands| operands.map(&bind)) }
    }

    /// The law in 16 bits, where the format is narrower.
    #[must_use]
    pub const fn in_16_bits(&self) -> Option<&L> {
        self.wider[0].as_ref()
    }

    fn least(&self, price: impl Fn(&L) -> Price) -> Price {
        let own = price(&self.own);
        let slowest = own.time * (1.0 + own.band);
        self.wider.iter().flatten().map(price).fold(own, |best, wider| {
            if wider.time >= best.time {
                return best;
            }
            Price { band: wider.band.max(slowest / wider.time - 1.0), ..wider }
        })
    }
}

impl Narrowed<GemmLaw> {
    /// The price of `C[m,n] = A[m,k]·B[k,n]`.
    #[must_use]
    pub fn price(&self, m: f64, n: f64, k: f64) -> Price {
        self.least(|law| law.price(m, n, k))
    }
}

impl Narrowed<AttentionLaw> {
    /// The price of causal attention of whole prompts or of chunks of them.
    #[must_use]
    pub fn price_prefill(&self, heads: &Heads, span: &Span) -> Price {
        self.least(|law| law.price_prefill(heads, span))
    }

    /// The price of attention of one new token per sequence over its cache.
    #[must_use]
    pub fn price_decode(&self, heads: &Heads, span: &Span) -> Price {
        self.least(|law| law.price_decode(heads, span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::sample;
    use crate::price::Basis;
    use crate::units::Seconds;

    #[test]
    fn a_narrow_format_takes_no_longer_than_a_wider_one_and_its_band_covers_its_own_kernels() {
        let fp8 = Operands::of(Dtype::Fp8, Dtype::Fp8);
        let law = Narrowed::of(&sample::device(), fp8, |operands| operands == fp8);
        let us = |time: f64| Seconds::new(time * 1e-6);
        let price = |own: &bool| {
            let (time, band) = if *own { (us(12.0), 0.1) } else { (us(10.0), 0.05) };
            Price { time, band, basis: Basis::Fitted }
        };
        let taken = law.least(price);
        assert_eq!(taken.time, us(10.0));
        assert!((taken.band - 0.32).abs() < 1e-12, "{}", taken.band);
    }

    #[test]
    fn four_bit_products_may_fall_back_to_eight_bits_and_weights_alone_to_sixteen() {
        let device = sample::device();
        let of = |stored, computed| wider(&device, Operands::of(stored, computed));
        let eight = Some(Operands::of(Dtype::Fp8, Dtype::Fp8));
        assert_eq!(of(Dtype::Nvfp4, Dtype::Nvfp4), [Some(Operands::BF16), eight]);
        assert_eq!(of(Dtype::Mxfp4, Dtype::Bf16), [Some(Operands::BF16), None]);
        assert_eq!(of(Dtype::Bf16, Dtype::Bf16), [None, None]);
    }
}
