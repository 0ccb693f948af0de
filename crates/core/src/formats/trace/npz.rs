//! Reads a NumPy archive of routes: `routes` `[sequences, tokens, layers, top_k]` (or of one sequence
//! `[tokens, layers, top_k]`), and optionally `tokens` `[sequences, tokens]`, `embedding`, `num_experts`.
//! An archive without routes is read as its only array, the one that is named as counts are, or arrays of
//! one layer each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use zip::unstable::read::ZipIterable;

use crate::formats::trace::archive::INSIDE;
use crate::formats::trace::array::{Array, record_routes};
use crate::formats::trace::embedding_file::{check_embedding, copy_finite, embedding_header};
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::layers::{self, OfLayer};
use crate::formats::trace::npy::{self, Dtype, NpyHeader, read_header};
use crate::formats::trace::routes::{NO_ID, RouteRecorder, check_shape};
use crate::formats::trace::stored::Scratch;
use crate::formats::trace::{COUNTS_NAMES, Declared, Input, Limits, npy_file, shorten};
use crate::trace::{MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K};

/// Most members of an archive.
const MAX_MEMBERS: usize = 256;
/// The members with a meaning.
const KNOWN: [&str; 4] = ["routes", "tokens", "embedding", "num_experts"];

/// A trace as stored, and the embedding that came with it, as a NumPy file.
#[derive(Debug)]
pub struct Converted {
    /// The stored trace.
    pub trace: File,
    /// The embedding, if the archive has one.
    pub embedding: Option<File>,
}

/// Converts an archive to a stored trace written to `to`.
pub fn convert(
    archive: File,
    to: File,
    scratch: Scratch<'_>,
    declared: Declared,
    limits: &Limits,
    digest: [u8; 32],
) -> Result<Converted, TraceError> {
    let mut archive = Archive::open(archive, limits)?;
    let mut flaws = Flaws::default();
    let declared = num_experts(&mut archive, declared, &mut flaws)?;
    if let Some(name) = archive.only_array().map(str::to_owned) {
        flaws.into_result()?;
        let raw = archive.extract(&name, scratch)?;
        let trace = npy_file::convert(Input { raw, to, scratch, declared, limits, digest })?;
        return Ok(Converted { trace, embedding: None });
    }
    if let Some(raw) = of_layers(&mut archive, scratch)? {
        flaws.into_result()?;
        let trace = npy_file::convert(Input { raw, to, scratch, declared, limits, digest })?;
        return Ok(Converted { trace, embedding: None });
    }
    let (routes, shape) = routes_header(&mut archive, declared, flaws)?;
    let (n_layers, top_k) = (shape[2], shape[3]);
    let id_bound = match (declared.experts, routes.dtype.size) {
        (None, 2..) => archive.largest_id(&routes)?,
        _ => 256,
    };
    let mut recorder = RouteRecorder::new(to, scratch, (n_layers, top_k), declared, id_bound)?;
    if !archive.others.is_empty() {
        recorder.note(format!("members {} of the archive have no meaning here", archive.listed()));
    }
    read_routes(&mut archive, &mut recorder, &routes, shape, scratch)?;
    read_tokens(&mut archive, &mut recorder, &shape[..2], scratch)?;
    let embedding = read_embedding(&mut archive, &mut recorder.flaws, scratch)?;
    Ok(Converted { trace: recorder.finish(digest)?, embedding })
}

/// The archive and what may still be taken from it.
///
/// The archive's directory is walked, not loaded: a file may hold millions of members.
struct Archive {
    file: BufReader<File>,
    index: ZipIterable<BufReader<File>>,
    /// The members with a meaning, by their place in the directory.
    members: BTreeMap<String, usize>,
    /// Names of members without a meaning, and their places.
    others: Vec<(String, usize)>,
    /// Bytes of the archive, and of array data taken from it so far.
    sent: u64,
    taken: u64,
    limits: Limits,
}

impl Archive {
    fn open(file: File, limits: &Limits) -> Result<Self, TraceError> {
        let bad = |error| TraceError::unreadable(format_args!("not a readable archive: {error}"));
        let body = file.try_clone().map_err(TraceError::storage)?;
        let sent = body.metadata().map_err(TraceError::storage)?.len();
        let config = zip::read::Config::default();
        let mut index = ZipIterable::try_new(BufReader::new(file), config).map_err(bad)?;
        let mut flaws = Flaws::default();
        if index.len() > MAX_MEMBERS {
            let detail = format!("{} members; there may be {MAX_MEMBERS}", index.len());
            return Err(flaws.fail("range", "", detail));
        }
        let mut members = BTreeMap::new();
        let mut others = Vec::new();
        for (place, entry) in index.files().map_err(bad)?.enumerate() {
            let entry = entry.map_err(bad)?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            match KNOWN.iter().find(|known| name.strip_suffix(".npy") == Some(known)) {
                None => others.push((name, place)),
                Some(known) => {
                    if entry.encrypted() {
                        return Err(TraceError::unreadable(format_args!("`{name}` is encrypted")));
                    }
                    if members.insert((*known).to_owned(), place).is_some() {
                        flaws.note("duplicate", || {
                            (format!("/{known}"), format!("`{name}` occurs more than once"))
                        });
                    }
                }
            }
        }
        flaws.into_result()?;
        Ok(Self {
            file: BufReader::new(body),
            index,
            members,
            others,
            sent,
            taken: 0,
            limits: *limits,
        })
    }

    /// The members without a meaning, for people.
    fn listed(&self) -> String {
        let names = self.others.iter().take(10).map(|(name, _)| shorten(name));
        names.collect::<Vec<_>>().join(", ")
    }

    /// The array that an archive without routes is about, if that is plain.
    fn only_array(&self) -> Option<&str> {
        if self.members.contains_key("routes") {
            return None;
        }
        let arrays = || self.others.iter().filter_map(|(name, _)| name.strip_suffix(".npy"));
        let named = arrays().find(|name| COUNTS_NAMES.contains(name));
        named.or_else(|| arrays().next().filter(|_| arrays().count() == 1))
    }

    /// Copies a member without a meaning out as a file of its own.
    fn extract(&mut self, name: &str, scratch: Scratch<'_>) -> Result<File, TraceError> {
        let file = format!("{name}.npy");
        let place = self.others.iter().find(|(other, _)| *other == file).map(|(_, place)| *place);
        self.members.extend(place.map(|place| (name.to_owned(), place)));
        let out = self.member(name, |array_header, array| {
            let mut out = scratch().map_err(TraceError::storage)?;
            out.write_all(&npy::written(&array_header)).map_err(TraceError::storage)?;
            let mut bytes = Vec::new();
            while array.next_chunk(1, &mut bytes)? {
                out.write_all(&bytes).map_err(TraceError::storage)?;
            }
            out.rewind().map_err(TraceError::storage)?;
            Ok(out)
        })?;
        out.ok_or_else(|| TraceError::unreadable(format_args!("`{}` is gone", shorten(name))))
    }

    /// Opens a member, reads its header and hands both over.
    fn member<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(NpyHeader, &mut Array<'_>) -> Result<T, TraceError>,
    ) -> Result<Option<T>, TraceError> {
        let Some(place) = self.members.get(name).copied() else {
            return Ok(None);
        };
        let bad = |error| TraceError::unreadable(format_args!("member `{name}`: {error}"));
        let Some(entry) = self.index.files().map_err(bad)?.nth(place) else {
            return Ok(None);
        };
        let mut from = entry
            .and_then(|entry| entry.with_reader(&mut self.file, zip::ZipReadOptions::default()))
            .map_err(bad)?;
        let header = read_header(&mut from, name)?;
        let n_bytes = header.n_bytes().unwrap_or(u64::MAX);
        let taken = self.taken.saturating_add(n_bytes);
        self.limits.allow_inflated(INSIDE, self.sent, taken)?;
        self.taken = taken;
        let mut array = Array { from: &mut from, name, left: n_bytes };
        read(header, &mut array).map(Some)
    }

    /// One more than the largest id, by a first reading; at most the number of ids there are.
    fn largest_id(&mut self, routes: &NpyHeader) -> Result<u32, TraceError> {
        let before = self.taken;
        let largest = self.member("routes", |_, array| {
            let (mut bytes, mut ids, mut largest) = (Vec::new(), Vec::new(), 0);
            while array.next_chunk(routes.dtype.size, &mut bytes)? {
                routes.dtype.ids(&bytes, NO_ID, &mut ids);
                largest = largest.max(ids.iter().copied().max().unwrap_or(0));
            }
            Ok(largest)
        })?;
        // The same bytes are not counted twice.
        self.taken = before;
        Ok((u32::from(largest.unwrap_or(0)) + 1).min(MAX_EXPERTS))
    }
}

/// The arrays of all layers as one file, where the archive has one a layer.
fn of_layers(archive: &mut Archive, scratch: Scratch<'_>) -> Result<Option<File>, TraceError> {
    if archive.members.contains_key("routes") {
        return Ok(None);
    }
    let names: Option<Vec<String>> = archive
        .others
        .iter()
        .map(|(name, _)| Some(name.strip_suffix(".npy")?.to_owned()))
        .collect();
    let names = names.unwrap_or_default();
    let Some(named) = layers::named(names.iter().map(String::as_str)) else { return Ok(None) };
    let mut dtype = None;
    let mut arrays = Vec::new();
    for (layer, name) in named {
        let mut file = BufReader::new(archive.extract(name, scratch)?);
        let NpyHeader { dtype: own, fortran, shape } = read_header(&mut file, name)?;
        if fortran && shape.len() > 1 || own != *dtype.get_or_insert(own) {
            let detail = "its elements or their order differ from the first layer's, or columns lie together";
            return Err(Flaws::default().fail("type", format!("/{name}"), detail));
        }
        let width = usize::try_from(shape.last().copied().unwrap_or(0));
        let n_bytes = width.map_err(TraceError::unreadable)?.saturating_mul(own.size);
        let row = move |_: u64, bytes: &mut Vec<u8>| {
            bytes.resize(n_bytes, 0);
            file.read_exact(bytes).map_err(TraceError::storage)
        };
        arrays.push(OfLayer { layer, shape, row: Box::new(row) });
    }
    let Some(dtype) = dtype else { return Ok(None) };
    layers::stacked(arrays, dtype, scratch).map(Some)
}

/// The number of experts, from the archive or the uploader, who must not disagree.
fn num_experts(
    archive: &mut Archive,
    mut declared: Declared,
    flaws: &mut Flaws,
) -> Result<Declared, TraceError> {
    let stated = archive.member("num_experts", |header, array| {
        let single = header.shape.iter().product::<u64>() == 1;
        if !single || !header.dtype.is_integer() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        array.next_chunk(header.dtype.size, &mut bytes)?;
        let value = header.dtype.integer(&bytes);
        array.end()?;
        Ok(Some(value))
    })?;
    let pointer = || "/num_experts".to_owned();
    match stated {
        None => {}
        Some(None) => flaws.note("type", || (pointer(), "must be one integer".to_owned())),
        Some(Some(value)) => match u32::try_from(value) {
            Ok(experts) if (1..=MAX_EXPERTS).contains(&experts) => {
                if let Some(other) = declared.experts
                    && other != experts
                {
                    flaws.note("conflict", || {
                        let detail = format!("the archive states {experts}, the upload {other}");
                        (pointer(), detail)
                    });
                }
                declared.experts = Some(experts);
            }
            _ => flaws.note("range", || {
                (pointer(), format!("is {value}; it must be from 1 to {MAX_EXPERTS}"))
            }),
        },
    }
    Ok(declared)
}

/// The header of the routes and their shape, checked.
fn routes_header(
    archive: &mut Archive,
    declared: Declared,
    mut flaws: Flaws,
) -> Result<(NpyHeader, [usize; 4]), TraceError> {
    let before = archive.taken;
    let Some(header) = archive.member("routes", |header, _| Ok(header))? else {
        let detail = match archive.listed() {
            members if members.is_empty() => "the archive has no member `routes.npy`".to_owned(),
            members => format!(
                "the archive has no member `routes.npy`, nor a single array; it has {members}. A \
                 folder of a recorder is sent as application/zip (.zip)"
            ),
        };
        return Err(flaws.fail("required", "/routes", detail));
    };
    archive.taken = before;
    if !header.dtype.is_integer() {
        let detail = format!("elements are {}; they must be integers", header.dtype.name());
        flaws.note("type", || ("/routes".to_owned(), detail));
    }
    let (sequences, tokens, n_layers, top_k) = match *header.shape.as_slice() {
        [sequences, tokens, n_layers, top_k] => (sequences, tokens, n_layers, top_k),
        [tokens, n_layers, top_k] => (1, tokens, n_layers, top_k),
        _ => {
            let detail = format!(
                "has {} dimension(s); it must have four: sequences, tokens, layers, top_k (or, of \
                 one sequence, the last three)",
                header.shape.len()
            );
            return Err(flaws.fail("shape", "/routes", detail));
        }
    };
    if sequences == 0 || tokens == 0 {
        flaws.note("empty", || ("/routes".to_owned(), "holds no tokens".to_owned()));
    }
    if tokens > u64::from(u32::MAX) {
        let detail = format!("sequences of {tokens} tokens; at most {} fit", u32::MAX);
        flaws.note("range", || ("/routes".to_owned(), detail));
    }
    check_shape(&mut flaws, "/routes", n_layers, top_k, declared);
    flaws.into_result()?;
    debug_assert!(n_layers <= MAX_LAYERS as u64 && top_k <= MAX_TOP_K as u64);
    let size = |n: u64| usize::try_from(n).map_err(TraceError::unreadable);
    let shape = [size(sequences)?, size(tokens)?, size(n_layers)?, size(top_k)?];
    Ok((header, shape))
}

fn read_routes(
    archive: &mut Archive,
    recorder: &mut RouteRecorder,
    header: &NpyHeader,
    shape: [usize; 4],
    scratch: Scratch<'_>,
) -> Result<(), TraceError> {
    archive.member("routes", |_, array| record_routes(array, header, shape, scratch, recorder))?;
    Ok(())
}

fn read_tokens(
    archive: &mut Archive,
    recorder: &mut RouteRecorder,
    shape: &[usize],
    scratch: Scratch<'_>,
) -> Result<(), TraceError> {
    let wanted: Vec<u64> = shape.iter().map(|n| *n as u64).collect();
    archive.member("tokens", |header, array| {
        let dtype: Dtype = header.dtype;
        let is_alike = header.shape == wanted || wanted[0] == 1 && header.shape == wanted[1..];
        if !dtype.is_integer() || !is_alike {
            recorder.flaws.note("shape", || {
                let detail = format!(
                    "is {} of {}; it must be {wanted:?} of integers, as `routes`",
                    format_args!("{:?}", header.shape),
                    dtype.name()
                );
                ("/tokens".to_owned(), detail)
            });
            return Ok(());
        }
        let shape = [shape[0], shape[1], 1, 1];
        let mut n = 0;
        array.in_c_order(&header, shape, dtype.size, scratch, |bytes| {
            for token in bytes.chunks_exact(dtype.size) {
                let value = dtype.integer(token);
                match u32::try_from(value) {
                    Ok(id) => recorder.push_token_id(id)?,
                    Err(_) => recorder.flaws.note("range", || {
                        let pointer = format!("/tokens/{}/{}", n / shape[1], n % shape[1]);
                        (pointer, format!("token id {value}; ids must be from 0 to {}", u32::MAX))
                    }),
                }
                n += 1;
            }
            Ok(())
        })
    })?;
    Ok(())
}

/// Copies the embedding out as a file of its own.
fn read_embedding(
    archive: &mut Archive,
    flaws: &mut Flaws,
    scratch: Scratch<'_>,
) -> Result<Option<File>, TraceError> {
    let copied = archive.member("embedding", |header, array| {
        if let Err(detail) = check_embedding(&header) {
            flaws.note("shape", || ("/embedding".to_owned(), detail));
            return Ok(None);
        }
        let mut file = scratch().map_err(TraceError::storage)?;
        file.write_all(&embedding_header(&header)).map_err(TraceError::storage)?;
        copy_finite(&header, array, flaws, &mut file)?;
        file.seek(SeekFrom::Start(0)).map_err(TraceError::storage)?;
        Ok(Some(file))
    })?;
    Ok(copied.flatten())
}
