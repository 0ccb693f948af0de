//! Sweeps: who wins over a grid of one or two quantities, answered at once.

use axum::Json;
use axum::extract::State;

use crate::app::sweep as app;
use crate::http::extract::JsonBody;
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::wire::problem::Problem;
use crate::wire::sweep::{SweepAnswer, SweepRequest};

/// Sweeps one or two quantities of a question: which strategy wins in every cell.
///
/// Analytic, at most 10,000 cells; nothing is stored. `winner[i][j]` belongs to value `i` of
/// the first axis and `j` of the second; with one axis there is one row, `winner[0][j]`.
#[utoipa::path(post, path = "/v1/sweeps", tag = "sweeps",
    request_body(content = SweepRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "Every cell", body = SweepAnswer),
        (status = 422, description = "Meaningless, with every violation", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "It took longer than a request may, with Retry-After",
         body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn sweep(
    State(service): State<Service>,
    body: JsonBody,
) -> Result<Json<SweepAnswer>, Failure> {
    Ok(Json(app::sweep(&service.app, body.value).await?))
}
