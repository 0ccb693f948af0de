//! One line of `validate --json`: the errors of the rows of one table that are alike.

use serde::Serialize;

/// Relative errors of one group of measured rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValidationLine {
    /// The file's name.
    pub table: String,
    /// The device, as the table names it.
    pub device: String,
    /// Framework, version and kernel that were measured.
    pub stack: String,
    /// The number format, as the table names it; empty where it does not matter.
    pub dtype: String,
    /// The operator.
    pub op: &'static str,
    /// Which part of the operator's rows.
    pub subset: &'static str,
    /// Rows that were priced.
    pub rows: u64,
    /// Rows besides that could not be priced.
    pub unpriced: u64,
    /// Mean of |predicted / measured − 1|; null, as the others, where no row was priced.
    pub mean: Option<f64>,
    /// Median of the same.
    pub median: Option<f64>,
    /// Its 90th percentile.
    pub p90: Option<f64>,
    /// Its maximum.
    pub max: Option<f64>,
    /// Mean of predicted / measured − 1.
    pub signed_mean: Option<f64>,
}
