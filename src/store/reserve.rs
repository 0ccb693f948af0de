//! Room that is kept for the day the disk is full, so that something can still be deleted.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::space::disk;

/// Room that is kept, bytes: what some hundred deletions write to the log of the database.
const RESERVE_BYTES: u64 = 4 << 20;

/// A file of no content in the data directory.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    held: AtomicBool,
}

impl Reserve {
    /// That of a data directory, which holds one already or makes it where there is room. On a full
    /// disk it is let go, so that the service can start.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        let reserve = Self { path: root.join("reserve"), held: AtomicBool::new(false) };
        let held = std::fs::metadata(&reserve.path).is_ok_and(|file| file.len() == RESERVE_BYTES);
        reserve.held.store(held, Ordering::Relaxed);
        if disk(root).1 < RESERVE_BYTES / 4 {
            reserve.release();
        } else {
            reserve.keep();
        }
        reserve
    }

    /// Whether the room is there.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Makes the file where it is not and the disk has twice as much room.
    pub fn keep(&self) {
        let folder = self.path.parent().unwrap_or(&self.path);
        if self.is_held() || disk(folder).1 < 2 * RESERVE_BYTES {
            return;
        }
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&self.path)?;
            let zeros = [0; 1 << 12];
            for _ in 0..RESERVE_BYTES / zeros.len() as u64 {
                file.write_all(&zeros)?;
            }
            Ok(())
        };
        match write() {
            Ok(()) => self.held.store(true, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(error = %error, "no room could be kept for deletions");
                let _ = std::fs::remove_file(&self.path);
            }
        }
    }

    /// Lets the room go; false when it had gone before.
    pub fn release(&self) -> bool {
        let held = self.held.swap(false, Ordering::Relaxed);
        // What is not there takes no room.
        let _ = std::fs::remove_file(&self.path);
        held
    }
}
