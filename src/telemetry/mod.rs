//! What the service tells about itself: logs, metrics and spans.

pub mod logs;
pub mod metrics;
#[cfg(feature = "replicas")]
pub mod spans;
#[cfg(not(feature = "replicas"))]
#[path = "no_spans.rs"]
pub mod spans;
