//! The log: events on standard output, as lines for people or as JSON.

use std::io::{IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Starts the log; a filter that cannot be read is told.
pub fn start(settings: &Log) -> Result<(), String> {
    let filter: Targets = settings
        .log
        .parse()
        .map_err(|error| format!("log filter {:?} cannot be read: {error}", settings.log))?;
    let builder = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE);
    let started = match settings.log_format {
        LogFormat::Text => {
            let ansi = std::io::stdout().is_terminal();
            builder.with_target(false).with_ansi(ansi).finish().with(filter).try_init()
        }
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .finish()
            .with(filter)
            .try_init(),
    };
    started.map_err(|error| format!("the log cannot be started: {error}"))
}

/// Writes the first line: the address in use and nothing else, whatever the filter.
///
/// As JSON it is the message of an event like any other.
pub fn first_line(format: LogFormat, address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match format {
        LogFormat::Text => writeln!(out, "{address}")?,
        LogFormat::Json => {
            let event = serde_json::json!({
                "timestamp": jiff::Timestamp::now().to_string(),
                "level": "INFO",
                "message": address.to_string(),
            });
            writeln!(out, "{event}")?;
        }
    }
    out.flush()
}
