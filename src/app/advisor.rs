//! The seam between the service and the advice it gives, and what passes through it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::app::question::ReadQuestion;
use crate::app::references::References;
use crate::wire::violation::Violation;
use moe_gps_core::cancel::{Cancel, Canceled};
use moe_gps_core::pricing::error::PricingError;
use moe_gps_core::trace::TraceHeader;

/// Who finds questions answerable and answers them.
///
/// The service has one, [`CostModel`](crate::app::advise::CostModel); tests of the service bring
/// others that are slow, wait to be canceled or panic.
pub trait Advisor: Send + Sync {
    /// Finds a question answerable with what its names lead to; may open traces, so it blocks.
    fn check(
        &self,
        question: ReadQuestion,
        references: &References,
    ) -> Result<CheckedQuestion, AdviceError>;
}

/// Answers a question that has been read; may take long, reports progress and ends early when
/// canceled.
pub type Work = Box<dyn FnOnce(&dyn Progress) -> Result<Advice, AdviceError> + Send>;

/// Follows a long computation, and may end it.
pub trait Progress: Sync {
    /// Told the share that is done (0 to 1) and the name of the phase, often.
    fn report(&self, done: f64, phase: &'static str);
    /// Checked often; once it says so the computation ends with [`AdviceError::Canceled`].
    fn cancel(&self) -> &Cancel {
        Cancel::NEVER
    }
}

/// Nobody follows.
pub struct Unobserved;

impl Progress for Unobserved {
    fn report(&self, _done: f64, _phase: &'static str) {}
}

/// What is known of a stored trace without reading its routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceFacts {
    /// Names it in requests.
    pub id: String,
    /// SHA-256 of its content: equal content, equal digest.
    pub digest: [u8; 32],
    /// Layers with routed experts.
    pub layers: u64,
    /// Experts per layer.
    pub experts: u64,
    /// Experts a token is routed to; 0 where only counts are known.
    pub top_k: u64,
    /// Routed tokens.
    pub tokens: u64,
    /// Sequences the tokens stand in; 0 where only counts are known.
    pub sequences: u64,
    /// Steps in time.
    pub steps: u64,
    /// Whether it says which token was routed, not only where to.
    pub has_token_ids: bool,
    /// The stored form.
    pub path: PathBuf,
    /// The embedding table beside it, where one is kept.
    pub embedding: Option<PathBuf>,
}

impl TraceFacts {
    /// What the header of the stored trace at `path` says of it.
    ///
    /// Its digest is that of all that the trace decides in an answer: the same bytes mean another
    /// trace when the number of experts is declared differently, and the embedding (here the
    /// SHA-256 of one put beside the trace) is an input of learned predictors.
    #[must_use]
    pub fn new(
        id: &str,
        header: &TraceHeader,
        path: PathBuf,
        embedding: Option<PathBuf>,
        embedding_digest: Option<&[u8]>,
    ) -> Self {
        let top_k = header.top_k.unwrap_or(0);
        let digest = Sha256::new()
            .chain_update(header.digest)
            .chain_update(header.experts.to_le_bytes())
            .chain_update(top_k.to_le_bytes())
            .chain_update(embedding_digest.unwrap_or_default());
        Self {
            id: id.to_owned(),
            digest: digest.finalize().into(),
            layers: header.n_layers() as u64,
            experts: u64::from(header.experts),
            top_k: u64::from(top_k),
            tokens: header.tokens,
            sequences: header.sequences,
            steps: header.steps,
            has_token_ids: header.has_token_ids,
            path,
            embedding,
        }
    }

    /// Whether a part can be held out: it is not one count matrix.
    #[must_use]
    pub const fn holds_out(&self) -> bool {
        self.sequences > 0 || self.steps > 1
    }

    /// That the stored form could not be read.
    pub(super) fn unread(&self, source: std::io::Error) -> AdviceError {
        AdviceError::Trace { id: self.id.clone(), source }
    }
}

/// The traces a question names, by id, as far as they are stored.
pub type KnownTraces = BTreeMap<String, TraceFacts>;

/// A question that has been read and found answerable, with the digest of all that decides its
/// answer.
pub struct CheckedQuestion {
    /// SHA-256 over version, revision, catalog and the checked question; equal questions, equal
    /// digest.
    pub digest: [u8; 32],
    /// The question as it is stored and echoed.
    pub request: Value,
    /// Catalog id or name of the model, for listing.
    pub model: String,
    /// Catalog id or name of the device, for listing.
    pub device: String,
    /// Traces the answer needs.
    pub trace_ids: Vec<String>,
    /// Memory that answering it takes, at most and about, bytes.
    pub memory_bytes: u64,
    /// Answers it.
    pub work: Work,
}

/// An answer: what is shown, and the placement plan beside it.
#[derive(Debug, Clone)]
pub struct Advice {
    /// The `result` of the wire format.
    pub result: Box<RawValue>,
    /// The part of it that listings show.
    pub recommendation: Box<RawValue>,
    /// Id of the recommended strategy, for listing.
    pub strategy: String,
    /// The placement answer, where the strategy has a plan.
    pub placement: Option<Box<RawValue>>,
}

/// Why there is no advice.
#[derive(Debug, thiserror::Error)]
pub enum AdviceError {
    /// The question is well-formed JSON but cannot be answered.
    #[error("the question breaks {} rule(s)", .0.len())]
    Refused(Vec<Violation>),
    /// The caller asked to stop.
    #[error("the computation was canceled")]
    Canceled,
    /// A law could not be applied.
    #[error(transparent)]
    Pricing(PricingError),
    /// The answer could not be written: our bug.
    #[error("the answer could not be written as JSON")]
    Written(#[from] serde_json::Error),
    /// A stored trace could not be read back.
    #[error("trace {id} could not be read")]
    Trace {
        /// Which trace.
        id: String,
        /// Why.
        source: std::io::Error,
    },
}

impl AdviceError {
    /// The same, seen from a request in which the question stands at `pointer`.
    #[must_use]
    pub(super) fn under(self, pointer: &str) -> Self {
        match self {
            Self::Refused(found) => {
                Self::Refused(found.into_iter().map(|one| one.under(pointer)).collect())
            }
            other => other,
        }
    }
}

impl From<Canceled> for AdviceError {
    fn from(_: Canceled) -> Self {
        Self::Canceled
    }
}

impl From<PricingError> for AdviceError {
    fn from(error: PricingError) -> Self {
        match error {
            PricingError::Canceled(_) => Self::Canceled,
            other => Self::Pricing(other),
        }
    }
}
