//! `trace convert IN --to FORMAT OUT`: a recording in another format.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::trace;
use moe_gps_core::formats::trace::export;

/// Writes a recording in another format.
#[derive(Debug, Clone, Args)]
pub struct Convert {
    /// The recording in any of the formats taken in, perhaps with .gz or .zst behind.
    pub file: PathBuf,
    /// `ndjson` or `npz` (routes), `json`, `sglang`, `csv` or `npy` (counts).
    #[arg(long)]
    pub to: String,
    /// Where to write it; nothing is left there if it fails.
    pub out: PathBuf,
    /// What is known beside it.
    #[command(flatten)]
    pub known: trace::Known,
    /// Tokens of a step, where routes become counts; without it, all are one step.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub tokens_per_step: Option<u64>,
}

/// Runs `trace convert`; what is doubtful about the recording is written to `out`.
pub fn run(command: &Convert, out: &mut dyn Write) -> Result<()> {
    let writer = export::by_id(&command.to)?;
    let taken = trace::take_in(&command.file, command.known.into())?;
    trace::warn(&taken.ingested.summary.warnings, out)?;
    let stored = taken.open()?;
    let path = &command.out;
    let cannot = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let partial = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(cannot)?;
    let mut to: BufWriter<File> = BufWriter::new(partial.reopen().with_context(cannot)?);
    (writer.write)(&stored, command.tokens_per_step, &mut to)?;
    to.flush().with_context(cannot)?;
    let bytes = to.stream_position().with_context(cannot)?;
    partial.persist(path).with_context(cannot)?;
    writeln!(out, "{}: {}, {bytes} bytes", path.display(), writer.what)?;
    Ok(())
}
