//! The command line: every subcommand, and how an error ends the program.

pub mod catalog;
mod openapi;
pub mod serve;
pub mod trace;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Storage;
use crate::store::{DataDir, Store};

/// Which expert-load forecast, if any, makes a mixture-of-experts deployment faster.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the API description.
    Openapi {
        /// Print one line per operation instead.
        #[arg(long)]
        operations: bool,
    },
    /// Create or migrate the database of a data directory, and end.
    Migrate(Storage),
}

/// Runs the program; an error is one line on standard error and a status that is not 0.
#[must_use]
pub fn main() -> ExitCode {
    match run(Line::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell a failure here to.
            let _ = writeln!(std::io::stderr(), "moe-gps: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Openapi { operations } => openapi::print(&mut std::io::stdout(), operations),
        Command::Migrate(storage) => migrate(&storage),
    }
}

fn migrate(storage: &Storage) -> anyhow::Result<()> {
    let dir = DataDir::take(&storage.data_dir)?;
    serve::runtime()?.block_on(async {
        let store = Store::open(&dir.database(), storage).await?;
        store.close().await;
        Ok(())
    })
}
