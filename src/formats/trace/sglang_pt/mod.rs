//! Reads what SGLang's expert distribution recorder writes with `torch.save`.
//!
//! Modes `stat` and `stat_approx`: `logical_count` `[steps, layers, experts]`. Modes
//! `per_pass` and `per_token`: `records`, and `last_physical_to_logical_map` `[layers,
//! slots]`, by which physical ids are mapped back to logical ones.

mod per_pass;
mod per_token;
mod tensors;

use std::fs::File;

use self::tensors::Torch;
use super::Input;
use super::counts::{CountsRecorder, check_counts_shape};
use super::error::{Flaws, TraceError};
use super::pickle::{Heap, Value};
use crate::domain::trace::MAX_EXPERTS;

/// Converts a recording to a stored trace.
pub(super) fn convert(input: Input<'_>) -> Result<File, TraceError> {
    let raw = input.raw.try_clone().map_err(TraceError::storage)?;
    let (torch, top, heap) = Torch::open(raw, input.scratch, input.limits)?;
    if let Some(counts) = heap.get(top, "logical_count") {
        return logical_counts(input, &torch, &heap, counts);
    }
    let records = heap.get(top, "records").and_then(|records| heap.items(records));
    let map = heap.get(top, "last_physical_to_logical_map").and_then(|map| heap.tensor(map));
    let (Some(records), Some(map)) = (records, map) else {
        let keys = heap.keys(top).unwrap_or_default().join(", ");
        let detail = format!(
            "has neither `logical_count` nor `records` with `last_physical_to_logical_map`, but \
             [{}]",
            super::shorten(&keys)
        );
        return Err(Flaws::default().fail("required", "", detail));
    };
    let slots = SlotNames::read(&torch, map)?;
    let routed = records.first().and_then(|first| heap.get(*first, "topk_ids_of_layer"));
    if routed.is_some() {
        per_token::convert(input, &torch, &heap, records, &slots)
    } else {
        per_pass::convert(input, &torch, &heap, records, &slots)
    }
}

fn logical_counts(
    input: Input<'_>,
    torch: &Torch,
    heap: &Heap,
    counts: Value,
) -> Result<File, TraceError> {
    let pointer = "/logical_count";
    let Some(tensor) = heap.tensor(counts) else {
        return Err(Flaws::default().fail("type", pointer, "is no tensor"));
    };
    let mut view = torch.view(tensor)?;
    let [steps, layers, experts] = match *view.size() {
        [layers, experts] => [1, layers, experts],
        [steps, layers, experts] => [steps, layers, experts],
        _ => {
            let detail = format!(
                "is {:?}; it must be [layers, experts] or [steps, layers, experts]",
                view.size()
            );
            return Err(Flaws::default().fail("shape", pointer, detail));
        }
    };
    let mut flaws = Flaws::default();
    check_counts_shape(&mut flaws, pointer, layers, experts, input.declared);
    flaws.into_result()?;
    let cells = (as_size(layers)?, as_size(experts)?);
    let mut recorder = CountsRecorder::new(input.to, input.scratch, cells, input.declared)?;
    let mut row = Vec::new();
    for nth in 0..steps * layers {
        view.row(nth, &mut row)?;
        recorder.push_row(&row)?;
    }
    recorder.finish(input.digest)
}

fn as_size(n: u64) -> Result<usize, TraceError> {
    usize::try_from(n).map_err(TraceError::unreadable)
}

/// The logical expert of every slot, `[layer][slot]`.
pub(super) struct SlotNames {
    n_layers: usize,
    n_slots: usize,
    /// One more than the largest expert.
    n_experts: usize,
    experts: Vec<u16>,
}

impl SlotNames {
    fn read(torch: &Torch, map: &super::pickle::Tensor) -> Result<Self, TraceError> {
        let pointer = "/last_physical_to_logical_map";
        let mut view = torch.view(map)?;
        let &[n_layers, n_slots] = view.size() else {
            let detail = format!("is {:?}; it must be [layers, slots]", view.size());
            return Err(Flaws::default().fail("shape", pointer, detail));
        };
        let mut flaws = Flaws::default();
        let anything = super::Declared::default();
        check_counts_shape(&mut flaws, pointer, n_layers, n_slots, anything);
        flaws.into_result()?;
        let (mut row, mut experts) = (Vec::new(), Vec::new());
        for layer in 0..n_layers {
            view.row(layer, &mut row)?;
            for (slot, id) in row.iter().enumerate() {
                if !(id.fract() == 0.0 && (0.0..f64::from(MAX_EXPERTS)).contains(id)) {
                    let pointer = format!("{pointer}/{layer}/{slot}");
                    return Err(Flaws::default().fail("range", pointer, format!("expert {id}")));
                }
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "checked to be an integer below 65,535"
                )]
                experts.push(*id as u16);
            }
        }
        let n_experts = experts.iter().copied().max().map_or(0, |last| usize::from(last) + 1);
        let (n_layers, n_slots) = (as_size(n_layers)?, as_size(n_slots)?);
        Ok(Self { n_layers, n_slots, n_experts, experts })
    }

    /// The logical expert of a slot.
    fn expert(&self, layer: usize, slot: usize) -> Option<u16> {
        (slot < self.n_slots).then(|| self.experts.get(layer * self.n_slots + slot).copied())?
    }
}

/// The remark that a file of one rank is not the whole.
fn of_one_rank(heap: &Heap, records: &[Value]) -> String {
    let rank = records.first().and_then(|first| heap.get(*first, "rank"));
    let rank = match rank {
        Some(Value::Int(rank)) => format!("rank {rank}"),
        _ => "one rank".to_owned(),
    };
    format!("the records are those of {rank}; what other ranks saw stands in files of their own")
}
