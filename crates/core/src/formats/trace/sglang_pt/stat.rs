//! Modes `stat` and `stat_approx`: counts of logical experts, summed over all ranks.

use std::fs::File;

use crate::formats::trace::Input;
use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::pickle::Value;
use crate::formats::trace::sglang_pt::as_size;
use crate::formats::trace::sglang_pt::dump::{Dump, Dumps};

/// Converts counts; several dumps follow each other in time.
pub(super) fn convert(input: Input<'_>, dumps: &Dumps<'_>) -> Result<File, TraceError> {
    let mut shape = None;
    for nth in 0..dumps.len() {
        let found = Shape::of(&dumps.open(nth)?)?;
        let first = *shape.get_or_insert(found);
        if first != (Shape { steps: first.steps, ..found }) {
            let detail = format!(
                "file {nth} has {} layers of {} experts from rank {}; the first has {} of {} from \
                 rank {}",
                found.layers, found.experts, found.rank, first.layers, first.experts, first.rank
            );
            return Err(Flaws::default().fail("shape", POINTER, detail));
        }
    }
    let Some(Shape { layers, experts, .. }) = shape else {
        return Err(Flaws::default().fail("empty", "", "the archive holds no recording"));
    };
    let mut flaws = Flaws::default();
    check_counts_shape(&mut flaws, POINTER, layers, experts, input.declared);
    flaws.into_result()?;
    let cells = (as_size(layers)?, as_size(experts)?);
    let mut recorder = CountsRecorder::new(input.to, input.scratch, cells, input.declared)?;
    let mut row = Vec::new();
    for nth in 0..dumps.len() {
        let dump = dumps.open(nth)?;
        let Shape { steps, .. } = Shape::of(&dump)?;
        let tensor = dump.heap.get(dump.top, KEY).and_then(|counts| dump.heap.tensor(counts));
        let Some(tensor) = tensor else { continue };
        let mut view = dump.torch.view(tensor)?;
        for nth in 0..steps * layers {
            view.row(nth, &mut row)?;
            recorder.push_row(&row)?;
        }
    }
    recorder.finish(input.digest)
}

const KEY: &str = "logical_count";
const POINTER: &str = "/logical_count";

/// What a dump holds. Only one rank writes them, because its counts are those of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    rank: i64,
    steps: u64,
    layers: u64,
    experts: u64,
}

impl Shape {
    fn of(dump: &Dump) -> Result<Self, TraceError> {
        let (heap, top) = (&dump.heap, dump.top);
        let counts = heap.get(top, KEY).ok_or_else(|| {
            Flaws::default().fail("required", POINTER, "is missing in one of the files")
        })?;
        let Some(tensor) = heap.tensor(counts) else {
            return Err(Flaws::default().fail("type", POINTER, "is no tensor"));
        };
        let view = dump.torch.view(tensor)?;
        let (steps, layers, experts) = match *view.size() {
            [layers, experts] => (1, layers, experts),
            [steps, layers, experts] => (steps, layers, experts),
            _ => {
                let detail = format!(
                    "is {:?}; it must be [layers, experts] or [steps, layers, experts]",
                    view.size()
                );
                return Err(Flaws::default().fail("shape", POINTER, detail));
            }
        };
        let rank = match heap.get(top, "rank") {
            Some(Value::Int(rank)) => rank,
            _ => 0,
        };
        Ok(Self { rank, steps, layers, experts })
    }
}
