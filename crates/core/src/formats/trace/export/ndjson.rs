//! Routes as JSON Lines.

use std::io::Write;
use std::ops::Range;

use crate::formats::trace::export::{ExportError, places, routes_of};
use crate::formats::trace::stored::StoredTrace;
use crate::trace::steps::{StepOrder, StepPlan};

/// Tokens that are read at a time.
const AT_ONCE: u64 = 4096;

/// One token a line.
pub(super) fn write(trace: &StoredTrace, to: &mut dyn Write) -> Result<(), ExportError> {
    routes_of(trace)?;
    for (sequence, range) in trace.sequences().enumerate() {
        let mut range = range?;
        while range.start < range.end {
            let part = range.start..range.end.min(range.start + AT_ONCE);
            range.start = part.end;
            tokens(trace, sequence, part, to)?;
        }
    }
    Ok(())
}

fn tokens(
    trace: &StoredTrace,
    sequence: usize,
    range: Range<u64>,
    to: &mut dyn Write,
) -> Result<(), ExportError> {
    let top_k = routes_of(trace)?;
    let (places, none) = (places(trace), vec![0; top_k]);
    let positions = trace.read_positions(range.clone())?;
    let ids = trace.read_token_ids(range.clone())?;
    let order = StepOrder::Prefill { tokens_per_step: range.end - range.start };
    let mut steps = trace.steps(&StepPlan { order, range, with_routes: true });
    let Some(step) = steps.next_step()? else { return Ok(()) };
    for (token, position) in positions.iter().enumerate() {
        write!(to, "{{\"sequence\": {sequence}, \"position\": {position}, ")?;
        if let Some(id) = ids.get(token) {
            write!(to, "\"token_id\": {id}, ")?;
        }
        write!(to, "\"experts\": [")?;
        for (nth, place) in places.iter().enumerate() {
            let experts = place
                .map_or(&none[..], |layer| &step.routes.layer(layer)[token * top_k..][..top_k]);
            write!(to, "{}{experts:?}", if nth == 0 { "" } else { ", " })?;
        }
        writeln!(to, "]}}")?;
    }
    Ok(())
}
