//! `trace inspect FILE`: what a recording holds, as a readable table, without a server.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::app::ingest::{Ingested, TraceDirectory, Upload};
use crate::cli::answer_table::wrapped;
use crate::cli::paint::{BOLD, CAUTION, paint};
use crate::cli::refused::Refused;
use crate::wire::trace::TraceSummary;
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::formats::trace::{Cut, Declared, Limits, TraceError, readers, sniff};

/// Shows what a recording holds.
#[derive(Debug, Clone, Args)]
pub struct Inspect {
    /// The recording in any of the formats taken in, perhaps with .gz or .zst behind; or a folder
    /// with the files of all ranks.
    pub file: PathBuf,
    /// What is known beside it.
    #[command(flatten)]
    pub known: Known,
    /// Shows the skewness of every layer, too.
    #[arg(long)]
    pub layers: bool,
    /// Prints the summary as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is known of a recording beside its bytes.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Known {
    /// Experts of a layer; without it, 1 + the largest id.
    #[arg(long)]
    pub num_experts: Option<u32>,
    /// Experts of a token, where the recording does not say: counts that no router of so many
    /// gives are refused, and router logits become routes.
    #[arg(long)]
    pub top_k: Option<u32>,
    /// What is left out of it.
    #[command(flatten)]
    pub left_out: LeftOut,
}

/// Which rows of a recording are left out.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct LeftOut {
    /// Leaves out so many rows from the beginning: tokens of routes, steps of counts.
    #[arg(long, value_name = "ROWS", default_value_t = 0)]
    pub skip: u64,
    /// Leaves out every row that repeats the one before in all layers, as warm-up batches do.
    #[arg(long)]
    pub drop_repeats: bool,
}

impl From<LeftOut> for Cut {
    fn from(LeftOut { skip, drop_repeats }: LeftOut) -> Self {
        Self { skip, drop_repeats }
    }
}

impl From<Known> for Declared {
    fn from(known: Known) -> Self {
        Self { experts: known.num_experts, top_k: known.top_k, cut: known.left_out.into() }
    }
}

/// A recording taken in without a server; its directory vanishes with it.
pub(super) struct TakenIn {
    pub(super) ingested: Ingested,
    directory: TraceDirectory,
    _scratch: tempfile::TempDir,
}

impl TakenIn {
    /// The recording in its stored form.
    pub(super) fn open(&self) -> Result<StoredTrace> {
        Ok(self.directory.open_trace(&self.ingested.summary.id)?)
    }
}

/// Takes a recording in.
pub(super) fn take_in(path: &Path, declared: Declared) -> Result<TakenIn> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let directory = TraceDirectory::open(scratch.path())?;
    let ingested = ingest(&directory, path, declared)?;
    Ok(TakenIn { ingested, directory, _scratch: scratch })
}

/// Takes a recording into a directory.
pub(super) fn ingest(
    directory: &TraceDirectory,
    path: &Path,
    declared: Declared,
) -> Result<Ingested> {
    let upload = Upload { declared, ..upload_of(path)? };
    let file = if path.is_dir() { folder(path) } else { Ok(File::open(path)?) };
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match directory.ingest(file, &upload, &Limits::default()) {
        Ok(ingested) => Ok(ingested),
        Err(TraceError::Invalid { listed, unlisted }) => {
            Err(Refused::new(path.display().to_string(), listed).and(unlisted).into())
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Runs `trace inspect` and writes the result to `out`.
pub fn inspect(command: &Inspect, out: &mut dyn Write) -> Result<()> {
    let ingested = take_in(&command.file, command.known.into())?.ingested;
    if command.json {
        serde_json::to_writer_pretty(&mut *out, &ingested.summary)?;
        writeln!(out)?;
        return Ok(());
    }
    write_tables(&ingested, command.layers, out)
}

/// Ends of the names of files that recordings of several ranks consist of.
const OF_RANKS: [&str; 5] = ["csv", "json", "pt", "pth", "safetensors"];

/// The files of all ranks in a folder, as the archive of them that could be uploaded.
fn folder(path: &Path) -> Result<File> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    files.retain(|file| {
        let extension = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        file.is_file() && OF_RANKS.contains(&extension.as_str())
    });
    files.sort();
    if files.is_empty() {
        bail!("the folder holds no file whose name ends in .{}", OF_RANKS.join(", ."));
    }
    let mut zip = zip::ZipWriter::new(tempfile::tempfile()?);
    let stored = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for file in files {
        zip.start_file(file.file_name().unwrap_or_default().to_string_lossy(), stored)?;
        io::copy(&mut File::open(file)?, &mut zip)?;
    }
    let mut file = zip.finish()?;
    file.rewind()?;
    Ok(file)
}

/// The media type a file name stands for; there is no server to be told it.
pub(super) fn upload_of(path: &Path) -> Result<Upload> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if path.is_dir() {
        let content_type = "application/zip".to_owned();
        return Ok(Upload { content_type, name: Some(name), ..Upload::default() });
    }
    let lower = name.to_lowercase();
    let (stem, content_encoding) = match lower.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Some("gzip")),
        Some((stem, "zst")) => (stem, Some("zstd")),
        _ => (lower.as_str(), None),
    };
    let extension = stem.rsplit_once('.').map_or("", |(_, extension)| extension);
    let reader = match readers::by_extension(extension) {
        Some(reader) => reader,
        None => told_by_bytes(path, &name)?,
    };
    Ok(Upload {
        content_type: reader.media_type.to_owned(),
        content_encoding: content_encoding.map(str::to_owned),
        name: Some(name),
        ..Upload::default()
    })
}

/// The reader for a file whose name tells nothing.
fn told_by_bytes(path: &Path, name: &str) -> Result<&'static readers::Reader> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    match sniff::format(&file) {
        Ok(reader) => Ok(reader),
        Err(TraceError::Unrecognized) => {
            bail!("{name}: the name must end in {} (and .gz or .zst)", readers::extensions())
        }
        Err(error) => Err(error).with_context(|| name.to_owned()),
    }
}

fn write_tables(ingested: &Ingested, by_layer: bool, out: &mut dyn Write) -> Result<()> {
    let summary = &ingested.summary;
    warn(&summary.warnings, out)?;
    for (name, value) in facts_of(summary) {
        writeln!(out, "{}  {value}", paint(BOLD, format_args!("{name:19}")))?;
    }
    writeln!(
        out,
        "{}  {} bytes read, {} kept",
        paint(BOLD, format_args!("{:19}", "size")),
        ingested.decoded_bytes,
        ingested.stored_bytes
    )?;
    writeln!(out, "id {}", summary.id)?;
    if !by_layer {
        return Ok(());
    }
    writeln!(out, "\nlayer  skewness")?;
    for (layer, skewness) in summary.skewness.per_layer.iter().enumerate() {
        writeln!(out, "{layer:5}  {skewness:8.3}  {}", bar(*skewness, summary))?;
    }
    Ok(())
}

/// What is doubtful, before any figure.
pub(super) fn warn(warnings: &[String], out: &mut dyn Write) -> io::Result<()> {
    let told = |warning: &String| paint(CAUTION, wrapped(&format!("warning: {warning}")));
    warnings.iter().try_for_each(|warning| writeln!(out, "{}", told(warning)))
}

/// One line per fact.
fn facts_of(summary: &TraceSummary) -> Vec<(&'static str, String)> {
    let number = |value: Option<u64>| value.map_or("not recorded".to_owned(), |n| n.to_string());
    let error = summary.distribution_error;
    vec![
        ("trace", summary.name.clone().unwrap_or_default()),
        ("tokens", number(summary.tokens)),
        ("sequences", number(summary.sequences)),
        ("recorded steps", number(summary.steps)),
        ("layers with routing", summary.layers.to_string()),
        ("experts", summary.experts.to_string()),
        ("experts per token", number(summary.top_k.map(u64::from))),
        ("token ids", if summary.has_token_ids { "yes" } else { "no" }.to_owned()),
        ("embedding", if summary.has_embedding { "yes" } else { "no" }.to_owned()),
        (
            "skewness",
            format!("{:.3} mean, {:.3} most", summary.skewness.mean, summary.skewness.max),
        ),
        (
            "distribution error",
            error.map_or("needs two steps".to_owned(), |e| format!("{e:.4} (half against half)")),
        ),
    ]
}

/// A bar from even load to the most uneven layer.
fn bar(skewness: f64, summary: &TraceSummary) -> String {
    const WIDTH: f64 = 30.0;
    let share = (skewness - 1.0) / (summary.skewness.max - 1.0).max(f64::EPSILON);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share between 0 and 1 of a small width"
    )]
    let length = (share.clamp(0.0, 1.0) * WIDTH).round() as usize;
    "█".repeat(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_format_and_encoding() {
        let of = |name: &str| upload_of(Path::new(name)).ok();
        let upload = of("a/b.jsonl.gz").unwrap();
        assert_eq!(upload.content_type, "application/x-ndjson");
        assert_eq!(upload.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(of("x.NPZ").unwrap().content_type, "application/x-npz");
        assert!(of("npz").is_none(), "no such file");
        let folder = tempfile::tempdir().unwrap();
        let said = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            upload_of(&path).map(|upload| upload.content_type).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(said("loads.txt", b"layer,expert,count\n0,0,1\n").unwrap(), "text/csv");
        let arrow = said("x.arrow", b"ARROW1\x15\x04").unwrap_err();
        assert!(arrow.contains("an Arrow table, which is not read; write it as a"), "{arrow}");
        let other = said("x.bin", b"\x01\x02").unwrap_err();
        assert!(other.contains("x.bin: the name must end in .npz, "), "{other}");
    }
}
