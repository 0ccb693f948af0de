//! Operators of one device but its experts, priced with the laws of [`crate::domain::cost`].

use super::measured::{Case, Software};
use super::price::{Estimate, Unpriced, note_of};
use super::profiles::choose;
use crate::domain::cost::Laws;
use crate::domain::cost::attention::Span;
use crate::domain::hardware::{Device, Fit, Stack};
use crate::domain::system::{Dtype, Dtypes};
use crate::domain::units::{Bytes, Seconds};

/// The number formats of every table but the 8-bit experts'.
pub(super) const BF16: Dtypes = Dtypes {
    weights: Dtype::Bf16,
    activations: Dtype::Bf16,
    kv: Dtype::Bf16,
    dispatch: Dtype::Bf16,
    combine: Dtype::Bf16,
};

/// Prices an operator.
pub fn price(case: &Case, device: &Device, software: &Software) -> Result<Estimate, Unpriced> {
    let at = Asked { device, software };
    match case {
        Case::Gemm { m, n, k } => at.with(|stack| &stack.gemm, |laws| laws.gemm.time(*m, *n, *k)),
        Case::Prefill(heads, span) => {
            at.with(|stack| &stack.prefill, |laws| laws.attention.prefill(heads, span))
        }
        Case::Decode(heads, span) => {
            let span = Span { new: 1.0, ..*span };
            at.with(|stack| &stack.decode, |laws| laws.attention.decode(heads, &span))
        }
        // A softmax over long rows reads and writes each once, as a norm does.
        Case::Norm { rows, width } | Case::Softmax { rows, width } => {
            at.with(|stack| &stack.norm, |laws| laws.norm.norm(*rows, *width).time)
        }
        Case::GatedActivation { rows, width } => at.with(
            |stack| &stack.activation,
            |laws| laws.activation.gated_activation(*rows, *width).time,
        ),
        // One operand read, one result written: a copy with arithmetic on the way.
        Case::PlainActivation { elements } => {
            let bytes = Bytes::new(elements * Dtype::Bf16.bytes());
            at.with(|stack| &stack.copy, |laws| laws.copy.copy(bytes).time)
        }
        Case::TopK { tokens, experts } => {
            at.with(|stack| &stack.top_k, |laws| laws.top_k.price(*tokens, *experts).time)
        }
        Case::Copy(bytes) => at.with(|stack| &stack.copy, |laws| laws.copy.copy(*bytes).time),
        Case::Lookup { tokens, top_k } => {
            at.with(|stack| &stack.copy, |laws| laws.predictor_lookup(*tokens, *top_k).time)
        }
        Case::PredictorFfn { tokens, widths } => {
            at.with(|stack| &stack.gemm, |laws| laws.predictor_ffn(*tokens, widths).time)
        }
        Case::PredictorLstm { sequences, tokens, input, width, layers } => at.with(
            |stack| &stack.gemm,
            |laws| laws.predictor_lstm(*sequences, *tokens, *input, *width, *layers).time,
        ),
        Case::Experts(_) | Case::Collective { .. } | Case::Exchange(_) | Case::NoLaw(_) => {
            Err(Unpriced::NoLaw("not an operator of one device"))
        }
    }
}

/// A device and the software whose times are asked for.
struct Asked<'a> {
    device: &'a Device,
    software: &'a Software,
}

impl<'a> Asked<'a> {
    fn with<C: 'a>(
        &self,
        fit: impl Fn(&'a Stack) -> &'a Fit<C>,
        time: impl Fn(&Laws) -> Seconds,
    ) -> Result<Estimate, Unpriced> {
        let choice = choose(self.device, self.software, fit)
            .ok_or_else(|| Unpriced::Stack(self.device.name.clone()))?;
        let laws = Laws::bind(self.device, choice.stack, &BF16);
        Ok(Estimate { time: time(&laws), note: note_of(&choice) })
    }
}
