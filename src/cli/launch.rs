//! `launch FILE`: how to start an engine so that it follows the answer to a question.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::app::error::AppError;
use crate::app::plan_file::{self, MOUNT};
use crate::cli::advise::Asked;
use crate::cli::refused::Refused;

/// Says how to start an engine so that it follows the answer to a question.
#[derive(Debug, Clone, Args)]
pub struct Launch {
    #[command(flatten)]
    asked: Asked,
    /// The engine; that of the question if left out.
    #[arg(long)]
    engine: Option<String>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Shell)]
    format: Format,
    /// Writes the placement file that the engine loads; it is loaded from there.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// JSON with the arguments one by one, and all beside them.
    Argv,
    /// One quoted line.
    Shell,
    /// The fragment of an engine that is configured in YAML.
    Yaml,
}

fn told(error: AppError) -> anyhow::Error {
    match error {
        AppError::Refused(violations) => Refused::new("the launch", violations).into(),
        other => other.into(),
    }
}

/// Runs `launch`.
pub fn run(command: &Launch, out: &mut dyn Write) -> Result<()> {
    let advice = command.asked.answer()?.advice;
    let plan = advice.placement.context("there is no plan to follow: see `advise`")?;
    let path = command.write.as_ref().map_or(MOUNT.into(), |path| path.to_string_lossy());
    let engine = command.engine.as_deref();
    let launch = plan_file::launch(plan.get(), engine, "placement", &path).map_err(told)?;
    if let (Some(file), Some(_)) = (&command.write, &launch.placement) {
        let text = plan_file::of_engine(plan.get(), &launch.engine).map_err(told)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    match command.format {
        Format::Argv => writeln!(out, "{}", serde_json::to_string_pretty(&launch)?)?,
        Format::Shell if !launch.shell.is_empty() => writeln!(out, "{}", launch.shell)?,
        Format::Shell if launch.yaml.is_some() => {
            bail!("{} is configured in YAML; ask with --format yaml", launch.engine)
        }
        // Standard output is pasted: an empty one changes nothing.
        Format::Shell => {
            writeln!(std::io::stderr(), "{}: nothing is to be changed", launch.engine)?;
        }
        Format::Yaml => {
            let yaml = launch.yaml.with_context(|| {
                format!("{} takes no YAML for this; ask with --format shell", launch.engine)
            })?;
            write!(out, "{yaml}")?;
        }
    }
    Ok(())
}
