//! The log: events on standard output, as lines for people or as JSON.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::telemetry::spans;

/// Starts the log; a filter that cannot be read is told.
pub fn start(settings: &Log) -> Result<(), String> {
    let filter: Targets = settings
        .log
        .parse()
        .map_err(|error| format!("log filter {:?} cannot be read: {error}", settings.log))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(Lines::start()?);
    let lines = match settings.log_format {
        LogFormat::Text => {
            let ansi = std::io::stdout().is_terminal();
            lines.with_target(false).with_ansi(ansi).with_filter(filter).boxed()
        }
        LogFormat::Json => {
            lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
        }
    };
    let started = tracing_subscriber::registry().with(spans::layer()?).with(lines).try_init();
    started.map_err(|error| format!("the log cannot be started: {error}"))?;
    spans::say_what_is_not();
    Ok(())
}

/// Events that may wait to be written: some seconds of a busy service.
const MOST_WAITING: usize = 8192;

/// Lines that wait to be written.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// How long the end of the process waits for lines that nobody may be reading.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Waits until the log is written, as far as somebody reads it; for the end of the process.
pub fn finish() {
    spans::finish();
    let began = Instant::now();
    while 0 < WAITING.load(Ordering::Acquire) && began.elapsed() < LAST_LINES {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Standard output behind a bounded queue, so that nobody waits for a log that nobody reads.
#[derive(Clone)]
struct Lines(SyncSender<Vec<u8>>);

impl Lines {
    fn start() -> Result<Self, String> {
        let (sender, lines) = sync_channel::<Vec<u8>>(MOST_WAITING);
        let write = move || {
            for line in lines {
                // Without anybody to show it to, the service goes on.
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(&line).and_then(|()| out.flush());
                WAITING.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(write).map_err(|error| format!("the log has no thread: {error}"))?;
        Ok(Self(sender))
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        WAITING.fetch_add(1, Ordering::AcqRel);
        if self.0.try_send(line.to_vec()).is_err() {
            WAITING.fetch_sub(1, Ordering::AcqRel);
            metrics::counter!(crate::telemetry::metrics::LOG_DROPPED).increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
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
