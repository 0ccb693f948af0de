//! Routing traces as files: formats that come in ([`readers`] lists them), one that is kept.
//!
//! Every reader streams: memory does not grow with the file. A reader hands checked
//! tokens or counts to [`stored`], which writes the compact form; nothing else of the
//! program ever reads an uploaded format.

mod archive;
mod array;
mod bounded_json;
mod counts;
pub mod counts_json;
mod csv;
mod cut;
pub mod embedding;
pub mod embedding_file;
pub mod error;
pub mod export;
mod fortran;
pub mod inflate;
mod layers;
mod logits;
mod meaning;
pub mod ndjson;
mod ndjson_line;
mod ndjson_sort;
pub(in crate::formats) mod npy;
mod npy_file;
pub mod npz;
mod parquet;
mod pickle;
pub mod readers;
mod records;
mod responses;
mod route_lines;
mod routes;
mod safetensors;
mod sglang_pt;
pub mod sniff;
pub mod stored;
mod table;
mod trtllm;

pub use cut::Cut;
pub use error::TraceError;
pub use readers::Input;

/// What arrays of counts are called in files; the first is ours, the second that of `SGLang`'s recorder.
const COUNTS_NAMES: [&str; 5] =
    ["counts", "logical_count", "expert_load", "expert_counts", "expert_load_view"];

/// What the uploader says about the trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// Experts of a layer (`num_experts`, or the model's).
    pub experts: Option<u32>,
    /// Experts of a token (the model's).
    pub top_k: Option<u32>,
    /// Rows that are not to be kept.
    pub cut: Cut,
}

/// Most bytes that one compressed byte may stand for. Deflate reaches 1,032 on a text of one
/// letter; recordings stay below twenty.
const MAX_INFLATION: u64 = 200;
/// Bytes that may come out of anything, however small, before [`MAX_INFLATION`] counts.
const FREE_INFLATION: u64 = 64 << 20;

/// How much of an upload is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body as sent.
    pub sent_bytes: u64,
    /// Bytes after decoding of the body, and again of all array data inside an archive.
    pub inflated_bytes: u64,
}

impl Limits {
    /// Whether `inflated` bytes may come out of `sent` compressed ones.
    fn allow_inflated(
        &self,
        what: &'static str,
        sent: u64,
        inflated: u64,
    ) -> Result<(), TraceError> {
        let limit_bytes = self.inflated_bytes;
        if inflated > limit_bytes {
            return Err(TraceError::TooLarge { what, limit_bytes });
        }
        if inflated > FREE_INFLATION.max(sent.saturating_mul(MAX_INFLATION)) {
            return Err(TraceError::Bomb { what, times: MAX_INFLATION });
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { sent_bytes: 4 << 30, inflated_bytes: 4 << 30 }
    }
}

/// Untrusted text, short enough for a message.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 {
        text.to_owned()
    } else {
        text.chars().take(79).chain(['…']).collect()
    }
}
