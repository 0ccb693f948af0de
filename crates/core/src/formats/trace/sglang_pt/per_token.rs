//! Records of mode `per_token`: the physical experts of every token of a forward pass.
//!
//! The recorder names no requests. A prompt's tokens stand together (`extend_seq_lens`); the
//! next token of each running sequence follows in a decode pass, found by its position.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;

use crate::formats::trace::Input;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::ndjson_sort::{Record, Sorter};
use crate::formats::trace::pickle::{Tensor, Value};
use crate::formats::trace::routes::{NO_ID, RoutePosition, RouteRecorder, check_shape};
use crate::formats::trace::sglang_pt::SlotNames;
use crate::formats::trace::sglang_pt::dump::{Dump, Dumps};
use crate::formats::trace::sglang_pt::ranks::Ranks;
use crate::trace::MAX_TOP_K;

/// Bytes of the ids of one pass that are held at a time.
const MAX_PASS: u64 = 256 << 20;
/// `forward_mode` of a decode pass.
const DECODE: Value = Value::Int(2);

/// Converts records to routes.
pub(super) fn convert(
    input: Input<'_>,
    dumps: &Dumps<'_>,
    slots: &SlotNames,
) -> Result<File, TraceError> {
    let mut reader = Reader {
        slots,
        top_k: None,
        chains: Chains::default(),
        ranks: Ranks::default(),
        sorter: None,
        tokens: 0,
        padding: 0,
        all_ids: true,
        left: input.limits.inflated_bytes,
        limit: input.limits.inflated_bytes,
    };
    for file in 0..dumps.len() {
        let dump = dumps.open(file)?;
        let (records, map) = dump.records()?;
        slots.check_same(file, &map)?;
        reader.chains.next_file();
        for (nth, record) in records.iter().enumerate() {
            reader.pass(&dump, (file, nth), *record, &input)?;
        }
    }
    let (Some(top_k), Some(sorter)) = (reader.top_k, reader.sorter) else {
        return Err(Flaws::default().fail("empty", "/records", "no record holds a token"));
    };
    let bound = u32::try_from(slots.n_experts).unwrap_or(u32::MAX);
    let shape = (slots.n_layers, top_k);
    let mut recorder = RouteRecorder::new(input.to, input.scratch, shape, input.declared, bound)?;
    reader.ranks.notes().into_iter().for_each(|note| recorder.note(note));
    recorder.note(
        "tokens of decode passes were joined to sequences by their positions, because the \
         recorder names no requests"
            .to_owned(),
    );
    if reader.padding > 0 {
        recorder.note(format!("{} tokens without experts (padding) were left out", reader.padding));
    }
    let all_ids = reader.all_ids;
    let mut last = None;
    sorter.drain(|record| {
        if last.is_some_and(|last| last != record.sequence) {
            recorder.end_sequence()?;
        }
        last = Some(record.sequence);
        let place =
            RoutePosition::Array { sequence: record.sequence, position: record.position.into() };
        recorder.push(place, record.position, &record.ids, |n| record.ids[n].to_string())?;
        if all_ids { recorder.push_token_id(record.token_id) } else { Ok(()) }
    })?;
    recorder.finish(input.digest)
}

struct Reader<'a, 's> {
    slots: &'a SlotNames,
    top_k: Option<usize>,
    chains: Chains,
    ranks: Ranks,
    sorter: Option<Sorter<'s>>,
    tokens: u64,
    padding: u64,
    /// Whether every token has its vocabulary id so far.
    all_ids: bool,
    /// Bytes that may still be read, and how many there were.
    left: u64,
    limit: u64,
}

impl<'s> Reader<'_, 's> {
    fn pass(
        &mut self,
        dump: &Dump,
        (file, nth): (usize, usize),
        record: Value,
        input: &Input<'s>,
    ) -> Result<(), TraceError> {
        let pointer = format!("/records/{nth}/topk_ids_of_layer");
        let heap = &dump.heap;
        let routed = heap.get(record, "topk_ids_of_layer").and_then(|x| heap.tensor(x));
        let Some(tensor) = routed else {
            return Err(Flaws::default().fail("required", pointer, "is missing or no tensor"));
        };
        let &[layers, tokens, width] = tensor.size.as_slice() else {
            let detail = format!("is {:?}; it must be [layers, tokens, width]", tensor.size);
            return Err(Flaws::default().fail("shape", pointer, detail));
        };
        if layers != self.slots.n_layers as u64 || width == 0 || width > MAX_TOP_K as u64 {
            let detail = format!(
                "is {:?}; the map has {} layers, and a token 1 to {MAX_TOP_K} experts",
                tensor.size, self.slots.n_layers
            );
            return Err(Flaws::default().fail("shape", pointer, detail));
        }
        let ids = self.logical(dump, tensor, &pointer)?;
        let n_tokens = usize::try_from(tokens).unwrap_or(0);
        let width = usize::try_from(width).unwrap_or(0);
        let positions = numbers(dump, record, "positions")?;
        let inputs = numbers(dump, record, "input_ids")?;
        let whose = positions.iter().chain(&inputs).flatten().flat_map(|n| n.to_le_bytes());
        let recorded = whose.chain(ids.iter().flat_map(|id| id.to_le_bytes()));
        if !self.ranks.is_new(file, dump.place(record, nth), recorded) {
            return Ok(());
        }
        let n = positions.as_ref().map_or(n_tokens, |known| known.len().min(n_tokens));
        self.all_ids &= inputs.as_ref().is_some_and(|inputs| inputs.len() >= n);
        let starts = starts(dump, record, n)?;
        let mut starts = starts.into_iter().peekable();
        self.chains.next_pass();
        let (mut sequence, mut expected) = (0, 0);
        for token in 0..n {
            let stated = positions.as_ref().map(|known| known[token]);
            if starts.next_if_eq(&token).is_some() {
                expected = stated.unwrap_or(0);
                sequence = self.chains.take(expected);
            }
            let position = stated.unwrap_or(expected);
            let row = self.row(&ids, token, n_tokens, width, &pointer)?;
            expected = position.saturating_add(1);
            self.chains.reached(sequence, expected);
            let Some(row) = row else { continue };
            self.tokens += 1;
            let token_id = inputs.as_ref().and_then(|ids| ids.get(token)).copied().unwrap_or(0);
            let sorter = match &mut self.sorter {
                Some(sorter) => sorter,
                none => {
                    none.insert(Sorter::new(input.scratch, row.len()).map_err(TraceError::storage)?)
                }
            };
            if self.tokens == 1 {
                let top_k = self.top_k.unwrap_or(0) as u64;
                let mut flaws = Flaws::default();
                check_shape(&mut flaws, &pointer, layers, top_k, input.declared);
                flaws.into_result()?;
            }
            let record = Record { sequence, position, line: self.tokens, token_id, ids: row };
            sorter.push(&record).map_err(TraceError::storage)?;
        }
        self.chains.end_pass();
        Ok(())
    }

    /// The logical ids of a pass, `[layer][token][width]`, [`NO_ID`] for none.
    fn logical(
        &mut self,
        dump: &Dump,
        tensor: &Tensor,
        pointer: &str,
    ) -> Result<Vec<u16>, TraceError> {
        let mut view = dump.torch.view(tensor)?;
        if !view.element().is_integer() {
            return Err(Flaws::default().fail("type", pointer, "ids must be integers"));
        }
        let elements: u64 = tensor.size.iter().product();
        let bytes = elements * view.element().size() as u64;
        if bytes > MAX_PASS {
            return Err(TraceError::TooLarge { what: "a forward pass", limit_bytes: MAX_PASS });
        }
        // A pickle may name one tensor any number of times.
        let too_large =
            TraceError::TooLarge { what: "what the records hold", limit_bytes: self.limit };
        self.left = self.left.checked_sub(bytes).ok_or(too_large)?;
        let tokens = tensor.size[1];
        let mut ids = Vec::with_capacity(usize::try_from(elements).unwrap_or(0));
        let mut row = Vec::new();
        for nth in 0..tensor.size[0] * tokens {
            view.integers(nth, &mut row)?;
            let layer = usize::try_from(nth / tokens).unwrap_or(usize::MAX);
            for slot in &row {
                let Ok(slot) = usize::try_from(*slot) else {
                    ids.push(NO_ID);
                    continue;
                };
                let Some(expert) = self.slots.expert(layer, slot) else {
                    let slots = self.slots.n_slots;
                    let detail = format!("slot {slot} in layer {layer}; the map has {slots}");
                    return Err(Flaws::default().fail("range", pointer, detail));
                };
                ids.push(expert);
            }
        }
        Ok(ids)
    }

    /// The ids of one token, `[layer][k]`, dense layers as zeros; `None` for padding.
    fn row(
        &mut self,
        ids: &[u16],
        token: usize,
        n_tokens: usize,
        width: usize,
        pointer: &str,
    ) -> Result<Option<Vec<u16>>, TraceError> {
        let of_layer = |layer: usize| &ids[(layer * n_tokens + token) * width..][..width];
        let used = |ids: &[u16]| ids.iter().take_while(|id| **id != NO_ID).count();
        let layers = 0..self.slots.n_layers;
        let Some(most) = layers.clone().map(|layer| used(of_layer(layer))).max().filter(|k| *k > 0)
        else {
            self.padding += 1;
            return Ok(None);
        };
        let top_k = *self.top_k.get_or_insert(most);
        let mut row = Vec::with_capacity(top_k * self.slots.n_layers);
        for layer in layers {
            let experts = of_layer(layer);
            match used(experts) {
                0 => row.extend(std::iter::repeat_n(0, top_k)),
                k if k == top_k => row.extend(&experts[..k]),
                k => {
                    let detail = format!(
                        "token {token}, layer {layer} has {k} experts; others have {top_k}"
                    );
                    return Err(Flaws::default().fail("shape", pointer, detail));
                }
            }
        }
        Ok(Some(row))
    }
}

/// Where sequences begin among the tokens of a pass.
fn starts(dump: &Dump, record: Value, n: usize) -> Result<Vec<usize>, TraceError> {
    if dump.heap.get(record, "forward_mode") == Some(DECODE) {
        return Ok((0..n).collect());
    }
    let mut starts = Vec::new();
    let mut at = 0_usize;
    for length in numbers(dump, record, "extend_seq_lens")?.unwrap_or_default() {
        starts.push(at);
        at = at.saturating_add(length as usize);
    }
    if starts.is_empty() {
        starts.push(0);
    }
    starts.dedup();
    Ok(starts)
}

/// A list or tensor of small numbers, where there is one.
fn numbers(dump: &Dump, record: Value, key: &str) -> Result<Option<Vec<u32>>, TraceError> {
    let strange = || {
        Flaws::default().fail("range", format!("/records/*/{key}"), "not a number from 0 to 2^32")
    };
    let Some(value) = dump.heap.get(record, key).filter(|value| *value != Value::None) else {
        return Ok(None);
    };
    if let Some(items) = dump.heap.items(value) {
        let number = |item: &Value| match item {
            Value::Int(n) => u32::try_from(*n).ok(),
            _ => None,
        };
        let numbers: Option<Vec<u32>> = items.iter().map(number).collect();
        return numbers.map(Some).ok_or_else(strange);
    }
    let tensor = dump.heap.tensor(value).filter(|tensor| tensor.size.len() == 1);
    let mut row = Vec::new();
    dump.torch.view(tensor.ok_or_else(strange)?)?.integers(0, &mut row)?;
    let numbers: Option<Vec<u32>> = row.iter().map(|n| u32::try_from(*n).ok()).collect();
    numbers.map(Some).ok_or_else(strange)
}

/// Sequences under way, by the position their next token will have.
#[derive(Default)]
struct Chains {
    /// (Next position, passes since the sequence was last seen, negated) → sequences.
    waiting: BTreeMap<(u32, Reverse<u64>), VecDeque<u64>>,
    /// Sequences of this pass and their next positions.
    active: BTreeMap<u64, u32>,
    sequences: u64,
    pass: u64,
}

impl Chains {
    /// Nothing of one rank's file goes on in another's.
    fn next_file(&mut self) {
        self.waiting.clear();
    }

    fn next_pass(&mut self) {
        self.pass += 1;
        self.active.clear();
    }

    /// The sequence whose next token has this position: the one seen last, else a new one.
    fn take(&mut self, position: u32) -> u64 {
        let all = (position, Reverse(u64::MAX))..=(position, Reverse(0));
        let newest = self.waiting.range_mut(all).next();
        if let Some((&key, waiting)) = newest.filter(|_| position > 0) {
            let sequence = waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&key);
            }
            if let Some(sequence) = sequence {
                return sequence;
            }
        }
        self.sequences += 1;
        self.sequences - 1
    }

    fn reached(&mut self, sequence: u64, next: u32) {
        self.active.insert(sequence, next);
    }

    fn end_pass(&mut self) {
        for (sequence, next) in std::mem::take(&mut self.active) {
            self.waiting.entry((next, Reverse(self.pass))).or_default().push_back(sequence);
        }
    }
}
