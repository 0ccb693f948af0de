//! Counts: JSON, a table, an array.

use std::io::Write;

use crate::formats::trace::export::{ExportError, places};
use crate::formats::trace::npy;
use crate::formats::trace::stored::StoredTrace;
use crate::trace::TraceKind;
use crate::trace::counts::ExpertCounts;
use crate::trace::steps::{StepOrder, StepPlan};

/// Hands the counts of every step on.
fn for_each_step(
    trace: &StoredTrace,
    tokens_per_step: Option<u64>,
    take: &mut dyn FnMut(u64, &ExpertCounts) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let range = 0..trace.header().extent();
    let order = match (trace.header().kind, tokens_per_step) {
        (TraceKind::Counts, _) => StepOrder::Recorded,
        (TraceKind::Routes, Some(tokens_per_step)) => StepOrder::Prefill { tokens_per_step },
        (TraceKind::Routes, None) => return take(0, &trace.count(range)?),
    };
    let mut steps = trace.steps(&StepPlan { order, range, with_routes: false });
    let mut nth = 0;
    while let Some(step) = steps.next_step()? {
        take(nth, &step.counts)?;
        nth += 1;
    }
    Ok(())
}

/// The counts of every layer, zeros for layers left out.
fn rows<'a>(
    places: &'a [Option<usize>],
    counts: &'a ExpertCounts,
    zeros: &'a [f64],
) -> impl Iterator<Item = &'a [f64]> {
    places.iter().map(move |place| place.map_or(zeros, |layer| counts.layer(layer)))
}

/// `{"KEY": [[[…] per layer] per step]}`
pub(super) fn json(
    trace: &StoredTrace,
    tokens_per_step: Option<u64>,
    key: &str,
    to: &mut dyn Write,
) -> Result<(), ExportError> {
    let (places, zeros) = (places(trace), vec![0.0; trace.header().n_experts()]);
    write!(to, "{{\"{key}\": [")?;
    for_each_step(trace, tokens_per_step, &mut |nth, counts| {
        for (layer, row) in rows(&places, counts, &zeros).enumerate() {
            let before = match (nth, layer) {
                (0, 0) => "\n[",
                (_, 0) => "],\n[",
                _ => ",\n ",
            };
            write!(to, "{before}[")?;
            for (expert, count) in row.iter().enumerate() {
                write!(to, "{}{count}", if expert == 0 { "" } else { "," })?;
            }
            write!(to, "]")?;
        }
        Ok(())
    })?;
    writeln!(to, "]]}}")?;
    Ok(())
}

/// `step,layer,expert,count`, without what is zero except in the last place of the table.
pub(super) fn csv(
    trace: &StoredTrace,
    tokens_per_step: Option<u64>,
    to: &mut dyn crate::formats::trace::export::SeekWrite,
) -> Result<(), ExportError> {
    writeln!(to, "step,layer,expert,count")?;
    let last = trace.header().n_experts().saturating_sub(1);
    for_each_step(trace, tokens_per_step, &mut |step, counts| {
        for (layer, row) in trace.header().layers.iter().zip(counts.layers()) {
            for (expert, count) in row.iter().enumerate() {
                if *count > 0.0 || expert == last {
                    writeln!(to, "{step},{layer},{expert},{count}")?;
                }
            }
        }
        Ok(())
    })
}

/// An array `[layers, experts]` of 64-bit floats.
pub(super) fn npy(trace: &StoredTrace, to: &mut dyn Write) -> Result<(), ExportError> {
    let (places, zeros) = (places(trace), vec![0.0; trace.header().n_experts()]);
    let counts = trace.count(0..trace.header().extent())?;
    to.write_all(&npy::header("<f8", &[places.len() as u64, zeros.len() as u64]))?;
    for row in rows(&places, &counts, &zeros) {
        for count in row {
            to.write_all(&count.to_le_bytes())?;
        }
    }
    Ok(())
}
