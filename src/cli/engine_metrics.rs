//! What a running engine says of its traffic in the text that Prometheus takes from it.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::http::{StatusCode, Uri};

use crate::cli::fetch::get;

/// Engines answer within milliseconds, and under load within seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// How an engine names what a question needs.
///
/// As its sources of November 2026 declare them: vLLM `vllm/v1/metrics/loggers.py`, SGLang
/// `srt/observability/metrics_collector.py`, TensorRT-LLM `tensorrt_llm/metrics/collector.py`.
struct Names {
    engine: &'static str,
    /// What all its names begin with.
    prefix: &'static str,
    /// Gauges of requests that run, the newest name first.
    running: &'static [&'static str],
    waiting: &'static str,
    /// Histograms of the tokens of ended requests; else a counter of tokens, over `ended`.
    input: [&'static str; 2],
    output: [&'static str; 2],
    ended: &'static str,
    /// Histograms of the time between tokens, the newest name first.
    tpot: &'static [&'static str],
    /// Counters of prompt tokens that were found in the cache, and of those that were looked for.
    cached: [&'static str; 2],
    /// How even the load of the GPUs is: mean over maximum.
    balancedness: &'static str,
}

const ENGINES: [Names; 3] = [
    Names {
        engine: "vllm",
        prefix: "vllm:",
        running: &["vllm:num_requests_running"],
        waiting: "vllm:num_requests_waiting",
        input: ["vllm:request_prompt_tokens", "vllm:prompt_tokens_total"],
        output: ["vllm:request_generation_tokens", "vllm:generation_tokens_total"],
        ended: "vllm:request_success_total",
        tpot: &[
            "vllm:request_time_per_output_token_seconds",
            "vllm:inter_token_latency_seconds",
            "vllm:time_per_output_token_seconds",
        ],
        cached: ["vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"],
        balancedness: "",
    },
    Names {
        engine: "sglang",
        prefix: "sglang:",
        running: &["sglang:num_running_reqs"],
        waiting: "sglang:num_queue_reqs",
        input: ["sglang:prompt_tokens_histogram", "sglang:prompt_tokens_total"],
        output: ["sglang:generation_tokens_histogram", "sglang:generation_tokens_total"],
        ended: "sglang:num_requests_total",
        tpot: &["sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"],
        cached: ["sglang:cached_tokens_total", "sglang:prompt_tokens_total"],
        balancedness: "sglang:eplb_balancedness",
    },
    Names {
        engine: "tensorrt-llm",
        prefix: "trtllm_",
        running: &["trtllm_num_requests_running", "trtllm_num_active_requests"],
        waiting: "trtllm_num_requests_waiting",
        input: ["", "trtllm_prompt_tokens_total"],
        output: ["", "trtllm_generation_tokens_total"],
        ended: "trtllm_request_success_total",
        tpot: &["trtllm_time_per_output_token_seconds"],
        cached: ["trtllm_prompt_cached_tokens_total", "trtllm_prompt_tokens_total"],
        balancedness: "",
    },
];

/// What an engine says of its traffic.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// The engine, as questions name it.
    pub(super) engine: &'static str,
    /// The name under which it serves its model.
    pub(super) model: Option<String>,
    /// Requests that run at this moment, over all replicas.
    pub(super) running: Option<f64>,
    /// Requests that wait at this moment.
    pub(super) waiting: f64,
    /// Replicas of attention that say how many run.
    pub(super) replicas: u64,
    /// Tokens of a prompt, in the mean over ended requests.
    pub(super) input_tokens: Option<f64>,
    /// Tokens of an output, likewise.
    pub(super) output_tokens: Option<f64>,
    /// Share of the tokens of prompts that were not computed, because the cache had them.
    pub(super) cached: Option<f64>,
    /// Mean time between tokens, s.
    pub(super) tpot_s: Option<f64>,
    /// Mean over maximum of the load of the GPUs.
    pub(super) balancedness: Option<f64>,
}

/// A line of the text: a value with its labels.
type Series = (BTreeMap<String, String>, f64);

/// The text of a file, of standard input for `-`, or of an address.
pub(super) fn text(source: &str) -> Result<String> {
    if source.starts_with("http://") || source.starts_with("https://") {
        return fetch(source);
    }
    let mut text = String::new();
    if source == "-" {
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        text = std::fs::read_to_string(source).with_context(|| format!("cannot read {source}"))?;
    }
    Ok(text)
}

/// Asks an engine for its metrics.
fn fetch(url: &str) -> Result<String> {
    let uri: Uri = url.parse().with_context(|| format!("--from-metrics: {url} is no address"))?;
    if uri.scheme_str() != Some("http") {
        bail!("--from-metrics: only http is spoken here; curl -sS {url} | … --from-metrics -");
    }
    let (status, body) = get(&uri, PATIENCE)?;
    if status != StatusCode::OK {
        bail!("{url} answers {status}; an engine's metrics are at /metrics, or as its flags say");
    }
    String::from_utf8(body.into()).with_context(|| format!("{url} answers no text"))
}

/// Reads the text of an engine.
pub(super) fn read(text: &str) -> Result<Measured> {
    if text.trim_start().starts_with(['{', '[']) {
        bail!(
            "--from-metrics: this is JSON, as TensorRT-LLM's /metrics gives; its text for Prometheus is at \
             /prometheus/metrics (with return_perf_metrics and enable_iter_perf_stats)"
        );
    }
    let mut series: BTreeMap<&str, Vec<Series>> = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some((name, labels, value)) = sample(line) {
            series.entry(name).or_default().push((labels, value));
        }
    }
    let of = |names: &Names| series.keys().any(|name| name.starts_with(names.prefix));
    let Some(names) = ENGINES.iter().find(|names| of(names)) else {
        let prefixes = ENGINES.map(|names| names.prefix).join(", ");
        bail!("--from-metrics: no name in the text begins with one of {prefixes}");
    };
    let total =
        |name: &str| series.get(name).map(|found| found.iter().map(|(_, v)| v).sum::<f64>());
    let over = |sum: Option<f64>, count: Option<f64>| Some(sum? / count.filter(|n| 0.0 < *n)?);
    let mean = |name: &str| over(total(&format!("{name}_sum")), total(&format!("{name}_count")));
    let length = |[histogram, counter]: [&str; 2]| {
        mean(histogram).or_else(|| over(total(counter), total(names.ended)))
    };
    let running = names.running.iter().find_map(|name| series.get(name)).map(|all| by_replica(all));
    let own = series.iter().filter(|(name, _)| name.starts_with(names.prefix));
    let mut labels = own.flat_map(|(_, found)| found).map(|(labels, _)| labels);
    Ok(Measured {
        engine: names.engine,
        model: labels.find_map(|labels| labels.get("model_name")).cloned(),
        running: running.as_ref().map(|replicas| replicas.values().sum()),
        waiting: series.get(names.waiting).map_or(0.0, |found| by_replica(found).values().sum()),
        replicas: running.map_or(0, |replicas| replicas.len() as u64),
        input_tokens: length(names.input),
        output_tokens: length(names.output),
        cached: over(total(names.cached[0]), total(names.cached[1])),
        tpot_s: names.tpot.iter().find_map(|name| mean(name)),
        balancedness: mean(names.balancedness),
    })
}

/// A gauge of every replica of attention. The devices of one replica run the same requests and may
/// each say so; a series of one priority is a part of that without.
fn by_replica(found: &[Series]) -> BTreeMap<Vec<(&String, &String)>, f64> {
    let mut replicas = BTreeMap::new();
    for (labels, value) in found {
        if labels.get("priority").is_some_and(|priority| !priority.is_empty()) {
            continue;
        }
        let inside = ["tp_rank", "pp_rank", "moe_ep_rank", "priority", "pid"];
        let replica = labels.iter().filter(|(name, _)| !inside.contains(&name.as_str())).collect();
        let most: &mut f64 = replicas.entry(replica).or_default();
        *most = most.max(*value);
    }
    replicas
}

/// A line `name{label="value",…} number [time]`, or nothing where it is none or no finite number.
fn sample(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner.trim_start();
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = quoted.char_indices();
            let close = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.insert(label.trim().to_owned(), value);
            rest = quoted[close + 1..].trim_start().trim_start_matches(',').trim_start();
        }
        rest = &rest[1..];
    }
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((name, labels, value))
}
