//! Routing traces as files: three formats that come in, one that is kept.
//!
//! Every reader streams: memory does not grow with the file. A reader hands checked
//! tokens or counts to [`stored`], which writes the compact form; nothing else of the
//! program ever reads an uploaded format.

pub mod counts_json;
pub mod embedding;
pub mod error;
mod fortran;
pub mod inflate;
pub mod ndjson;
mod ndjson_line;
mod ndjson_sort;
mod npy;
pub mod npz;
mod routes;
pub mod stored;

pub use error::{Flaw, TraceError};

/// Media types of the formats that can be uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A NumPy archive of routes.
    Npz,
    /// JSON Lines, one token a line.
    Ndjson,
    /// A JSON document of counts.
    Json,
}

impl Format {
    /// Every format with its media type.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Npz, "application/x-npz"),
        (Self::Ndjson, "application/x-ndjson"),
        (Self::Json, "application/json"),
    ];

    /// The format named by a `Content-Type`; parameters are ignored.
    pub fn from_content_type(content_type: &str) -> Result<Self, TraceError> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        Self::ALL
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(essence))
            .map(|(format, _)| *format)
            .ok_or_else(|| TraceError::UnknownFormat(shorten(content_type)))
    }
}

/// What the uploader says about the trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// Experts of a layer (`num_experts`, or the model's).
    pub experts: Option<u32>,
    /// Experts of a token (the model's).
    pub top_k: Option<u32>,
}

/// How much of an upload is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body as sent.
    pub sent_bytes: u64,
    /// Bytes after decoding of the body, and again of all array data inside an archive.
    pub inflated_bytes: u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_may_carry_parameters_but_not_be_guessed() {
        let of = |text| Format::from_content_type(text).ok();
        assert_eq!(of("application/JSON; charset=utf-8"), Some(Format::Json));
        assert_eq!(of("application/x-npz"), Some(Format::Npz));
        assert_eq!(of("text/plain"), None);
        assert_eq!(of(""), None);
    }
}
