//! Why a use case did not do what was asked, without a word about transport.

use crate::store::StoreError;
use crate::wire::violation::Violation;
use moe_gps_core::catalog::UnknownId;
use moe_gps_core::formats::trace::TraceError;

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is no such thing.
    #[error("there is no {what} {id}")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The catalog does not have it, and nobody has registered it.
    #[error(transparent)]
    Unknown(#[from] UnknownId),
    /// What is stored conflicts with the request.
    #[error("{0}")]
    Conflict(String),
    /// The request is well-formed JSON and breaks rules.
    #[error("the request breaks {} rule(s)", .0.len())]
    Refused(Vec<Violation>),
    /// As many jobs wait as may.
    #[error("the queue is full: {limit} questions wait for a worker; ask again later")]
    QueueFull {
        /// The bound.
        limit: u32,
    },
    /// As many jobs of this holder wait as may.
    #[error(
        "{limit} of your questions wait for a worker, which is all that one holder of a token may \
         have waiting; ask again later"
    )]
    TooManyQueued {
        /// The bound.
        limit: u32,
    },
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// The database did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An upload could not be taken in.
    #[error(transparent)]
    Upload(#[from] TraceError),
    /// A stored trace could not be read.
    #[error("trace {id} could not be read")]
    Trace {
        /// Which trace.
        id: String,
        /// Why.
        source: std::io::Error,
    },
    /// A bug of ours.
    #[error("{0}")]
    Internal(String),
}

impl AppError {
    /// That a stored trace could not be read: where its file is gone, it has just been deleted.
    pub(super) fn trace(id: String, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            let detail = format!("trace {id} was deleted while it was asked for; upload it again");
            return Self::Conflict(detail);
        }
        Self::Trace { id, source }
    }
}
