//! The API page at `/docs` and the description it shows, without any outside address.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::decompression::DecompressionLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::http::state::Service;

/// `/docs` and `/openapi.json`.
pub(super) fn routes() -> Router<Service> {
    let page: Router<Service> =
        SwaggerUi::new("/docs").config(Config::from("/openapi.json")).into();
    // Its files are compressed in the program, and not every client takes them so.
    page.layer(DecompressionLayer::new()).route("/openapi.json", get(description))
}

async fn description(State(service): State<Service>) -> Response {
    let body = service.openapi.to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
