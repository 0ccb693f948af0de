//! What the end of a computation means for its job.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::app::advisor::{Advice, AdviceError};
use crate::app::error::AppError;
use crate::store::jobs::Outcome;
use crate::wire::job::Status;
use crate::wire::problem::Problem;

/// How a computation ended.
#[derive(Debug)]
pub(super) enum End {
    /// With something to store.
    Outcome(Box<Outcome>),
    /// Early, on request.
    Canceled,
}

/// The end that the advisor's answer means.
pub(super) fn of(answer: Result<Advice, AdviceError>) -> End {
    let outcome = match answer {
        Ok(advice) => succeeded(advice),
        Err(AdviceError::Canceled) => return End::Canceled,
        Err(AdviceError::Refused(violations)) => failed(
            &Problem::new(
                "invalid-question",
                "Invalid question",
                422,
                "the question was accepted, but its computation found it invalid; see violations",
            )
            .with_violations(violations),
        ),
        Err(AdviceError::Trace { id, source }) => {
            tracing::error!(trace.id = id, error = %source, "a stored trace cannot be read");
            failed(&Problem::new(
                "trace-unreadable",
                "Stored trace unreadable",
                500,
                format!("trace {id} could not be read back; upload it again and ask again"),
            ))
        }
        Err(other) => {
            tracing::error!(error = %other, "a computation failed");
            failed(&Problem::new(
                "internal",
                "Internal error",
                500,
                "the computation failed; this is a bug of the service, not of the question",
            ))
        }
    };
    End::Outcome(Box::new(outcome))
}

/// The end of a job that could not even be begun.
pub(super) fn unprepared(error: &AppError) -> Outcome {
    tracing::error!(error = %error, "a job could not be read back");
    failed(&Problem::new(
        "internal",
        "Internal error",
        500,
        "the stored question could not be read back; ask again",
    ))
}

/// The end of a computation that panicked.
pub(super) fn panicked() -> Outcome {
    failed(&Problem::new(
        "internal",
        "Internal error",
        500,
        "the computation panicked; this is a bug of the service, not of the question",
    ))
}

/// The problem of a job that was started too often, JSON.
pub(super) fn given_up(max_attempts: u32) -> String {
    text(&Problem::new(
        "given-up",
        "Job given up",
        500,
        format!("the computation was started {max_attempts} times and never ended; ask again"),
    ))
}

/// What is looked for in the recommendation within a result.
#[derive(Deserialize)]
struct Told {
    verdict: Option<String>,
}

fn succeeded(advice: Advice) -> Outcome {
    let text = |json: Box<RawValue>| Box::<str>::from(json).into_string();
    Outcome {
        status: Status::Succeeded,
        strategy: Some(advice.strategy),
        verdict: serde_json::from_str(advice.recommendation.get())
            .ok()
            .and_then(|told: Told| told.verdict),
        recommendation: Some(text(advice.recommendation)),
        result: Some(text(advice.result)),
        placement: advice.placement.map(text),
        problem: None,
    }
}

fn failed(problem: &Problem) -> Outcome {
    Outcome {
        status: Status::Failed,
        strategy: None,
        verdict: None,
        recommendation: None,
        result: None,
        placement: None,
        problem: Some(text(problem)),
    }
}

fn text(problem: &Problem) -> String {
    // A struct of texts and numbers always serialises.
    serde_json::to_string(problem).unwrap_or_default()
}
