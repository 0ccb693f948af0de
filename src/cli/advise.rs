//! `advise FILE`: a question in a file, answered without a server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::app::advise;
use crate::app::advisor::{Advice, AdviceError, KnownTraces, Progress};
use crate::app::ingest::TraceDirectory;
use crate::app::plan_file::{self, MOUNT};
use crate::app::question;
use crate::app::references::References;
use crate::cli::refused::Refused;
use crate::cli::{answer_table, trace};
use crate::web::answer::Answer;
use crate::web::ask::EXAMPLES;
use crate::wire::answer::{Recommendation, ResultBody};
use crate::wire::loose::{self, Loose};
use moe_gps_core::formats::trace::{Declared, Limits};
use moe_gps_lab::calibrate::run::device_document;

/// A question in a file, with what it is about.
#[derive(Debug, Clone, Args)]
pub struct Asked {
    /// The question as JSON, as it would be posted; `-` reads standard input.
    #[arg(required_unless_present = "example")]
    pub file: Option<PathBuf>,
    /// Asks a question of `examples/questions/` instead, and prints it on standard error.
    #[arg(
        long, value_name = "NAME", conflicts_with = "file", num_args = 0..=1, require_equals = true,
        default_missing_value = EXAMPLES[0].0, value_parser = EXAMPLES.map(|(name, ..)| name)
    )]
    pub example: Option<String>,
    /// A recording that plans and scores; it becomes the question's `routing.trace_id`. Given
    /// several times, one plan is made for all of them (`routing.trace_ids`).
    #[arg(long)]
    pub trace: Vec<PathBuf>,
    /// A second recording that scores what the first has planned.
    #[arg(long, requires = "trace")]
    pub holdout: Option<PathBuf>,
    /// What is left out of the recordings.
    #[command(flatten)]
    pub left_out: trace::LeftOut,
    /// A token embedding (.npy, `[vocabulary, dim]`) of the recording's model, for learned
    /// predictors to fit.
    #[arg(long, requires = "trace")]
    pub embedding: Option<PathBuf>,
    /// A device file in the form of the catalog, such as `calibrate` writes; it becomes the
    /// question's `cluster.device`.
    #[arg(long, value_name = "FILE")]
    pub device: Option<PathBuf>,
}

/// Answers a question without a server.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "every one is a flag")]
pub struct Advise {
    #[command(flatten)]
    asked: Asked,
    /// Shows every strategy, also those that no engine runs.
    #[arg(long)]
    pub all: bool,
    /// Writes the answer as a page with charts to this file, which needs nothing beside itself.
    #[arg(long, value_name = "OUT")]
    pub html: Option<PathBuf>,
    /// Prints the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// Prints the placement plan as JSON instead.
    #[arg(long, conflicts_with = "json")]
    pub placement: bool,
    /// Ends with status 4 where nothing can be run, or the evidence is insufficient.
    #[arg(long)]
    pub exit_code: bool,
}

/// Verdicts that no deployment should follow by itself.
const OPEN_VERDICTS: [&str; 2] = ["insufficient_evidence", "cannot_run"];

/// Shows a bar on a terminal.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn report(&self, done: f64, phase: &'static str) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        self.0.set_position((done.clamp(0.0, 1.0) * 1000.0) as u64);
        self.0.set_message(phase);
    }
}

/// An answer with its question.
pub(super) struct Answered {
    pub(super) advice: Advice,
    /// The question as it was understood.
    request: Value,
    /// The ids that the recordings got.
    ids: Vec<String>,
}

impl Asked {
    /// What is asked, as the file or the example has it.
    fn question(&self) -> Result<Value> {
        if let Some(file) = &self.file {
            return read(file);
        }
        let example = EXAMPLES.iter().find(|(name, ..)| Some(*name) == self.example.as_deref());
        let (name, _, text) = example.context("there is no such example")?;
        writeln!(std::io::stderr(), "examples/questions/{name}.json:\n{}\n", text.trim_end())?;
        Ok(serde_json::from_str(text)?)
    }

    /// The answer.
    pub(super) fn answer(&self) -> Result<Answered> {
        let mut request = self.question()?;
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let directory = TraceDirectory::open(scratch.path())?;
        let mut traces = KnownTraces::new();
        let mut ids = Vec::with_capacity(self.trace.len());
        for path in &self.trace {
            ids.push(take_in(&directory, path, self.left_out, &mut traces)?);
        }
        if let Some(table) = &self.embedding {
            for id in &ids {
                let file = File::open(table)
                    .with_context(|| format!("cannot open {}", table.display()))?;
                let digest = directory
                    .ingest_embedding(id, file, None, &Limits::default())
                    .with_context(|| table.display().to_string())?;
                traces.insert(id.clone(), directory.facts(id, Some(&digest))?);
            }
        }
        let routing = match &ids[..] {
            [] => None,
            [id] => Some(json!({"trace_id": id})),
            several => Some(json!({"trace_ids": several})),
        };
        if let (Some(mut routing), Some(fields)) = (routing, request.as_object_mut()) {
            if let Some(path) = &self.holdout {
                routing["holdout_trace_id"] =
                    take_in(&directory, path, self.left_out, &mut traces)?.into();
            }
            fields.insert("routing".to_owned(), routing);
        }
        if let Some(file) = &self.device {
            let cluster = request.get_mut("cluster").and_then(Value::as_object_mut);
            let cluster = cluster.context("the question has no cluster to put the device into")?;
            cluster.insert("device".to_owned(), device_document(file)?);
        }
        let bar = Bar(bar());
        let references = References { traces, ..References::default() };
        let answered = advise::check(question::read(request), &references).and_then(|question| {
            let advice = (question.work)(&bar)?;
            Ok((advice, question.request))
        });
        bar.0.finish_and_clear();
        let (advice, request) = match answered {
            Ok(answered) => answered,
            Err(AdviceError::Refused(violations)) => {
                return Err(Refused::new("the question", violations).into());
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Answered { advice, request, ids })
    }
}

/// Runs `advise` and writes the answer to `out`; whether it is advice to follow.
pub fn run(command: &Advise, out: &mut dyn Write) -> Result<bool> {
    let Answered { advice, request, ids } = command.asked.answer()?;
    let result: ResultBody = serde_json::from_str(advice.result.get())?;
    if let Some(path) = &command.html {
        let plan = advice.placement.as_ref().map(|plan| plan.get());
        let launches =
            plan.map(|plan| plan_file::launches(plan, "placement", MOUNT)).transpose()?;
        let answer = Answer {
            id: None,
            labels: BTreeMap::default(),
            asked: None,
            request: &request,
            result: &result,
            plan,
            outcomes: &[],
            launches: launches.as_deref().unwrap_or_default(),
        };
        write_page(path, &answer.alone())?;
    }
    if command.placement {
        let plan = advice.placement.context("the recommended strategy has no placement plan")?;
        serde_json::to_writer_pretty(&mut *out, &plan)?;
        writeln!(out)?;
    } else if command.json {
        serde_json::to_writer_pretty(&mut *out, &advice.result)?;
        writeln!(out)?;
    } else {
        if ids.len() > 1 {
            for (id, path) in ids.iter().zip(&command.asked.trace) {
                writeln!(out, "trace {id}: {}", path.display())?;
            }
            writeln!(out)?;
        }
        answer_table::write(out, &result, command.all)?;
    }
    let Recommendation { verdict, strategy, .. } = &result.recommendation;
    Ok(strategy.is_some() && !OPEN_VERDICTS.contains(&&**verdict))
}

/// Writes a page to a file, and says so where it does not disturb what is printed.
pub(super) fn write_page(path: &Path, page: &str) -> Result<()> {
    std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(std::io::stderr(), "wrote {}", path.display())?;
    Ok(())
}

/// A question from a file, or from standard input for `-`.
pub(super) fn read(path: &PathBuf) -> Result<Value> {
    let mut text = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut text).context("cannot read standard input")?;
    } else {
        File::open(path)
            .and_then(|mut file| file.read_to_end(&mut text))
            .with_context(|| format!("cannot read {}", path.display()))?;
    }
    loose::parse(&text, Loose::InModel).with_context(|| {
        format!("{} is not JSON, as a question is (a recording goes with --trace)", path.display())
    })
}

/// Takes a recording in and says what a question may know of it.
fn take_in(
    directory: &TraceDirectory,
    path: &Path,
    left_out: trace::LeftOut,
    traces: &mut KnownTraces,
) -> Result<String> {
    let declared = Declared { cut: left_out.into(), ..Declared::default() };
    let ingested = trace::ingest(directory, path, declared)?;
    let id = ingested.summary.id;
    traces.insert(id.clone(), directory.facts(&id, None)?);
    Ok(id)
}

/// A bar where somebody watches, else nothing.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{msg:10} {bar:40} {percent:>3} % {elapsed}") {
        bar.set_style(style);
    }
    bar
}
