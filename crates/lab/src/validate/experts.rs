//! The routed experts of one device, grouped or one after another.

use crate::validate::compute::BF16;
use crate::validate::measured::{ExpertCase, Loads, Measured};
use crate::validate::price::{DrawnLoads, Estimate, Unpriced, note_of};
use crate::validate::profiles::choose;
use moe_gps_core::cost::experts::{ExpertLaw, ExpertShape, Seen};
use moe_gps_core::cost::{Laws, expert_law};
use moe_gps_core::hardware::{Device, Stack, fit_for};
use moe_gps_core::system::{Dtype, Dtypes, Operands};
use moe_gps_core::units::Seconds;

/// Prices the experts of one device: the mean over draws where loads were drawn.
pub fn price(
    row: &Measured,
    case: &ExpertCase,
    device: &Device,
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
    if case.looped { looped(row, case, device, draws) } else { grouped(row, case, device, draws) }
}

fn grouped(
    row: &Measured,
    case: &ExpertCase,
    device: &Device,
    draws: &[Vec<f64>],
) -> Result<Estimate, Unpriced> {
    let choice = choose(device, &row.software, |stack| {
        fit_for(&stack.experts, &stack.formats.experts, row.operands).fit
    })
    .ok_or_else(|| Unpriced::Stack(device.name.clone()))?;
    let law = law_of(case, row.operands, device, choice.stack);
    let Stack { experts, formats, .. } = choice.stack;
    let own = fit_for(experts, &formats.experts, row.operands).own;
    let note = match note_of(&choice) {
        Some(note) if !own => Some(format!("{note}, fitted in another format")),
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
pub fn law_of(case: &ExpertCase, operands: Operands, device: &Device, stack: &Stack) -> ExpertLaw {
    let shape = ExpertShape {
        hidden: case.hidden,
        intermediate: case.intermediate,
        gated: case.gated,
        operands,
        rows: Dtype::Bf16,
    };
    let seen = match case.group_tokens {
        None => Seen::Routed,
        Some(tokens) => Seen::Group { tokens, pairs: case.group_pairs },
    };
    expert_law(device, stack, &shape, seen)
}

/// One expert after another: its two products with the activation between them.
fn looped(
    row: &Measured,
    case: &ExpertCase,
    device: &Device,
    draws: &[Vec<f64>],
) -> Result<Estimate, Unpriced> {
    let choice = choose(device, &row.software, |stack| &stack.gemm)
        .ok_or_else(|| Unpriced::Stack(device.name.clone()))?;
    let laws = Laws::bind(device, choice.stack, &Dtypes { weights: row.operands, ..BF16 });
    let (h, i) = (case.hidden, case.intermediate);
    let expert = |n: f64| {
        laws.gemm.own.time(n, 2.0 * i, h)
            + laws.activation.gated_activation(n, i).time
            + laws.gemm.own.time(n, h, i)
    };
    let time = mean(draws, |tokens| tokens.iter().filter(|&&n| n > 0.0).map(|&n| expert(n)).sum());
    Ok(Estimate { time, note: note_of(&choice) })
}

fn mean(draws: &[Vec<f64>], time: impl Fn(&[f64]) -> Seconds) -> Seconds {
    let total: Seconds = draws.iter().map(|tokens| time(tokens)).sum();
    total / draws.len().max(1) as f64
}
