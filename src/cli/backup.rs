//! `moe-gps backup` and `restore`: a data directory into a folder, while a service uses it, and back.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::app::backup::{self, Manifest};
use crate::cli::answer_table::wrapped;
use crate::cli::serve::runtime;

/// A folder and a data directory.
#[derive(Debug, clap::Args)]
pub(super) struct Places {
    /// Folder of the backup.
    dir: PathBuf,
    /// Directory of the database and the traces.
    #[arg(long, env = "MOE_GPS_DATA_DIR", default_value = "./data")]
    data_dir: PathBuf,
}

pub(super) fn back_up(places: &Places, out: &mut impl Write) -> Result<()> {
    let manifest = runtime()?.block_on(backup::back_up(&places.data_dir, &places.dir))?;
    say(out, "backed up", &manifest, &places.dir)
}

pub(super) fn restore(places: &Places, out: &mut impl Write) -> Result<()> {
    let manifest = backup::restore(&places.dir, &places.data_dir)?;
    say(out, "restored", &manifest, &places.data_dir)
}

fn say(out: &mut impl Write, done: &str, manifest: &Manifest, to: &Path) -> Result<()> {
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let traces = manifest.files.len() - 1;
    let told = format!(
        "{done} the database as of {} and {traces} file(s) of traces, {bytes} bytes with checksums, \
         into {}",
        manifest.created_at,
        to.display()
    );
    Ok(writeln!(out, "{}", wrapped(&told))?)
}
