//! Operators of one device but its experts, priced with the laws of [`moe_gps_core::cost`].

use crate::validate::measured::{Case, Software};
use crate::validate::price::{Estimate, Unpriced, note_of};
use crate::validate::profiles::choose;
use moe_gps_core::cost::Laws;
use moe_gps_core::hardware::Device;
use moe_gps_core::system::{Dtype, Dtypes};
use moe_gps_core::units::{Bytes, Seconds};

/// The number formats of every table but the 8-bit experts'.
pub(crate) const BF16: Dtypes = Dtypes {
    weights: Dtype::Bf16,
    experts: Dtype::Bf16,
    activations: Dtype::Bf16,
    kv: Dtype::Bf16,
    dispatch: Dtype::Bf16,
    combine: Dtype::Bf16,
};

/// Prices an operator with the constants that come nearest to the measured software.
pub fn price(case: &Case, device: &Device, software: &Software) -> Result<Estimate, Unpriced> {
    let choice = match case {
        Case::Gemm { .. } | Case::PredictorFfn { .. } | Case::PredictorLstm { .. } => {
            choose(device, software, |stack| &stack.gemm)
        }
        Case::Prefill(..) => choose(device, software, |stack| &stack.prefill),
        Case::Decode(..) => choose(device, software, |stack| &stack.decode),
        Case::Norm { .. } | Case::Softmax { .. } => choose(device, software, |stack| &stack.norm),
        Case::GatedActivation { .. } => choose(device, software, |stack| &stack.activation),
        Case::TopK { .. } => choose(device, software, |stack| &stack.top_k),
        _ => choose(device, software, |stack| &stack.copy),
    };
    let choice = choice.ok_or_else(|| Unpriced::Stack(device.name.clone()))?;
    let laws = Laws::bind(device, choice.stack, &BF16);
    let time = time(case, &laws).ok_or(Unpriced::NoLaw("not an operator of one device"))?;
    Ok(Estimate { time, note: note_of(&choice) })
}

/// The time of an operator under bound laws; `None` for experts and communication.
#[must_use]
pub fn time(case: &Case, laws: &Laws) -> Option<Seconds> {
    Some(match case {
        Case::Gemm { m, n, k } => laws.gemm.time(*m, *n, *k),
        Case::Prefill(heads, span) => laws.attention.prefill(heads, span),
        Case::Decode(heads, span) => laws.attention.decode(heads, span),
        // A softmax over long rows reads and writes each once, as a norm does.
        Case::Norm { rows, width } | Case::Softmax { rows, width } => {
            laws.norm.norm(*rows, *width).time
        }
        Case::GatedActivation { rows, width } => {
            laws.activation.gated_activation(*rows, *width).time
        }
        // One operand read, one result written: a copy with arithmetic on the way.
        Case::PlainActivation { elements } => {
            laws.copy.copy(Bytes::new(elements * Dtype::Bf16.bytes())).time
        }
        Case::TopK { tokens, experts } => laws.top_k.price(*tokens, *experts).time,
        Case::Copy(bytes) => laws.copy.copy(*bytes).time,
        Case::Lookup { tokens, top_k } => laws.predictor_lookup(*tokens, *top_k).time,
        Case::PredictorFfn { tokens, widths } => laws.predictor_ffn(*tokens, widths).time,
        Case::PredictorLstm { sequences, tokens, input, width, layers } => {
            laws.predictor_lstm(*sequences, *tokens, *input, *width, *layers).time
        }
        Case::Experts(_) | Case::Collective { .. } | Case::Exchange(_) | Case::NoLaw(_) => {
            return None;
        }
    })
}
