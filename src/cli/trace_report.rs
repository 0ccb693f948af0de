//! `trace report FILE`: ceiling and diagnosis of a recording, without a server.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::{Table, presets};

use crate::app::report::{self, Asked};
use crate::cli::advise::write_page;
use crate::cli::answer_table::wrapped;
use crate::cli::paint::{BOLD, paint};
use crate::cli::trace;
use crate::wire::report::TraceReport;
use moe_gps_core::cancel::Cancel;
use moe_gps_core::formats::trace::Cut;
use moe_gps_core::trace::checks::repeated_rows;

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
    /// What is known beside the recording.
    #[command(flatten)]
    pub(super) known: trace::Known,
}

/// Runs `trace report` and writes the result to `out`.
pub(super) fn run(command: &Report, out: &mut dyn Write) -> Result<()> {
    let asked = Asked { devices: command.devices, tokens_per_step: command.tokens_per_step };
    if let Some(violation) = asked.violations().first() {
        bail!("{}", violation.detail);
    }
    let name = command.file.file_name().map(|name| name.to_string_lossy().into_owned());
    let made = |known: trace::Known| -> Result<(TraceReport, bool)> {
        let taken = trace::take_in(&command.file, known.into())?;
        let (id, stored) = (&taken.ingested.summary.id, taken.open()?);
        let report = report::of(&stored, id, name.clone(), asked, Cancel::NEVER)?;
        Ok((report, repeated_rows(stored.header()).is_some()))
    };
    let (mut report, repeats) = made(command.known)?;
    let is_cut = Cut::from(command.known.left_out).is_any();
    if is_cut || repeats {
        let left_out = trace::LeftOut { skip: 0, drop_repeats: !is_cut };
        let (other, _) = made(trace::Known { left_out, ..command.known })?;
        let which = if is_cut { "with" } else { "without" };
        report.warnings.insert(0, format!("{which} those rows: {}", other.finding));
    }
    if let Some(path) = &command.html {
        write_page(path, &report::html(&report))?;
    }
    if command.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
        return Ok(());
    }
    write_tables(&report, out)
}

fn write_tables(report: &TraceReport, out: &mut dyn Write) -> Result<()> {
    trace::warn(&report.warnings, out)?;
    writeln!(out, "{}", paint(BOLD, wrapped(&report.finding)))?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "plan",
        "slots per\ndevice",
        "in-sample",
        "held-out",
        "worst\nlayer",
        "expert time\nsaved",
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
    Ok(())
}
