//! A file that is one tensor, or `{"expert_load": tensor}`: counts `[layers, experts]` or
//! `[steps, layers, experts]`, or router logits `[tokens, layers, experts]`.

use std::fs::File;

use crate::formats::trace::Input;
use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::logits::Logits;
use crate::formats::trace::pickle::Tensor;
use crate::formats::trace::sglang_pt::as_size;
use crate::formats::trace::sglang_pt::dump::Dump;

/// The tensor of such a file.
pub(super) fn of(dump: &Dump) -> Option<&Tensor> {
    dump.heap.tensor(dump.top).or_else(|| dump.heap.tensor(dump.heap.get(dump.top, "expert_load")?))
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
    let mut signed = false;
    for nth in (0..n_rows).take_while(|_| !tensor.element.is_integer()) {
        view.row(nth, &mut row)?;
        signed |= row.iter().any(|number| *number < 0.0);
        if signed {
            break;
        }
    }
    if signed {
        let mut logits = Logits::new(input, (layers, experts))?;
        for nth in 0..n_rows {
            view.row(nth, &mut row)?;
            logits.push_row(&row)?;
        }
        return logits.finish();
    }
    let mut flaws = Flaws::default();
    check_counts_shape(&mut flaws, "", layers, experts, input.declared);
    flaws.into_result()?;
    let cells = (as_size(layers)?, as_size(experts)?);
    let mut recorder = CountsRecorder::new(input.to, input.scratch, cells, input.declared)?;
    for nth in 0..n_rows {
        view.row(nth, &mut row)?;
        recorder.push_row(&row)?;
    }
    recorder.finish(input.digest)
}
