//! Why a trace could not be taken in.

use std::io;

use crate::violation::Violation;

/// Most flaws that are listed; further ones are only counted.
pub const MAX_LISTED: usize = 100;

/// Why a trace could not be taken in; the edge maps each variant to one status.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The media type names no format that can be read.
    #[error("content type `{0}` is not a trace format; use {known}", known = crate::formats::trace::readers::media_types())]
    UnknownFormat(String),
    /// No format that can be read begins so, and none was named.
    #[error(
        "the format cannot be told from the bytes; name it with `?format=` or as content type: {known}",
        known = crate::formats::trace::readers::media_types()
    )]
    Unrecognized,
    /// The content encoding is not one that can be undone.
    #[error("content encoding `{0}` is not supported; use gzip, zstd or identity")]
    UnknownEncoding(String),
    /// The bytes are not what the media type says, or end too early.
    #[error("the trace cannot be read: {0}")]
    Unreadable(String),
    /// The body stopped arriving.
    #[error("the upload broke off")]
    Interrupted(#[source] io::Error),
    /// More bytes than are taken.
    #[error("{what} is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Largest size that is taken.
        limit_bytes: u64,
    },
    /// Far more comes out of compressed bytes than recordings hold.
    #[error(
        "{what} is more than {times} times as large as what was sent; if that is meant, send it \
         without compression"
    )]
    Bomb {
        /// What is too large.
        what: &'static str,
        /// How many times as large it may be.
        times: u64,
    },
    /// Well-formed, but meaningless.
    #[error("the trace breaks {} rule(s)", listed.len() as u64 + unlisted)]
    Invalid {
        /// The first flaws, at most [`MAX_LISTED`].
        listed: Vec<Violation>,
        /// How many more there are.
        unlisted: u64,
    },
    /// The data directory is full.
    #[error("the data directory has no room for the trace")]
    StorageFull(#[source] io::Error),
    /// The data directory cannot be used.
    #[error("the data directory cannot be used")]
    Storage(#[source] io::Error),
}

impl TraceError {
    /// Bytes that are not what they should be.
    pub(crate) fn unreadable(detail: impl std::fmt::Display) -> Self {
        Self::Unreadable(detail.to_string())
    }

    /// The same trouble, of one file of an archive.
    pub(crate) fn within(self, name: &str) -> Self {
        let name = crate::formats::trace::shorten(name);
        match self {
            Self::Unreadable(text) => Self::Unreadable(format!("`{name}`: {text}")),
            Self::Invalid { mut listed, unlisted } => {
                for violation in &mut listed {
                    violation.detail = format!("`{name}`: {}", violation.detail);
                }
                Self::Invalid { listed, unlisted }
            }
            other => other,
        }
    }

    /// A trouble of the data directory.
    #[must_use]
    pub fn storage(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::StorageFull(error),
            _ => Self::Storage(error),
        }
    }
}

impl From<io::Error> for TraceError {
    /// Only files of the data directory are read and written after the upload has arrived.
    fn from(error: io::Error) -> Self {
        Self::storage(error)
    }
}

/// Collects flaws while reading goes on, so that all are said at once.
#[derive(Debug, Default)]
pub(crate) struct Flaws {
    listed: Vec<Violation>,
    unlisted: u64,
}

impl Flaws {
    /// Notes a flaw; the texts are made only if it will be listed.
    pub(crate) fn note(&mut self, rule: &'static str, texts: impl FnOnce() -> (String, String)) {
        if self.listed.len() < MAX_LISTED {
            let (pointer, detail) = texts();
            self.listed.push(Violation::new(pointer, rule, detail));
        } else {
            self.unlisted += 1;
        }
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether further flaws would not be listed.
    pub(crate) fn is_full(&self) -> bool {
        self.listed.len() >= MAX_LISTED
    }

    /// Fails if anything was found.
    pub(crate) fn into_result(self) -> Result<(), TraceError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(TraceError::Invalid { listed: self.listed, unlisted: self.unlisted })
        }
    }

    /// Fails with this one flaw beside those found before.
    pub(crate) fn fail(
        mut self,
        rule: &'static str,
        pointer: impl Into<String>,
        detail: impl Into<String>,
    ) -> TraceError {
        self.listed.truncate(MAX_LISTED - 1);
        self.listed.push(Violation::new(pointer, rule, detail));
        TraceError::Invalid { listed: self.listed, unlisted: self.unlisted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaws_beyond_the_list_are_counted() {
        let mut flaws = Flaws::default();
        for n in 0..250 {
            flaws.note("range", || (format!("/{n}"), "too large".to_owned()));
        }
        let Err(TraceError::Invalid { listed, unlisted }) = flaws.into_result() else {
            panic!("flaws were noted");
        };
        assert_eq!((listed.len(), unlisted), (100, 150));
        assert_eq!(listed[99].pointer, "/99");
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let full = TraceError::storage(io::ErrorKind::StorageFull.into());
        assert!(matches!(full, TraceError::StorageFull(_)));
        let broken = TraceError::storage(io::ErrorKind::PermissionDenied.into());
        assert!(matches!(broken, TraceError::Storage(_)));
    }
}
