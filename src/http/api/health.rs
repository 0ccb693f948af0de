//! Probes and metrics.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{deployments, health};
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::telemetry::metrics::{self as names, Sample};
use crate::wire::problem::Problem;

/// How long the database may take to prove that it can be written.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// What a probe answers when all is well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `live` or `ready`.
    #[schema(examples("ready"))]
    pub status: &'static str,
}

/// Says that the process is alive, also while it drains.
#[utoipa::path(get, path = "/livez", tag = "operations",
    responses((status = 200, description = "The process is alive", body = Health)))]
pub async fn livez() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Says whether the service takes questions: database writable, workers alive, not draining.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "The service takes questions", body = Health),
        (status = 503, description = "It does not, with Retry-After", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn readyz(State(service): State<Service>) -> Result<Json<Health>, Failure> {
    match tokio::time::timeout(PROBE_TIME, health::obstacle(&service.app)).await {
        Ok(None) => Ok(Json(Health { status: "ready" })),
        Ok(Some(obstacle)) => Err(Failure::not_ready(obstacle)),
        Err(_) => Err(Failure::not_ready("the database does not answer")),
    }
}

/// What is told of every deployment. Their names are told on this machine alone, or to whom a token
/// lets in; else their numbers stand for them.
async fn of_deployments(service: &Service) -> Result<Vec<Sample>, Failure> {
    let is_named = service.is_local || (service.guard_metrics && service.app.gate.is_closed());
    let mut samples = Vec::new();
    for (nth, one) in deployments::measured(&service.app).await?.into_iter().enumerate() {
        let name = if is_named { one.name } else { format!("unnamed-{}", nth + 1) };
        let mut tell = |metric, value: Option<f64>, more: &[(&'static str, &str)]| {
            let more = more.iter().map(|(label, text)| (*label, (*text).to_owned()));
            let labels = std::iter::once(("deployment", name.clone())).chain(more).collect();
            samples.extend(value.map(|value| Sample { name: metric, labels, value }));
        };
        for condition in &one.conditions {
            for status in ["True", "False", "Unknown"] {
                let labels = [("type", &*condition.kind), ("status", status)];
                let value = f64::from(u8::from(condition.status == status));
                tell(names::DEPLOYMENT_CONDITION, Some(value), &labels);
            }
        }
        tell(names::DEPLOYMENT_GAIN, one.gain_over_current, &[]);
        tell(names::DEPLOYMENT_IMBALANCE, one.imbalance, &[]);
        tell(names::DEPLOYMENT_LOADS, one.last_loads_ms.map(|ms| ms as f64 / 1e3), &[]);
    }
    Ok(samples)
}

/// Metrics as Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Prometheus text", body = String,
               content_type = "text/plain")))]
pub async fn metrics(State(service): State<Service>) -> Result<Response, Failure> {
    for (status, count) in health::job_counts(&service.app).await? {
        metrics::gauge!(names::JOBS, "status" => status.as_str()).set(count as f64);
    }
    let space = service.app.store.space().await?;
    for (name, bytes) in [
        (names::DATABASE_BYTES, space.database_bytes),
        (names::DATABASE_FREE_BYTES, space.database_free_bytes),
        (names::DISK_BYTES, space.disk_bytes),
        (names::DISK_FREE_BYTES, space.disk_free_bytes),
    ] {
        metrics::gauge!(name).set(bytes as f64);
    }
    metrics::gauge!(names::WORKERS_IDLE).set(service.app.board.n_idle() as f64);
    let mut text = names::recorder().render();
    text.push_str(&names::of_deployments(&of_deployments(&service).await?));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
