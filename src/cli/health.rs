//! `moe-gps health`: asks the running service whether it is ready, as its supervisor would.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::http::{StatusCode, Uri};

use crate::cli::fetch::get;
use crate::store::ADDRESS;
use crate::wire::problem::Problem;

/// Above the 2 s in which the service says that its database does not answer, and below the 30 s
/// after which Docker gives a check up.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Health {
    /// Directory of the database and the traces, in which the running service says where it listens.
    #[arg(long, env = "MOE_GPS_DATA_DIR", default_value = "./data")]
    data_dir: PathBuf,
    /// Ask the service at this address instead, `host:port`.
    #[arg(long)]
    address: Option<String>,
}

/// Fails where no service answers, or one that is not ready.
pub(super) fn run(command: &Health, out: &mut impl Write) -> Result<()> {
    let address = match &command.address {
        Some(address) => address.clone(),
        None => reachable(announced(&command.data_dir)?).to_string(),
    };
    let uri: Uri = format!("http://{address}/readyz")
        .parse()
        .with_context(|| format!("--address is {address}; it must be host:port"))?;
    let (status, body) = get(&uri, PATIENCE)?;
    if status != StatusCode::OK {
        let problem = serde_json::from_slice(&body).map(|problem: Problem| problem.detail);
        let why = problem.unwrap_or_else(|_| format!("{uri} answers {status}"));
        bail!("the service at {address} is not ready: {why}");
    }
    writeln!(out, "the service at {address} is ready")?;
    Ok(())
}

/// Where the service of a data directory listens, as it says once it is ready.
fn announced(data_dir: &Path) -> Result<SocketAddr> {
    let file = data_dir.join(ADDRESS);
    let text = std::fs::read_to_string(&file).with_context(|| {
        format!(
            "no service has become ready on {}, because {} cannot be read; name its directory with \
             --data-dir, or its address with --address",
            data_dir.display(),
            file.display()
        )
    })?;
    text.trim().parse().with_context(|| format!("{} holds no address", file.display()))
}

/// Where a service that listens at all addresses is asked from its own machine.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let mut address = listening;
    if listening.ip().is_unspecified() {
        address.set_ip(match listening {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_at_all_addresses_is_asked_at_its_own_machine() {
        for (listening, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), asked);
        }
    }
}
