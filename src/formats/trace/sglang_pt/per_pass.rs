//! Records of mode `per_pass`: counts of physical experts, one record a forward pass.

use std::fs::File;

use super::tensors::Torch;
use super::{SlotNames, of_one_rank};
use crate::formats::trace::Input;
use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::pickle::{Heap, Value};

/// Converts records to counts per pass; parts of one pass are added up.
pub(super) fn convert(
    input: Input<'_>,
    torch: &Torch,
    heap: &Heap,
    records: &[Value],
    slots: &SlotNames,
) -> Result<File, TraceError> {
    let n_experts = input.declared.experts.map_or(slots.n_experts, |n| n as usize);
    let mut flaws = Flaws::default();
    let (layers, experts) = (slots.n_layers as u64, slots.n_experts.max(n_experts) as u64);
    check_counts_shape(
        &mut flaws,
        "/last_physical_to_logical_map",
        layers,
        experts,
        input.declared,
    );
    flaws.into_result()?;
    let cells = (slots.n_layers, n_experts);
    let mut recorder = CountsRecorder::new(input.to, input.scratch, cells, input.declared)?;
    recorder.note(of_one_rank(heap, records));
    let mut step = vec![0.0; slots.n_layers * n_experts];
    let mut pass: Option<Value> = None;
    let mut left = input.limits.inflated_bytes;
    let mut row = Vec::new();
    for (nth, record) in records.iter().enumerate() {
        let pointer = format!("/records/{nth}/global_physical_count");
        let tensor = heap.get(*record, "global_physical_count").and_then(|x| heap.tensor(x));
        let Some(tensor) = tensor else {
            return Err(Flaws::default().fail("required", pointer, "is missing or no tensor"));
        };
        let mut view = torch.view(tensor)?;
        if *view.size() != [slots.n_layers as u64, slots.n_slots as u64] {
            let wanted = [slots.n_layers, slots.n_slots];
            let detail = format!("is {:?}; the map is {wanted:?}", view.size());
            return Err(Flaws::default().fail("shape", pointer, detail));
        }
        // A pickle may name one tensor any number of times.
        let bytes = (slots.n_layers * slots.n_slots * view.element().size()) as u64;
        let limit_bytes = input.limits.inflated_bytes;
        let too_large = TraceError::TooLarge { what: "what the records hold", limit_bytes };
        left = left.checked_sub(bytes).ok_or(too_large)?;
        let id = heap.get(*record, "forward_pass_id");
        if nth > 0 && (id.is_none() || id != pass) {
            flush(&mut recorder, &mut step, n_experts)?;
        }
        pass = id;
        for layer in 0..slots.n_layers {
            view.row(layer as u64, &mut row)?;
            for (slot, count) in row.iter().enumerate() {
                if let Some(expert) = slots.expert(layer, slot) {
                    step[layer * n_experts + usize::from(expert)] += count;
                }
            }
        }
    }
    if !records.is_empty() {
        flush(&mut recorder, &mut step, n_experts)?;
    }
    recorder.finish(input.digest)
}

/// Hands a finished pass on.
fn flush(
    recorder: &mut CountsRecorder,
    step: &mut [f64],
    n_experts: usize,
) -> Result<(), TraceError> {
    step.chunks_exact(n_experts).try_for_each(|row| recorder.push_row(row))?;
    step.fill(0.0);
    Ok(())
}
