//! A file that is one tensor, or `{"expert_load": tensor}`: counts `[layers, experts]` or
//! `[steps, layers, experts]`, router logits `[tokens, layers, experts]`, or routes
//! `[tokens, layers, top_k]`. Or a tensor a layer, `{"layer_3": tensor}`, `{3: tensor}` or a list.

use std::fs::File;

use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::layers::{self, OfLayer};
use crate::formats::trace::logits::Logits;
use crate::formats::trace::meaning::{Meaning, Seen};
use crate::formats::trace::npy::Dtype;
use crate::formats::trace::pickle::Tensor;
use crate::formats::trace::routes::{NO_ID, RoutePosition, RouteRecorder, check_shape};
use crate::formats::trace::sglang_pt::as_size;
use crate::formats::trace::sglang_pt::dump::Dump;
use crate::formats::trace::sglang_pt::tensors::View;
use crate::formats::trace::stored::Scratch;
use crate::formats::trace::{COUNTS_NAMES, Input};

/// The tensor of such a file.
pub(super) fn of(dump: &Dump) -> Option<&Tensor> {
    let named = |name: &&str| dump.heap.tensor(dump.heap.get(dump.top, name)?);
    dump.heap.tensor(dump.top).or_else(|| COUNTS_NAMES.iter().find_map(named))
}

/// The tensors of all layers as one NumPy file, where the file has one a layer: a dictionary or a list.
pub(super) fn of_layers(dump: &Dump, scratch: Scratch<'_>) -> Result<Option<File>, TraceError> {
    let heap = &dump.heap;
    let entries = heap.entries(dump.top);
    let tensors: Option<Vec<(&str, &Tensor)>> =
        entries.iter().map(|(name, value)| Some((&**name, heap.tensor(*value)?))).collect();
    let tensors = tensors.unwrap_or_default();
    let Some(named) = layers::named(tensors.iter().map(|(name, _)| *name)) else { return Ok(None) };
    let is_integer = tensors.iter().all(|(_, tensor)| tensor.element.is_integer());
    let mut arrays = Vec::new();
    for (layer, name) in named {
        let Some((_, tensor)) = tensors.iter().find(|(other, _)| *other == name) else { continue };
        let mut view = dump.torch.view(tensor)?;
        let shape = view.size().to_vec();
        let (mut numbers, mut integers) = (Vec::new(), Vec::new());
        let row = move |nth: u64, bytes: &mut Vec<u8>| {
            bytes.clear();
            if is_integer {
                view.integers(nth, &mut integers)?;
                bytes.extend(integers.iter().flat_map(|number| number.to_le_bytes()));
            } else {
                view.row(nth, &mut numbers)?;
                bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
            Ok(())
        };
        arrays.push(OfLayer { layer, shape, row: Box::new(row) });
    }
    let kind = if is_integer { 'i' } else { 'f' };
    layers::stacked(arrays, Dtype { kind, size: 8, big_endian: false }, scratch).map(Some)
}

/// Converts it to a stored trace.
pub(super) fn convert(input: Input<'_>, dump: &Dump, tensor: &Tensor) -> Result<File, TraceError> {
    let mut view = dump.torch.view(tensor)?;
    let (steps, layers, experts) = match *view.size() {
        [layers, experts] => (1, layers, experts),
        [steps, layers, experts] => (steps, layers, experts),
        _ => {
            let detail = format!(
                "is {:?}; counts are [layers, experts] or [steps, layers, experts], router logits \
                 [tokens, layers, experts]",
                view.size()
            );
            return Err(Flaws::default().fail("shape", "", detail));
        }
    };
    let n_rows = steps.saturating_mul(layers);
    let mut row = Vec::new();
    let mut seen = Seen::new(input.declared, tensor.element.is_integer(), (layers, experts));
    for nth in 0..n_rows {
        view.row(nth, &mut row)?;
        if seen.row(&row) {
            break;
        }
    }
    let is_flat = view.size().len() == 2;
    let (meaning, of_token) = (seen.meaning(is_flat), if is_flat { 1 } else { layers });
    let note = meaning.note(experts);
    match meaning {
        Meaning::Counts | Meaning::Shares => {}
        Meaning::Routes(bound) => return routes(input, &mut view, (n_rows, of_token), bound, note),
        Meaning::Logits | Meaning::Probabilities => {
            let mut logits = Logits::new(input, (of_token, experts), note)?;
            for nth in 0..n_rows {
                view.row(nth, &mut row)?;
                logits.push_row(&row)?;
            }
            return logits.finish();
        }
    }
    let mut flaws = Flaws::default();
    check_counts_shape(&mut flaws, "", layers, experts, input.declared);
    flaws.into_result()?;
    let cells = (as_size(layers)?, as_size(experts)?);
    let mut recorder = CountsRecorder::new(input.to, input.scratch, cells, input.declared)?;
    if let Some(note) = note {
        recorder.note(note);
    }
    for nth in 0..n_rows {
        view.row(nth, &mut row)?;
        recorder.push_row(&row)?;
    }
    recorder.finish(input.digest)
}

/// Takes rows of ids, `n_layers` of them a token.
fn routes(
    input: Input<'_>,
    view: &mut View<'_>,
    (n_rows, n_layers): (u64, u64),
    bound: u32,
    note: Option<String>,
) -> Result<File, TraceError> {
    let top_k = view.size().last().copied().unwrap_or(0);
    let mut flaws = Flaws::default();
    check_shape(&mut flaws, "", n_layers, top_k, input.declared);
    flaws.into_result()?;
    let shape = (as_size(n_layers)?, as_size(top_k)?);
    let mut recorder = RouteRecorder::new(input.to, input.scratch, shape, input.declared, bound)?;
    if let Some(note) = note {
        recorder.note(note);
    }
    let (mut row, mut ids) = (Vec::new(), Vec::new());
    for nth in 0..n_rows {
        view.integers(nth, &mut row)?;
        ids.extend(row.iter().map(|id| u16::try_from(*id).unwrap_or(NO_ID)));
        if (nth + 1).is_multiple_of(n_layers) {
            let position = nth / n_layers;
            let place = RoutePosition::Array { sequence: 0, position };
            let at = u32::try_from(position).map_err(TraceError::unreadable)?;
            recorder.push(place, at, &ids, |n| ids[n].to_string())?;
            ids.clear();
        }
    }
    recorder.finish(input.digest)
}
