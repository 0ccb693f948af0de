//! `reproduce`: the paper's figures, by its formulas and calibrated, as files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::app::advisor::AdviceError;
use crate::app::ingest::TraceDirectory;
use crate::app::references::References;
use crate::app::{question, routing_evidence};
use crate::cli::trace::upload_of;
use moe_gps_core::cancel::Cancel;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::trace::Limits;
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::question::Question;
use moe_gps_lab::reproduce::{self, Document, Recording};
use serde_json::Value;

/// Experts of a layer and experts per token in the recordings that are set beside the paper.
const MIXTRAL: (u32, u32) = (8, 2);

/// Writes the paper's figures by its formulas and calibrated, as SVG and CSV, with a page.
#[derive(Debug, Clone, Args)]
pub struct Reproduce {
    /// The folder to write into; `reproduction.md`, and pictures and tables beside it.
    #[arg(long, default_value = "reproduction", value_name = "DIR")]
    pub out: PathBuf,
    /// Recordings of Mixtral's routing (8 experts, 2 per token) to set beside the paper's data
    /// sets; others in the folder are left out.
    #[arg(long, value_name = "DIR")]
    pub traces: Option<PathBuf>,
}

/// Runs `reproduce` and says on `out` what was written.
pub fn run(command: &Reproduce, out: &mut dyn Write) -> Result<()> {
    let recordings = command.traces.as_deref().map_or_else(|| Ok(Vec::new()), recordings)?;
    write_all(&documents(&recordings)?, &command.out, out)
}

/// Writes documents under a folder and says on `out` where they are.
pub(super) fn write_all(documents: &[Document], under: &Path, out: &mut dyn Write) -> Result<()> {
    for document in documents {
        let path = under.join(&document.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(&path, &document.text)
            .with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}

/// Every document of the reproduction.
pub fn documents(recordings: &[Recording]) -> Result<Vec<Document>, AdviceError> {
    reproduce::documents(recordings, &read)
}

/// A question as the service reads it, with what it says of the routing.
pub(super) fn read(request: &Value) -> Result<(Question, RoutingEvidence), AdviceError> {
    let asked =
        question::read(request.clone()).answerable(Catalog::embedded(), &References::default())?;
    let known = routing_evidence::load(&asked, Cancel::NEVER)?.known;
    Ok((asked.question, known))
}

/// The recordings of a folder that route as Mixtral does, by name.
pub fn recordings(folder: &Path) -> Result<Vec<Recording>> {
    let shown = || folder.display().to_string();
    let listed = fs::read_dir(folder).with_context(|| format!("cannot read {}", shown()))?;
    let mut paths: Vec<PathBuf> = listed
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()
        .with_context(shown)?;
    paths.sort();
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let directory = TraceDirectory::open(scratch.path())?;
    let mut found = Vec::new();
    // What is no recording by its name is none of ours.
    for path in paths.iter().filter(|path| path.is_file()) {
        let Ok(upload) = upload_of(path) else { continue };
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let summary = directory
            .ingest(file, &upload, &Limits::default())
            .with_context(|| path.display().to_string())?
            .summary;
        if (summary.experts, summary.top_k) == (MIXTRAL.0, Some(MIXTRAL.1)) {
            found.push(Recording {
                name: upload.name.unwrap_or(summary.id),
                skewness: summary.skewness.mean,
                distribution_error: summary.distribution_error,
            });
        }
    }
    Ok(found)
}
