//! The service's advisor: the cost model behind the [`Advisor`] seam.

use serde_json::Value;

use super::advise;
use super::advisor::{Advice, AdviceError, Advisor, CheckedQuestion, KnownTraces, Progress};

/// Answers with the cost model.
#[derive(Debug, Clone, Copy, Default)]
pub struct CostModel;

impl Advisor for CostModel {
    fn check(&self, request: &Value, traces: &KnownTraces) -> Result<CheckedQuestion, AdviceError> {
        advise::check(request, traces)
    }

    fn advise(
        &self,
        question: &CheckedQuestion,
        traces: &KnownTraces,
        progress: &dyn Progress,
    ) -> Result<Advice, AdviceError> {
        advise::advise(question, traces, progress)
    }
}
