//! What the service tells about itself: logs and metrics.

pub mod logs;
pub mod metrics;
