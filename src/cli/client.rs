//! The service that `deployment` and `watch` ask.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use axum::http::{HeaderName, Method, StatusCode, Uri, header};
use clap::Args;
use serde::de::DeserializeOwned;

use crate::cli::fetch::{self, Call, Reply};
use crate::cli::refused::Refused;
use crate::wire::problem::Problem;

/// A service answers within a second, keeps a waiting client for a minute, and takes an upload in
/// within minutes.
const PATIENCE: Duration = Duration::from_mins(10);

/// Which service is asked.
#[derive(Debug, Clone, Args)]
pub(super) struct Service {
    /// The address of the service.
    #[arg(long, env = "MOE_GPS_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The token, where the service asks for one.
    #[arg(long, env = "MOE_GPS_TOKEN", default_value = "", hide_default_value = true)]
    #[arg(hide_env_values = true)]
    token: String,
}

impl Service {
    /// Sends a request; a problem is told in its own words.
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        headers: Vec<(HeaderName, String)>,
        body: Vec<u8>,
    ) -> Result<Reply> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let uri: Uri = url.parse().with_context(|| format!("--url: {url} is no address"))?;
        if uri.scheme_str() != Some("http") {
            bail!("--url: {url} does not begin with http://, and nothing else is understood here");
        }
        let mut headers = headers;
        if !self.token.is_empty() {
            headers.push((header::AUTHORIZATION, format!("Bearer {}", self.token)));
        }
        let reply = fetch::send(&uri, Call { method, headers, body }, PATIENCE)
            .context("the service is named by --url, or MOE_GPS_URL")?;
        if reply.status.is_success() || reply.status == StatusCode::NOT_MODIFIED {
            return Ok(reply);
        }
        let problem: Problem = serde_json::from_slice(&reply.body)
            .map_err(|_| anyhow!("{url} answers {}, which is none of moe-gps", reply.status))?;
        match problem.violations {
            violations if violations.is_empty() => bail!("{}", problem.detail),
            violations => Err(Refused::new("the request", violations).into()),
        }
    }

    /// Fetches and reads what a path names.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let reply = self.send(Method::GET, path, json_wanted(), Vec::new())?;
        Ok(serde_json::from_slice(&reply.body)?)
    }

    /// Sends JSON and reads the answer.
    pub(super) fn put<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T> {
        let typed = vec![(header::CONTENT_TYPE, "application/json".to_owned())];
        let reply = self.send(Method::PUT, path, typed, body)?;
        Ok(serde_json::from_slice(&reply.body)?)
    }
}

/// The header of a request for JSON.
pub(super) fn json_wanted() -> Vec<(HeaderName, String)> {
    vec![(header::ACCEPT, "application/json".to_owned())]
}
