//! `nvidia_gemm_bf16.csv` and `nvidia_gemm_quantised.csv`: dense products on one device.

use crate::measurements::record::{Record, RowError};
use crate::validate::measured::{Case, Measured, Op, Subset};

pub(super) fn row(record: &Record) -> Result<Measured, RowError> {
    let case =
        Case::Gemm { m: record.number("m")?, n: record.number("n")?, k: record.number("k")? };
    let time = record.time("latency_ms", 1e-3)?;
    let of = (Op::Gemm, Subset::All);
    let (format, operands) = record.products("dtype")?;
    let measured = record.measured(record.device()?, record.software()?, of, case, time);
    Ok(Measured { format, operands, ..measured })
}
