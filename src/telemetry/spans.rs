//! Spans of requests and computations, sent to a collector (OTLP) where
//! `OTEL_EXPORTER_OTLP_ENDPOINT` names one. The other variables of OpenTelemetry hold, too:
//! `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`.

use std::collections::HashMap;
use std::sync::OnceLock;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};

const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
const HEADER: &str = "traceparent";

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// What sends spans, where somebody is named to whom.
pub(super) fn layer() -> Result<Option<Box<dyn Layer<Registry> + Send + Sync>>, String> {
    if ENDPOINTS.iter().all(|name| std::env::var_os(name).is_none()) {
        return Ok(None);
    }
    // Another part of the program may have said so before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder().with_http().build();
    let exporter = exporter.map_err(|error| format!("spans cannot be sent: {error}"))?;
    let resource = Resource::builder().with_service_name(
        std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "moe-gps".to_owned()),
    );
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.with_attribute(version).build())
        .build();
    let tracer = provider.tracer("moe-gps");
    // The collector has our own spans, whatever is logged.
    let own = Targets::new().with_target("moe_gps", LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_filter(own);
    let _ = PROVIDER.set(provider);
    Ok(Some(Box::new(layer)))
}

/// Nothing is left out.
pub(super) fn say_what_is_not() {}

/// Makes the span of a client's the parent of this one.
pub fn follow(span: &Span, traceparent: &str) {
    if PROVIDER.get().is_some() {
        let context = context(traceparent);
        // Fails only where nothing sends spans.
        let _ = span.set_parent(context);
    }
}

/// Links this span to another one, of which it is no part.
pub fn link(span: &Span, traceparent: &str) {
    if PROVIDER.get().is_some() {
        span.add_link(context(traceparent).span().span_context().clone());
    }
}

/// The span that is entered, as a header names it.
#[must_use]
pub fn current() -> Option<String> {
    PROVIDER.get()?;
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
    headers.remove(HEADER)
}

/// Sends what is left.
pub(super) fn finish() {
    if let Some(provider) = PROVIDER.get() {
        // Nobody is left to tell.
        let _ = provider.shutdown();
    }
}

fn context(traceparent: &str) -> opentelemetry::Context {
    let headers = HashMap::from([(HEADER.to_owned(), traceparent.to_owned())]);
    TraceContextPropagator::new().extract(&headers)
}
