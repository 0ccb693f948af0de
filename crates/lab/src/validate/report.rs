//! Every table of a folder priced with the shipped profiles, and how far off that is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::line::ValidationLine;
pub use crate::duplication_pays::Verdicts;
use crate::measurements::{Table, read, table_of};
use crate::validate::compare::simulator;
pub use crate::validate::errors::Errors;
use crate::validate::errors::{Group, GroupKey, grouped};
use crate::validate::layers::{self, Layer};
use crate::validate::measured::{Op, Subset};
pub use crate::validate::pairs::PairsOf;
use crate::validate::pairs::{duels, gains, skew_response};
use crate::validate::price::price_all;
use crate::validate::profiles::Profiles;
use moe_gps_core::catalog::Catalog;

/// What was found in a folder.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Groups of rows in the order of table, device, stack, operator and subset.
    pub groups: Vec<ReportGroup>,
    /// How many rows every table has, and why some have no price.
    pub tables: Vec<TableSummary>,
    /// Files that were left alone, each with the reason.
    pub skipped: Vec<(String, String)>,
    /// Errors of time(uneven loads)/time(even loads), by table.
    pub skew: Vec<(String, Errors)>,
    /// Intervals of gains on pairs of expert rows, by device and software.
    pub gains: BTreeMap<(String, String), PairsOf>,
    /// How often the faster of plan and no plan was named, by table.
    pub duels: Vec<(String, Verdicts)>,
    /// By operator and device, the rows whose constants have an error band, and how many lie within
    /// it; without those that were drawn or are known to be wrong.
    pub bands: BTreeMap<(&'static str, String), (u64, u64)>,
    /// The laws beside LLMCompass, where a table holds its answers.
    pub simulator: Vec<SimulatorLine>,
    /// Whole layers that were measured beside their forecast.
    pub layers: Vec<Layer>,
}

impl Report {
    /// All rows whose constants have an error band, and how many lie within it.
    #[must_use]
    pub fn rows_within_bands(&self) -> (u64, u64) {
        self.bands.values().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
    }
}

/// A group with what stood in for its own constants.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportGroup {
    /// Its errors.
    pub line: ValidationLine,
    /// Whose constants it was priced with, where not its own.
    pub notes: Vec<String>,
}

/// The rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// The file's name.
    pub table: String,
    /// All rows.
    pub rows: u64,
    /// Rows with a price.
    pub priced: u64,
    /// Rows without, by reason; the first line of each.
    pub reasons: BTreeMap<String, (u64, u64)>,
}

/// The errors of both against measured kernels, on the rows of one operator.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatorLine {
    /// The operator.
    pub op: &'static str,
    /// The simulator against measured kernels.
    pub simulator: Errors,
    /// Our laws against measured kernels.
    pub laws: Errors,
    /// Our laws with its assumptions against measured kernels, where there are such.
    pub assumed: Option<Errors>,
    /// Our laws with its assumptions against its answers.
    pub assumed_to_simulator: Option<Errors>,
}

/// Why a folder could not be validated.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// There is no such folder.
    #[error("{} is not a folder: name one that holds tables of measurements", .0.display())]
    NoFolder(PathBuf),
    /// A file could not be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
}

/// Prices every known table in `folder`.
pub fn validate(folder: &Path) -> Result<Report, ValidateError> {
    let profiles = shipped_profiles()?;
    let mut report = Report::default();
    for (table, file) in files(folder, &mut report.skipped)? {
        match read(&table, &content(&file)?) {
            Ok(content) => add(&mut report, &table, &content, &profiles),
            Err(error) => report.skipped.push((table, error.to_string())),
        }
    }
    for (name, _) in
        report.skipped.extract_if(.., |(name, _)| layers::is_file(name)).collect::<Vec<_>>()
    {
        match layers::read(&name, &content(&folder.join(&name))?) {
            Ok(found) => report.layers.extend(found),
            Err(error) => report.skipped.push((name, error.to_string())),
        }
    }
    Ok(report)
}

/// The devices and links of the catalog.
pub fn shipped_profiles() -> Result<Profiles, ValidateError> {
    let catalog = Catalog::embedded();
    let devices = catalog.devices().map(|entry| entry.value.clone());
    Ok(Profiles::new(devices, catalog.links().map(|entry| entry.value.clone())))
}

/// The known tables of a folder by name; everything else is noted as skipped.
pub(crate) fn files(
    folder: &Path,
    skipped: &mut Vec<(String, String)>,
) -> Result<BTreeMap<String, PathBuf>, ValidateError> {
    if !folder.is_dir() {
        return Err(ValidateError::NoFolder(folder.to_owned()));
    }
    let unreadable = |error| ValidateError::Read(folder.to_owned(), error);
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        names.insert(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    let mut tables = BTreeMap::new();
    for name in names {
        let reason = match table_of(&name) {
            None if layers::is_file(&name) => {
                "whole layers, which fit no law; `validate` reads them"
            }
            None => "no known table has this name",
            // In the order of names, a plain file comes before its compressed twin.
            Some(table) if tables.contains_key(table) => "read already, uncompressed",
            Some(table) => {
                tables.insert(table.to_owned(), folder.join(&name));
                continue;
            }
        };
        skipped.push((name, reason.to_owned()));
    }
    Ok(tables)
}

/// The bytes of a file, unpacked.
pub(crate) fn content(file: &Path) -> Result<Vec<u8>, ValidateError> {
    let unreadable = |error| ValidateError::Read(file.to_owned(), error);
    let bytes = std::fs::read(file).map_err(unreadable)?;
    if file.extension().is_none_or(|extension| extension != "gz") {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).map_err(unreadable)?;
    Ok(unpacked)
}

/// The readable known tables of a folder.
pub(crate) fn tables(folder: &Path) -> Result<BTreeMap<String, Table>, ValidateError> {
    let mut tables = BTreeMap::new();
    for (table, file) in files(folder, &mut Vec::new())? {
        if let Ok(content) = read(&table, &content(&file)?) {
            tables.insert(table, content);
        }
    }
    Ok(tables)
}

fn add(report: &mut Report, table: &str, content: &Table, profiles: &Profiles) {
    let rows = &content.rows;
    let estimates = price_all(rows, profiles);
    for (key, group) in grouped(rows, &estimates) {
        if let Some(within) = group.within
            && !matches!(key.subset, Subset::PowerLaw | Subset::Excluded)
        {
            let of = report.bands.entry((key.op.name(), key.device.clone())).or_default();
            *of = (of.0 + group.errors.len() as u64, of.1 + within);
        }
        report.groups.push(line(table, key, &group));
    }
    let unpriced = rows.iter().zip(&estimates).filter_map(|(row, estimate)| {
        estimate.as_ref().err().map(|why| (row.line, format!("{}: {why}", row.op.name())))
    });
    let unread = content.unread.iter().map(|(line, why)| (*line, why.to_string()));
    let mut reasons: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (line, why) in unpriced.chain(unread) {
        reasons.entry(why).or_insert((0, line)).0 += 1;
    }
    let total = (rows.len() + content.unread.len()) as u64;
    let without: u64 = reasons.values().map(|(count, _)| count).sum();
    report.tables.push(TableSummary {
        table: table.to_owned(),
        rows: total,
        priced: total - without,
        reasons,
    });
    if let Some(errors) = Errors::of(&skew_response(rows, &estimates)) {
        report.skew.push((table.to_owned(), errors));
    }
    for (of, pairs) in gains(rows, &estimates) {
        report.gains.entry(of).or_default().gains.extend(pairs.gains);
    }
    let duels = duels(rows, &estimates);
    if duels.wins + duels.losses > 0 {
        report.duels.push((table.to_owned(), duels));
    }
    let compared = simulator(rows, &estimates).into_iter();
    report.simulator.extend(compared.filter_map(|(op, found)| {
        Some(SimulatorLine {
            op: Op::name(op),
            simulator: Errors::of(&found.simulator)?,
            laws: Errors::of(&found.laws)?,
            assumed: Errors::of(&found.assumed),
            assumed_to_simulator: Errors::of(&found.assumed_to_simulator),
        })
    }));
}

/// A group as a line.
fn line(table: &str, key: GroupKey, group: &Group) -> ReportGroup {
    let errors = Errors::of(&group.errors);
    let line = ValidationLine {
        table: table.to_owned(),
        device: key.device,
        stack: key.stack,
        dtype: key.format,
        op: key.op.name(),
        subset: key.subset.name(),
        rows: errors.map_or(0, |errors| errors.rows),
        unpriced: group.unpriced,
        mean: errors.map(|errors| errors.mean),
        median: errors.map(|errors| errors.median),
        p90: errors.map(|errors| errors.p90),
        max: errors.map(|errors| errors.max),
        signed_mean: errors.map(|errors| errors.signed_mean),
    };
    ReportGroup { line, notes: group.notes.iter().cloned().collect() }
}
