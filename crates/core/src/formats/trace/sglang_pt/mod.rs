//! Reads what SGLang's expert distribution recorder writes with `torch.save`.
//!
//! Modes `stat` and `stat_approx`: `logical_count` `[steps, layers, experts]`, which rank 0
//! writes for all. Modes `per_pass` and `per_token`: every rank writes a file with its
//! `records`, and `last_physical_to_logical_map` `[layers, slots]`, by which physical ids are
//! mapped back to logical ones; the files of all ranks come in one archive.
//!
//! Files of others that hold one tensor are read here as well.

mod dump;
mod one_tensor;
mod per_pass;
mod per_token;
mod ranks;
mod stat;
mod tensors;

use std::fs::File;

use self::dump::Dumps;
use self::tensors::Torch;
use crate::formats::trace::archive::Folder;
use crate::formats::trace::counts::check_counts_shape;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::{Input, npy_file};
use crate::trace::MAX_EXPERTS;

/// Converts a recording of one file to a stored trace.
pub(super) fn convert(input: Input<'_>) -> Result<File, TraceError> {
    let raw = input.raw.try_clone().map_err(TraceError::storage)?;
    let dumps = Dumps::one(raw, input.scratch, input.limits);
    convert_dumps(input, &dumps)
}

/// Whether an archive holds files of the recorder.
pub(super) fn is_recording(folder: &Folder) -> bool {
    dump::names(folder).next().is_some()
}

/// Converts the files of all ranks, in one archive, to a stored trace.
pub(super) fn convert_archive(input: Input<'_>, folder: &Folder) -> Result<File, TraceError> {
    let dumps = Dumps::of_archive(folder, input.scratch, input.limits)?;
    convert_dumps(input, &dumps)
}

fn convert_dumps(input: Input<'_>, dumps: &Dumps<'_>) -> Result<File, TraceError> {
    let first = dumps.open(0)?;
    if first.heap.get(first.top, "logical_count").is_some() {
        return stat::convert(input, dumps);
    }
    if let Some(tensor) = one_tensor::of(&first) {
        return one_tensor::convert(input, &first, tensor);
    }
    if let Some(raw) = one_tensor::of_layers(&first, input.scratch)? {
        return npy_file::convert(Input { raw, ..input });
    }
    let (records, slots) = first.records()?;
    let key = "topk_ids_of_layer";
    if records.first().is_some_and(|record| first.heap.get(*record, key).is_some()) {
        per_token::convert(input, dumps, &slots)
    } else {
        per_pass::convert(input, dumps, &slots)
    }
}

fn as_size(n: u64) -> Result<usize, TraceError> {
    usize::try_from(n).map_err(TraceError::unreadable)
}

/// The logical expert of every slot, `[layer][slot]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SlotNames {
    n_layers: usize,
    n_slots: usize,
    /// One more than the largest expert.
    n_experts: usize,
    experts: Vec<u16>,
}

impl SlotNames {
    fn read(
        torch: &Torch,
        map: &crate::formats::trace::pickle::Tensor,
    ) -> Result<Self, TraceError> {
        let pointer = "/last_physical_to_logical_map";
        let mut view = torch.view(map)?;
        let &[n_layers, n_slots] = view.size() else {
            let detail = format!("is {:?}; it must be [layers, slots]", view.size());
            return Err(Flaws::default().fail("shape", pointer, detail));
        };
        let mut flaws = Flaws::default();
        let anything = crate::formats::trace::Declared::default();
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

    /// Refuses a file whose experts lie otherwise than in the first one.
    fn check_same(&self, file: usize, other: &Self) -> Result<(), TraceError> {
        if self == other {
            return Ok(());
        }
        let detail = format!(
            "the map of file {file} is not that of the first one; record again, without a \
             rebalancing in between"
        );
        Err(Flaws::default().fail("ranks", "/last_physical_to_logical_map", detail))
    }

    /// The logical expert of a slot.
    fn expert(&self, layer: usize, slot: usize) -> Option<u16> {
        (slot < self.n_slots).then(|| self.experts.get(layer * self.n_slots + slot).copied())?
    }
}
