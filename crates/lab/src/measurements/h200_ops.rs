//! `h200_ops_bf16.csv`: single operators on one H200, replayed from CUDA graphs.
//!
//! Operators and shapes as in [`crate::measurements::operators`]; device and software are those of the
//! file.

use crate::measurements::operators;
use crate::measurements::record::{Record, RowError};
use crate::validate::measured::{Measured, Software};

pub(super) fn row(record: &Record) -> Result<Measured, RowError> {
    let software = Software {
        framework: "PyTorch".to_owned(),
        version: "2.11".to_owned(),
        kernel: String::new(),
    };
    operators::measured(record, "h200_sxm".to_owned(), software)
}
