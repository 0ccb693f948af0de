//! Devices: those of the catalog, and profiles that clients register.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use crate::app::devices as app;
use crate::app::error::AppError;
use crate::http::extract::DocumentBody;
use crate::http::problem::Failure;
use crate::http::state::Service;
use crate::wire::catalog::{DeviceBody, DeviceList, DeviceProfile};
use crate::wire::problem::Problem;

/// Lists the devices, shipped and registered.
#[utoipa::path(get, path = "/v1/devices", tag = "catalog",
    responses((status = 200, description = "All of them", body = DeviceList)))]
pub async fn list_devices(State(service): State<Service>) -> Result<Json<DeviceList>, Failure> {
    Ok(Json(app::list(&service.app).await?))
}

/// Registers a device profile, the fields of a catalog file as `calibrate` writes it.
///
/// The id inside it names it as `cluster.device` of questions. The same content again is
/// the same device.
#[utoipa::path(post, path = "/v1/devices", tag = "catalog",
    request_body(
        description = "The profile, as JSON or as the TOML file",
        content((DeviceProfile = "application/json"), (String = "application/toml"))),
    responses(
        (status = 201, description = "Kept; Location names it", body = DeviceBody,
         headers(("Location" = String, description = "Path of the device"))),
        (status = 200, description = "Was kept before", body = DeviceBody,
         headers(("Location" = String, description = "Path of the device"))),
        (status = 400, description = "Not JSON or TOML", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "The id is that of a shipped device, or of one with other \
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
pub async fn register_device(
    State(service): State<Service>,
    DocumentBody(document): DocumentBody,
) -> Result<Response, Failure> {
    let kept = app::register(&service.app, document).await.map_err(|error| match error {
        AppError::Refused(violations) => Failure::invalid_device(violations),
        other => other.into(),
    })?;
    let path = format!("/v1/devices/{}", kept.body.id);
    super::kept(kept.created, &path, kept.body)
}

/// Fetches one device.
#[utoipa::path(get, path = "/v1/devices/{id}", tag = "catalog",
    params(("id" = String, Path, description = "Catalog id, or that of a registered profile")),
    responses(
        (status = 200, description = "The device", body = DeviceBody),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "It was registered, and this version cannot read it",
         body = Problem, content_type = "application/problem+json"),
    ))]
pub async fn get_device(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Json<DeviceBody>, Failure> {
    Ok(Json(app::fetch(&service.app, &id).await?))
}

/// Deletes a registered device; accepted questions are answered with what it was.
#[utoipa::path(delete, path = "/v1/devices/{id}", tag = "catalog",
    params(("id" = String, Path, description = "That of a registered profile")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = Problem,
         content_type = "application/problem+json"),
        (status = 409, description = "It is shipped", body = Problem,
         content_type = "application/problem+json"),
    ))]
pub async fn delete_device(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    app::delete(&service.app, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
