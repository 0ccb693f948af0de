//! Tables of measured operators, as comma-separated files, one reader per family.
//!
//! A file is known by its name (`nvidia_gemm_bf16.csv`, …); columns are found by their
//! header, unknown ones are ignored. What a row says in milliseconds or bytes becomes SI
//! units and a [`Measured`]; a row that cannot be read is kept with its line and reason.

mod attention;
mod collectives;
mod deepep;
mod end_to_end;
mod experts;
mod gemm;
mod h200_ops;
mod llmcompass;
mod nvlink;
mod operators;
pub mod record;

use crate::validate::measured::Measured;
use record::{Columns, Record, RowError};

/// How a row of one table is read.
type Reader = fn(&Record) -> Result<Measured, RowError>;

/// Every table there is a reader for.
const TABLES: [(&str, Reader); 22] = [
    ("h200_ops_bf16.csv", h200_ops::row),
    ("llmcompass_a100.csv", llmcompass::row),
    ("nvidia_all_to_all_blackwell.csv", deepep::row),
    ("nvidia_attention_decode_bf16.csv", attention::decode),
    ("nvidia_attention_decode_quantised.csv", attention::decode),
    ("nvidia_attention_prefill_bf16.csv", attention::prefill),
    ("nvidia_attention_prefill_quantised.csv", attention::prefill),
    ("nvidia_custom_all_reduce_bf16.csv", collectives::custom_all_reduce),
    ("nvidia_custom_all_reduce_blackwell.csv", collectives::custom_all_reduce),
    ("nvidia_deepep_all_to_all.csv", deepep::row),
    ("nvidia_gemm_bf16.csv", gemm::row),
    ("nvidia_gemm_quantised.csv", gemm::row),
    ("nvidia_grouped_expert_ffn_bf16.csv", experts::grouped),
    ("nvidia_grouped_expert_ffn_quantised.csv", experts::grouped),
    ("nvidia_latent_attention_decode.csv", attention::latent_decode),
    ("nvidia_latent_attention_decode_block.csv", attention::latent_decode_block),
    ("nvidia_latent_attention_prefill.csv", attention::latent_prefill),
    ("nvidia_latent_attention_prefill_block.csv", attention::latent_prefill_block),
    ("nvidia_nccl_collectives.csv", collectives::nccl),
    ("nvidia_nccl_collectives_blackwell.csv", collectives::nccl),
    ("nvidia_trtllm_all_to_all_gb200.csv", nvlink::row),
    ("nvidia_wide_ep_experts_fp8.csv", experts::wide),
];

/// What was read of one table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Its rows, in order.
    pub rows: Vec<Measured>,
    /// Rows that could not be read: line, and why.
    pub unread: Vec<(u64, RowError)>,
}

/// Why a file is no table at all.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Not comma-separated values with a header.
    #[error("the file cannot be read as comma-separated values with a header")]
    Csv(#[from] csv::Error),
}

/// The table of whole servers.
const SERVERS: &str = "nvidia_end_to_end_moe.csv";

/// The name of a user's own table, or the end of it.
const OWN: &str = "operators.csv";

fn reader_of(table: &str) -> Option<Reader> {
    let known = TABLES.iter().find(|(name, _)| *name == table).map(|(_, reader)| *reader);
    let own = table == OWN || table.ends_with(".operators.csv");
    known.or_else(|| own.then_some(operators::row as Reader))
}

/// The table a file name stands for, with `.gz` or without.
#[must_use]
pub fn table_of(file_name: &str) -> Option<&str> {
    let name = file_name.strip_suffix(".gz").unwrap_or(file_name);
    (name == SERVERS || reader_of(name).is_some()).then_some(name)
}

/// Reads a table by its name; a table without a reader has no rows.
pub fn read(table: &str, bytes: &[u8]) -> Result<Table, TableError> {
    if table == SERVERS {
        // Two measurements a row; what one cannot read the other cannot.
        let mut both = read_rows(bytes, end_to_end::first_token)?;
        both.rows.extend(read_rows(bytes, end_to_end::per_token)?.rows);
        return Ok(both);
    }
    let Some(row) = reader_of(table) else { return Ok(Table::default()) };
    read_rows(bytes, row)
}

/// Reads every row with `row`.
pub fn read_rows(
    bytes: &[u8],
    row: impl Fn(&Record) -> Result<Measured, RowError>,
) -> Result<Table, TableError> {
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).comment(Some(b'#')).from_reader(bytes);
    let columns = Columns::of(reader.headers()?);
    let mut table = Table::default();
    let mut record = csv::StringRecord::new();
    // Where lines end in CR LF a record is said to begin on the line of the LF before it.
    let late = u64::from(
        bytes.split(|byte| *byte == b'\n').next().is_some_and(|line| line.ends_with(b"\r")),
    );
    while reader.read_record(&mut record)? {
        let line = record.position().map_or(0, csv::Position::line) + late;
        match row(&Record::new(&columns, &record, line)) {
            Ok(measured) => table.rows.push(measured),
            Err(why) => table.unread.push((line, why)),
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_known_by_their_names() {
        assert_eq!(table_of("nvidia_gemm_bf16.csv.gz"), Some("nvidia_gemm_bf16.csv"));
        assert_eq!(table_of("nvidia_gemm_bf16.csv"), Some("nvidia_gemm_bf16.csv"));
        assert_eq!(table_of("README.md"), None);
        assert_eq!(table_of("mine.operators.csv.gz"), Some("mine.operators.csv"));
        assert_eq!((table_of("operators.csv"), table_of("cooperators.csv")), (Some(OWN), None));
        assert_eq!(read("mine.csv", b"a,b\n1,2\n").unwrap(), Table::default());
    }

    #[test]
    fn rows_that_cannot_be_read_are_kept_with_their_line() {
        let text = "gpu,framework,framework_version,kernel,dtype,m,n,k,latency_ms\n\
            h200_sxm,TRTLLM,1.3.0,flow,bfloat16,16,512,512,0.004\n\
            h200_sxm,TRTLLM,1.3.0,flow,bfloat16,16,many,512,0.004\n\
            h200_sxm,TRTLLM,1.3.0,flow,bfloat16,16\n";
        let table = read("nvidia_gemm_bf16.csv", text.as_bytes()).unwrap();
        let windows = text.replace('\n', "\r\n");
        assert_eq!(table, read("nvidia_gemm_bf16.csv", windows.as_bytes()).unwrap());
        assert_eq!(table.rows.len(), 1);
        assert_eq!(table.rows[0].line, 2);
        let unread: Vec<_> =
            table.unread.iter().map(|(line, why)| format!("{line}: {why}")).collect();
        assert_eq!(
            unread,
            ["3: n is \"many\", which is not a number of 0 or more", "4: there is no n"]
        );
    }
}
