//! All metrics, declared once: name, kind, unit and what it means.

use std::fmt::Write;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Answered requests, by method, route template and status.
pub const HTTP_REQUESTS: &str = "moe_gps_http_requests_total";
/// Time to answer a request, by method and route template, seconds.
pub const HTTP_SECONDS: &str = "moe_gps_http_request_duration_seconds";
/// Requests that are being answered.
pub const HTTP_IN_FLIGHT: &str = "moe_gps_http_requests_in_flight";
/// Questions asked, by outcome: new, reused or refused by the full queue.
pub const QUESTIONS: &str = "moe_gps_questions_total";
/// Recommendations in the database, by status.
pub const JOBS: &str = "moe_gps_jobs";
/// Time from taking a job to its end, by outcome, seconds.
pub const JOB_SECONDS: &str = "moe_gps_job_duration_seconds";
/// Time a job was queued before a worker took it, seconds.
pub const JOB_WAIT_SECONDS: &str = "moe_gps_job_wait_seconds";
/// Jobs whose worker was gone, by what became of them.
pub const JOBS_RECOVERED: &str = "moe_gps_jobs_recovered_total";
/// Workers that are idle.
pub const WORKERS_IDLE: &str = "moe_gps_workers_idle";
/// Bytes of trace uploads as sent.
pub const TRACE_UPLOAD_BYTES: &str = "moe_gps_trace_upload_bytes_total";
/// Statements the database refused, by kind.
pub const STORE_ERRORS: &str = "moe_gps_store_errors_total";
/// The database with its log, bytes.
pub const DATABASE_BYTES: &str = "moe_gps_database_bytes";
/// Freed inside the database, bytes.
pub const DATABASE_FREE_BYTES: &str = "moe_gps_database_free_bytes";
/// The file system of the data directory, bytes.
pub const DISK_BYTES: &str = "moe_gps_disk_bytes";
/// Free on the file system of the data directory, bytes.
pub const DISK_FREE_BYTES: &str = "moe_gps_disk_free_bytes";
/// What was deleted by age or number, by kind.
pub const EXPIRED: &str = "moe_gps_expired_total";
/// Lines of the log that were dropped because nobody read them.
pub const LOG_DROPPED: &str = "moe_gps_log_lines_dropped_total";
/// Always 1, with the version as label.
pub const BUILD_INFO: &str = "moe_gps_build_info";

/// Conditions of deployments: 1 where a condition has the status, else 0.
pub const DEPLOYMENT_CONDITION: &str = "moe_gps_deployment_condition";
/// What the last judgement of a deployment advises over the map in force, a ratio.
pub const DEPLOYMENT_GAIN: &str = "moe_gps_deployment_gain_over_current";
/// Busiest device over the mean with the map in force of a deployment.
pub const DEPLOYMENT_IMBALANCE: &str = "moe_gps_deployment_imbalance";
/// When the newest loads of a deployment ended, seconds since the Unix epoch.
pub const DEPLOYMENT_LOADS: &str = "moe_gps_deployment_last_loads_timestamp_seconds";

/// What is told of every deployment. Deployments are deleted, and a recorder keeps what it has seen: so
/// these are written from the database whenever they are asked for.
const OF_DEPLOYMENTS: [(&str, &str); 4] = [
    (DEPLOYMENT_CONDITION, "1 where a condition of a deployment has the status, else 0"),
    (
        DEPLOYMENT_GAIN,
        "What the last judgement advises over the map in force, a ratio; 1 is nothing",
    ),
    (DEPLOYMENT_IMBALANCE, "Busiest device over the mean with the map in force"),
    (DEPLOYMENT_LOADS, "When the newest loads ended, seconds since the Unix epoch"),
];

/// A value of a metric with its labels, none of which needs to be escaped.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The metric.
    pub name: &'static str,
    /// Its labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// What is told of deployments, as Prometheus text; every metric is there also where none is.
#[must_use]
pub fn of_deployments(samples: &[Sample]) -> String {
    let mut text = String::new();
    for (name, help) in OF_DEPLOYMENTS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for sample in samples.iter().filter(|sample| sample.name == name) {
            let labels: Vec<String> =
                sample.labels.iter().map(|(label, text)| format!("{label}=\"{text}\"")).collect();
            let _ = writeln!(text, "{name}{{{}}} {}", labels.join(","), sample.value);
        }
        text.push('\n');
    }
    text
}

/// Kind, name, help text.
type Declaration = (MetricKind, &'static str, &'static str);

enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

const DECLARATIONS: [Declaration; 18] = [
    (MetricKind::Counter, HTTP_REQUESTS, "Answered requests, by method, route template and status"),
    (MetricKind::Histogram, HTTP_SECONDS, "Time to answer a request, by method and route template"),
    (MetricKind::Gauge, HTTP_IN_FLIGHT, "Requests that are being answered"),
    (
        MetricKind::Counter,
        QUESTIONS,
        "Questions asked: new, reused, or refused because too many wait",
    ),
    (MetricKind::Gauge, JOBS, "Recommendations in the database, by status"),
    (MetricKind::Histogram, JOB_SECONDS, "Time from taking a job to its end, by outcome"),
    (MetricKind::Histogram, JOB_WAIT_SECONDS, "Time a job was queued before a worker took it"),
    (MetricKind::Counter, JOBS_RECOVERED, "Jobs whose worker was gone, by what became of them"),
    (MetricKind::Gauge, WORKERS_IDLE, "Workers that are idle"),
    (MetricKind::Counter, TRACE_UPLOAD_BYTES, "Bytes of trace uploads as sent"),
    (MetricKind::Counter, STORE_ERRORS, "Statements the database refused, by kind"),
    (MetricKind::Gauge, DATABASE_BYTES, "The database with its write-ahead log, bytes"),
    (MetricKind::Gauge, DATABASE_FREE_BYTES, "Freed inside the database and used again, bytes"),
    (MetricKind::Gauge, DISK_BYTES, "The file system of the data directory, bytes"),
    (MetricKind::Gauge, DISK_FREE_BYTES, "Free on the file system of the data directory, bytes"),
    (MetricKind::Counter, EXPIRED, "What was deleted by age or number, by kind"),
    (MetricKind::Counter, LOG_DROPPED, "Lines of the log dropped because nobody read them"),
    (MetricKind::Gauge, BUILD_INFO, "Always 1, with the version as label"),
];

/// Counters with one label, and every value that it takes.
const LABELED: &[(&str, &str, &[&str])] = &[
    (QUESTIONS, "outcome", &["new", "reused", "queue_full", "too_many"]),
    (JOBS_RECOVERED, "outcome", &["requeued", "given_up"]),
    (EXPIRED, "what", &["recommendation", "trace", "key"]),
    (STORE_ERRORS, "kind", &["full", "io", "damaged", "read_only", "busy", "other"]),
];

/// Upper bounds of the histograms' buckets, seconds.
const BUCKETS_S: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0];

/// The process's recorder, installed on first use.
pub fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let suffix = Matcher::Suffix("_seconds".to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(suffix, &BUCKETS_S)
            .unwrap_or_default()
            .build_recorder();
        let handle = recorder.handle();
        // Another recorder can only have been installed by a test; ours then stays empty.
        let _ = metrics::set_global_recorder(recorder);
        declare();
        handle
    })
}

fn declare() {
    for (kind, name, help) in DECLARATIONS {
        match kind {
            MetricKind::Counter => metrics::describe_counter!(name, help),
            MetricKind::Gauge => metrics::describe_gauge!(name, help),
            MetricKind::Histogram => {
                metrics::describe_histogram!(name, metrics::Unit::Seconds, help);
            }
        }
    }
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    // What has not happened yet is 0 and not absent: an increase from nothing is not seen.
    for (name, label, values) in LABELED {
        for value in *values {
            metrics::counter!(*name, *label => *value).absolute(0);
        }
    }
    for outcome in ["succeeded", "failed"] {
        let _ = metrics::histogram!(JOB_SECONDS, "outcome" => outcome);
    }
    let _ = metrics::histogram!(JOB_WAIT_SECONDS);
    metrics::counter!(TRACE_UPLOAD_BYTES).absolute(0);
    metrics::counter!(LOG_DROPPED).absolute(0);
    metrics::gauge!(HTTP_IN_FLIGHT).increment(0.0);
}

/// Makes the requests of an operation known before the first one comes.
pub fn declare_operation(method: &str, route: &str, statuses: &[&str]) {
    let (method, route) = (method.to_owned(), route.to_owned());
    for status in statuses {
        let status = (*status).to_owned();
        metrics::counter!(
            HTTP_REQUESTS, "method" => method.clone(), "route" => route.clone(), "status" => status
        )
        .increment(0);
    }
    let _ = metrics::histogram!(HTTP_SECONDS, "method" => method, "route" => route);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_end_in_total_and_histograms_in_a_unit() {
        for (kind, name, help) in DECLARATIONS {
            assert!(name.starts_with("moe_gps_") && !help.is_empty());
            match kind {
                MetricKind::Counter => assert!(name.ends_with("_total"), "{name}"),
                MetricKind::Histogram => assert!(name.ends_with("_seconds"), "{name}"),
                MetricKind::Gauge => assert!(!name.ends_with("_total"), "{name}"),
            }
        }
    }

    #[test]
    fn what_is_told_of_deployments_is_there_without_any() {
        let none = of_deployments(&[]);
        for (name, help) in OF_DEPLOYMENTS {
            assert!(name.starts_with("moe_gps_deployment_") && !help.is_empty());
            assert!(none.contains(&format!("# TYPE {name} gauge\n")), "{none}");
        }
        let labels = vec![("deployment", "a".to_owned())];
        let one = of_deployments(&[Sample { name: DEPLOYMENT_GAIN, labels, value: 1.25 }]);
        assert!(
            one.contains("\nmoe_gps_deployment_gain_over_current{deployment=\"a\"} 1.25\n"),
            "{one}"
        );
    }

    #[test]
    fn recorded_values_are_rendered() {
        let handle = recorder();
        metrics::histogram!(JOB_WAIT_SECONDS).record(0.2);
        let text = handle.render();
        assert!(text.contains("moe_gps_build_info{version="), "{text}");
        assert!(text.contains("moe_gps_job_wait_seconds_bucket{le=\"0.5\"}"), "{text}");
    }

    #[test]
    fn what_has_not_happened_is_zero() {
        let text = recorder().render();
        for (name, label, values) in LABELED {
            for value in *values {
                let series = format!("{name}{{{label}=\"{value}\"}} ");
                assert!(text.contains(&series), "{series} is not in\n{text}");
            }
        }
        for (_, name, _) in DECLARATIONS.iter().filter(|(_, name, _)| *name != JOBS) {
            let by_operation = [HTTP_REQUESTS, HTTP_SECONDS, WORKERS_IDLE].contains(name)
                || name.ends_with("_bytes");
            assert!(by_operation || text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
