//! `calibrate DIR`: a device profile fitted to a folder of measurements.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::app::clock::now_ms;
use crate::cli::validate::{or_dash, percent, signed, table};
use crate::wire::time::Moment;
use moe_gps_lab::calibrate::run::{Calibrated, Order, Residual, run as calibrate};

/// Fits the constants of the laws to measurements of one device.
#[derive(Debug, Clone, Args)]
pub struct Calibrate {
    /// The folder: an `operators.csv` (see docs/calibrating.md), or tables `validate` knows.
    pub dir: PathBuf,
    /// The catalog file to write; without it the file goes to standard output.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// The device whose rows count, as the tables name it, where they measure several.
    #[arg(long)]
    pub device: Option<String>,
    /// Catalog id or catalog file that gives the datasheet and what is not measured;
    /// by default the measured device's own.
    #[arg(long)]
    pub base: Option<String>,
    /// Id of the new profile.
    #[arg(long)]
    pub id: Option<String>,
    /// Where the measurements come from, in words; it stands in the file.
    #[arg(long)]
    pub source: Option<String>,
    /// Writes every row with its error as comma-separated values.
    #[arg(long, value_name = "FILE")]
    pub residuals: Option<PathBuf>,
    /// The day that stands in the file; today by default.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<jiff::civil::Date>,
}

/// Runs `calibrate`: the profile to a file, the report to `out`, or the profile to `out`.
pub fn run(command: &Calibrate, out: &mut dyn Write) -> Result<()> {
    let order = Order {
        device: command.device.clone(),
        base: command.base.clone(),
        id: command.id.clone(),
        source: command.source.clone(),
        date: command.date.map_or_else(today, |date| date.to_string()),
    };
    let found = calibrate(&command.dir, &order)?;
    if let Some(file) = &command.residuals {
        std::fs::write(file, residuals(&found.residuals))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let Some(file) = &command.out else {
        write_report(&found, &mut std::io::stderr())?;
        return Ok(out.write_all(found.text.as_bytes())?);
    };
    std::fs::write(file, &found.text)
        .with_context(|| format!("cannot write {}", file.display()))?;
    write_report(&found, out)?;
    writeln!(out, "\nwritten to {}", file.display())?;
    Ok(())
}

/// The day in UTC, ISO 8601.
fn today() -> String {
    Moment(now_ms()).to_string().chars().take("2026-11-24".len()).collect()
}

fn write_report(found: &Calibrated, out: &mut dyn Write) -> Result<()> {
    let header = ["law", "measured", "rows", "before", "held-out", "fitted", "signed"];
    let mut table = table(&header, 2);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    for line in &found.lines {
        table.add_row([
            line.law.clone(),
            line.software.clone(),
            line.errors.rows.to_string(),
            or_dash(line.before.map(|errors| errors.mean), percent),
            or_dash(line.held_out.map(|errors| errors.mean), percent),
            percent(line.errors.mean),
            signed(line.errors.signed_mean),
        ]);
    }
    writeln!(
        out,
        "mean errors in percent: of the base's constants before, of new ones on shapes\n\
         that their fit had not seen (held-out), and on the rows they were fitted to\n\n{}",
        table.trim_fmt()
    )?;
    for (why, rows) in &found.left_out.0 {
        writeln!(out, "left out {rows} rows: {why}")?;
    }
    for (name, why) in &found.skipped {
        writeln!(out, "skipped {name}: {why}")?;
    }
    Ok(())
}

fn residuals(rows: &[Residual]) -> String {
    let mut text = "table,line,op,measured,measured_s,error,held_out_error\n".to_owned();
    for row in rows {
        let held_out = row.held_out_error.map_or_else(String::new, |error| format!("{error:.4}"));
        let Residual { table, line, op, software, measured_s, error, .. } = row;
        // Writing to a string cannot fail.
        let _ = std::fmt::Write::write_fmt(
            &mut text,
            format_args!("{table},{line},{op},{software},{measured_s:e},{error:.4},{held_out}\n"),
        );
    }
    text
}
