//! Stands where the program was built without a sender of spans.

use tracing::Span;
use tracing_subscriber::{Layer, Registry};

/// Says so where somebody is named to whom spans are to be sent.
pub(super) fn layer() -> Result<Option<Box<dyn Layer<Registry> + Send + Sync>>, String> {
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
        return Err(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and this program was built without a sender \
                    of spans; build it with `--features replicas`, or unset it"
                .to_owned(),
        );
    }
    Ok(None)
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
