//! The command line: every subcommand, and how an error ends the program.

pub mod advise;
mod answer_table;
mod backup;
pub mod calibrate;
pub mod catalog;
mod client;
pub mod convert;
mod demo;
mod deployment;
mod engine_metrics;
mod fetch;
pub mod guidelines;
mod health;
pub mod launch;
pub mod make;
mod manual;
mod openapi;
mod paint;
pub mod place;
mod question;
mod recordings;
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

use clap::{CommandFactory, Parser, Subcommand};

use crate::app::advise::CostModel;
use crate::cli::refused::Refused;
use crate::config::{Settings, Storage};
use crate::store::{DataDir, Store};
use moe_gps_core::catalog::Catalog;
use moe_gps_lab::calibrate::run::CalibrateError;
use moe_gps_lab::validate::report::ValidateError;

/// Which expert-load forecast, if any, makes a mixture-of-experts deployment faster.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = usize::from(answer_table::WIDTH))]
struct Line {
    /// When to colour what is printed.
    #[arg(long, global = true, value_enum, default_value_t = paint::When::Auto)]
    color: paint::When,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    #[command(
        after_help = "Examples:\n  moe-gps serve --demo\n  moe-gps serve --listen 127.0.0.1:8080 --data-dir ./data"
    )]
    Serve(Serve),
    /// Answer a question in a file, without a server.
    #[command(
        after_help = "Examples:\n  moe-gps advise examples/questions/serving-qwen3-h100.json\n  moe-gps advise examples/questions/mixtral-h100.json \\\n      --trace examples/traces/mixtral_like_e8k2.python.test.npz\n  moe-gps advise question.json --html answer.html\n  moe-gps advise --example\n  moe-gps advise --example=paper-mixtral-a100"
    )]
    Advise(advise::Advise),
    /// Say how to start an engine so that it follows the answer to a question.
    #[command(
        after_help = "Examples:\n  moe-gps launch examples/questions/map-in-force.json --write placement.json"
    )]
    Launch(launch::Launch),
    /// Write the question of an engine, by its command line and its metrics.
    #[command(
        after_help = "Examples:\n  moe-gps question --device h100-sxm \\\n      --from-args 'vllm serve Qwen/Qwen3-235B-A22B -tp 8 --enable-expert-parallel'"
    )]
    Question(question::Question),
    /// Say which strategy wins over a grid of one or two quantities of a question.
    #[command(
        after_help = "Examples:\n  moe-gps sweep examples/questions/paper-mixtral-a100.json \\\n      --axis skewness=1:3:21\n  moe-gps sweep question.json --axis skewness=1:3:21 \\\n      --axis link_bandwidth_bytes_per_s=1e10:1e12:16:log --svg map.svg"
    )]
    Sweep(sweep::Sweep),
    /// Plan where experts go for a load, and write the file an engine loads.
    #[command(
        after_help = "Examples:\n  moe-gps place examples/traces/mixtral_like_e8k2.python.test.npz \\\n      --devices 4 --slots-per-device 3 --format sglang"
    )]
    Place(place::Place),
    /// Print the API description.
    #[command(after_help = "Examples:\n  moe-gps openapi --operations")]
    Openapi {
        /// Print one line per operation instead.
        #[arg(long)]
        operations: bool,
    },
    /// Look into a routing trace without a server.
    #[command(subcommand)]
    #[command(
        after_help = "Examples:\n  moe-gps trace inspect recording.npz\n  moe-gps trace report recording.npz --devices 8 --html report.html"
    )]
    Trace(TraceCommand),
    /// Show the catalog of models, devices and links.
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  moe-gps catalog list\n  moe-gps catalog show h200-sxm")]
    Catalog(CatalogCommand),
    /// Draw the figures of the MoE-GPS paper by its formulas and calibrated, side by side.
    #[command(after_help = "Examples:\n  moe-gps reproduce --out figures")]
    Reproduce(reproduce::Reproduce),
    /// Say what to switch on for models, devices and group sizes of today, on one page.
    #[command(after_help = "Examples:\n  moe-gps guidelines --out docs")]
    Guidelines(guidelines::Guidelines),
    /// Price tables of measured operators and say how far off that is.
    #[command(after_help = "Examples:\n  moe-gps validate measurements --svg laws.svg")]
    Validate(validate::Validate),
    /// Fit a device profile to tables of measured operators.
    #[command(
        after_help = "Examples:\n  moe-gps calibrate tables --id my-gpu --base h200-sxm --out my-gpu.toml"
    )]
    Calibrate(calibrate::Calibrate),
    /// Say whether the running service is ready: status 0 if it is, else 1 and why not.
    #[command(
        after_help = "Examples:\n  moe-gps health --data-dir ./data\n  moe-gps health --address 127.0.0.1:8080"
    )]
    Health(health::Health),
    /// Tell a service what runs, post its loads, and see what is found.
    #[command(subcommand)]
    #[command(
        after_help = "Examples:\n  moe-gps deployment put prod question.json --for 30m --every 1m\n  moe-gps deployment loads prod window.npz --wait\n  moe-gps deployment current prod placement.json"
    )]
    Deployment(deployment::DeploymentCommand),
    /// Follow deployments and print every change of a condition.
    #[command(after_help = "Examples:\n  moe-gps watch prod\n  moe-gps watch --once")]
    Watch(deployment::Watch),
    /// Make, list and revoke the tokens of a service, also while it runs.
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  moe-gps token create --name ci --scope ask")]
    Token(token::TokenCommand),
    /// Copy a data directory into an empty folder, also while a service uses it.
    #[command(after_help = "Examples:\n  moe-gps backup --data-dir ./data /backups/moe-gps")]
    Backup(backup::Places),
    /// Fill an empty data directory from a backup whose checksums hold.
    #[command(after_help = "Examples:\n  moe-gps restore --data-dir ./data /backups/moe-gps")]
    Restore(backup::Places),
    /// Create or migrate the database of a data directory, and end.
    #[command(after_help = "Examples:\n  moe-gps migrate --data-dir ./data")]
    Migrate(Storage),
    /// Print what a shell completes.
    #[command(
        after_help = "Examples:\n  moe-gps completions bash > /etc/bash_completion.d/moe-gps"
    )]
    Completions(manual::Completions),
    /// Print the manual page, or write those of all commands.
    #[command(after_help = "Examples:\n  moe-gps man --out man1")]
    Man(manual::Manual),
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
    #[command(
        after_help = "Examples:\n  moe-gps trace inspect recording.npz\n  moe-gps trace inspect dump.jsonl --num-experts 128 --top-k 8"
    )]
    Inspect(trace::Inspect),
    /// Say how uneven a recording is and what balancing could save.
    #[command(
        after_help = "Examples:\n  moe-gps trace report recording.npz --devices 8\n  moe-gps trace report recording.npz --devices 8 --html report.html"
    )]
    Report(trace_report::Report),
    /// Write a recording in another format.
    #[command(after_help = "Examples:\n  moe-gps trace convert recording.npz --to npz routes.npz")]
    Convert(convert::Convert),
    /// Write loads that nobody recorded, in a named pattern.
    #[command(
        override_usage = "moe-gps trace make PATTERN --layers L --experts E --top-k K [OPTIONS]",
        after_help = "Examples:\n  moe-gps trace make hot-set --layers 26 --experts 64 --top-k 6 --out loads"
    )]
    Make(make::Make),
}

#[derive(Debug, Subcommand)]
enum CatalogCommand {
    /// List every model, device and link.
    #[command(after_help = "Examples:\n  moe-gps catalog list\n  moe-gps catalog list --json")]
    List {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one entry with the source of every number.
    #[command(
        after_help = "Examples:\n  moe-gps catalog show h200-sxm\n  moe-gps catalog show mixtral-8x7b --json"
    )]
    Show {
        /// Catalog id.
        id: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check every entry against its published figures, or files of your own.
    #[command(
        after_help = "Examples:\n  moe-gps catalog check\n  moe-gps catalog check my-gpu.toml config.json"
    )]
    Check {
        /// Device files in the form of the catalog, such as `calibrate` writes, and `config.json` of
        /// models, of which it shows what is read.
        files: Vec<PathBuf>,
    },
}

/// Runs the program; errors are told on standard error. The status is 0 where it did what it was
/// told, 1 after an error, 2 for a command line that means nothing, 3 for a question or a recording
/// that is refused, and with `advise --exit-code` 4 for an answer that is no advice to follow, with
/// `watch --once` for a map that is no longer right.
#[must_use]
pub fn main() -> ExitCode {
    let Line { color, command } = Line::parse();
    paint::decide(color);
    let prints = !matches!(command, Command::Serve(_));
    match run(command) {
        Ok(code) => code,
        // Who reads no further, such as `head`, has what it wanted.
        Err(error) if prints && is_unread(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell a failure here to.
            let _ = writeln!(std::io::stderr(), "moe-gps: {}", told(&error));
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

/// An error with its causes; some texts have that of their cause in them, which is told once.
fn told(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.ends_with(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
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
        Command::Guidelines(command) => guidelines::run(&command, &mut out),
        Command::Launch(command) => launch::run(&command, &mut out),
        Command::Question(command) => question::run(&command, &mut out),
        Command::Sweep(command) => sweep::run(&command, &mut out),
        Command::Place(command) => place::run(&command, &mut out),
        Command::Openapi { operations } => openapi::print(&mut out, operations),
        Command::Trace(TraceCommand::Inspect(inspect)) => trace::inspect(&inspect, &mut out),
        Command::Trace(TraceCommand::Report(report)) => trace_report::run(&report, &mut out),
        Command::Trace(TraceCommand::Convert(command)) => convert::run(&command, &mut out),
        Command::Trace(TraceCommand::Make(command)) => make::run(&command, &mut out),
        Command::Deployment(command) => deployment::run(&command, &mut out),
        Command::Watch(command) => {
            let is_right = deployment::watch(&command, &mut out)?;
            return Ok(ExitCode::from(if is_right { 0 } else { 4 }));
        }
        Command::Catalog(command) => show_catalog(&command, &mut out),
        Command::Calibrate(command) => calibrate::run(&command, &mut out),
        Command::Validate(command) => validate::run(&command, &mut out),
        Command::Health(command) => health::run(&command, &mut out),
        Command::Token(command) => token::run(&command, &mut out),
        Command::Backup(places) => backup::back_up(&places, &mut out),
        Command::Restore(places) => backup::restore(&places, &mut out),
        Command::Migrate(storage) => migrate(&storage),
        Command::Completions(asked) => {
            manual::completions(&asked, Line::command(), &mut out);
            Ok(())
        }
        Command::Man(asked) => manual::man(&asked, Line::command(), &mut out),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn show_catalog(command: &CatalogCommand, out: &mut impl Write) -> anyhow::Result<()> {
    let catalog = Catalog::embedded();
    match command {
        CatalogCommand::List { json: false } => catalog::list(out, catalog)?,
        CatalogCommand::List { json: true } => catalog::list_json(out, catalog)?,
        CatalogCommand::Show { id, json: false } => catalog::show(out, catalog, id)?,
        CatalogCommand::Show { id, json: true } => catalog::show_json(out, catalog, id)?,
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
    let _dir = DataDir::take(&storage.data_dir)?.with(storage)?;
    serve::runtime()?.block_on(async {
        let store = Store::open(storage).await?;
        store.allow_giving_back(None).await?;
        store.close().await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that does something, with the words that lead to it.
    fn commands(command: &clap::Command) -> Vec<clap::Command> {
        command.get_subcommands().filter(|one| one.get_name() != "help").cloned().collect()
    }

    #[test]
    fn every_command_has_examples_that_are_command_lines() {
        let with_path = |path: Vec<String>, of: &clap::Command| {
            let under = |one: clap::Command| {
                (path.iter().cloned().chain([one.get_name().to_owned()]).collect::<Vec<_>>(), one)
            };
            commands(of).into_iter().map(under).collect::<Vec<_>>()
        };
        let mut open = with_path(Vec::new(), &Line::command());
        while let Some((path, command)) = open.pop() {
            open.extend(with_path(path.clone(), &command));
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            // A long one goes on in the next line.
            let help = help.replace("\\\n", " ");
            let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  ")).collect();
            assert!(!examples.is_empty(), "{path:?} has no example");
            for example in examples {
                let shown = example.split(" > ").next().unwrap();
                let words = shlex::split(shown).unwrap();
                assert_eq!(words[1..=path.len()], path);
                if let Err(error) = Line::try_parse_from(&words) {
                    panic!("{example}: {error}");
                }
            }
        }
    }

    #[test]
    fn completions_and_manuals_know_every_command() {
        let dir = tempfile::tempdir().unwrap();
        let shells = ["bash", "zsh", "fish"].map(|shell| {
            let Command::Completions(asked) =
                Line::parse_from(["moe-gps", "completions", shell]).command
            else {
                panic!("completions")
            };
            let mut text = Vec::new();
            manual::completions(&asked, Line::command(), &mut text);
            String::from_utf8(text).unwrap()
        });
        let folder = dir.path().to_str().unwrap();
        let Command::Man(asked) = Line::parse_from(["moe-gps", "man", "--out", folder]).command
        else {
            panic!("man")
        };
        manual::man(&asked, Line::command(), &mut Vec::new()).unwrap();
        for command in commands(&Line::command()) {
            let name = command.get_name();
            assert!(shells.iter().all(|text| text.contains(name)), "{name}");
            assert!(dir.path().join(format!("moe-gps-{name}.1")).exists(), "{name}");
        }
    }
}
