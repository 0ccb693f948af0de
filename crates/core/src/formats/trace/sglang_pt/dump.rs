//! The files of a recording: one, or those of all ranks in an archive.

use std::fs::File;
use std::io::Seek;

use crate::formats::trace::archive::Folder;
use crate::formats::trace::error::{Flaws, TraceError};
use crate::formats::trace::pickle::{Heap, Value};
use crate::formats::trace::sglang_pt::SlotNames;
use crate::formats::trace::sglang_pt::tensors::Torch;
use crate::formats::trace::stored::Scratch;
use crate::formats::trace::{Limits, shorten};

/// Most files of a recording; each is opened in its turn.
const MAX_FILES: usize = 4096;

/// What a recording consists of.
pub(super) struct Dumps<'a> {
    from: From<'a>,
    scratch: Scratch<'a>,
    limits: &'a Limits,
}

enum From<'a> {
    One(File),
    Archive(&'a Folder, Vec<String>),
}

/// One file, read.
pub(super) struct Dump {
    pub(super) torch: Torch,
    pub(super) top: Value,
    pub(super) heap: Heap,
}

impl<'a> Dumps<'a> {
    /// A recording that is one file.
    pub(super) fn one(raw: File, scratch: Scratch<'a>, limits: &'a Limits) -> Self {
        Self { from: From::One(raw), scratch, limits }
    }

    /// The files of an archive that PyTorch wrote, by name: the time stands before the rank.
    pub(super) fn of_archive(
        folder: &'a Folder,
        scratch: Scratch<'a>,
        limits: &'a Limits,
    ) -> Result<Self, TraceError> {
        let names: Vec<String> = names(folder).map(str::to_owned).collect();
        if names.len() > MAX_FILES {
            let detail = format!("{} files of ranks; there may be {MAX_FILES}", names.len());
            return Err(Flaws::default().fail("range", "", detail));
        }
        Ok(Self { from: From::Archive(folder, names), scratch, limits })
    }

    /// Number of files.
    pub(super) fn len(&self) -> usize {
        match &self.from {
            From::One(_) => 1,
            From::Archive(_, names) => names.len(),
        }
    }

    /// Reads a file.
    pub(super) fn open(&self, nth: usize) -> Result<Dump, TraceError> {
        let (raw, name) = match &self.from {
            From::One(raw) => (raw.try_clone().map_err(TraceError::storage)?, None),
            From::Archive(folder, names) => {
                let name = &names[nth];
                let Some(member) = folder.member(name) else {
                    return Err(TraceError::unreadable("a file has left the archive"));
                };
                let mut copy = (self.scratch)().map_err(TraceError::storage)?;
                std::io::copy(&mut folder.reader(member), &mut copy)
                    .map_err(TraceError::storage)?;
                copy.rewind().map_err(TraceError::storage)?;
                (copy, Some(name))
            }
        };
        let (torch, top, heap) =
            Torch::open(raw, self.scratch, self.limits).map_err(|error| match (error, name) {
                (TraceError::Unreadable(text), Some(name)) => {
                    TraceError::Unreadable(format!("`{}`: {text}", shorten(name)))
                }
                (error, _) => error,
            })?;
        Ok(Dump { torch, top, heap })
    }
}

/// The files of an archive that PyTorch wrote.
pub(super) fn names(folder: &Folder) -> impl Iterator<Item = &str> {
    let last = |name: &&str| matches!(name.rsplit_once('.'), Some((_, "pt" | "pth")));
    folder.names().filter(last)
}

impl Dump {
    /// The records and the map of slots, where the file holds them.
    pub(super) fn records(&self) -> Result<(&[Value], SlotNames), TraceError> {
        let (top, heap) = (self.top, &self.heap);
        let records = heap.get(top, "records").and_then(|records| heap.items(records));
        let map = heap.get(top, "last_physical_to_logical_map").and_then(|map| heap.tensor(map));
        let (Some(records), Some(map)) = (records, map) else {
            let keys = heap.keys(top).unwrap_or_default().join(", ");
            let detail = format!(
                "has neither `logical_count` nor `records` with `last_physical_to_logical_map`, \
                 but [{}]",
                shorten(&keys)
            );
            return Err(Flaws::default().fail("required", "", detail));
        };
        Ok((records, SlotNames::read(&self.torch, map)?))
    }

    /// The forward pass and the rank of a record; the first by its place where it has no number.
    pub(super) fn place(&self, record: Value, nth: usize) -> (i64, Option<i64>) {
        let number = |key| match self.heap.get(record, key) {
            Some(Value::Int(n)) => Some(n),
            _ => None,
        };
        let nth = i64::try_from(nth).unwrap_or(i64::MAX);
        (number("forward_pass_id").unwrap_or(nth), number("rank"))
    }
}
