//! A folder of measurements turned into a device's catalog file.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::calibrate::evidence::{Evidence, LeftOut};
use crate::calibrate::profile::{Calibration, Set, calibrate};
use crate::calibrate::write::{Heading, with_fitted};
use crate::measurements::read;
use crate::validate::measured::Measured;
use crate::validate::price::price_all;
use crate::validate::profiles::{Profiles, catalog_id};
use crate::validate::report::{ValidateError, content, files};
use moe_gps_core::catalog::check::check_device;
use moe_gps_core::catalog::{Catalog, UnknownId};
use moe_gps_core::comm::profile::{Collective, CollectiveKernel, DeepEpMode, Way};
use moe_gps_core::formats::catalog_entry::{CatalogEntry, CatalogFileError, document};
use moe_gps_core::formats::device_toml;
use moe_gps_core::hardware::Device;
use moe_gps_core::named::name_of;
use moe_gps_core::system::Operands;

pub use crate::validate::errors::Errors;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The device whose rows count, as the tables name it; needed where there are several.
    pub device: Option<String>,
    /// Catalog id or catalog file whose datasheet and other constants are taken over;
    /// the measured device's own by default.
    pub base: Option<String>,
    /// Id of the new file.
    pub id: Option<String>,
    /// Where the measurements come from, in words.
    pub source: Option<String>,
    /// The day, ISO 8601.
    pub date: String,
}

/// A fitted profile.
#[derive(Debug, Clone)]
pub struct Calibrated {
    /// The catalog file.
    pub text: String,
    /// What was fitted.
    pub lines: Vec<FitLine>,
    /// Rows that no fit used, by reason.
    pub left_out: LeftOut,
    /// Files that were left alone, each with the reason.
    pub skipped: Vec<(String, String)>,
    /// Every row that was fitted.
    pub residuals: Vec<Residual>,
}

/// One set of constants.
#[derive(Debug, Clone, PartialEq)]
pub struct FitLine {
    /// The law.
    pub law: String,
    /// The software.
    pub software: String,
    /// Errors of the base's constants on the same rows, where it prices them.
    pub before: Option<Errors>,
    /// Errors of the rows it was fitted to.
    pub errors: Errors,
    /// Errors of shapes it had not seen.
    pub held_out: Option<Errors>,
}

/// A row and how far the fitted law is from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Residual {
    /// The table.
    pub table: String,
    /// Its line.
    pub line: u64,
    /// The operator.
    pub op: &'static str,
    /// The software.
    pub software: String,
    /// What was measured, in seconds.
    pub measured_s: f64,
    /// Predicted over measured, less one.
    pub error: f64,
    /// The same by a fit that had not seen the row's shape.
    pub held_out_error: Option<f64>,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The folder.
    #[error(transparent)]
    Tables(#[from] ValidateError),
    /// Nothing to fit.
    #[error(
        "no row of {} can be read: give tables by their file names, or an operators.csv{why}",
        .folder.display()
    )]
    NoRows {
        /// The folder.
        folder: PathBuf,
        /// What was found instead, file by file.
        why: String,
    },
    /// Several devices, or not the one asked for.
    #[error("the tables measure {found}: choose one with --device")]
    Device {
        /// The devices of the tables.
        found: String,
    },
    /// No such base.
    #[error("no base to start from; give one with --base, a catalog id or a catalog file")]
    Base(#[from] UnknownId),
    /// A file that could not be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// A catalog file that is wrong.
    #[error("the catalog file {0} is wrong")]
    File(String, #[source] CatalogFileError),
}

/// Fits a profile to the tables of a folder.
pub fn run(folder: &Path, order: &Order) -> Result<Calibrated, CalibrateError> {
    let mut skipped = Vec::new();
    let mut rows: Vec<Measured> = Vec::new();
    let mut tables: Vec<String> = Vec::new();
    for (table, file) in files(folder, &mut skipped)? {
        match read(&table, &content(&file)?) {
            Ok(found) => {
                if let Some((line, why)) = found.unread.first() {
                    let unread = found.unread.len();
                    let why =
                        format!("{unread} rows cannot be read, the first in line {line}: {why}");
                    skipped.push((table.clone(), why));
                }
                tables.extend(found.rows.iter().map(|_| table.clone()));
                rows.extend(found.rows);
            }
            Err(error) => skipped.push((table, error.to_string())),
        }
    }
    if rows.is_empty() {
        let why: Vec<_> = skipped.iter().map(|(table, why)| format!("; {table}: {why}")).collect();
        return Err(CalibrateError::NoRows { folder: folder.to_owned(), why: why.concat() });
    }
    let key = chosen_device(&rows, order.device.as_deref())?;
    let (rows, tables): (Vec<Measured>, Vec<String>) =
        rows.into_iter().zip(tables).filter(|(row, _)| row.device == key).unzip();
    let (base, base_file) = base_of(order.base.as_deref().unwrap_or(catalog_id(&key)))?;
    let fitted = calibrate(&rows, &base.value);
    let heading = Heading {
        id: order.id.clone().unwrap_or_else(|| format!("{}-calibrated", base.id)),
        name: format!("{}, calibrated", base.name),
        source: order.source.clone().unwrap_or_else(|| format!("measurements of {key}")),
        date: order.date.clone(),
    };
    let text = with_fitted(&base_file, &heading, &fitted)
        .map_err(|error| CalibrateError::File(heading.id.clone(), error))?;
    // What was written must be what the catalog reads.
    device_toml::parse(&text).map_err(|error| CalibrateError::File(heading.id, error))?;
    Ok(Calibrated {
        text,
        lines: lines(&fitted, &errors_before(&rows, base.value)),
        residuals: residuals(&fitted, &rows, &tables),
        left_out: fitted.left_out,
        skipped,
    })
}

/// Reads a device's catalog file and says what is wrong with its numbers.
pub fn check_file(path: &Path) -> Result<(CatalogEntry<Device>, Vec<String>), CalibrateError> {
    let (entry, file) = file_of(path)?;
    let problems = check_device(&entry, &file).problems;
    Ok((entry, problems))
}

/// A device's catalog file as the device of a question.
pub fn device_document(path: &Path) -> Result<Value, CalibrateError> {
    Ok(file_of(path)?.1)
}

fn chosen_device(rows: &[Measured], asked: Option<&str>) -> Result<String, CalibrateError> {
    let mut found: Vec<&str> = rows.iter().map(|row| row.device.as_str()).collect();
    found.sort_unstable();
    found.dedup();
    match (asked, found.as_slice()) {
        (Some(asked), _) if found.contains(&asked) => Ok(asked.to_owned()),
        (None, [only]) => Ok((*only).to_owned()),
        _ => Err(CalibrateError::Device { found: found.join(", ") }),
    }
}

/// A device by catalog id, or by the path of a catalog file, with its whole file.
fn base_of(base: &str) -> Result<(CatalogEntry<Device>, Value), CalibrateError> {
    if Path::new(base).is_file() {
        return file_of(Path::new(base));
    }
    let catalog = Catalog::embedded();
    let entry = catalog.device(base)?;
    let file = catalog.device_document(base).cloned().unwrap_or_default();
    Ok((entry.clone(), file))
}

fn file_of(path: &Path) -> Result<(CatalogEntry<Device>, Value), CalibrateError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CalibrateError::Read(path.to_owned(), error))?;
    let wrong = |error| CalibrateError::File(path.display().to_string(), error);
    let entry = device_toml::parse(&text).map_err(wrong)?;
    Ok((entry, document(&text).map_err(wrong)?.value))
}

/// A law's name, with its number format where that is not the usual one.
fn law_name(set: &Set) -> String {
    if set.operands == Operands::BF16 {
        return set.family.name().to_owned();
    }
    format!("{} {}", set.family.name(), set.operands.name())
}

/// Everything that was fitted, with its law, its software and what it rests on.
fn all(fitted: &Calibration) -> impl Iterator<Item = (String, String, &Evidence)> {
    let laws = fitted.sets.iter().map(|set| (law_name(set), set.software.label(), &set.evidence));
    let collectives = fitted.collectives.iter().map(|((kernel, operation, devices), (_, why))| {
        (
            format!("{} x{devices}", name_of(&Collective::ALL, operation)),
            name_of(&CollectiveKernel::ALL, kernel).to_owned(),
            why,
        )
    });
    let exchanges = fitted.exchanges.iter().map(|(key, (_, why))| {
        let (mode, way) = (name_of(&DeepEpMode::ALL, &key.mode), name_of(&Way::ALL, &key.way));
        let law = format!("{mode} {way} x{}", key.nodes);
        (law, key.stack.id.to_owned(), why)
    });
    let recurrent = fitted.recurrent.iter();
    let recurrent = recurrent.map(|of| ("recurrent".to_owned(), of.software.label(), &of.evidence));
    laws.chain(collectives).chain(exchanges).chain(recurrent)
}

/// Relative error of every row by the constants of the base; nothing where it has no price.
fn errors_before(rows: &[Measured], base: Device) -> Vec<Option<f64>> {
    let links = Catalog::embedded().links().map(|entry| entry.value.clone());
    let named = |row: &Measured| Measured { device: base.name.clone(), ..row.clone() };
    let named: Vec<Measured> = rows.iter().map(named).collect();
    let profiles = Profiles::new([base], links);
    let estimates = price_all(&named, &profiles).into_iter().zip(rows);
    estimates.map(|(found, row)| Some(found.ok()?.time / row.time - 1.0)).collect()
}

fn lines(fitted: &Calibration, before: &[Option<f64>]) -> Vec<FitLine> {
    let of_base = |evidence: &Evidence| {
        let errors: Vec<f64> = evidence.rows.iter().filter_map(|&at| before[at]).collect();
        Errors::of(&errors)
    };
    let line = |(law, software, evidence): (String, String, &Evidence)| FitLine {
        law,
        software,
        before: of_base(evidence),
        errors: evidence.errors,
        held_out: evidence.held_out,
    };
    all(fitted).map(line).collect()
}

fn residuals(fitted: &Calibration, rows: &[Measured], tables: &[String]) -> Vec<Residual> {
    let residual = |(&at, &(error, held_out_error)): (&usize, &(f64, Option<f64>))| Residual {
        table: tables[at].clone(),
        line: rows[at].line,
        op: rows[at].op.name(),
        software: rows[at].software.label(),
        measured_s: rows[at].time.get(),
        error,
        held_out_error,
    };
    all(fitted)
        .flat_map(|(.., evidence)| evidence.rows.iter().zip(&evidence.residuals).map(residual))
        .collect()
}
