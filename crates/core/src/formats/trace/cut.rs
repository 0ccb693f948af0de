//! Rows of a recording that are read but not kept: warm-up and profiling batches.
//!
//! A row is a token of routes or a step of counts. What is cut is counted, so that the figures
//! with and without it can be told.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use crate::formats::trace::stored::Scratch;
use crate::trace::counts::ExpertCounts;
use crate::trace::stats::{mean, skewness};

/// Which rows are not kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// So many from the beginning.
    pub skip: u64,
    /// Every one that equals the row before in all layers.
    pub drop_repeats: bool,
}

impl Cut {
    /// Most rows that can be skipped.
    pub const MOST_SKIPPED: u64 = 1 << 53;

    /// Whether any row may go.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.skip > 0 || self.drop_repeats
    }

    /// What names the recording that is kept: another one for every cut of the same bytes.
    #[must_use]
    pub fn name(self, digest: [u8; 32]) -> [u8; 32] {
        if !self.is_any() {
            return digest;
        }
        let cut = format!("skip={},drop_repeats={}", self.skip, self.drop_repeats);
        Sha256::new().chain_update(digest).chain_update(cut).finalize().into()
    }
}

/// Decides row by row, and counts what goes and what stays.
pub(super) struct Cutter {
    cut: Cut,
    rows: u64,
    skipped: u64,
    repeated: u64,
    kept: ExpertCounts,
    gone: ExpertCounts,
}

impl Cutter {
    /// A cutter of rows over so many layers and experts; `None` if every row stays.
    pub(super) fn new(cut: Cut, n_layers: usize, n_experts: usize) -> Option<Self> {
        cut.is_any().then(|| Self {
            cut,
            rows: 0,
            skipped: 0,
            repeated: 0,
            kept: ExpertCounts::zeros(n_layers, n_experts),
            gone: ExpertCounts::zeros(n_layers, n_experts),
        })
    }

    /// Whether the next row stays; `add` counts it, layer by layer.
    pub(super) fn keeps(&mut self, repeats: bool, add: impl FnOnce(&mut ExpertCounts)) -> bool {
        let skipped = self.rows < self.cut.skip;
        let repeated = !skipped && repeats && self.cut.drop_repeats;
        self.rows += 1;
        self.skipped += u64::from(skipped);
        self.repeated += u64::from(repeated);
        let goes = skipped || repeated;
        add(if goes { &mut self.gone } else { &mut self.kept });
        !goes
    }

    /// What was cut, with the figures on both sides.
    pub(super) fn note(&self, rows: &str) -> String {
        let skewed = |counts: &ExpertCounts| mean(counts.layers().filter_map(skewness));
        let said = |counts| skewed(counts).map_or("none".to_owned(), |mean| format!("{mean:.3}"));
        let mut all = self.kept.clone();
        all.add(&self.gone);
        format!(
            "{} of {} {rows} were cut: the first {}, and {} that repeat the one before; mean \
             skewness {} with them, {} without",
            self.skipped + self.repeated,
            self.rows,
            self.skipped,
            self.repeated,
            said(&all),
            said(&self.kept)
        )
    }

    /// Why nothing is left.
    pub(super) fn nothing_left(&self, rows: &str) -> String {
        format!("none of the {} {rows} is left after the first {}", self.rows, self.cut.skip)
    }
}

/// Which rows were kept, for what is told of them later: beside each row, or after the last one.
pub(super) struct KeptRows {
    written: BufWriter<File>,
    read: Option<BufReader<File>>,
    rows: u64,
    asked: u64,
    last: bool,
}

impl KeptRows {
    pub(super) fn new(scratch: Scratch<'_>) -> io::Result<Self> {
        let written = BufWriter::new(scratch()?);
        Ok(Self { written, read: None, rows: 0, asked: 0, last: true })
    }

    /// Notes the next row.
    pub(super) fn push(&mut self, kept: bool) -> io::Result<()> {
        self.rows += 1;
        self.last = kept;
        self.written.write_all(&[u8::from(kept)])
    }

    /// Whether the next row that was not asked for was kept.
    pub(super) fn next(&mut self) -> io::Result<bool> {
        self.asked += 1;
        if self.asked >= self.rows {
            return Ok(self.last);
        }
        if self.read.is_none() {
            self.written.flush()?;
            let mut file = self.written.get_ref().try_clone()?;
            file.seek(SeekFrom::Start(self.asked - 1))?;
            self.read = Some(BufReader::new(file));
        }
        let mut kept = [1];
        self.read.as_mut().map_or(Ok(()), |file| file.read_exact(&mut kept))?;
        Ok(kept == [1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_counted_apart() {
        let cut = Cut { skip: 1, drop_repeats: true };
        let mut cutter = Cutter::new(cut, 1, 2).unwrap();
        let mut row = |repeats, counts: [f64; 2]| {
            cutter.keeps(repeats, |to| {
                to.layer_mut(0).iter_mut().zip(counts).for_each(|(to, count)| *to += count);
            })
        };
        let kept = [row(false, [4.0, 0.0]), row(false, [1.0, 1.0]), row(true, [1.0, 1.0])];
        assert_eq!(kept, [false, true, false]);
        assert_eq!(
            cutter.note("tokens"),
            "2 of 3 tokens were cut: the first 1, and 1 that repeat the one before; mean skewness \
             1.500 with them, 1.000 without"
        );
    }

    #[test]
    fn rows_are_known_beside_them_and_after_the_last() {
        let rows = [true, false, false, true, false];
        let scratch = || tempfile::tempfile();
        let (mut beside, mut after) =
            (KeptRows::new(&scratch).unwrap(), KeptRows::new(&scratch).unwrap());
        for row in rows {
            beside.push(row).unwrap();
            assert_eq!(beside.next().unwrap(), row);
            after.push(row).unwrap();
        }
        assert_eq!(rows.map(|_| after.next().unwrap()), rows);
    }

    #[test]
    fn every_cut_has_a_name_of_its_own() {
        let cuts = [(0, false), (1, false), (0, true), (1, true)];
        let names = cuts.map(|(skip, drop_repeats)| Cut { skip, drop_repeats }.name([7; 32]));
        assert_eq!(names[0], [7; 32]);
        assert!((1..4).all(|n| names[..n].iter().all(|before| *before != names[n])));
    }
}
