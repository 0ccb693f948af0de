//! What one device needs for its operators: laws with fitted constants.
//!
//! A law is a pure function of constants and shapes. It is bound once to a device, a
//! stack and number formats ([`Laws::bind`]) and then priced as often as needed: one
//! price is a few nanoseconds (rows) to some tens (tiles). Constants belong to a number format;
//! where a format's own kernels are slower than those of a wider one ([`narrowed::Narrowed`]), a
//! question is priced with the wider ones, and the band says how much slower its own are. Every price carries its error
//! band and basis. Host launch time is not in any law: it is the assumption `launch`
//! times [`launches`].

pub mod attention;
pub mod closed_form;
pub mod elementwise;
pub mod experts;
pub mod gemm;
pub mod latent;
pub mod launches;
pub mod narrowed;
pub mod predictor;
pub mod sample;
pub mod selection;
#[cfg(test)]
mod tests;

use crate::hardware::{ByFormat, Device, Fit, Stack, fit_for};
use crate::system::{Dtypes, Operands, Phase};
use attention::{AttentionLaw, DecodeConstants, PrefillConstants};
use elementwise::{RowLaw, TopKLaw};
use experts::{ExpertLaw, ExpertShape, Seen};
use gemm::GemmLaw;
use latent::{LatentBlockConstants, LatentBlockLaw};
use narrowed::Narrowed;
use predictor::RecurrentLaw;

/// All laws of one device and stack, bound to number formats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Laws {
    /// Matrix products with weights: projections, dense and shared experts.
    pub gemm: Narrowed<GemmLaw>,
    /// Matrix products in the format between operators: the router.
    pub router_gemm: GemmLaw,
    /// Attention without projections.
    pub attention: Narrowed<AttentionLaw>,
    /// Attention over latent keys and values, without projections.
    pub latent: Narrowed<AttentionLaw>,
    /// What latent attention takes besides norms, products and its kernel: prompts, and decode.
    latent_blocks: [LatentBlockLaw; 2],
    /// Normalisation.
    pub norm: RowLaw,
    /// Gated activation as a kernel of its own.
    pub activation: RowLaw,
    /// Softmax and top-k.
    pub top_k: TopKLaw,
    /// Copies within the device.
    pub copy: RowLaw,
    /// Recurrent predictors.
    pub recurrent: RecurrentLaw,
}

impl Laws {
    /// Binds every law of a stack.
    #[must_use]
    pub fn bind(device: &Device, stack: &Stack, dtypes: &Dtypes) -> Self {
        let rows = dtypes.stream;
        let product = |operands| {
            let fit = fit_for(&stack.gemm, &stack.formats.gemm, operands);
            GemmLaw::bind(&fit, device, operands, rows)
        };
        let formats = &stack.formats;
        let attention =
            |prefill: &ByFormat<PrefillConstants>, decode: &ByFormat<DecodeConstants>, operands| {
                let prefill = fit_for(&stack.prefill, prefill, operands);
                let decode = fit_for(&stack.decode, decode, operands);
                AttentionLaw::bind(&prefill, &decode, device, operands)
            };
        let kept = dtypes.attention();
        Self {
            gemm: Narrowed::of(device, dtypes.weights, product),
            router_gemm: product(Operands::of(rows, rows)),
            attention: Narrowed::of(device, kept, |operands| {
                attention(&formats.prefill, &formats.decode, operands)
            }),
            latent: Narrowed::of(device, kept, |operands| {
                attention(&formats.latent_prefill, &formats.latent_decode, operands)
            }),
            latent_blocks: [&formats.latent_prefill_block, &formats.latent_decode_block].map(
                |of| {
                    let found = |fits: &dyn Fn(&Operands) -> bool| {
                        of.iter().find(|(operands, _)| fits(operands)).map(|(_, fit)| fit)
                    };
                    let fit: Option<&Fit<LatentBlockConstants>> =
                        found(&|of| *of == kept).or_else(|| found(&|_| true));
                    LatentBlockLaw::bind(fit, device, rows, !dtypes.weights.computed.is_wide())
                },
            ),
            norm: RowLaw::bind(&stack.norm, device, rows),
            activation: RowLaw::bind(&stack.activation, device, rows),
            top_k: TopKLaw::bind(&stack.top_k, device),
            copy: RowLaw::bind(&stack.copy, device, rows),
            recurrent: RecurrentLaw::bind(device.recurrent.as_ref()),
        }
    }
}

impl Laws {
    /// What latent attention of a phase takes besides norms, products and its kernel.
    #[must_use]
    pub const fn latent_block(&self, phase: Phase) -> &LatentBlockLaw {
        match phase {
            Phase::Prefill => &self.latent_blocks[0],
            Phase::Decode => &self.latent_blocks[1],
        }
    }
}

/// The expert law of a device and stack for one shape, with the constants of its number format.
#[must_use]
pub fn expert_law(device: &Device, stack: &Stack, shape: &ExpertShape, seen: Seen) -> ExpertLaw {
    let fit = fit_for(&stack.experts, &stack.formats.experts, shape.operands);
    ExpertLaw::bind(&fit, device, shape, seen)
}

/// The expert law that a question is priced with: that of its number format, or of a wider one
/// where its own takes longer ([`narrowed`]) with 1, 2 or 4 times the mean `tokens` on each of a
/// device's `slots`.
#[must_use]
pub fn narrowed_expert_law(
    device: &Device,
    stack: &Stack,
    shape: &ExpertShape,
    seen: Seen,
    (tokens, slots): (f64, u32),
) -> ExpertLaw {
    let own = expert_law(device, stack, shape, seen);
    let time = |law: &ExpertLaw, times: f64| {
        law.time((0..slots).map(|_| law.piece(tokens * times)).sum()).get()
    };
    let wider = narrowed::wider(device, shape.operands).into_iter().flatten();
    wider.fold(own, |taken, operands| {
        let wide = expert_law(device, stack, &ExpertShape { operands, ..*shape }, seen);
        let slower = [1.0, 2.0, 4.0].map(|times| time(&taken, times) / time(&wide, times));
        let most = slower.into_iter().fold(0.0, f64::max);
        if most > 1.0 { wide.covering(&taken, most) } else { taken }
    })
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
