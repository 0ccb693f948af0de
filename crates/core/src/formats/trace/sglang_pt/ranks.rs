//! Which ranks saw which forward pass, and what several of them saw alike.
//!
//! Ranks that share attention (tensor parallelism) record the same tokens; the others record
//! tokens of their own, or of their own experts. What is the same to the last number is
//! therefore counted once, everything else is added up.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

/// What has been seen of a recording.
#[derive(Default)]
pub(super) struct Ranks {
    /// (Pass, digest of what was recorded) → the file it came from first.
    seen: BTreeMap<(i64, [u8; 32]), usize>,
    /// Pass → ranks.
    passes: BTreeMap<i64, BTreeSet<i64>>,
    repeated: u64,
}

impl Ranks {
    /// Whether a record is to be counted: false when another file holds the same.
    pub(super) fn is_new(
        &mut self,
        file: usize,
        (pass, rank): (i64, Option<i64>),
        recorded: impl Iterator<Item = u8>,
    ) -> bool {
        self.passes.entry(pass).or_default().insert(rank.unwrap_or(-1));
        let mut digest = Sha256::new();
        let mut chunk = Vec::with_capacity(8192);
        for byte in recorded {
            chunk.push(byte);
            if chunk.len() == chunk.capacity() {
                digest.update(&chunk);
                chunk.clear();
            }
        }
        digest.update(&chunk);
        let first = *self.seen.entry((pass, digest.finalize().into())).or_insert(file);
        self.repeated += u64::from(first != file);
        first == file
    }

    /// Remarks on what the ranks saw.
    pub(super) fn notes(&self) -> Vec<String> {
        let all: BTreeSet<i64> = self.passes.values().flatten().copied().collect();
        let mut notes = Vec::new();
        if let [only] = all.iter().copied().collect::<Vec<_>>()[..] {
            let rank = if only < 0 { "one rank".to_owned() } else { format!("rank {only}") };
            notes.push(format!(
                "the records are those of {rank}; what other ranks saw is in files of their \
                 own: send them together in a tar or zip archive"
            ));
        }
        let lacking = self.passes.values().filter(|ranks| ranks.len() < all.len()).count();
        if lacking > 0 {
            let (n, passes) = (all.len(), self.passes.len());
            notes.push(format!("{lacking} of {passes} forward passes lack some of the {n} ranks"));
        }
        if self.repeated > 0 {
            notes.push(format!(
                "{} records are the same on several ranks and were counted once",
                self.repeated
            ));
        }
        notes
    }
}
