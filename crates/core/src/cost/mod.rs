//! What one device needs for its operators: laws with fitted constants.
//!
//! A law is a pure function of constants and shapes. It is bound once to a device, a
//! stack and number formats ([`Laws::bind`]) and then priced as often as needed: one
//! price is a few nanoseconds (rows) to some tens (tiles). Every price carries its error
//! band and basis. Host launch time is not in any law: it is the assumption `launch`
//! times [`launches`].

pub mod attention;
pub mod closed_form;
pub mod elementwise;
pub mod experts;
pub mod gemm;
pub mod launches;
pub mod predictor;
pub mod sample;
#[cfg(test)]
mod tests;

use crate::hardware::{Device, Stack};
use crate::price::Basis;
use crate::system::{Dtype, Dtypes};
use attention::AttentionLaw;
use elementwise::{RowLaw, TopKLaw};
use experts::{ExpertLaw, ExpertShape, Seen};
use gemm::GemmLaw;

/// Added to the error band where constants were fitted in another number format.
const OTHER_FORMAT: f64 = 0.15;

/// All laws of one device and stack, bound to number formats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Laws {
    /// Matrix products with weights: projections, dense and shared experts.
    pub gemm: GemmLaw,
    /// Matrix products in the activations' format: the router.
    pub router_gemm: GemmLaw,
    /// Attention without projections.
    pub attention: AttentionLaw,
    /// Normalisation.
    pub norm: RowLaw,
    /// Gated activation as a kernel of its own.
    pub activation: RowLaw,
    /// Softmax and top-k.
    pub top_k: TopKLaw,
    /// Copies within the device.
    pub copy: RowLaw,
}

impl Laws {
    /// Binds every law of a stack.
    #[must_use]
    pub fn bind(device: &Device, stack: &Stack, dtypes: &Dtypes) -> Self {
        let rows = dtypes.activations;
        Self {
            gemm: GemmLaw::bind(&stack.gemm, device, dtypes.weights, rows),
            router_gemm: GemmLaw::bind(&stack.gemm, device, rows, rows),
            attention: AttentionLaw::bind(&stack.prefill, &stack.decode, device, rows, dtypes.kv),
            norm: RowLaw::bind(&stack.norm, device, rows),
            activation: RowLaw::bind(&stack.activation, device, rows),
            top_k: TopKLaw::bind(&stack.top_k, device),
            copy: RowLaw::bind(&stack.copy, device, rows),
        }
    }
}

/// The expert law of a device and stack for one shape.
///
/// 8-bit weights use their own constants where they were measured.
#[must_use]
pub fn expert_law(device: &Device, stack: &Stack, shape: &ExpertShape, seen: Seen) -> ExpertLaw {
    match &stack.experts_fp8 {
        Some(fit) if shape.weights.arithmetic(shape.activations) == Dtype::Fp8 => {
            ExpertLaw::bind(fit, device, shape, seen).trusted(fit.band, fit.basis)
        }
        _ => ExpertLaw::bind(&stack.experts, device, shape, seen),
    }
}

/// Band and basis of constants fitted in 16-bit floats when used in another format.
fn band_for(band: f64, basis: Basis, dtype: Dtype) -> (f64, Basis) {
    match dtype {
        Dtype::Bf16 | Dtype::Fp16 => (band, basis),
        _ => (band + OTHER_FORMAT, basis.max(Basis::Fitted)),
    }
}

/// `x.ceil()` for 0 ≤ x < 2⁵¹, without the library call it is on older processors: it is
/// most of what the laws do, and this way a price takes a third of the time.
#[inline]
fn round_up(x: f64) -> f64 {
    const TWO_TO_52: f64 = 4_503_599_627_370_496.0;
    let nearest = (x + TWO_TO_52) - TWO_TO_52;
    if nearest < x { nearest + 1.0 } else { nearest }
}

/// The larger of two numbers that are never NaN, as one instruction.
#[inline]
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The smaller of two numbers that are never NaN, as one instruction.
#[inline]
fn smaller(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
