//! `guidelines`: what to switch on today, as a page and a picture.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::app::advisor::AdviceError;
use crate::cli::reproduce::{read, write_all};
use moe_gps_lab::reproduce::Document;
use moe_gps_lab::{beyond, guidelines};

/// Writes what to switch on for models, devices and group sizes of today, as a page and an SVG, and
/// what the paper's advice costs there.
#[derive(Debug, Clone, Args)]
pub struct Guidelines {
    /// The folder to write `guidelines.md`, `guidelines.svg` and `beyond-the-paper.md` into.
    #[arg(long, default_value = "guidelines", value_name = "DIR")]
    pub out: PathBuf,
}

/// Runs `guidelines` and says on `out` what was written.
pub fn run(command: &Guidelines, out: &mut dyn Write) -> Result<()> {
    write_all(&documents()?, &command.out, out)
}

/// The pages and the picture.
pub fn documents() -> Result<Vec<Document>, AdviceError> {
    let mut documents = guidelines::documents(&read)?;
    documents.push(beyond::document(&read)?);
    Ok(documents)
}
