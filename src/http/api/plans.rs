//! What is made of a finished recommendation: its plan, how to launch it, and step times.

#![expect(unused_qualifications, reason = "what utoipa writes for `params` is qualified")]

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::error::AppError;
use crate::app::plan_file::MOUNT;
use crate::app::recommendations as app;
use crate::app::step_times::{Grid, step_times};
use crate::http::extract::QueryOf;
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::wire::answer::{LaunchBody, PlacementFile};
use crate::wire::field::{OneOf, named};
use crate::wire::names::EngineName;
use crate::wire::problem::Problem;
use crate::wire::violation::Violation;
use moe_gps_core::engines;
use moe_gps_core::formats::placement::FORMATS;

/// The batches whose step times are wanted: every number of `sequences` with every one of `tokens`
/// that it divides (prefill), and with every one of `kv` (decode).
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StepTimesQuery {
    /// Sequences of a step, numbers with commas between them.
    #[param(required = true)]
    pub sequences: Option<String>,
    /// New tokens of a step in prefill, likewise.
    pub tokens: Option<String>,
    /// Tokens in the cache of a sequence in decode, likewise.
    pub kv: Option<String>,
}

/// Prices the steps of every strategy over a grid of batches, for serving simulators.
///
/// The question of the recommendation with other workloads, at most 256 of them; a row per batch and
/// strategy that can be run: phase, tokens, sequences, cache length, strategy, predictor, seconds.
#[utoipa::path(get, path = "/v1/recommendations/{id}/step-times", tag = "recommendations",
    params(("id" = String, Path, description = "As the answer to the question names it"),
           StepTimesQuery),
    responses(
        (status = 200, description = "The table", body = String, content_type = "text/csv"),
        (status = 404, description = "There is no such recommendation", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "A trace of the question is gone", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "No grid, or a batch that cannot be", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "It took longer than a request may", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_step_times(
    State(service): State<Service>,
    Path(id): Path<String>,
    QueryOf(query): QueryOf<StepTimesQuery>,
) -> Result<Response, Failure> {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let (tokens, sequences, kv) = (of(&query.tokens), of(&query.sequences), of(&query.kv));
    let grid = Grid::read(&tokens, &sequences, &kv).map_err(Failure::invalid)?;
    let table = step_times(&service.app, &id, grid).await?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], table).into_response())
}

named! {
    /// The format of a plan.
    PlanFormat: OneOf(&FORMATS.map(|format| ((), format.id)))
}

/// The shape in which a plan is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PlacementQuery {
    /// `json` (the default), or the file an engine loads: `sglang`, `trtllm`, `vllm_ascend`.
    #[param(value_type = Option<PlanFormat>, inline)]
    pub format: Option<String>,
}

/// Fetches the placement plan of a finished recommendation.
#[utoipa::path(get, path = "/v1/recommendations/{id}/placement", tag = "recommendations",
    params(("id" = String, Path, description = "As the answer to the question names it"),
           PlacementQuery),
    responses(
        (status = 200, description = "The plan, per layer", content(
            (PlacementFile = "application/json"), (String = "application/yaml"))),
        (status = 404, description = "There is no such recommendation, or it has no plan",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not succeeded (yet), or its plan cannot be \
         written in this format", body = Problem,
         content_type = "application/problem+json"),
        (status = 422, description = "Unknown format", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_placement(
    State(service): State<Service>,
    Path(id): Path<String>,
    QueryOf(query): QueryOf<PlacementQuery>,
) -> Result<Response, Failure> {
    let format = query.format.as_deref().unwrap_or("json");
    let (media_type, plan) = app::placement(&service.app, &id, format).await?;
    Ok(([(header::CONTENT_TYPE, media_type)], plan).into_response())
}

/// How a launch is written.
#[derive(Debug, Clone, Copy)]
enum Written {
    /// JSON with the arguments one by one, and all beside them.
    Argv,
    /// One quoted line.
    Shell,
    /// YAML.
    Yaml,
}

const SHAPES: [(Written, &str); 3] =
    [(Written::Argv, "argv"), (Written::Shell, "shell"), (Written::Yaml, "yaml")];

named! {
    /// How a launch is written.
    LaunchShape: OneOf(&SHAPES)
}

/// What a launch is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LaunchQuery {
    /// `vllm`, `sglang`, `tensorrt-llm` or `vllm-ascend`; the question's own if left out.
    #[param(value_type = Option<EngineName>, inline)]
    pub engine: Option<String>,
    /// `argv` (JSON with everything, the default), `shell` (one quoted line) or `yaml` (the fragment
    /// of an engine that is configured so).
    #[param(value_type = Option<LaunchShape>, inline)]
    pub format: Option<String>,
    /// Where the engine finds its placement file; `/etc/moe-gps/placement` if left out.
    pub path: Option<String>,
}

/// Says how to start an engine so that it follows a finished recommendation.
///
/// Only what concerns the balance of experts: arguments to add to those the engine has. Where the
/// advice is `none` they switch its balancer off; where the map in force is kept they load it, and
/// change nothing else.
#[utoipa::path(get, path = "/v1/recommendations/{id}/launch", tag = "recommendations",
    params(("id" = String, Path, description = "As the answer to the question names it"),
           LaunchQuery),
    responses(
        (status = 200, description = "The arguments", content(
            (LaunchBody = "application/json"), (String = "text/plain"),
            (String = "application/yaml"))),
        (status = 404, description = "There is no such recommendation, or it has no plan",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not succeeded (yet), or the engine has no YAML \
         configuration", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Unknown engine, or none named by the question either",
         body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn get_launch(
    State(service): State<Service>,
    Path(id): Path<String>,
    QueryOf(query): QueryOf<LaunchQuery>,
) -> Result<Response, Failure> {
    let asked = query.format.as_deref().unwrap_or("argv");
    let Some((written, _)) = SHAPES.iter().find(|(_, name)| *name == asked) else {
        let detail = format!("format is {asked}; it must be argv, shell or yaml");
        return Err(Failure::invalid(vec![Violation::new("/format", "one_of", detail)]));
    };
    if let Some(engine) = query.engine.as_deref()
        && engines::by_framework(engine).is_none()
    {
        let names: Vec<&str> = engines::names().into_iter().map(|(_, name)| name).collect();
        let detail = format!("engine is {engine}; it must be one of {}", names.join(", "));
        return Err(Failure::invalid(vec![Violation::new("/engine", "one_of", detail)]));
    }
    let path = query.path.as_deref().unwrap_or(MOUNT);
    let launch = app::launch(&service.app, &id, query.engine.as_deref(), path).await?;
    Ok(match written {
        Written::Argv => Json(launch).into_response(),
        Written::Shell => (TEXT, launch.shell + "\n").into_response(),
        Written::Yaml => {
            let yaml = launch.yaml.ok_or_else(|| {
                AppError::Conflict(format!(
                    "{} takes no YAML for this; ask with format=argv or format=shell",
                    launch.engine
                ))
            })?;
            ([(header::CONTENT_TYPE, "application/yaml")], yaml).into_response()
        }
    })
}

const TEXT: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
