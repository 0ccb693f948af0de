//! The whole surface: every path the service answers.

use axum::Router;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::api::{
    catalog, deployments, devices, health, plans, recommendations, report, sweeps, traces,
};
use crate::http::openapi::{self, Description};
use crate::http::state::Service;
use crate::http::{layers, page, pages};

/// The documented operations except uploads, which may take their time.
fn quick() -> OpenApiRouter<Service> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(
            recommendations::ask_recommendation,
            recommendations::list_recommendations,
            recommendations::delete_recommendations
        ))
        .routes(routes!(
            recommendations::get_recommendation,
            recommendations::delete_recommendation
        ))
        .routes(routes!(recommendations::compare_recommendations))
        .routes(routes!(recommendations::put_labels))
        .routes(routes!(recommendations::report_outcome))
        .routes(routes!(plans::get_placement))
        .routes(routes!(plans::get_launch))
        .routes(routes!(plans::get_step_times))
        .routes(routes!(sweeps::sweep))
        .routes(routes!(deployments::list_deployments))
        .routes(routes!(
            deployments::put_deployment,
            deployments::get_deployment,
            deployments::delete_deployment
        ))
        .routes(routes!(deployments::put_current))
        .routes(routes!(deployments::list_judgements))
        .routes(routes!(traces::get_trace, traces::delete_trace))
        .routes(routes!(catalog::list_models, catalog::register_model))
        .routes(routes!(catalog::get_model, catalog::delete_model))
        .routes(routes!(devices::list_devices, devices::register_device))
        .routes(routes!(devices::get_device, devices::delete_device))
        .routes(routes!(catalog::list_links))
        .routes(routes!(catalog::get_link))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// Uploads and their collection, and what reads a whole trace.
fn uploads() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(traces::upload_trace, traces::list_traces))
        .routes(routes!(traces::put_embedding))
        .routes(routes!(deployments::post_loads))
        .routes(routes!(report::get_report))
}

/// Every documented operation.
pub(super) fn documented() -> OpenApiRouter<Service> {
    quick().merge(uploads())
}

/// Other names of the probes, that some cluster tools ask for.
fn aliases() -> Router<Service> {
    Router::new()
        .route("/live", get(health::livez))
        .route("/health", get(health::livez))
        .route("/healthz", get(health::livez))
        .route("/ready", get(health::readyz))
}

/// The service as one router; a slash at the end of a path changes nothing.
pub fn router(service: Service) -> Router {
    openapi::declare_operations();
    let (quick, _) = quick().split_for_parts();
    let (uploads, _) = uploads().split_for_parts();
    let quick = quick.merge(aliases()).merge(page::routes()).merge(pages::routes());
    let uploads = uploads.merge(pages::uploads());
    let routes = layers::limit_time(quick, &service.limits).merge(uploads);
    let routes = layers::wrap(routes, &service).with_state(service);
    // Around the routes, because it changes which one is taken.
    Router::new().fallback_service(layers::without_slash(routes))
}
