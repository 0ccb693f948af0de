//! The catalog: models and links, every number with its source.

use axum::Json;
use axum::extract::Path;

use crate::app::catalog as app;
use crate::http::problem::Failure;
use crate::wire::catalog::{LinkBody, LinkList, ModelBody, ModelList};
use crate::wire::problem::Problem;
use moe_gps_core::catalog::{Catalog, UnknownId};

/// Lists the models.
#[utoipa::path(get, path = "/v1/models", tag = "catalog",
    responses((status = 200, description = "All of them", body = ModelList)))]
pub async fn list_models() -> Result<Json<ModelList>, Failure> {
    Ok(Json(app::list_models(catalog()?)))
}

/// Fetches one model.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "catalog",
    params(("id" = String, Path, description = "Catalog id")),
    responses(
        (status = 200, description = "The model", body = ModelBody),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn get_model(Path(id): Path<String>) -> Result<Json<ModelBody>, Failure> {
    let entry = catalog()?.model(&id).map_err(|error| unknown(&error))?;
    Ok(Json(app::model_body(entry)))
}

/// Lists the links.
#[utoipa::path(get, path = "/v1/links", tag = "catalog",
    responses((status = 200, description = "All of them", body = LinkList)))]
pub async fn list_links() -> Result<Json<LinkList>, Failure> {
    Ok(Json(app::list_links(catalog()?)))
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
    let entry = catalog()?.link(&id).map_err(|error| unknown(&error))?;
    Ok(Json(app::link_body(entry)))
}

fn catalog() -> Result<&'static Catalog, Failure> {
    Catalog::embedded().map_err(|error| Failure::internal(error.to_string()))
}

fn unknown(unknown: &UnknownId) -> Failure {
    Failure::not_found(unknown.to_string())
}
