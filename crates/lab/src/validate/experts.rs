//! The routed experts of one device, grouped or one after another.

use crate::validate::compute::BF16;
use crate::validate::measured::{ExpertCase, Loads, Software};
use crate::validate::price::{DrawnLoads, Estimate, Unpriced, note_of};
use crate::validate::profiles::choose;
use moe_gps_core::cost::experts::{ExpertLaw, ExpertShape, Seen};
use moe_gps_core::cost::{Laws, expert_law};
use moe_gps_core::hardware::Device;
use moe_gps_core::system::{Dtype, Dtypes};
use moe_gps_core::units::Seconds;

/// Prices the experts of one device: the mean over draws where loads were drawn.
pub fn price(
    case: &ExpertCase,
    device: &Device,
    software: &Software,
    drawn: &DrawnLoads,
) -> Result<Estimate, Unpriced> {
    let one;
    let draws = match &case.loads {
        Loads::Counts { tokens, .. } => {
            one = [tokens.clone()];
            &one[..]
        }
        Loads::Drawn(loads) => match drawn.get(&loads.key()) {
            Some(Ok(draws)) => draws,
            Some(Err(why)) => return Err(why.clone()),
            None => return Err(Unpriced::NoLaw("its loads were not drawn beforehand")),
        },
    };
    if case.looped {
        looped(case, device, software, draws)
    } else {
        grouped(case, device, software, draws)
    }
}

fn grouped(
    case: &ExpertCase,
    device: &Device,
    software: &Software,
    draws: &[Vec<f64>],
) -> Result<Estimate, Unpriced> {
    let narrow = case.weights == Dtype::Fp8;
    let choice = choose(device, software, |stack| {
        stack.experts_fp8.as_ref().filter(|_| narrow).unwrap_or(&stack.experts)
    })
    .ok_or_else(|| Unpriced::Stack(device.name.clone()))?;
    let law = law_of(case, device, choice.stack);
    let wide = narrow && choice.stack.experts_fp8.is_none();
    let note = match note_of(&choice) {
        Some(note) if wide => Some(format!("{note}, fitted in 16 bit")),
        note => note,
    };
    Ok(Estimate { time: mean_time(&law, draws), note })
}

/// The mean time over draws of tokens per expert.
#[must_use]
pub fn mean_time(law: &ExpertLaw, draws: &[Vec<f64>]) -> Seconds {
    mean(draws, |tokens| law.time(tokens.iter().map(|&n| law.piece(n)).sum()))
}

/// The law of a case's shape on one stack.
#[must_use]
pub fn law_of(
    case: &ExpertCase,
    device: &Device,
    stack: &moe_gps_core::hardware::Stack,
) -> ExpertLaw {
    let shape = ExpertShape {
        hidden: case.hidden,
        intermediate: case.intermediate,
        gated: true,
        weights: case.weights,
        activations: Dtype::Bf16,
    };
    let seen = match case.group_tokens {
        None => Seen::Routed,
        Some(tokens) => Seen::Group { tokens, pairs: case.group_pairs },
    };
    expert_law(device, stack, &shape, seen)
}

/// One expert after another: its two products with the activation between them.
fn looped(
    case: &ExpertCase,
    device: &Device,
    software: &Software,
    draws: &[Vec<f64>],
) -> Result<Estimate, Unpriced> {
    let choice = choose(device, software, |stack| &stack.gemm)
        .ok_or_else(|| Unpriced::Stack(device.name.clone()))?;
    let laws = Laws::bind(device, choice.stack, &Dtypes { weights: case.weights, ..BF16 });
    let (h, i) = (case.hidden, case.intermediate);
    let expert = |n: f64| {
        laws.gemm.time(n, 2.0 * i, h)
            + laws.activation.gated_activation(n, i).time
            + laws.gemm.time(n, h, i)
    };
    let time = mean(draws, |tokens| tokens.iter().filter(|&&n| n > 0.0).map(|&n| expert(n)).sum());
    Ok(Estimate { time, note: note_of(&choice) })
}

fn mean(draws: &[Vec<f64>], time: impl Fn(&[f64]) -> Seconds) -> Seconds {
    let total: Seconds = draws.iter().map(|tokens| time(tokens)).sum();
    total / draws.len().max(1) as f64
}
