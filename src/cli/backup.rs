//! `moe-gps backup` and `restore`: a data directory into a folder, while a service uses it, and back.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

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
    /// Where the service keeps its answers otherwise.
    #[arg(long, env = "MOE_GPS_DATABASE", default_value = "", hide = true)]
    database: String,
    /// Where it keeps its traces otherwise.
    #[arg(long, env = "MOE_GPS_TRACES", default_value = "", hide = true)]
    traces: String,
}

pub(super) fn back_up(places: &Places, out: &mut impl Write) -> Result<()> {
    ensure!(
        places.database.is_empty() && places.traces.is_empty(),
        "backup copies a data directory that holds everything; MOE_GPS_DATABASE or MOE_GPS_TRACES says \
         that it does not: back up PostgreSQL with pg_dump, an SQLite file with `sqlite3 FILE '.backup \
         COPY'`, and the bucket with its own means (docs/replicas.md)"
    );
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
