//! Records of mode `per_pass`: counts of physical experts, one record a forward pass and rank.
//!
//! The files of ranks are read one after the other; the sums of all passes stand in a scratch
//! file until the last has been added.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::pickle::Value;
use crate::formats::trace::sglang_pt::SlotNames;
use crate::formats::trace::sglang_pt::dump::{Dump, Dumps};
use crate::formats::trace::sglang_pt::ranks::Ranks;
use crate::formats::trace::{Input, Limits};

/// Converts records to counts per pass; parts of one pass are added up.
pub(super) fn convert(
    input: Input<'_>,
    dumps: &Dumps<'_>,
    slots: &SlotNames,
) -> Result<File, TraceError> {
    let n_experts = input.declared.experts.map_or(slots.n_experts, |n| n as usize);
    let mut flaws = Flaws::default();
    let (layers, experts) = (slots.n_layers as u64, slots.n_experts.max(n_experts) as u64);
    let pointer = "/last_physical_to_logical_map";
    check_counts_shape(&mut flaws, pointer, layers, experts, input.declared);
    flaws.into_result()?;
    let cells = slots.n_layers * n_experts;
    let mut sums = Sums {
        file: (input.scratch)().map_err(TraceError::storage)?,
        passes: BTreeMap::new(),
        step: vec![0.0; cells],
        bytes: vec![0; cells * size_of::<f64>()],
    };
    let mut counting =
        Counting { slots, n_experts, ranks: Ranks::default(), left: input.limits.inflated_bytes };
    for nth in 0..dumps.len() {
        counting.add(nth, &dumps.open(nth)?, &mut sums, input.limits)?;
    }
    let shape = (slots.n_layers, n_experts);
    let mut recorder = CountsRecorder::new(input.to, input.scratch, shape, input.declared)?;
    counting.ranks.notes().into_iter().for_each(|note| recorder.note(note));
    for place in sums.passes.clone().into_values() {
        sums.load(place)?;
        sums.step.chunks_exact(n_experts).try_for_each(|row| recorder.push_row(row))?;
    }
    recorder.finish(input.digest)
}

/// What reading all files shares.
struct Counting<'a> {
    slots: &'a SlotNames,
    n_experts: usize,
    ranks: Ranks,
    /// Bytes that may still be read.
    left: u64,
}

impl Counting<'_> {
    /// Adds the records of a file.
    fn add(
        &mut self,
        file: usize,
        dump: &Dump,
        sums: &mut Sums,
        limits: &Limits,
    ) -> Result<(), TraceError> {
        let slots = self.slots;
        let (records, map) = dump.records()?;
        slots.check_same(file, &map)?;
        let mut row = Vec::new();
        for (nth, record) in records.iter().enumerate() {
            let place = dump.place(*record, nth);
            let mut view = counts(dump, *record, nth, slots)?;
            // A pickle may name one tensor any number of times.
            let bytes = (slots.n_layers * slots.n_slots * view.element().size()) as u64;
            let limit_bytes = limits.inflated_bytes;
            let too_large = TraceError::TooLarge { what: "what the records hold", limit_bytes };
            self.left = self.left.checked_sub(bytes).ok_or(too_large)?;
            let mut all = Vec::with_capacity(slots.n_layers * slots.n_slots);
            for layer in 0..slots.n_layers {
                view.row(layer as u64, &mut row)?;
                all.extend_from_slice(&row);
            }
            let recorded = all.iter().flat_map(|count| count.to_le_bytes());
            if !self.ranks.is_new(file, place, recorded) {
                continue;
            }
            let at = sums.begin(place.0)?;
            for (layer, counts) in all.chunks_exact(slots.n_slots).enumerate() {
                for (slot, count) in counts.iter().enumerate() {
                    if let Some(expert) = slots.expert(layer, slot) {
                        sums.step[layer * self.n_experts + usize::from(expert)] += count;
                    }
                }
            }
            sums.store(at)?;
        }
        Ok(())
    }
}

/// The counts of a record, of the shape of the map.
fn counts<'a>(
    dump: &'a Dump,
    record: Value,
    nth: usize,
    slots: &SlotNames,
) -> Result<crate::formats::trace::sglang_pt::tensors::View<'a>, TraceError> {
    let pointer = format!("/records/{nth}/global_physical_count");
    let heap = &dump.heap;
    let tensor = heap.get(record, "global_physical_count").and_then(|x| heap.tensor(x));
    let Some(tensor) = tensor else {
        return Err(Flaws::default().fail("required", pointer, "is missing or no tensor"));
    };
    let view = dump.torch.view(tensor)?;
    if *view.size() == [slots.n_layers as u64, slots.n_slots as u64] {
        return Ok(view);
    }
    let wanted = [slots.n_layers, slots.n_slots];
    let detail = format!("is {:?}; the map is {wanted:?}", view.size());
    Err(Flaws::default().fail("shape", pointer, detail))
}

/// Counts of every pass, `[layer][expert]`, in a file.
struct Sums {
    file: File,
    /// Pass → place in the file.
    passes: BTreeMap<i64, u64>,
    /// The pass at hand.
    step: Vec<f64>,
    bytes: Vec<u8>,
}

impl Sums {
    /// Takes a pass to hand, as far as it has been summed.
    fn begin(&mut self, pass: i64) -> Result<u64, TraceError> {
        let next = self.passes.len() as u64;
        let place = *self.passes.entry(pass).or_insert(next);
        if place == next {
            self.step.fill(0.0);
        } else {
            self.load(place)?;
        }
        Ok(place)
    }

    fn load(&mut self, place: u64) -> Result<(), TraceError> {
        let at = place * self.bytes.len() as u64;
        self.file.read_exact_at(&mut self.bytes, at).map_err(TraceError::storage)?;
        for (count, bytes) in self.step.iter_mut().zip(self.bytes.as_chunks().0) {
            *count = f64::from_le_bytes(*bytes);
        }
        Ok(())
    }

    fn store(&mut self, place: u64) -> Result<(), TraceError> {
        for (bytes, count) in self.bytes.as_chunks_mut().0.iter_mut().zip(&self.step) {
            *bytes = count.to_le_bytes();
        }
        let at = place * self.bytes.len() as u64;
        self.file.write_all_at(&self.bytes, at).map_err(TraceError::storage)
    }
}
