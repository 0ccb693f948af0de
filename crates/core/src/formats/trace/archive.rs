//! The files inside a tar or zip archive, read at any place.
//!
//! Members that lie in the archive as they are, are read where they lie; compressed ones are
//! inflated to a scratch file first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use zip::unstable::read::ZipIterable;

use crate::formats::trace::error::TraceError;
use crate::formats::trace::stored::Scratch;
use crate::formats::trace::{Limits, shorten};

/// Most members of an archive.
const MAX_MEMBERS: usize = 200_000;
/// Bytes of a zip's local header before the lengths of name and extra field.
const BEFORE_LENGTHS: u64 = 26;

/// What the members are in a refusal.
pub(super) const INSIDE: &str = "the data inside the archive";

/// A file inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    inflated: bool,
    at: u64,
    /// Bytes of it.
    pub(super) len: u64,
}

/// The files inside an archive.
pub(super) struct Folder {
    raw: File,
    inflated: File,
    members: BTreeMap<String, Member>,
}

impl Folder {
    /// The files of a zip archive.
    pub(super) fn of_zip(
        raw: File,
        scratch: Scratch<'_>,
        limits: &Limits,
    ) -> Result<Self, TraceError> {
        let bad = |error| not_an_archive(&error);
        let mut index = {
            let file = raw.try_clone().map_err(TraceError::storage)?;
            ZipIterable::try_new(BufReader::new(file), zip::read::Config::default()).map_err(bad)?
        };
        many(index.len())?;
        let mut body = BufReader::new(raw.try_clone().map_err(TraceError::storage)?);
        let mut folder = Self::empty(raw, scratch)?;
        let sent = folder.raw.metadata().map_err(TraceError::storage)?.len();
        let (mut inflated, mut stored) = (0, 0_u64);
        for entry in index.files().map_err(bad)? {
            let entry = entry.map_err(bad)?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            if entry.is_dir() {
                continue;
            }
            if entry.encrypted() {
                let name = shorten(&name);
                return Err(TraceError::unreadable(format_args!("`{name}` is encrypted")));
            }
            let len = entry.size();
            let as_it_is = entry.compression() == zip::CompressionMethod::Stored;
            let header = entry.header_start();
            let from = entry.with_reader(&mut body, zip::ZipReadOptions::default()).map_err(bad)?;
            let member = if as_it_is {
                stored = stored.saturating_add(len);
                if stored > sent {
                    return Err(TraceError::unreadable("members of the archive lie in each other"));
                }
                check_sum(from, &name)?;
                Member { inflated: false, at: folder.data_start(header)?, len }
            } else {
                let at = folder.inflated.stream_position().map_err(TraceError::storage)?;
                let before = inflated;
                let allow = |n| limits.allow_inflated(INSIDE, sent, before + n);
                let len = inflate(from, &mut folder.inflated, allow)?;
                inflated += len;
                Member { inflated: true, at, len }
            };
            folder.add(name, member)?;
        }
        Ok(folder)
    }

    /// The files of a tar archive.
    pub(super) fn of_tar(raw: File, scratch: Scratch<'_>) -> Result<Self, TraceError> {
        let bad = |error| not_an_archive(&error);
        let mut from = BufReader::new(raw.try_clone().map_err(TraceError::storage)?);
        from.rewind().map_err(TraceError::storage)?;
        let mut folder = Self::empty(raw, scratch)?;
        let mut archive = tar::Archive::new(from);
        for entry in archive.entries_with_seek().map_err(bad)? {
            let entry = entry.map_err(bad)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let member =
                Member { inflated: false, at: entry.raw_file_position(), len: entry.size() };
            folder.add(name, member)?;
        }
        Ok(folder)
    }

    /// A single file, as a folder that holds nothing else.
    pub(super) fn of_file(raw: File, scratch: Scratch<'_>, name: &str) -> Result<Self, TraceError> {
        let len = raw.metadata().map_err(TraceError::storage)?.len();
        let mut folder = Self::empty(raw, scratch)?;
        folder.add(name.to_owned(), Member { inflated: false, at: 0, len })?;
        Ok(folder)
    }

    fn empty(raw: File, scratch: Scratch<'_>) -> Result<Self, TraceError> {
        let inflated = scratch().map_err(TraceError::storage)?;
        Ok(Self { raw, inflated, members: BTreeMap::new() })
    }

    fn add(&mut self, name: String, member: Member) -> Result<(), TraceError> {
        many(self.members.len() + 1)?;
        if self.members.contains_key(&name) {
            let name = shorten(&name);
            let what = format_args!("`{name}` is in the archive more than once");
            return Err(TraceError::unreadable(what));
        }
        self.members.insert(name, member);
        Ok(())
    }

    /// Where the bytes of a member that is stored as it is begin.
    fn data_start(&self, header_start: u64) -> Result<u64, TraceError> {
        let mut lengths = [0; 4];
        self.raw
            .read_exact_at(&mut lengths, header_start.saturating_add(BEFORE_LENGTHS))
            .map_err(|_| TraceError::unreadable("a member of the archive lies outside it"))?;
        let [a, b, c, d] = lengths;
        let behind = u64::from(u16::from_le_bytes([a, b])) + u64::from(u16::from_le_bytes([c, d]));
        Ok(header_start + BEFORE_LENGTHS + 4 + behind)
    }

    /// The names of all files, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// The file with this name.
    pub(super) fn member(&self, name: &str) -> Option<Member> {
        self.members.get(name).copied()
    }

    /// Reads bytes of a file from `offset` on.
    pub(super) fn read_at(
        &self,
        member: Member,
        offset: u64,
        to: &mut [u8],
    ) -> Result<(), TraceError> {
        let end = offset.checked_add(to.len() as u64).filter(|end| *end <= member.len);
        let at = member.at.checked_add(offset);
        let (Some(_), Some(at)) = (end, at) else {
            return Err(TraceError::unreadable(format_args!(
                "{} bytes at {offset} lie outside a file of {} bytes",
                to.len(),
                member.len
            )));
        };
        let file = if member.inflated { &self.inflated } else { &self.raw };
        file.read_exact_at(to, at)
            .map_err(|_| TraceError::unreadable("the archive ends inside one of its files"))
    }

    /// A whole small file.
    pub(super) fn read_all(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, TraceError> {
        let Some(member) = self.member(name) else { return Ok(None) };
        if member.len > limit {
            return Err(TraceError::unreadable(format_args!(
                "`{}` has {} bytes; it may have {limit}",
                shorten(name),
                member.len
            )));
        }
        let mut bytes = vec![0; usize::try_from(member.len).unwrap_or(0)];
        self.read_at(member, 0, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// A file from its beginning.
    pub(super) fn reader(&self, member: Member) -> MemberReader<'_> {
        MemberReader { folder: self, member, at: 0 }
    }
}

/// The refusal of what no archive reader understands; its words may quote the bytes.
fn not_an_archive(error: &dyn std::fmt::Display) -> TraceError {
    let error = shorten(&error.to_string());
    TraceError::unreadable(format_args!("not a readable archive: {error}"))
}

fn many(n: usize) -> Result<(), TraceError> {
    if n <= MAX_MEMBERS {
        return Ok(());
    }
    Err(TraceError::unreadable(format_args!("the archive has more than {MAX_MEMBERS} members")))
}

/// Reads a member that will be read where it lies, so that damage is found.
fn check_sum(mut from: impl Read, name: &str) -> Result<(), TraceError> {
    if cfg!(fuzzing) {
        return Ok(());
    }
    std::io::copy(&mut from, &mut std::io::sink()).map(drop).map_err(|error| {
        TraceError::unreadable(format_args!("`{}` is damaged: {error}", shorten(name)))
    })
}

/// Copies an inflated member as long as its length is allowed.
fn inflate(
    mut from: impl Read,
    to: &mut File,
    allow: impl Fn(u64) -> Result<(), TraceError>,
) -> Result<u64, TraceError> {
    to.seek(SeekFrom::End(0)).map_err(TraceError::storage)?;
    let (mut chunk, mut length) = (vec![0; 64 * 1024], 0);
    loop {
        let n = from.read(&mut chunk).map_err(TraceError::unreadable)?;
        length += n as u64;
        allow(length)?;
        if n == 0 {
            return Ok(length);
        }
        to.write_all(&chunk[..n]).map_err(TraceError::storage)?;
    }
}

/// Reads a member from front to back.
pub(super) struct MemberReader<'a> {
    folder: &'a Folder,
    member: Member,
    at: u64,
}

impl Read for MemberReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.member.len - self.at).unwrap_or(usize::MAX);
        let n = buffer.len().min(left);
        self.folder
            .read_at(self.member, self.at, &mut buffer[..n])
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::UnexpectedEof, error))?;
        self.at += n as u64;
        Ok(n)
    }
}
