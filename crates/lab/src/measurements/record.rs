//! One row, its fields found by the names of the columns.

use std::collections::BTreeMap;

use crate::validate::measured::{Case, Launch, Measured, Op, Software, Subset};
use moe_gps_core::system::{Dtype, Operands};
use moe_gps_core::units::Seconds;

/// Why a row could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum RowError {
    /// A field that the row does not have.
    #[error("there is no {0}")]
    Missing(String),
    /// A field that should be a number.
    #[error("{field} is \"{value}\", which is not {rule}")]
    Number {
        /// Which field.
        field: String,
        /// What it says.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// A name nobody knows.
    #[error("{field} \"{value}\" is not known")]
    Unknown {
        /// Which field.
        field: String,
        /// What it says.
        value: String,
    },
    /// Not a measurement of an operator.
    #[error("{0}")]
    NoOperator(&'static str),
}

/// Where each column stands.
#[derive(Debug, Default)]
pub struct Columns(BTreeMap<String, usize>);

impl Columns {
    /// The columns of a header.
    #[must_use]
    pub fn of(header: &csv::StringRecord) -> Self {
        Self(header.iter().enumerate().map(|(at, name)| (name.trim().to_owned(), at)).collect())
    }
}

/// One row of a table.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    columns: &'a Columns,
    fields: &'a csv::StringRecord,
    line: u64,
}

impl<'a> Record<'a> {
    /// A row that stands on that line.
    #[must_use]
    pub const fn new(columns: &'a Columns, fields: &'a csv::StringRecord, line: u64) -> Self {
        Self { columns, fields, line }
    }

    /// The text of a field; nothing where it is empty or absent.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&'a str> {
        let value = self.fields.get(*self.columns.0.get(field)?)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// The text of a field that must be there.
    pub fn required(&self, field: &str) -> Result<&'a str, RowError> {
        self.text(field).ok_or_else(|| RowError::Missing(field.to_owned()))
    }

    /// A number of 0 or more.
    pub fn number(&self, field: &str) -> Result<f64, RowError> {
        number(field, self.required(field)?)
    }

    /// A whole number.
    pub fn whole(&self, field: &str) -> Result<u32, RowError> {
        whole(field, self.required(field)?)
    }

    /// A positive time, in units of `unit` seconds.
    pub fn time(&self, field: &str, unit: f64) -> Result<Seconds, RowError> {
        let value = self.number(field)?;
        if value > 0.0 {
            return Ok(Seconds::new(value * unit));
        }
        let value = value.to_string();
        Err(RowError::Number { field: field.to_owned(), value, rule: "a time above 0" })
    }

    /// The software by the columns most tables have.
    pub fn software(&self) -> Result<Software, RowError> {
        Ok(Software {
            framework: self.required("framework")?.to_owned(),
            version: self.text("framework_version").unwrap_or_default().to_owned(),
            kernel: self.text("kernel").unwrap_or_default().to_owned(),
        })
    }

    /// The device by the column most tables have.
    pub fn device(&self) -> Result<String, RowError> {
        Ok(self.required("gpu")?.to_owned())
    }

    /// The number format of that column, with its name: weights and what multiplies them.
    pub fn products(&self, field: &str) -> Result<(String, Operands), RowError> {
        let name = self.required(field)?;
        let operands = products(name).ok_or_else(|| unknown(field, name))?;
        Ok((name.to_owned(), operands))
    }

    /// A measurement without launch time, of which no simulator has spoken.
    #[must_use]
    pub const fn measured(
        &self,
        device: String,
        software: Software,
        of: (Op, Subset),
        case: Case,
        time: Seconds,
    ) -> Measured {
        Measured {
            line: self.line,
            device,
            software,
            format: String::new(),
            operands: Operands::BF16,
            op: of.0,
            subset: of.1,
            case,
            time,
            launch: Launch::None,
            simulated: None,
        }
    }
}

/// Operands of matrix products by the names that tables have for them.
///
/// Integers are as large as the floats they stand beside, and unpacked alike.
pub(super) fn products(name: &str) -> Option<Operands> {
    use Dtype::{Bf16, Fp8, Fp8Block, Int4, Mxfp4, Nvfp4};
    let (stored, computed) = match name {
        "bfloat16" | "bf16" | "half" | "float16" | "fp16" => (Bf16, Bf16),
        "fp8" | "fp8_ootb" | "fp8_static" | "int8" | "sq" => (Fp8, Fp8),
        "fp8_block" => (Fp8Block, Fp8),
        "nvfp4" => (Nvfp4, Nvfp4),
        "w4a16_nvfp4" => (Nvfp4, Bf16),
        "int8_wo" | "fp8_wo" => (Fp8, Bf16),
        "int4_wo" | "int4" => (Int4, Bf16),
        "w4afp8" | "w4a8_int4" => (Int4, Fp8),
        "w4a16_mxfp4" | "mxfp4" => (Mxfp4, Bf16),
        "w4a8_mxfp4_fp8" | "w4a8_mxfp4_mxfp8" => (Mxfp4, Fp8),
        _ => return None,
    };
    Some(Operands::of(stored, computed))
}

/// A number of 0 or more.
pub(super) fn number(field: &str, value: &str) -> Result<f64, RowError> {
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err(RowError::Number {
            field: field.to_owned(),
            value: value.to_owned(),
            rule: "a number of 0 or more",
        }),
    }
}

/// A whole number.
pub(super) fn whole(field: &str, value: &str) -> Result<u32, RowError> {
    value.parse().map_err(|_| RowError::Number {
        field: field.to_owned(),
        value: value.to_owned(),
        rule: "a whole number",
    })
}

/// A name nobody knows.
pub(super) fn unknown(field: &str, value: &str) -> RowError {
    RowError::Unknown { field: field.to_owned(), value: value.to_owned() }
}
