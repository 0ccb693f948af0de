//! Tokens waiting to be stored in (sequence, position) order, on disk.
//!
//! Engines write tokens as they come, so sequences are often interleaved. What arrives in
//! order is read back as it is; anything else goes through an external merge sort, with
//! memory for one run and a small buffer per run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use crate::formats::trace::stored::Scratch;

/// Bytes of a sorted run.
const RUN: usize = 32 << 20;
/// Buffer of each run while they are merged.
const BUFFER: usize = 64 * 1024;
/// Bytes before the ids of a record: sequence, position, token id, line.
const FIXED: usize = 8 + 4 + 4 + 8;

/// One token as it waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub(super) sequence: u64,
    pub(super) position: u32,
    pub(super) line: u64,
    pub(super) token_id: u32,
    pub(super) ids: Vec<u16>,
}

impl Record {
    fn write(&self, to: &mut impl Write, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.position.to_le_bytes());
        bytes.extend(self.token_id.to_le_bytes());
        bytes.extend(self.line.to_le_bytes());
        for id in &self.ids {
            bytes.extend(id.to_le_bytes());
        }
        to.write_all(bytes)
    }

    fn read(&mut self, bytes: &[u8]) {
        let (head, ids) = bytes.split_at(FIXED);
        self.sequence = u64::from_le_bytes(std::array::from_fn(|n| head[n]));
        self.position = u32::from_le_bytes(std::array::from_fn(|n| head[8 + n]));
        self.token_id = u32::from_le_bytes(std::array::from_fn(|n| head[12 + n]));
        self.line = u64::from_le_bytes(std::array::from_fn(|n| head[16 + n]));
        self.ids.clear();
        self.ids.extend(ids.as_chunks::<2>().0.iter().map(|id| u16::from_le_bytes(*id)));
    }
}

/// Takes records in any order and gives them back in order.
pub(super) struct Sorter<'a> {
    scratch: Scratch<'a>,
    records: BufWriter<File>,
    bytes: Vec<u8>,
    row: usize,
    n: u64,
    last: Option<(u64, u32)>,
    in_order: bool,
    run_bytes: usize,
}

impl<'a> Sorter<'a> {
    /// A sorter of records with so many ids.
    pub(super) fn new(scratch: Scratch<'a>, row: usize) -> io::Result<Self> {
        Self::with_run(scratch, row, RUN)
    }

    fn with_run(scratch: Scratch<'a>, row: usize, run_bytes: usize) -> io::Result<Self> {
        let records = BufWriter::with_capacity(4 * BUFFER, scratch()?);
        let (bytes, last) = (Vec::new(), None);
        Ok(Self { scratch, records, bytes, row, n: 0, last, in_order: true, run_bytes })
    }

    pub(super) fn push(&mut self, record: &Record) -> io::Result<()> {
        let key = (record.sequence, record.position);
        self.in_order &= self.last.is_none_or(|last| last <= key);
        self.last = Some(key);
        self.n += 1;
        record.write(&mut self.records, &mut self.bytes)
    }

    fn record_bytes(&self) -> usize {
        FIXED + self.row * 2
    }

    /// Gives every record, ordered by sequence, position and line.
    pub(super) fn drain<E: From<io::Error>>(
        mut self,
        mut take: impl FnMut(&Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = self.record_bytes();
        self.records.flush()?;
        let mut records = self.records.get_ref().try_clone()?;
        records.seek(SeekFrom::Start(0))?;
        let mut records = BufReader::with_capacity(4 * BUFFER, records);
        let mut record = Record::default();
        if self.in_order {
            let mut bytes = vec![0; size];
            for _ in 0..self.n {
                records.read_exact(&mut bytes)?;
                record.read(&bytes);
                take(&record)?;
            }
            return Ok(());
        }
        let (file, mut runs) = self.sorted_runs(&mut records)?;
        let mut heap = BinaryHeap::new();
        for (run_idx, run) in runs.iter_mut().enumerate() {
            heap.extend(run.next(&file, size)?.map(|record| Reverse((record, run_idx))));
        }
        while let Some(Reverse((record, run_idx))) = heap.pop() {
            take(&record)?;
            heap.extend(runs[run_idx].next(&file, size)?.map(|record| Reverse((record, run_idx))));
        }
        Ok(())
    }

    fn sorted_runs(&self, records: &mut impl Read) -> io::Result<(File, Vec<Run>)> {
        let size = self.record_bytes();
        let per_run = (self.run_bytes / size).max(1) as u64;
        let (mut runs, mut left) = (Vec::new(), self.n);
        let mut record = Record::default();
        // All runs share one file: many runs must not use up the process' files.
        let file = (self.scratch)()?;
        let mut to = BufWriter::with_capacity(4 * BUFFER, file.try_clone()?);
        let mut at = 0;
        while left > 0 {
            let n = left.min(per_run);
            let mut bytes = vec![0; usize::try_from(n).unwrap_or(0) * size];
            records.read_exact(&mut bytes)?;
            let mut order: Vec<_> = bytes
                .chunks_exact(size)
                .map(|bytes| {
                    record.read(bytes);
                    ((record.sequence, record.position, record.line), bytes)
                })
                .collect();
            order.sort_by_key(|(key, _)| *key);
            for (_, bytes) in order {
                to.write_all(bytes)?;
            }
            let end = at + n * size as u64;
            runs.push(Run { at, end, bytes: Vec::new(), used: 0 });
            at = end;
            left -= n;
        }
        to.flush()?;
        drop(to);
        Ok((file, runs))
    }
}

/// A sorted run that is read from front to back.
struct Run {
    at: u64,
    end: u64,
    bytes: Vec<u8>,
    used: usize,
}

impl Run {
    fn next(&mut self, file: &File, size: usize) -> io::Result<Option<Record>> {
        use std::os::unix::fs::FileExt;
        if self.used == self.bytes.len() {
            let n = ((BUFFER / size).max(1) * size) as u64;
            let n = usize::try_from(n.min(self.end - self.at)).unwrap_or(0);
            if n == 0 {
                return Ok(None);
            }
            self.bytes.resize(n, 0);
            file.read_exact_at(&mut self.bytes, self.at)?;
            self.at += n as u64;
            self.used = 0;
        }
        let mut record = Record::default();
        record.read(&self.bytes[self.used..self.used + size]);
        self.used += size;
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_order_comes_back_sorted(
            keys in prop::collection::vec((0_u64..6, 0_u32..40), 0..200),
            run in 30_usize..2000,
        ) {
            let scratch = || tempfile::tempfile();
            let mut sorter = Sorter::with_run(&scratch, 2, run).unwrap();
            let mut wanted = Vec::new();
            for (line, (sequence, position)) in keys.into_iter().enumerate() {
                let ids = vec![u16::try_from(line).unwrap(), 7];
                let line = line as u64;
                let record = Record { sequence, position, line, token_id: 3, ids };
                sorter.push(&record).unwrap();
                wanted.push(record);
            }
            wanted.sort();
            let mut got = Vec::new();
            sorter
                .drain(|record| {
                    got.push(record.clone());
                    Ok::<_, io::Error>(())
                })
                .unwrap();
            prop_assert_eq!(got, wanted);
        }
    }
}
