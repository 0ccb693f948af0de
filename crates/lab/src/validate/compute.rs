//! Operators of one device but its experts, priced with the laws of [`moe_gps_core::cost`].

use crate::validate::measured::{BlockCase, Case, Measured, Op, Software};
use crate::validate::price::{Estimate, Unpriced, note_of};
use crate::validate::profiles::choose;
use moe_gps_core::cost::Laws;
use moe_gps_core::cost::latent::{DEEPSEEK_V3, LatentBlockConstants};
use moe_gps_core::cost::predictor::{EAGER, REPLAYED, RecurrentConstants};
use moe_gps_core::hardware::{Device, Fit, Provenance, Stack, fit_for};
use moe_gps_core::price::Basis;
use moe_gps_core::system::{Dtype, Dtypes, Operands, Phase};
use moe_gps_core::units::{Bytes, Seconds};

/// The number formats where nothing else is said.
pub(crate) const BF16: Dtypes = Dtypes::all(Dtype::Bf16);

/// The number formats of a measurement, as a question would state them.
#[must_use]
pub fn dtypes(row: &Measured) -> Dtypes {
    let Operands { stored, computed } = row.operands;
    match &row.case {
        Case::Prefill(..) | Case::Decode(..) => Dtypes { kv: stored, stream: computed, ..BF16 },
        Case::LatentBlock(_) => {
            Dtypes { kv: stored, stream: computed, weights: projections(row), ..BF16 }
        }
        _ => Dtypes { weights: row.operands, experts: row.operands, ..BF16 },
    }
}

/// The formats of a module's projections; those of the row where it is no module.
#[must_use]
pub fn projections(row: &Measured) -> Operands {
    match &row.case {
        Case::LatentBlock(case) => case.projections,
        _ => row.operands,
    }
}

/// Prices an operator with the constants that come nearest to the measured software.
pub fn price(row: &Measured, device: &Device) -> Result<Estimate, Unpriced> {
    let (software, operands) = (&row.software, row.operands);
    let choice = match &row.case {
        Case::Gemm { .. }
        | Case::PredictorFfn { .. }
        | Case::PredictorLinear { .. }
        | Case::PredictorLstm { .. }
        | Case::AttentionBlock(_)
        | Case::BeforeAttention(..)
        | Case::BesideAttention(..) => choose(device, software, |stack| {
            fit_for(&stack.gemm, &stack.formats.gemm, operands).fit
        }),
        Case::Prefill(..) if row.op == Op::LatentAttentionPrefill => {
            choose(device, software, |stack| {
                fit_for(&stack.prefill, &stack.formats.latent_prefill, operands).fit
            })
        }
        Case::Decode(..) if row.op == Op::LatentAttentionDecode => {
            choose(device, software, |stack| {
                fit_for(&stack.decode, &stack.formats.latent_decode, operands).fit
            })
        }
        Case::LatentBlock(case) => {
            let own = choose(device, software, |stack| {
                block_fit(stack, case.phase, operands).unwrap_or(&NO_BLOCK)
            });
            own.filter(|choice| choice.stands_in.is_none()).or_else(|| match case.phase {
                Phase::Prefill => choose(device, software, |stack| {
                    fit_for(&stack.prefill, &stack.formats.latent_prefill, operands).fit
                }),
                Phase::Decode => choose(device, software, |stack| {
                    fit_for(&stack.decode, &stack.formats.latent_decode, operands).fit
                }),
            })
        }
        Case::Prefill(..) => choose(device, software, |stack| {
            fit_for(&stack.prefill, &stack.formats.prefill, operands).fit
        }),
        Case::Decode(..) => choose(device, software, |stack| {
            fit_for(&stack.decode, &stack.formats.decode, operands).fit
        }),
        Case::Norm { .. } | Case::Softmax { .. } => choose(device, software, |stack| &stack.norm),
        Case::GatedActivation { .. } => choose(device, software, |stack| &stack.activation),
        Case::TopK { .. } => choose(device, software, |stack| &stack.top_k),
        _ => choose(device, software, |stack| &stack.copy),
    };
    let choice = choice.ok_or_else(|| Unpriced::Stack(device.name.clone()))?;
    let mut laws = Laws::bind(device, choice.stack, &dtypes(row));
    if let Some(constants) = recurrent(&row.software) {
        laws.recurrent.constants = constants;
    }
    let time = time(row, &laws).ok_or(Unpriced::NoLaw("not an operator of one device"))?;
    let band = match &row.case {
        Case::LatentBlock(case) => {
            block_fit(choice.stack, case.phase, operands).map(|fit| fit.band)
        }
        _ => None,
    };
    Ok(Estimate {
        band: Some(band.unwrap_or(choice.band)),
        note: note_of(&choice),
        ..Estimate::of(time)
    })
}

/// How a recurrent predictor was run, where it was otherwise than its device's constants say.
pub(crate) fn recurrent(software: &Software) -> Option<RecurrentConstants> {
    match &*software.kernel {
        "cudnn" => None,
        "pytorch" => Some(REPLAYED),
        // `h200_ops` names no kernel; its times have the host's launches in them.
        _ => Some(EAGER),
    }
}

/// What stands for a stack without constants of a module around latent attention.
static NO_BLOCK: Fit<LatentBlockConstants> = Fit {
    constants: LatentBlockConstants::NONE,
    band: 0.0,
    basis: Basis::Roofline,
    provenance: Provenance {
        framework: String::new(),
        version: String::new(),
        kernel: String::new(),
        source: String::new(),
        date: String::new(),
        rows: 0,
        mean_error: None,
        held_out_error: None,
    },
};

/// The constants of a module around latent attention, where such were fitted.
fn block_fit(
    stack: &Stack,
    phase: Phase,
    operands: Operands,
) -> Option<&Fit<LatentBlockConstants>> {
    let of = match phase {
        Phase::Prefill => &stack.formats.latent_prefill_block,
        Phase::Decode => &stack.formats.latent_decode_block,
    };
    of.iter().find(|(format, _)| *format == operands).map(|(_, fit)| fit)
}

/// The time of an operator under bound laws; `None` for experts and communication.
#[must_use]
pub fn time(row: &Measured, laws: &Laws) -> Option<Seconds> {
    Some(match &row.case {
        Case::Gemm { m, n, k } => laws.gemm.own.timed_by_host(*m, *n, *k),
        Case::Prefill(heads, span) if row.op == Op::LatentAttentionPrefill => {
            laws.latent.own.prefill(heads, span)
        }
        Case::Decode(heads, span) if row.op == Op::LatentAttentionDecode => {
            laws.latent.own.decode(heads, span)
        }
        Case::LatentBlock(case) => {
            DEEPSEEK_V3.module_time(laws, case.phase, case.heads, &case.span)
        }
        Case::Prefill(heads, span) => laws.attention.own.prefill(heads, span),
        Case::Decode(heads, span) => laws.attention.own.decode(heads, span),
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
        Case::PredictorFfn { .. } | Case::PredictorLinear { .. } | Case::PredictorLstm { .. } => {
            predictor(&row.case, laws, 1.0)?
        }
        Case::AttentionBlock(case) => block(case, laws),
        Case::BeforeAttention(case, attention) => {
            predictor(case, laws, 1.0)? + block(attention, laws)
        }
        // Two streams share the device: what starts kernels is hidden, what works is not.
        Case::BesideAttention(case, attention) => {
            block(attention, laws) + predictor(case, laws, 1.0)? - predictor(case, laws, 0.0)?
        }
        Case::Experts(_)
        | Case::Collective { .. }
        | Case::Exchange(_)
        | Case::Server(_)
        | Case::NoLaw(_) => {
            return None;
        }
    })
}

/// The time of a predictor on so many times its tokens; `None` for what is none.
fn predictor(case: &Case, laws: &Laws, times: f64) -> Option<Seconds> {
    Some(match case {
        Case::PredictorFfn { tokens, widths } => laws.predictor_ffn(tokens * times, widths).time,
        Case::PredictorLinear { tokens, widths } => widths
            .windows(2)
            .map(|pair| laws.gemm.price(tokens * times, pair[1], pair[0]).time)
            .sum(),
        Case::PredictorLstm { sequences, tokens, input, width, layers } => {
            laws.predictor_lstm(*sequences, tokens * times, *input, *width, *layers).time
        }
        _ => return None,
    })
}

/// Attention between the product that makes queries, keys and values and the one after it.
fn block(case: &BlockCase, laws: &Laws) -> Seconds {
    let BlockCase { phase, hidden, heads, span } = case;
    let tokens = span.sequences * span.new;
    let width = |heads: f64| heads * case.heads.qk_width;
    let into = laws.gemm.price(tokens, width(heads.query + 2.0 * heads.kv), *hidden);
    let back = laws.gemm.price(tokens, *hidden, width(heads.query));
    let attention = match phase {
        Phase::Prefill => laws.attention.own.prefill(heads, span),
        Phase::Decode => laws.attention.own.decode(heads, span),
    };
    into.time + attention + back.time
}
