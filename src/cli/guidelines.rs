//! `guidelines`: what to switch on today, as a page and a picture.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Error, Result};
use clap::Args;

use crate::app::advisor::AdviceError;
use crate::cli::recordings::Kept;
use crate::cli::refused::Refused;
use crate::cli::reproduce::{read_with, write_all};
use moe_gps_lab::reproduce::Document;
use moe_gps_lab::{beyond, guidelines};

/// Writes what to switch on for models, devices and group sizes of today, as a page and an SVG, and
/// what the paper's advice costs there and on recorded routing.
#[derive(Debug, Clone, Args)]
pub struct Guidelines {
    /// The folder to write `guidelines.md`, `guidelines.svg` and `beyond-the-paper.md` into.
    #[arg(long, default_value = "guidelines", value_name = "DIR")]
    pub out: PathBuf,
    /// The folder of the recordings that come with the program.
    #[arg(long, default_value = "examples/traces", value_name = "DIR")]
    pub traces: PathBuf,
    /// A folder of further recordings, with `tiny-moe/` and `public/` in it; where it is absent that is
    /// said, and they are left out.
    #[arg(long, value_name = "DIR")]
    pub recordings: Option<PathBuf>,
}

/// Runs `guidelines` and says on `out` what was written.
pub fn run(command: &Guidelines, out: &mut dyn Write) -> Result<()> {
    write_all(&documents(command)?, &command.out, out)
}

/// The pages and the picture.
pub fn documents(command: &Guidelines) -> Result<Vec<Document>> {
    let kept = Kept::new(&command.traces, command.recordings.as_deref())?;
    let read = |request: &_| read_with(&kept.references, request);
    let made = || -> Result<_, AdviceError> {
        let mut documents = guidelines::documents(&read)?;
        documents.push(beyond::document(&kept.recordings, &read)?);
        Ok(documents)
    };
    made().map_err(|error| match error {
        AdviceError::Refused(found) => Refused::new("a question of the guidelines", found).into(),
        other => Error::from(other),
    })
}
