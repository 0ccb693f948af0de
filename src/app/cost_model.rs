//! The service's advisor: the cost model behind the [`Advisor`] seam.

use serde_json::Value;

use crate::app::advise;
use crate::app::advisor::{AdviceError, Advisor, CheckedQuestion, KnownTraces};

/// Answers with the cost model.
#[derive(Debug, Clone, Copy, Default)]
pub struct CostModel;

impl Advisor for CostModel {
    fn check(&self, request: &Value, traces: &KnownTraces) -> Result<CheckedQuestion, AdviceError> {
        advise::check(request, traces)
    }
}
