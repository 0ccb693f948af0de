//! Every setting of the service: its flag, its variable, its default and its unit.
//!
//! The help text of `moe-gps serve --help` is the manual. Read in `cli` only, which
//! hands each part of the program its own section.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

/// Everything `serve` can be told.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Address to listen on, `host:port`; port 0 picks a free one.
    #[arg(long, env = "MOE_GPS_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Where answers and traces are kept.
    #[command(flatten)]
    pub storage: Storage,
    /// What is deleted by itself, and when.
    #[command(flatten)]
    pub retention: Retention,
    /// The workers and their queue.
    #[command(flatten)]
    pub jobs: Jobs,
    /// What is watched.
    #[command(flatten)]
    pub watching: Watching,
    /// Who may ask.
    #[command(flatten)]
    pub access: Access,
    /// What a client may send, and how slowly.
    #[command(flatten)]
    pub limits: Limits,
    /// What is logged, and how.
    #[command(flatten)]
    pub log: Log,
}

/// Where answers and traces are kept.
#[derive(Debug, Clone, Args)]
pub struct Storage {
    /// Directory of the database, the traces and the address file; created when absent.
    #[arg(long, env = "MOE_GPS_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// The database: `sqlite:PATH`, or `postgres://user:password@host/name` for one that several
    /// replicas share; without it, a file in the data directory.
    #[arg(long, env = "MOE_GPS_DATABASE", default_value = "")]
    #[arg(hide_default_value = true, hide_env_values = true)]
    pub database: String,
    /// Where traces are kept: `file:PATH`, or `s3://bucket/prefix` for an object store that several replicas share,
    /// with credentials, region and endpoint in the usual AWS variables; without it, a folder of
    /// the data directory.
    #[arg(long, env = "MOE_GPS_TRACES", default_value = "", hide_default_value = true)]
    pub traces: String,
    /// How much of an object store is kept in the data directory, bytes; what was used within an
    /// hour stays.
    #[arg(long, env = "MOE_GPS_TRACE_CACHE_BYTES", default_value_t = 10 << 30)]
    pub trace_cache_bytes: u64,
    /// Age at which an object that nothing names any more is deleted, seconds; longer than the
    /// longest upload.
    #[arg(long, env = "MOE_GPS_TRACE_GRACE_S", default_value_t = 3600.0)]
    pub trace_grace_s: f64,
    /// How far a commit goes before it is answered: `normal` survives the death of the
    /// process, `full` also the loss of power.
    #[arg(long, env = "MOE_GPS_SYNCHRONOUS", default_value = "normal")]
    pub synchronous: Synchronous,
    /// Size the database may grow to, bytes; 0 is without a bound.
    #[arg(long, env = "MOE_GPS_MAX_DATABASE_BYTES", default_value_t = 0)]
    pub max_database_bytes: u64,
}

/// How far a commit goes before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Synchronous {
    /// Written to the operating system: survives the death of the process.
    Normal,
    /// Flushed to the disk: survives the loss of power.
    Full,
}

/// What is deleted by itself, and when. Queued and running work, and what the label `keep` is on,
/// always stays.
#[derive(Debug, Clone, Args)]
pub struct Retention {
    /// Age at which an ended recommendation is deleted, counted from its end and from the last ask
    /// for it, seconds; 0 is never.
    #[arg(long, env = "MOE_GPS_MAX_RECOMMENDATION_AGE_S", default_value_t = 0.0)]
    pub max_recommendation_age_s: f64,
    /// Ended recommendations that are kept, the newest; 0 is all.
    #[arg(long, env = "MOE_GPS_MAX_RECOMMENDATIONS", default_value_t = 0)]
    pub max_recommendations: u32,
    /// Age at which a trace is deleted, counted from its upload and from the last recommendation
    /// about it, seconds; 0 is never.
    #[arg(long, env = "MOE_GPS_MAX_TRACE_AGE_S", default_value_t = 0.0)]
    pub max_trace_age_s: f64,
    /// Traces that are kept, the newest; 0 is all.
    #[arg(long, env = "MOE_GPS_MAX_TRACES", default_value_t = 0)]
    pub max_traces: u32,
    /// Age at which an idempotency key is forgotten, seconds; 0 is never.
    #[arg(long, env = "MOE_GPS_MAX_KEY_AGE_S", default_value_t = 86_400.0)]
    pub max_key_age_s: f64,
    /// Idempotency keys that are kept, the newest; 0 is all.
    #[arg(long, env = "MOE_GPS_MAX_KEYS", default_value_t = 0)]
    pub max_keys: u32,
}

/// The workers and their queue.
#[derive(Debug, Clone, Args)]
pub struct Jobs {
    /// Computations that run at once; 0 is two per processor, so that one computes while
    /// another's end is stored.
    #[arg(long, env = "MOE_GPS_WORKERS", default_value_t = 0)]
    pub workers: usize,
    /// Memory that all computations together may take by their estimates, bytes; one that would take
    /// more is refused, one that finds too little free waits. 0 is half of what the machine, or the
    /// control group of the process, has.
    #[arg(long, env = "MOE_GPS_MEMORY_BUDGET_BYTES", default_value_t = 0)]
    pub memory_budget_bytes: u64,
    /// Questions that may wait for a worker; the next one is answered 503.
    #[arg(long, env = "MOE_GPS_QUEUE_LIMIT", default_value_t = 1000)]
    pub queue_limit: u32,
    /// Questions of one holder of a token that may wait; the next one is answered 429. Without
    /// tokens there is no such bound.
    #[arg(long, env = "MOE_GPS_QUEUE_LIMIT_PER_PRINCIPAL", default_value_t = 200)]
    pub queue_limit_per_principal: u32,
    /// How long a worker keeps a job without a sign of life, seconds.
    #[arg(long, env = "MOE_GPS_LEASE_S", default_value_t = 30)]
    pub lease_s: u32,
    /// How often a job is started before it is given up.
    #[arg(long, env = "MOE_GPS_MAX_ATTEMPTS", default_value_t = 5)]
    pub max_attempts: u32,
    /// How long the service goes on answering, not ready, after it was told to stop, seconds.
    #[arg(long, env = "MOE_GPS_DRAIN_DELAY_S", default_value_t = 1.0)]
    pub drain_delay_s: f64,
    /// How long requests and jobs in progress may then take to finish, seconds.
    #[arg(long, env = "MOE_GPS_DRAIN_TIMEOUT_S", default_value_t = 10.0)]
    pub drain_timeout_s: f64,
}

/// What is watched.
#[derive(Debug, Clone, Args)]
pub struct Watching {
    /// Deployments that may be watched; the next one is refused. Each has metrics of its own.
    #[arg(long, env = "MOE_GPS_MAX_DEPLOYMENTS", default_value_t = 100)]
    pub max_deployments: u32,
}

/// Who may ask.
#[derive(Debug, Clone, Args)]
pub struct Access {
    /// File of tokens beside those of the database, one a line: the token, perhaps its scope (`read`,
    /// `ask` or `admin`, the default) and its holder's name; read again when it changes.
    #[arg(long, env = "MOE_GPS_TOKEN_FILE", default_value = "", hide_default_value = true)]
    pub token_file: String,
    /// Ask nobody for a token, also where tokens exist and on addresses that are not loopback.
    #[arg(long, env = "MOE_GPS_INSECURE_NO_AUTH", default_value_t = false)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub insecure_no_auth: bool,
    /// Ask for a token at `/metrics`, too.
    #[arg(long, env = "MOE_GPS_GUARD_METRICS", default_value_t = false)]
    #[arg(value_parser = BoolishValueParser::new())]
    pub guard_metrics: bool,
    /// Names, with commas between them, under which a loopback address may be asked beside
    /// `localhost`, as by a proxy on this machine that passes them on; pages of these hosts may ask
    /// for changes.
    #[arg(long, env = "MOE_GPS_ALLOWED_HOSTS", default_value = "", hide_default_value = true)]
    pub allowed_hosts: String,
}

/// What a client may send, and how slowly.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Largest question, bytes.
    #[arg(long, env = "MOE_GPS_MAX_BODY_BYTES", default_value_t = 8 << 20)]
    pub max_body_bytes: u64,
    /// Largest trace upload as sent, bytes.
    #[arg(long, env = "MOE_GPS_MAX_UPLOAD_BYTES", default_value_t = 2 << 30)]
    pub max_upload_bytes: u64,
    /// Largest trace upload after decompression, bytes.
    #[arg(long, env = "MOE_GPS_MAX_INFLATED_BYTES", default_value_t = 8 << 30)]
    pub max_inflated_bytes: u64,
    /// Uploads that are taken in at once; further ones wait.
    #[arg(long, env = "MOE_GPS_UPLOADS_AT_ONCE", default_value_t = 16)]
    pub uploads_at_once: usize,
    /// Least rate of an upload, bytes a second over the time that a body may pause.
    #[arg(long, env = "MOE_GPS_MIN_UPLOAD_BYTES_PER_S", default_value_t = 1024)]
    pub min_upload_bytes_per_s: u64,
    /// Connections that may be open at once. For a further one the idlest is closed; where none is
    /// idle it is answered 503, unless it probes.
    #[arg(long, env = "MOE_GPS_MAX_CONNECTIONS", default_value_t = 1024)]
    pub max_connections: usize,
    /// How long a connection may take to send a request's head, seconds.
    #[arg(long, env = "MOE_GPS_HEADER_TIMEOUT_S", default_value_t = 15.0)]
    pub header_timeout_s: f64,
    /// How long a question's body may take to arrive, and a pause in an upload may last, seconds.
    #[arg(long, env = "MOE_GPS_BODY_TIMEOUT_S", default_value_t = 30.0)]
    pub body_timeout_s: f64,
    /// How long a client may take none of its answer before the connection is closed, seconds.
    #[arg(long, env = "MOE_GPS_WRITE_TIMEOUT_S", default_value_t = 30.0)]
    pub write_timeout_s: f64,
    /// How long a request may take apart from an upload, seconds; above the longest wait of 60.
    #[arg(long, env = "MOE_GPS_REQUEST_TIMEOUT_S", default_value_t = 90.0)]
    pub request_timeout_s: f64,
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct Log {
    /// Shape of the log on standard output.
    #[arg(long, env = "MOE_GPS_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Which events are logged, as `level` or `target=level,…`.
    #[arg(long, env = "MOE_GPS_LOG", default_value = "info")]
    pub log: String,
}

/// Shape of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl Jobs {
    /// The number of workers, with 0 resolved.
    #[must_use]
    pub fn n_workers(&self) -> usize {
        match self.workers {
            0 => 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn every_setting_has_a_flag_a_variable_a_default_and_a_text() {
        for arg in Probe::command().get_arguments().filter(|arg| arg.get_id() != "help") {
            let long = arg.get_long().unwrap();
            let variable = format!("MOE_GPS_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().unwrap(), variable.as_str());
            assert!(!arg.get_default_values().is_empty(), "{long} has no default");
            assert!(arg.get_help().is_some(), "{long} has no text");
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = Probe::parse_from(["probe"]).settings;
        assert_eq!(settings.listen, "127.0.0.1:8080");
        assert_eq!(settings.storage.data_dir, PathBuf::from("./data"));
        assert_eq!(settings.jobs.queue_limit, 1000);
        assert!(0 < settings.jobs.n_workers());
    }
}
