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
use crate::cli::refused::Refused;
use crate::cli::trace::upload_of;
use moe_gps_core::cancel::Cancel;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::trace::Limits;
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::question::Question;
use moe_gps_lab::reproduce::{self, Added, Document, Recording};
use serde::de::DeserializeOwned;
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
    /// Points of one's own predictors, a JSON array of objects: `data_set`, its `skewness` and
    /// `distribution_error`, `predictor`, `metric` (`per_choice` where left out), `accuracy`, and
    /// `overhead_s`, seconds a layer. Those of the predictor `ffn` also say how accuracy changes with
    /// skewness.
    #[arg(long, value_name = "FILE")]
    pub points: Option<PathBuf>,
    /// Measured times of Mixtral's layer, a JSON object as `measured_layer` of a question, in place of
    /// those that we computed and of the laws.
    #[arg(long, value_name = "FILE")]
    pub layer: Option<PathBuf>,
    /// Counts of Mixtral's experts to set beside the paper's data sets, JSON `{"counts": {data set:
    /// [layer][expert]}}`; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub counts: Vec<PathBuf>,
}

impl Reproduce {
    /// What is set beside the paper's figures, read from the files that are named.
    pub fn added(&self) -> Result<Added> {
        let mut counted = Vec::new();
        for path in &self.counts {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let found = reproduce::counted(&name, &text(path)?);
            counted.extend(found.with_context(|| path.display().to_string())?);
        }
        Ok(Added {
            recordings: self.traces.as_deref().map_or_else(|| Ok(Vec::new()), recordings)?,
            points: self.points.as_deref().map_or_else(|| Ok(Vec::new()), parsed)?,
            layer: self.layer.as_deref().map(parsed).transpose()?,
            counted,
        })
    }
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&text(path)?).with_context(|| path.display().to_string())
}

/// Runs `reproduce` and says on `out` what was written.
pub fn run(command: &Reproduce, out: &mut dyn Write) -> Result<()> {
    let documents = documents(&command.added()?).map_err(|error| match error {
        AdviceError::Refused(found) => Refused::new("what is set beside the figures", found).into(),
        other => anyhow::Error::from(other),
    })?;
    write_all(&documents, &command.out, out)
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
pub fn documents(added: &Added) -> Result<Vec<Document>, AdviceError> {
    reproduce::documents(added, &read)
}

/// A question as the service reads it, with what it says of the routing.
fn read(request: &Value) -> Result<(Question, RoutingEvidence), AdviceError> {
    read_with(&References::default(), request)
}

/// The same of a question that names recordings.
pub(super) fn read_with(
    references: &References,
    request: &Value,
) -> Result<(Question, RoutingEvidence), AdviceError> {
    let mut asked = question::read(request.clone()).answerable(Catalog::embedded(), references)?;
    let known = routing_evidence::load(&asked, Cancel::NEVER)?.known;
    if let Some(skewness) = known.mean_skewness() {
        asked.question.predict_at(skewness);
    }
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
