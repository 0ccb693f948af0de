//! Token-to-expert predictors, fitted on one part of a trace and scored on another.
//!
//! A predictor names, for every token and before its routers run, the k experts that each
//! layer will choose. It is fitted on the planning part only; what counts is its accuracy
//! on held-out tokens ([`score`]). The kinds are those of
//! [`PredictorKind`], one file each:
//!
//! | kind | rule | file |
//! | --- | --- | --- |
//! | `most_frequent` | per layer, the k most frequent experts | `predict/most_frequent.rs` |
//! | `by_token` | counts given the token id | `predict/by_token.rs` |
//! | `by_position` | counts given the position | `predict/by_position.rs` |
//! | `ffn` | embedding → 128 → 64 → experts of every layer | `predict/ffn.rs` |
//! | `lstm` | compress → two recurrent layers of 64 → local attention → experts | `predict/lstm.rs` |
//!
//! Source: MoE-GPS (arXiv 2506.07366), `cost-model` §6. Everything is seeded and sums are
//! made in a fixed order, so that a fit does not depend on the number of threads.

mod by_position;
mod by_token;
pub mod embedding;
mod ffn;
mod lookup;
mod lstm;
pub mod metric;
mod most_frequent;
mod network;
pub mod score;
pub mod tokens;
mod top;

use std::fmt::Debug;

pub use embedding::Embedding;
pub use tokens::Tokens;

use crate::cancel::{Cancel, Canceled};
use crate::question::PredictorKind;

pub use ffn::WIDTHS as FFN_WIDTHS;
pub use lstm::{DEPTH as LSTM_LAYERS, WIDTH as LSTM_WIDTH};

/// Tokens a learned predictor is fitted on at most; more do not pay for their time.
pub const LEARNED_TOKENS: usize = 65_536;

/// A fitted predictor.
pub trait Predictor: Debug + Send + Sync {
    /// The k experts it names for every token in every layer, `[layer][token][k]`.
    fn predict(&self, tokens: &Tokens, watch: &dyn Watch) -> Result<Vec<u16>, PredictError>;
}

/// Follows a fit, and may end it.
pub trait Watch: Sync {
    /// Told the share that is done, 0 to 1, often.
    fn progress(&self, done: f64);
    /// Checked often.
    fn cancel(&self) -> &Cancel;
}

/// Nobody follows.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _done: f64) {}

    fn cancel(&self) -> &Cancel {
        Cancel::NEVER
    }
}

/// Why a predictor could not be fitted or asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// There is nothing to fit on.
    #[error("there are no tokens to fit a predictor on")]
    NoTokens,
    /// The trace does not say which token was routed.
    #[error("the trace has no token ids; upload one that has, or fit `most_frequent`")]
    NoTokenIds,
    /// A learned predictor has no input.
    #[error("there is no embedding table; upload one beside the trace, or fit `by_token`")]
    NoEmbedding,
    /// A token that the embedding table does not know.
    #[error(
        "token id {0} has no row in the embedding table; upload a table of the whole vocabulary"
    )]
    UnknownToken(u32),
    /// The caller asked to stop.
    #[error(transparent)]
    Canceled(#[from] Canceled),
}

/// Fits a predictor on the planning part.
///
/// The learned kinds need the `embedding` rows of all tokens they are fitted on and later
/// asked for.
pub fn fit(
    kind: PredictorKind,
    planning: &Tokens,
    embedding: Option<&Embedding>,
    seed: u64,
    watch: &dyn Watch,
) -> Result<Box<dyn Predictor>, PredictError> {
    if planning.is_empty() {
        return Err(PredictError::NoTokens);
    }
    let embedding = || embedding.ok_or(PredictError::NoEmbedding);
    Ok(match kind {
        PredictorKind::MostFrequent => Box::new(most_frequent::fit(planning)),
        PredictorKind::ByToken => Box::new(by_token::fit(planning, watch)?),
        PredictorKind::ByPosition => Box::new(by_position::fit(planning, watch)?),
        PredictorKind::Ffn => Box::new(ffn::fit(planning, embedding()?, seed, watch)?),
        PredictorKind::Lstm => Box::new(lstm::fit(planning, embedding()?, seed, watch)?),
    })
}

/// Whether a kind needs an embedding table.
#[must_use]
pub const fn is_learned(kind: PredictorKind) -> bool {
    matches!(kind, PredictorKind::Ffn | PredictorKind::Lstm)
}

/// Whether a kind needs to know which token was routed.
#[must_use]
pub const fn needs_token_ids(kind: PredictorKind) -> bool {
    matches!(kind, PredictorKind::ByToken) || is_learned(kind)
}
