//! The handlers, one file per resource: extract, call `app`, answer.

pub mod catalog;
pub mod deployments;
pub mod devices;
pub mod health;
pub mod plans;
pub mod recommendations;
pub mod report;
pub mod sweeps;
pub mod traces;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::http::problem::Failure;

/// A path as the value of `Location`.
fn location(path: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::try_from(path).map_err(|error| Failure::internal(error.to_string()))
}

/// What is kept under a path: 201 where it was not before, else 200.
fn kept(created: bool, path: &str, body: impl Serialize) -> Result<Response, Failure> {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::LOCATION, location(path)?)], Json(body)).into_response())
}
