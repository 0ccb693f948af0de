//! Stands where the program was built without a sender of spans.

use tracing::Span;
use tracing_subscriber::{Layer, Registry};

/// Nothing.
#[expect(clippy::unnecessary_wraps, reason = "as where spans are sent")]
pub(super) fn layer() -> Result<Option<Box<dyn Layer<Registry> + Send + Sync>>, String> {
    Ok(None)
}

/// Says what is not done of what the environment asks for.
pub(super) fn say_what_is_not() {
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
        tracing::warn!(
            "no spans are sent to OTEL_EXPORTER_OTLP_ENDPOINT: this program was built without \
             `--features replicas`"
        );
    }
}

/// Does nothing.
pub fn follow(_span: &Span, _traceparent: &str) {}

/// Does nothing.
pub fn link(_span: &Span, _traceparent: &str) {}

/// Nothing.
#[must_use]
pub fn current() -> Option<String> {
    None
}

/// Does nothing.
pub(super) fn finish() {}
