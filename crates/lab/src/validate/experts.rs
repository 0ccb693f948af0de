//! The routed experts of one device, grouped or one after another.

use crate::validate::compute::BF16;
use crate::validate::measured::{ExpertCase, Loads, Measured};
use crate::validate::price::{Doubts, DrawnLoads, Estimate, Unpriced, note_of};
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
    let time = mean_time(&law, draws);
    Ok(Estimate {
        time,
        band: Some(choice.band),
        doubts: Some(doubts(&law, choice.band, draws)),
        note,
    })
}

/// Draws that a measured time is the mean of, at least.
const MEASURED_DRAWS: f64 = 5.0;

/// The doubts that an answer has of the experts' law ([`moe_gps_core::advice::uncertainty`]), and the
/// spread of a mean over few draws.
fn doubts(law: &ExpertLaw, band: f64, draws: &[Vec<f64>]) -> Doubts {
    let mean = mean_time(law, draws).get();
    let slower =
        |memory, arithmetic| (mean_time(&law.slower(memory, arithmetic), draws).get() / mean).ln();
    let times = draws.iter().map(|draw| mean_time(law, std::slice::from_ref(draw)).get());
    let squares: f64 = times.map(|time| (time / mean - 1.0).powi(2)).sum();
    let others = (draws.len() as f64 - 1.0).max(1.0);
    Doubts {
        memory: slower(1.0 + band, 1.0),
        arithmetic: slower(1.0, 1.0 + band),
        draws: (squares / others / MEASURED_DRAWS).sqrt(),
    }
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
    Ok(Estimate { band: Some(choice.band), note: note_of(&choice), ..Estimate::of(time) })
}

fn mean(draws: &[Vec<f64>], time: impl Fn(&[f64]) -> Seconds) -> Seconds {
    let total: Seconds = draws.iter().map(|tokens| time(tokens)).sum();
    total / draws.len().max(1) as f64
}
