//! The seam between the service and the advice it gives.

use std::collections::BTreeMap;

use serde_json::Value;

use super::advise::{Advice, AdviceError, CheckedQuestion, Progress, TraceFacts};

/// The traces a question names, by id, as far as they are stored.
pub type KnownTraces = BTreeMap<String, TraceFacts>;

/// Who reads questions and answers them.
///
/// The service has one, [`super::cost_model::CostModel`]; tests of the service bring others that are slow,
/// wait to be canceled or fall over.
pub trait Advisor: Send + Sync {
    /// Reads a question and finds it answerable; fast, because the client waits.
    fn check(&self, request: &Value, traces: &KnownTraces) -> Result<CheckedQuestion, AdviceError>;

    /// Answers it; may take long, reports progress and ends early when canceled.
    fn advise(
        &self,
        question: &CheckedQuestion,
        traces: &KnownTraces,
        progress: &dyn Progress,
    ) -> Result<Advice, AdviceError>;
}
