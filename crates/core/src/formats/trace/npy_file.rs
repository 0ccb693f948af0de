//! Reads a single NumPy array: counts `[layers, experts]` or `[steps, layers, experts]`,
//! routes of one sequence `[tokens, layers, top_k]` (bytes or 16-bit words without sign, as
//! vLLM returns them, or other integers that look like ids), or routes `[sequences, tokens, layers, top_k]`.
//! Floats of which some are below zero are router logits `[tokens, layers, experts]`, or `[tokens, experts]`
//! of one layer.

use std::fs::File;
use std::io::{BufReader, Seek};

use crate::formats::trace::Input;
use crate::formats::trace::array::{Array, record_counts, record_routes};
use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::logits::Logits;
use crate::formats::trace::meaning::{Meaning, Seen};
use crate::formats::trace::npy::{NpyHeader, read_header};
use crate::formats::trace::routes::{NO_ID, RouteRecorder, check_shape};
use crate::trace::MAX_EXPERTS;

/// Converts an array to a stored trace.
pub(super) fn convert(input: Input<'_>) -> Result<File, TraceError> {
    let mut from = BufReader::new(input.raw.try_clone().map_err(TraceError::storage)?);
    let header = read_header(&mut from, "file")?;
    let n_bytes = header.n_bytes().unwrap_or(u64::MAX);
    let limit_bytes = input.limits.inflated_bytes;
    if n_bytes > limit_bytes {
        return Err(TraceError::TooLarge { what: "the array", limit_bytes });
    }
    let shape = header.shape.clone();
    let mut array = Array { from: &mut from, name: "file", left: n_bytes };
    match *shape.as_slice() {
        [rows, width] => {
            let meaning = meaning(&input, &header, [1, rows, width])?;
            of_meaning(input, &header, &mut array, [1, rows, width], meaning)
        }
        [tokens, layers, top_k] if header.dtype.kind == 'u' && header.dtype.size <= 2 => {
            routes(input, &header, &mut array, [1, tokens, layers, top_k], None)
        }
        [steps, layers, width] => {
            let meaning = meaning(&input, &header, [steps, layers, width])?;
            of_meaning(input, &header, &mut array, [steps, layers, width], meaning)
        }
        [sequences, tokens, layers, top_k] => {
            routes(input, &header, &mut array, [sequences, tokens, layers, top_k], None)
        }
        _ => Err(Flaws::default().fail(
            "shape",
            "",
            format!(
                "has {} dimension(s); counts have [layers, experts] or [steps, layers, experts], \
                 routes [tokens, layers, top_k] or [sequences, tokens, layers, top_k]",
                shape.len()
            ),
        )),
    }
}

/// Reads `[steps, layers, width]`, of one step where the array has two dimensions.
fn of_meaning(
    input: Input<'_>,
    header: &NpyHeader,
    array: &mut Array<'_>,
    shape @ [steps, layers, width]: [u64; 3],
    meaning: Meaning,
) -> Result<File, TraceError> {
    // Tokens of one layer, where there are two dimensions.
    let [tokens, of_token] = if header.shape.len() == 2 { [layers, 1] } else { [steps, layers] };
    let note = meaning.note(width);
    match meaning {
        Meaning::Counts | Meaning::Shares => counts(input, header, array, shape, note),
        Meaning::Routes(_) => routes(input, header, array, [1, tokens, of_token, width], note),
        Meaning::Logits | Meaning::Probabilities => {
            logits(input, header, array, [tokens, of_token, width], note)
        }
    }
}

fn counts(
    input: Input<'_>,
    header: &NpyHeader,
    array: &mut Array<'_>,
    [steps, layers, experts]: [u64; 3],
    note: Option<String>,
) -> Result<File, TraceError> {
    let mut flaws = Flaws::default();
    if !header.dtype.is_number() {
        let detail = format!("elements are {}; counts must be numbers", header.dtype.name());
        flaws.note("type", || (String::new(), detail));
    }
    check_counts_shape(&mut flaws, "", layers, experts, input.declared);
    flaws.into_result()?;
    let size = |n: u64| usize::try_from(n).map_err(TraceError::unreadable);
    let shape = [size(steps)?, size(layers)?, size(experts)?, 1];
    let cells = (shape[1], shape[2]);
    let mut recorder = CountsRecorder::new(input.to, input.scratch, cells, input.declared)?;
    if let Some(note) = note {
        recorder.note(note);
    }
    record_counts(array, header, shape, input.scratch, &mut recorder)?;
    recorder.finish(input.digest)
}

fn routes(
    input: Input<'_>,
    header: &NpyHeader,
    array: &mut Array<'_>,
    shape @ [sequences, tokens, layers, top_k]: [u64; 4],
    note: Option<String>,
) -> Result<File, TraceError> {
    let mut flaws = Flaws::default();
    if !header.dtype.is_integer() {
        let detail = format!("elements are {}; ids must be integers", header.dtype.name());
        flaws.note("type", || (String::new(), detail));
    }
    if sequences == 0 || tokens == 0 || tokens > u64::from(u32::MAX) {
        let detail = format!("is {shape:?}; there must be 1 to {} tokens", u32::MAX);
        flaws.note("range", || (String::new(), detail));
    }
    check_shape(&mut flaws, "", layers, top_k, input.declared);
    flaws.into_result()?;
    let id_bound = match (input.declared.experts, header.dtype.size) {
        (None, 2..) => largest_id(&input, header)?,
        _ => 256,
    };
    let size = |n: u64| usize::try_from(n).map_err(TraceError::unreadable);
    let shape = [size(sequences)?, size(tokens)?, size(layers)?, size(top_k)?];
    let row = (shape[2], shape[3]);
    let mut recorder = RouteRecorder::new(input.to, input.scratch, row, input.declared, id_bound)?;
    if let Some(note) = note {
        recorder.note(note);
    }
    record_routes(array, header, shape, input.scratch, &mut recorder)?;
    recorder.finish(input.digest)
}

fn logits(
    input: Input<'_>,
    header: &NpyHeader,
    array: &mut Array<'_>,
    [tokens, layers, experts]: [u64; 3],
    note: Option<String>,
) -> Result<File, TraceError> {
    let scratch = input.scratch;
    let mut logits = Logits::new(input, (layers, experts), note)?;
    let size = |n: u64| usize::try_from(n).map_err(TraceError::unreadable);
    let shape = [size(tokens)?, size(layers)?, size(experts)?, 1];
    let (dtype, mut row) = (header.dtype, Vec::new());
    array.in_c_order(header, shape, shape[2] * dtype.size, scratch, |bytes| {
        for raw in bytes.chunks_exact(shape[2] * dtype.size) {
            row.clear();
            row.extend(raw.chunks_exact(dtype.size).map(|number| dtype.number(number)));
            logits.push_row(&row)?;
        }
        Ok(())
    })?;
    logits.finish()
}

/// What the array holds, by a first reading of as much of it as that takes.
fn meaning(
    input: &Input<'_>,
    header: &NpyHeader,
    shape @ [_, layers, width]: [u64; 3],
) -> Result<Meaning, TraceError> {
    let dtype = header.dtype;
    // What is no number, or too wide for a row, is for the reader of counts to refuse.
    if !dtype.is_number() || shape.contains(&0) || width > u64::from(MAX_EXPERTS) {
        return Ok(Meaning::Counts);
    }
    let size = |n: u64| usize::try_from(n).map_err(TraceError::unreadable);
    let (n_steps, n_layers, width) = (size(shape[0])?, size(layers)?, size(width)?);
    let mut seen = Seen::new(input.declared, dtype.is_integer(), (layers, width as u64));
    let mut row = Vec::new();
    let row_bytes = width * dtype.size;
    let shape = [n_steps, n_layers, width, 1];
    read_through(input, header, shape, row_bytes, |bytes| {
        bytes.chunks_exact(row_bytes).any(|raw| {
            row.clear();
            row.extend(raw.chunks_exact(dtype.size).map(|number| dtype.number(number)));
            seen.row(&row)
        })
    })?;
    Ok(seen.meaning(header.shape.len() == 2))
}

/// One more than the largest id, by a first reading of the whole file.
fn largest_id(input: &Input<'_>, header: &NpyHeader) -> Result<u32, TraceError> {
    let (mut ids, mut largest) = (Vec::new(), 0);
    // In which order ids come makes no difference.
    let any_order = NpyHeader { fortran: false, ..header.clone() };
    read_through(input, &any_order, [1; 4], header.dtype.size, |bytes| {
        header.dtype.ids(bytes, NO_ID, &mut ids);
        largest = largest.max(ids.iter().copied().max().unwrap_or(0));
        false
    })?;
    Ok((u32::from(largest) + 1).min(MAX_EXPERTS))
}

/// Reads whole units of a file's numbers until `found` says so.
fn read_through(
    input: &Input<'_>,
    header: &NpyHeader,
    shape: [usize; 4],
    unit: usize,
    mut found: impl FnMut(&[u8]) -> bool,
) -> Result<(), TraceError> {
    // The clone shares its place in the file with the reader that goes on after us.
    let mut file = input.raw.try_clone().map_err(TraceError::storage)?;
    let place = file.stream_position().map_err(TraceError::storage)?;
    file.rewind().map_err(TraceError::storage)?;
    let mut from = BufReader::new(&file);
    read_header(&mut from, "file")?;
    let mut array =
        Array { from: &mut from, name: "file", left: header.n_bytes().unwrap_or(u64::MAX) };
    if header.fortran {
        let mut is_found = false;
        array.in_c_order(header, shape, unit, input.scratch, |bytes| {
            is_found = is_found || found(bytes);
            Ok(())
        })?;
    } else {
        let mut bytes = Vec::new();
        while array.next_chunk(unit, &mut bytes)? && !found(&bytes) {}
    }
    file.seek(std::io::SeekFrom::Start(place)).map_err(TraceError::storage)?;
    Ok(())
}
