//! The command line: every subcommand, and how an error ends the program.

pub mod advise;
mod answer_table;
mod backup;
pub mod calibrate;
pub mod catalog;
pub mod convert;
mod demo;
mod engine_metrics;
pub mod launch;
mod openapi;
pub mod place;
mod question;
mod refused;
pub mod reproduce;
pub mod serve;
pub mod sweep;
mod sweep_table;
mod token;
pub mod trace;
mod trace_report;
pub mod validate;
pub mod validate_markdown;
mod validate_outcomes;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::app::advise::CostModel;
use crate::cli::refused::Refused;
use crate::config::{Settings, Storage};
use crate::store::{DataDir, Store};
use moe_gps_core::catalog::Catalog;
use moe_gps_lab::calibrate::run::CalibrateError;
use moe_gps_lab::validate::report::ValidateError;

/// Which expert-load forecast, if any, makes a mixture-of-experts deployment faster.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve(Serve),
    /// Answer a question in a file, without a server.
    Advise(advise::Advise),
    /// Say how to start an engine so that it follows the answer to a question.
    Launch(launch::Launch),
    /// Write the question of an engine, by its command line and its metrics.
    Question(question::Question),
    /// Say which strategy wins over a grid of one or two quantities of a question.
    Sweep(sweep::Sweep),
    /// Plan where experts go for a load, and write the file an engine loads.
    Place(place::Place),
    /// Print the API description.
    Openapi {
        /// Print one line per operation instead.
        #[arg(long)]
        operations: bool,
    },
    /// Look into a routing trace without a server.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Show the catalog of models, devices and links.
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Draw the figures of the MoE-GPS paper by its formulas and calibrated, side by side.
    Reproduce(reproduce::Reproduce),
    /// Price tables of measured operators and say how far off that is.
    Validate(validate::Validate),
    /// Fit a device profile to tables of measured operators.
    Calibrate(calibrate::Calibrate),
    /// Make, list and revoke the tokens of a service, also while it runs.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Copy a data directory into an empty folder, also while a service uses it.
    Backup(backup::Places),
    /// Fill an empty data directory from a backup whose checksums hold.
    Restore(backup::Places),
    /// Create or migrate the database of a data directory, and end.
    Migrate(Storage),
}

#[derive(Debug, clap::Args)]
struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// Upload the shipped recording, ask a first question over HTTP, print its answer, and
    /// go on serving.
    #[arg(long)]
    demo: bool,
}

#[derive(Debug, Subcommand)]
enum TraceCommand {
    /// Show what a recording holds.
    Inspect(trace::Inspect),
    /// Say how uneven a recording is and what balancing could save.
    Report(trace_report::Report),
    /// Write a recording in another format.
    Convert(convert::Convert),
}

#[derive(Debug, Subcommand)]
enum CatalogCommand {
    /// List every model, device and link.
    List,
    /// Show one entry with the source of every number.
    Show {
        /// Catalog id.
        id: String,
    },
    /// Check every entry against its published figures, or files of your own.
    Check {
        /// Device files in the form of the catalog, such as `calibrate` writes, and `config.json` of
        /// models, of which it shows what is read.
        files: Vec<PathBuf>,
    },
}

/// Runs the program; errors are told on standard error. The status is 0 where it did what it was
/// told, 1 after an error, 2 for a command line that means nothing, 3 for a question or a recording
/// that is refused, and with `advise --exit-code` 4 for an answer that is no advice to follow.
#[must_use]
pub fn main() -> ExitCode {
    let command = Line::parse().command;
    let prints = !matches!(command, Command::Serve(_));
    match run(command) {
        Ok(code) => code,
        // Who reads no further, such as `head`, has what it wanted.
        Err(error) if prints && is_unread(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell a failure here to.
            let _ = writeln!(std::io::stderr(), "moe-gps: {error:#}");
            // A folder that is not there is distinguished from what can go wrong inside one.
            let no_folder = match error.downcast_ref() {
                Some(CalibrateError::Tables(inner)) => Some(inner),
                _ => error.downcast_ref(),
            };
            match no_folder {
                Some(ValidateError::NoFolder(_)) => ExitCode::from(2),
                _ if error.is::<Refused>() => ExitCode::from(3),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Whether the reader of what was printed has gone.
fn is_unread(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let json = || cause.downcast_ref::<serde_json::Error>()?.io_error_kind();
        cause.downcast_ref().map(std::io::Error::kind).or_else(json)
    };
    error.chain().any(|cause| kind(cause) == Some(ErrorKind::BrokenPipe))
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let done = match command {
        Command::Serve(serve) => {
            let ready = serve.demo.then_some(demo::start as fn(std::net::SocketAddr));
            serve::run(&serve.settings, Arc::new(CostModel), ready)
        }
        Command::Advise(command) => {
            let is_advice = advise::run(&command, &mut out)?;
            return Ok(ExitCode::from(if command.exit_code && !is_advice { 4 } else { 0 }));
        }
        Command::Reproduce(command) => reproduce::run(&command, &mut out),
        Command::Launch(command) => launch::run(&command, &mut out),
        Command::Question(command) => question::run(&command, &mut out),
        Command::Sweep(command) => sweep::run(&command, &mut out),
        Command::Place(command) => place::run(&command, &mut out),
        Command::Openapi { operations } => openapi::print(&mut out, operations),
        Command::Trace(TraceCommand::Inspect(inspect)) => trace::inspect(&inspect, &mut out),
        Command::Trace(TraceCommand::Report(report)) => trace_report::run(&report, &mut out),
        Command::Trace(TraceCommand::Convert(command)) => convert::run(&command, &mut out),
        Command::Catalog(command) => show_catalog(&command, &mut out),
        Command::Calibrate(command) => calibrate::run(&command, &mut out),
        Command::Validate(command) => validate::run(&command, &mut out),
        Command::Token(command) => token::run(&command, &mut out),
        Command::Backup(places) => backup::back_up(&places, &mut out),
        Command::Restore(places) => backup::restore(&places, &mut out),
        Command::Migrate(storage) => migrate(&storage),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn show_catalog(command: &CatalogCommand, out: &mut impl Write) -> anyhow::Result<()> {
    let catalog = Catalog::embedded()?;
    match command {
        CatalogCommand::List => catalog::list(out, catalog)?,
        CatalogCommand::Show { id } => catalog::show(out, catalog, id)?,
        CatalogCommand::Check { files } if !files.is_empty() => {
            let sound = catalog::check_files(out, files)?;
            anyhow::ensure!(sound, "a file has what does not hold");
        }
        CatalogCommand::Check { .. } => {
            let sound = catalog::check_all(out, catalog)?;
            anyhow::ensure!(sound, "the catalog has entries that do not hold");
        }
    }
    Ok(())
}

fn migrate(storage: &Storage) -> anyhow::Result<()> {
    let dir = DataDir::take(&storage.data_dir)?;
    serve::runtime()?.block_on(async {
        let store = Store::open(&dir.database(), storage).await?;
        store.allow_giving_back(None).await?;
        store.close().await;
        Ok(())
    })
}
