//! The catalog: models, shipped and registered, and links, every number with its source.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use crate::app::error::AppError;
use crate::app::{catalog as app, models};
use crate::http::extract::DocumentBody;
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::wire::catalog::{LinkBody, LinkList, ModelBody, ModelConfig, ModelList};
use crate::wire::problem::Problem;
use moe_gps_core::catalog::{Catalog, UnknownId};

/// Lists the models, shipped and registered.
#[utoipa::path(get, path = "/v1/models", tag = "catalog",
    responses((status = 200, description = "All of them", body = ModelList)))]
pub async fn list_models(State(service): State<Service>) -> Result<Json<ModelList>, Failure> {
    Ok(Json(models::list(&service.app).await?))
}

/// Registers a model: an `id` beside its `config`, or among the fields of its `config.json`.
///
/// The id names it as `model` of questions. The same content again is the same model.
#[utoipa::path(post, path = "/v1/models", tag = "catalog",
    request_body(
        description = "The model, as JSON or TOML",
        content((ModelConfig = "application/json"), (String = "application/toml"))),
    responses(
        (status = 201, description = "Kept; Location names it", body = ModelBody,
         headers(("Location" = String, description = "Path of the model"))),
        (status = 200, description = "Was kept before", body = ModelBody,
         headers(("Location" = String, description = "Path of the model"))),
        (status = 400, description = "Not JSON or TOML", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "The id is that of a shipped model, or of one with other \
         content; or as many are kept as may be", body = Problem,
         content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = Problem,
         content_type = "application/problem+json"),
        (status = 415, description = "Not sent as application/json or application/toml",
         body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Meaningless, with what is wrong", body = Problem,
         content_type = "application/problem+json"),
        (status = 503, description = "The database cannot be written, with Retry-After",
         body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn register_model(
    State(service): State<Service>,
    DocumentBody(document): DocumentBody,
) -> Result<Response, Failure> {
    let kept = models::register(&service.app, document).await.map_err(|error| match error {
        AppError::Refused(violations) => Failure::invalid_model(violations),
        other => other.into(),
    })?;
    let path = format!("/v1/models/{}", kept.body.id);
    super::kept(kept.created, &path, kept.body)
}

/// Fetches one model.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "catalog",
    params(("id" = String, Path, description = "Catalog id, or that of a registered model")),
    responses(
        (status = 200, description = "The model", body = ModelBody),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "It was registered, and this version cannot read it",
         body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn get_model(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Json<ModelBody>, Failure> {
    Ok(Json(models::fetch(&service.app, &id).await?))
}

/// Deletes a registered model; accepted questions are answered with what it was.
#[utoipa::path(delete, path = "/v1/models/{id}", tag = "catalog",
    params(("id" = String, Path, description = "That of a registered model")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "It is shipped", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn delete_model(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    models::delete(&service.app, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the links.
#[utoipa::path(get, path = "/v1/links", tag = "catalog",
    responses((status = 200, description = "All of them", body = LinkList)))]
pub async fn list_links() -> Result<Json<LinkList>, Failure> {
    Ok(Json(app::list_links(Catalog::embedded())))
}

/// Fetches one link.
#[utoipa::path(get, path = "/v1/links/{id}", tag = "catalog",
    params(("id" = String, Path, description = "Catalog id")),
    responses(
        (status = 200, description = "The link", body = LinkBody),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_link(Path(id): Path<String>) -> Result<Json<LinkBody>, Failure> {
    let entry = Catalog::embedded().link(&id).map_err(|error| unknown(&error))?;
    Ok(Json(app::link_body(entry)))
}

fn unknown(unknown: &UnknownId) -> Failure {
    Failure::not_found(unknown.to_string())
}
