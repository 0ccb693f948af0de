//! `trace report FILE`: ceiling and diagnosis of a recording, without a server.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use comfy_table::{Table, presets};

use crate::app::ingest::TraceDirectory;
use crate::app::report::{self, Asked};
use crate::cli::trace::upload_of;
use crate::wire::report::TraceReport;
use moe_gps_core::cancel::Cancel;
use moe_gps_core::formats::trace::{Declared, Limits};

/// Says how uneven a recording is on N devices and what balancing could save.
#[derive(Debug, Clone, Args)]
pub(super) struct Report {
    /// The recording, as `trace inspect` takes it.
    pub(super) file: PathBuf,
    /// Expert-parallel size (EP).
    #[arg(long)]
    pub(super) devices: u32,
    /// Writes a page with charts to this file.
    #[arg(long)]
    pub(super) html: Option<PathBuf>,
    /// Prints the report as JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Tokens of a step, for a recording of routes; a 256th of it if left out.
    #[arg(long)]
    pub(super) tokens_per_step: Option<u64>,
    /// Experts of a layer; without it, 1 + the largest id.
    #[arg(long)]
    pub(super) num_experts: Option<u32>,
}

/// Runs `trace report` and writes the result to `out`.
pub(super) fn run(command: &Report, out: &mut dyn Write) -> Result<()> {
    let asked = Asked { devices: command.devices, tokens_per_step: command.tokens_per_step };
    if let Some(violation) = asked.violations().first() {
        bail!("{}", violation.detail);
    }
    let mut upload = upload_of(&command.file)?;
    upload.declared = Declared { experts: command.num_experts, top_k: None };
    let shown = command.file.display();
    let file = File::open(&command.file).with_context(|| format!("cannot open {shown}"))?;
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let directory = TraceDirectory::open(scratch.path())?;
    let kept = directory
        .ingest(file, &upload, &Limits::default())
        .with_context(|| format!("{shown}: `trace inspect` says more"))?;
    let trace = directory.open_trace(&kept.summary.id)?;
    let report = report::of(&trace, &kept.summary.id, upload.name, asked, Cancel::NEVER)?;
    if let Some(path) = &command.html {
        fs::write(path, report::html(&report))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if command.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
        return Ok(());
    }
    write_tables(&report, out)
}

fn write_tables(report: &TraceReport, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}", report.finding)?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "plan",
        "slots per device",
        "in-sample",
        "held-out",
        "worst layer",
        "expert time saved",
    ]);
    for slots in &report.slots {
        let name = match &*slots.plan {
            "contiguous" => "contiguous".to_owned(),
            plan => format!("{plan}, {} extra slots", slots.extra_slots),
        };
        table.add_row([
            name,
            slots.slots_per_device.to_string(),
            format!("{:.3}", slots.in_sample.mean),
            format!("{:.3}", slots.held_out.mean),
            format!("{:.3}", slots.held_out.worst),
            format!("{:.1} %", slots.expert_time_saved * 100.0),
        ]);
    }
    writeln!(out, "{table}")?;
    if let Some(drift) = &report.drift {
        writeln!(
            out,
            "drift between {} parts: {:.3} on average, {:.3} at most; {:.3} by chance",
            drift.parts, drift.mean, drift.most, drift.by_chance
        )?;
    }
    for warning in &report.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}
