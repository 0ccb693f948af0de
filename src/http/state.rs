//! What every handler works with.

use std::sync::Arc;
use std::time::Duration;

use crate::app::context::App;
use crate::config::Limits;
use crate::http::upload::Pace;

/// What every handler works with; cheap to clone.
#[derive(Clone)]
pub struct Service {
    /// The use cases' context.
    pub app: Arc<App>,
    /// What a client may send.
    pub limits: Arc<Limits>,
    /// Whether it listens to this machine only; then it is asked under the names of this machine
    /// and its own.
    pub is_local: bool,
    /// Names under which the service may be asked, and whose pages may ask it.
    pub own_names: Arc<[String]>,
    /// Whether `/metrics` needs a token, too.
    pub guard_metrics: bool,
    /// The API description, serialised once.
    pub openapi: Arc<str>,
}

impl Service {
    /// How fast an upload must come.
    pub(super) fn pace(&self) -> Pace {
        let least_bytes_per_s = self.limits.min_upload_bytes_per_s;
        Pace { least_bytes_per_s, over: self.body_timeout() }
    }

    /// How long a question's body may take to arrive.
    #[must_use]
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.limits.body_timeout_s.max(0.001))
    }
}
