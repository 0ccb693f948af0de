//! Reads TensorRT-LLM's expert statistics: an archive (tar or zip) of its folder with
//! `rank{R}.safetensors` (`"{iteration}_{layer}"` → counts of that rank) and
//! `meta_info.json`. Ranks are added up; every iteration is one step.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};

use serde::Deserialize;

use crate::formats::trace::archive::{Folder, Member};
use crate::formats::trace::counts::{CountsRecorder, check_counts_shape};
use crate::formats::trace::counts_json::layer_named;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::safetensors::{self, Row, Tensor};
use crate::formats::trace::{COUNTS_NAMES, Input, npy, npy_file, shorten};
use crate::trace::{MAX_CELLS, MAX_LAYERS};

/// Most bytes of `meta_info.json`.
const MAX_META: u64 = 64 * 1024;
/// Bytes of an array that are copied at a time.
const CHUNK: usize = 256 * 1024;
/// Most counts of a layer, over iterations and ranks, that are kept track of.
const MAX_ROWS: usize = 2 << 20;

#[derive(Deserialize)]
struct Meta {
    num_experts: u32,
    num_experts_per_token: u32,
}

/// Whether an archive holds statistics.
pub(super) fn is_statistics(folder: &Folder) -> bool {
    folder.names().any(|name| name.ends_with(".safetensors"))
}

/// Converts the files of an archive to a stored trace.
pub(super) fn convert(mut input: Input<'_>, folder: &Folder) -> Result<File, TraceError> {
    let (meta, ranks, raw) = sort_out(folder)?;
    let (pointer, mut flaws) = ("/meta_info.json", Flaws::default());
    let (experts, top_k) = (meta.num_experts, meta.num_experts_per_token);
    if let Some(other) = input.declared.top_k.filter(|other| *other != top_k) {
        let detail = format!("num_experts_per_token is {top_k}; the model has {other}");
        flaws.note("top_k", || (pointer.to_owned(), detail));
    }
    check_counts_shape(&mut flaws, pointer, 1, u64::from(experts), input.declared);
    flaws.into_result()?;
    (input.declared.experts, input.declared.top_k) = (Some(experts), Some(top_k));
    let note = format!("file(s) {} were not read: counts suffice", raw.join(", "));
    counts(input, folder, &ranks, experts, (!raw.is_empty()).then_some(note))
}

/// Converts the counts of one rank, without the file that says how many experts there are; or a file of
/// others with one array, or an array a layer.
pub(super) fn convert_one(input: Input<'_>) -> Result<File, TraceError> {
    let name = "rank0.safetensors";
    let raw = input.raw.try_clone().map_err(TraceError::storage)?;
    let folder = Folder::of_file(raw, input.scratch, name)?;
    let Some(member) = folder.member(name) else {
        return Err(Flaws::default().fail("empty", "", "the file holds no counts"));
    };
    let (mut first, mut arrays) = (None, BTreeMap::new());
    safetensors::tensors(&folder, member, name, &mut |key, tensor| {
        if place(key).is_err() || tensor.shape.len() > 1 {
            arrays.insert(key.to_owned(), tensor);
        } else if first.is_none() {
            first = Some(tensor.row()?);
        }
        Ok(())
    })?;
    let Some(first) = first.filter(|_| arrays.is_empty()) else {
        return convert_arrays(input, &folder, member, &arrays);
    };
    let mut flaws = Flaws::default();
    check_counts_shape(&mut flaws, "", 1, first.length, input.declared);
    flaws.into_result()?;
    let experts = u32::try_from(first.length).map_err(TraceError::unreadable)?;
    let note = "one rank's counts, of the tokens that it saw: send the folder of all ranks with its \
                meta_info.json where there are more";
    counts(input, &folder, &[(name.to_owned(), member)], experts, Some(note.to_owned()))
}

/// Converts one array, as a NumPy file would hold it, or counts whose names tell their layers.
fn convert_arrays(
    input: Input<'_>,
    folder: &Folder,
    member: Member,
    arrays: &BTreeMap<String, Tensor>,
) -> Result<File, TraceError> {
    let named = COUNTS_NAMES.iter().find_map(|name| arrays.get(*name));
    if let Some(tensor) = named.or_else(|| arrays.values().next().filter(|_| arrays.len() == 1)) {
        let Some(dtype) = tensor.element.numpy() else {
            let detail = "numbers in bfloat16 are not read here; write them as float32";
            return Err(Flaws::default().fail("type", "", detail));
        };
        let mut raw = (input.scratch)().map_err(TraceError::storage)?;
        raw.write_all(&npy::header(dtype, &tensor.shape)).map_err(TraceError::storage)?;
        let n_bytes = tensor.shape.iter().product::<u64>() * tensor.element.size() as u64;
        let mut bytes = vec![0; CHUNK];
        let mut done = 0;
        while done < n_bytes {
            let n = usize::try_from(n_bytes - done).unwrap_or(CHUNK).min(CHUNK);
            folder.read_at(member, tensor.at + done, &mut bytes[..n])?;
            raw.write_all(&bytes[..n]).map_err(TraceError::storage)?;
            done += n as u64;
        }
        raw.rewind().map_err(TraceError::storage)?;
        return npy_file::convert(Input { raw, ..input });
    }
    let rows = arrays.iter().map(|(name, tensor)| Some((layer_named(name)?, tensor.row().ok()?)));
    let rows: Option<BTreeMap<usize, Row>> = rows.collect();
    let rows = rows.filter(|rows| rows.len() == arrays.len() && !rows.is_empty());
    let Some((rows, width)) = rows.and_then(|rows| {
        let width = rows.values().next()?.length;
        rows.values().all(|row| row.length == width).then_some((rows, width))
    }) else {
        let names: Vec<String> = arrays.keys().take(10).map(|name| shorten(name)).collect();
        let detail = format!(
            "it has the tensors {}; what is read are `ITERATION_LAYER` of TensorRT-LLM, one array of \
             counts, routes or router logits, or one row of counts a layer (`layer_3`)",
            names.join(", ")
        );
        return Err(Flaws::default().fail("required", "", detail));
    };
    let n_layers = rows.keys().last().map_or(0, |last| last + 1);
    let mut flaws = Flaws::default();
    check_counts_shape(&mut flaws, "", n_layers as u64, width, input.declared);
    flaws.into_result()?;
    let n_experts = usize::try_from(width).map_err(TraceError::unreadable)?;
    let mut recorder =
        CountsRecorder::new(input.to, input.scratch, (n_layers, n_experts), input.declared)?;
    let mut sum = vec![0.0; n_experts];
    for layer in 0..n_layers {
        sum.fill(0.0);
        rows.get(&layer).map_or(Ok(()), |row| add(folder, member, *row, &mut sum))?;
        recorder.push_row(&sum)?;
    }
    recorder.finish(input.digest)
}

/// Adds the ranks up, iteration after iteration.
fn counts(
    input: Input<'_>,
    folder: &Folder,
    ranks: &[(String, Member)],
    experts: u32,
    note: Option<String>,
) -> Result<File, TraceError> {
    let mut rows: BTreeMap<(u64, usize), Vec<(Member, Row)>> = BTreeMap::new();
    let mut n_rows = 0;
    for (name, member) in ranks {
        safetensors::tensors(folder, *member, name, &mut |key, tensor| {
            let (place, row) = (place(key)?, tensor.row()?);
            if row.length != u64::from(experts) {
                return Err(format!(
                    "`{}` has {} counts; there are {experts} experts",
                    shorten(key),
                    row.length
                ));
            }
            n_rows += 1;
            if n_rows > MAX_ROWS {
                return Err(format!("more than {MAX_ROWS} rows of counts"));
            }
            rows.entry(place).or_default().push((*member, row));
            Ok(())
        })?;
    }
    let mut flaws = Flaws::default();
    check(&rows, ranks.len(), &mut flaws);
    let n_layers = rows.keys().map(|(_, layer)| layer + 1).max().unwrap_or(0);
    if n_layers == 0 {
        return Err(flaws.fail("empty", "", "the files hold no counts"));
    }
    check_counts_shape(&mut flaws, "", n_layers as u64, u64::from(experts), input.declared);
    flaws.into_result()?;
    let n_experts = usize::try_from(experts).unwrap_or(MAX_CELLS);
    let mut recorder =
        CountsRecorder::new(input.to, input.scratch, (n_layers, n_experts), input.declared)?;
    if let Some(note) = note {
        recorder.note(note);
    }
    let mut iterations: Vec<u64> = rows.keys().map(|(iteration, _)| *iteration).collect();
    iterations.dedup();
    let mut sum = vec![0.0; n_experts];
    for iteration in iterations {
        for layer in 0..n_layers {
            sum.fill(0.0);
            for (member, row) in rows.get(&(iteration, layer)).into_iter().flatten() {
                add(folder, *member, *row, &mut sum)?;
            }
            recorder.push_row(&sum)?;
        }
    }
    recorder.finish(input.digest)
}

/// What `meta_info.json` says, the ranks' files, and the names of those not read.
#[expect(clippy::type_complexity, reason = "three lists that are taken apart at once")]
fn sort_out(folder: &Folder) -> Result<(Meta, Vec<(String, Member)>, Vec<String>), TraceError> {
    let (mut meta, mut ranks, mut raw) = (None, BTreeMap::new(), Vec::new());
    for path in folder.names() {
        let name = path.rsplit('/').next().unwrap_or(path);
        let rank = name.strip_prefix("rank").and_then(|rest| rest.strip_suffix(".safetensors"));
        if name == "meta_info.json" {
            let bytes = folder.read_all(path, MAX_META)?.unwrap_or_default();
            let parsed: Meta = serde_json::from_slice(&bytes)
                .map_err(|error| TraceError::unreadable(format_args!("meta_info.json: {error}")))?;
            meta = Some(parsed);
        } else if let Some(rank) = rank.and_then(|rank| rank.parse::<u32>().ok()) {
            let known =
                folder.member(path).and_then(|file| ranks.insert(rank, (path.to_owned(), file)));
            if known.is_some() {
                let detail = format!("rank {rank} has two files");
                return Err(Flaws::default().fail("duplicate", "", detail));
            }
        } else if rank.is_some() && raw.len() < 10 {
            raw.push(shorten(name));
        }
    }
    let missing = |what: &str| {
        let detail = format!(
            "the archive holds no {what}, so is no folder of TensorRT-LLM's expert statistics"
        );
        Flaws::default().fail("required", "", detail)
    };
    let meta = meta.ok_or_else(|| missing("meta_info.json"))?;
    if ranks.is_empty() {
        return Err(missing("rank0.safetensors"));
    }
    Ok((meta, ranks.into_values().collect(), raw))
}

/// Iteration and layer of a tensor's name.
fn place(key: &str) -> Result<(u64, usize), String> {
    let parts = key.split_once('_').and_then(|(iteration, layer)| {
        Some((iteration.parse().ok()?, layer.parse().ok().filter(|layer| *layer < MAX_LAYERS)?))
    });
    parts.ok_or_else(|| {
        format!("the name `{}` is no iteration and layer below {MAX_LAYERS}", shorten(key))
    })
}

/// Every rank must have counted every layer in every iteration, and none may be missing.
fn check(rows: &BTreeMap<(u64, usize), Vec<(Member, Row)>>, n_ranks: usize, flaws: &mut Flaws) {
    let mut last: Option<u64> = None;
    for ((iteration, layer), found) in rows {
        let at = || format!("/{iteration}_{layer}");
        if found.len() != n_ranks {
            let detail = format!("{} of {n_ranks} ranks counted this layer", found.len());
            flaws.note("ranks", || (at(), detail));
        }
        if let Some(last) = last.filter(|last| last + 1 < *iteration) {
            let detail = format!("iteration {last} is followed by {iteration}");
            flaws.note("contiguous", || (at(), detail));
        }
        last = Some(*iteration);
    }
}

/// Adds the counts of one rank.
fn add(folder: &Folder, member: Member, row: Row, sum: &mut [f64]) -> Result<(), TraceError> {
    let width = row.element.size();
    let mut bytes = vec![0; sum.len() * width];
    folder.read_at(member, row.at, &mut bytes)?;
    for (sum, bytes) in sum.iter_mut().zip(bytes.chunks_exact(width)) {
        *sum += row.element.number(bytes);
    }
    Ok(())
}
