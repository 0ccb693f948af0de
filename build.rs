//! Gives the program a digest of the sources that decide an answer, laws and constants alike, so
//! that a change which forgets to raise the revision is not answered with what was stored before.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// Folders whose code decides an answer.
const FOLDERS: [&str; 2] = ["crates/core/src", "src/app"];

fn main() -> io::Result<()> {
    let mut hasher = DefaultHasher::new();
    for folder in FOLDERS {
        println!("cargo::rerun-if-changed={folder}");
        add(Path::new(folder), &mut hasher)?;
    }
    println!("cargo::rustc-env=MOE_GPS_SOURCES={:016x}", hasher.finish());
    Ok(())
}

/// Adds names and contents of all files below a folder, in the order of their names.
fn add(folder: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add(&path, hasher)?;
            continue;
        }
        let content = fs::read(&path)?;
        for part in [path.to_string_lossy().as_bytes(), &content] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
    }
    Ok(())
}
