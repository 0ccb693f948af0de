//! `validate DIR`: how far the shipped profiles are from tables of measurements.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use crate::cli::answer_table::{indented, set_in, wrapped};
use crate::cli::validate_markdown::markdown;
use crate::cli::validate_outcomes;
use moe_gps_lab::drawings::drawings;
use moe_gps_lab::validate::layers::{Layer, Rule, rules, term_errors};
use moe_gps_lab::validate::report::{Errors, Report, ReportGroup, TableSummary, validate};

/// Prices every row of every known table in a folder and says how far off that is.
#[derive(Debug, Clone, Args)]
pub struct Validate {
    /// The folder: tables of measured operators by their file names, `.csv` or `.csv.gz`. Or a file of
    /// recommendations with outcomes, as `GET /v1/recommendations` exports them: forecasts against
    /// what was measured, per strategy.
    pub dir: PathBuf,
    /// Prints one JSON object per line instead.
    #[arg(long)]
    pub json: bool,
    /// Writes the result into the generated part of a Markdown file instead.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub markdown: Option<PathBuf>,
    /// Draws every law over its sizes, with the measured points, into a folder instead.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "markdown"])]
    pub svg: Option<PathBuf>,
}

/// Runs `validate`; the errors it finds are its answer, not its failure.
pub fn run(command: &Validate, out: &mut dyn Write) -> Result<()> {
    if command.dir.is_file() {
        anyhow::ensure!(
            command.svg.is_none() && command.markdown.is_none(),
            "{} is a file of outcomes; --svg and --markdown need a folder of tables",
            command.dir.display()
        );
        return validate_outcomes::run(&command.dir, command.json, out);
    }
    if let Some(folder) = &command.svg {
        return draw(&command.dir, folder, out);
    }
    let report = validate(&command.dir)?;
    let mut aside = std::io::stderr();
    if command.json {
        for group in &report.groups {
            serde_json::to_writer(&mut *out, &group.line)?;
            writeln!(out)?;
        }
        for line in report.layers.iter().flat_map(Layer::lines) {
            serde_json::to_writer(&mut *out, &line)?;
            writeln!(out)?;
        }
        return write_leftovers(&report, &mut aside);
    }
    if let Some(file) = &command.markdown {
        write_into(file, &markdown(&report))?;
        return write_leftovers(&report, &mut aside);
    }
    write_tables(&report, out)?;
    write_layers(&report.layers, out)?;
    write_leftovers(&report, out)
}

/// Layers, predicted against measured: gains, whether the advice was right, terms, and what rules cost.
fn write_layers(layers: &[Layer], out: &mut dyn Write) -> Result<()> {
    if layers.is_empty() {
        return Ok(());
    }
    let header = ["layer", "strategy", "predicted", "measured", "advice", "regret %"];
    let mut gains = table(&header, 2);
    for line in layers.iter().flat_map(Layer::lines) {
        let gain = |gain: f64| format!("{gain:.3}");
        let (predicted, measured) = (gain(line.predicted_gain), gain(line.measured_gain));
        let advice = line.advised.unwrap_or_else(|| "–".to_owned());
        let regret = or_dash(line.regret, percent);
        gains.add_row([line.layer, line.strategy, predicted, measured, advice, regret]);
    }
    if let Some(column) = gains.column_mut(4) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    let mut terms = table(&["term", "layers", "mean %", "signed", "most"], 1);
    for (term, errors) in term_errors(layers) {
        let (mean, most) = (percent(errors.mean), percent(errors.max));
        terms.add_row([term, errors.rows.to_string(), mean, signed(errors.signed_mean), most]);
    }
    writeln!(
        out,
        "\nwhole layers: how much faster than without a strategy, and how much longer the\nadvised one \
         takes than the fastest that was measured\n\n{}\n\nterms without a strategy, predicted / \
         measured - 1\n\n{}",
        gains.trim_fmt(),
        terms.trim_fmt()
    )?;
    let rules = rules(layers);
    if !rules.is_empty() {
        let mut costs = table(&["rule", "layers", "mean regret %", "most"], 1);
        for Rule { name, layers, mean, most } in rules {
            costs.add_row([name, layers.to_string(), percent(mean), percent(most)]);
        }
        writeln!(out, "\nwhat a rule costs, by measured times\n\n{}", costs.trim_fmt())?;
    }
    Ok(())
}

/// Writes every drawing and says by how much its laws fall at most.
fn draw(tables: &Path, folder: &Path, out: &mut dyn Write) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for drawing in drawings(tables)? {
        let path = folder.join(&drawing.file);
        std::fs::write(&path, drawing.svg)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let fall = percent(drawing.fall);
        writeln!(out, "{}: largest fall of a law with size {fall} %", path.display())?;
    }
    Ok(())
}

/// Where the generated part of a Markdown file begins.
pub const BEGIN: &str = "<!-- validate:begin -->\n";

/// Where it ends.
pub const END: &str = "<!-- validate:end -->";

/// Replaces what stands between the two marks of `file`.
fn write_into(file: &Path, generated: &str) -> Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("{} has no line {}", file.display(), BEGIN.trim()))?;
    let (_, after) =
        rest.split_once(END).with_context(|| format!("{} has no line {END}", file.display()))?;
    std::fs::write(file, format!("{before}{BEGIN}{generated}{END}{after}"))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// A share as a percentage with one decimal.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// A share as a percentage with its sign.
pub(super) fn signed(share: f64) -> String {
    // No "-0.0" for what rounds to nothing.
    let text = format!("{:+.1}", 100.0 * share);
    if text == "-0.0" { "+0.0".to_owned() } else { text }
}

/// A share in words, or a dash where there is none.
pub(super) fn or_dash(share: Option<f64>, words: fn(f64) -> String) -> String {
    share.map_or_else(|| "–".to_owned(), words)
}

pub(super) fn table(header: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn write_tables(report: &Report, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "relative errors, predicted / measured - 1, in percent\n\n{:36}{:>5}{:>7}{:>7}{:>7}{:>8}{:>8}",
        "", "rows", "mean", "median", "p90", "max", "signed"
    )?;
    let mut of: Option<[&str; 2]> = None;
    let mut by: Option<[&str; 2]> = None;
    for ReportGroup { line, notes } in &report.groups {
        let (place, software) = ([&*line.table, &*line.device], [&*line.stack, &*line.dtype]);
        if of != Some(place) {
            writeln!(out, "\n{}, {}", line.table, line.device)?;
            (of, by) = (Some(place), None);
        }
        if by != Some(software) {
            writeln!(out, "{}", set_in(&software.join(" "), 2))?;
            by = Some(software);
        }
        let name = match line.subset {
            "all" => line.op.to_owned(),
            subset => format!("{}, {subset}", line.op),
        };
        writeln!(
            out,
            "    {name:32}{:>5}{:>7}{:>7}{:>7}{:>8}{:>8}",
            line.rows,
            or_dash(line.mean, percent),
            or_dash(line.median, percent),
            or_dash(line.p90, percent),
            or_dash(line.max, percent),
            or_dash(line.signed_mean, signed),
        )?;
        for note in notes {
            writeln!(out, "{}", indented(note))?;
        }
    }
    let (rows, within) = report.rows_within_bands();
    if rows > 0 {
        let share = percent(within as f64 / rows as f64);
        writeln!(
            out,
            "
{share} % of {rows} rows lie within the error band of their constants"
        )?;
    }
    for (table, errors) in &report.skew {
        let told = format!(
            "{table}: time(uneven)/time(even) off by {} % on average over {} pairs ({} % at most)",
            percent(errors.mean),
            errors.rows,
            percent(errors.max)
        );
        writeln!(out, "\n{}", wrapped(&told))?;
    }
    for (table, duels) in &report.duels {
        let told = format!(
            "{table}: of the pairs more than 5 % apart, {} of {} that a plan wins are named, {} of \
             {} that it loses",
            duels.wins_named, duels.wins, duels.losses_named, duels.losses
        );
        writeln!(out, "\n{}", wrapped(&told))?;
    }
    write_simulator(report, out)
}

fn write_simulator(report: &Report, out: &mut dyn Write) -> Result<()> {
    if report.simulator.is_empty() {
        return Ok(());
    }
    let mut lines = table(
        &["op", "rows", "LLMCompass %", "ours %", "ours as LLMCompass %", "that to LLMCompass %"],
        1,
    );
    for line in &report.simulator {
        let optional =
            |errors: Option<Errors>| errors.map_or_else(String::new, |errors| percent(errors.mean));
        lines.add_row([
            line.op.to_owned(),
            line.simulator.rows.to_string(),
            percent(line.simulator.mean),
            percent(line.laws.mean),
            optional(line.assumed),
            optional(line.assumed_to_simulator),
        ]);
    }
    writeln!(
        out,
        "\nbeside LLMCompass, mean absolute percentage error (MAPE) against measured kernels; the last \
         two columns are our laws with its launch time and link, against measured kernels and \
         against its answers\n\n{lines}"
    )?;
    Ok(())
}

/// What is left: rows without a price, and files nobody read.
fn write_leftovers(report: &Report, out: &mut dyn Write) -> Result<()> {
    writeln!(out)?;
    for TableSummary { table, rows, priced, reasons } in &report.tables {
        writeln!(out, "{table}: {priced} of {rows} rows priced")?;
        for (reason, (count, line)) in reasons {
            writeln!(out, "  not priced: {count}, first in line {line}:\n    {reason}")?;
        }
    }
    for (name, reason) in &report.skipped {
        writeln!(out, "skipped {name}: {reason}")?;
    }
    Ok(())
}
