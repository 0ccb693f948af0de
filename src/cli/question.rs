//! `moe-gps question --from-args LINE --from-metrics FILE`: the question that an engine's command line
//! asks, its traffic as the engine measured it, and what neither says.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use moe_gps_core::catalog::Catalog;
use moe_gps_core::system::Dtype;

use crate::cli::engine_metrics::{self, Measured};

/// Writes the question of an engine, by the command line that starts it and the metrics that it prints.
#[derive(Debug, Clone, Args)]
pub(super) struct Question {
    /// The command line: `vllm serve …`, `python -m sglang.launch_server …`, `trtllm-serve …`.
    #[arg(long, value_name = "LINE", required_unless_present = "from_metrics")]
    from_args: Option<String>,
    /// The text that the engine prints for Prometheus, taken under the load that counts: a file, `-` for
    /// standard input, or its address (`http://HOST:8000/metrics`). It says how many requests run, and how
    /// long prompts and outputs are in the mean.
    #[arg(long, value_name = "FILE|URL")]
    from_metrics: Option<String>,
    /// Catalog id of the GPU, which no command line names.
    #[arg(long)]
    device: Option<String>,
    /// Catalog id of the link inside a node.
    #[arg(long)]
    link: Option<String>,
    /// Catalog id of the link between nodes.
    #[arg(long)]
    inter_node_link: Option<String>,
    /// `prefill`, `decode`, or `serving`, which metrics are about.
    #[arg(long, value_parser = ["prefill", "decode", "serving"])]
    phase: Option<String>,
    /// Sequences in a step over all devices.
    #[arg(long)]
    batch_size: Option<u64>,
    /// New tokens of a sequence in prefill.
    #[arg(long)]
    sequence_length: Option<u64>,
    /// Tokens in the cache of a sequence in decode.
    #[arg(long)]
    kv_length: Option<u64>,
    /// Tokens of a prompt, in the mean, of a server.
    #[arg(long)]
    input_tokens: Option<u64>,
    /// Tokens of output of a request, in the mean, of a server.
    #[arg(long)]
    output_tokens: Option<u64>,
    /// Requests that a server has at once, over all devices.
    #[arg(long)]
    concurrency: Option<u64>,
    /// Tokens of the hottest expert over the mean.
    #[arg(long)]
    skewness: Option<f64>,
}

/// What an option says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Model,
    Tensor,
    Data,
    DataLocal,
    Pipeline,
    Expert,
    ExpertParallel,
    DataParallelAttention,
    Nodes,
    Weights,
    Activations,
    Kv,
    AllToAll,
    Kernel,
    Sequences,
    Eager,
    Balancer,
    BalancerConfig,
    Redundant,
    Interval,
    ConfigFile,
}

/// An option: its names with dashes for underscores, and whether a value follows.
type Option_ = (&'static [&'static str], Said, bool);

/// An engine's command line.
struct Dialect {
    engine: &'static str,
    options: &'static [Option_],
}

// Options as each engine's command line documents them in November 2026: vLLM `vllm serve --help`
// (vllm/engine/arg_utils.py), SGLang `sglang.launch_server --help` (srt/server_args.py), TensorRT-LLM
// `trtllm-serve --help` (tensorrt_llm/commands/serve.py).
const VLLM: Dialect = Dialect {
    engine: "vllm",
    options: &[
        (&["--model"], Said::Model, true),
        (&["--tensor-parallel-size", "-tp"], Said::Tensor, true),
        (&["--data-parallel-size", "-dp"], Said::Data, true),
        (&["--data-parallel-size-local", "-dpl"], Said::DataLocal, true),
        (&["--pipeline-parallel-size", "-pp"], Said::Pipeline, true),
        (&["--enable-expert-parallel", "-ep"], Said::ExpertParallel, false),
        (&["--nnodes", "-n"], Said::Nodes, true),
        (&["--quantization", "-q"], Said::Weights, true),
        (&["--dtype"], Said::Activations, true),
        (&["--kv-cache-dtype"], Said::Kv, true),
        (&["--all2all-backend"], Said::AllToAll, true),
        (&["--moe-backend"], Said::Kernel, true),
        (&["--max-num-seqs"], Said::Sequences, true),
        (&["--enforce-eager"], Said::Eager, false),
        (&["--enable-eplb"], Said::Balancer, false),
        (&["--eplb-config"], Said::BalancerConfig, true),
        (&["--num-redundant-experts"], Said::Redundant, true),
        (&["--config"], Said::ConfigFile, true),
    ],
};

const SGLANG: Dialect = Dialect {
    engine: "sglang",
    options: &[
        (&["--model-path", "--model"], Said::Model, true),
        (&["--tensor-parallel-size", "--tp-size", "--tp"], Said::Tensor, true),
        (&["--data-parallel-size", "--dp-size", "--dp"], Said::Data, true),
        (&["--pipeline-parallel-size", "--pp-size", "--pp"], Said::Pipeline, true),
        (&["--expert-parallel-size", "--ep-size", "--ep"], Said::Expert, true),
        (&["--enable-dp-attention"], Said::DataParallelAttention, false),
        (&["--nnodes"], Said::Nodes, true),
        (&["--quantization"], Said::Weights, true),
        (&["--dtype"], Said::Activations, true),
        (&["--kv-cache-dtype"], Said::Kv, true),
        (&["--moe-a2a-backend"], Said::AllToAll, true),
        (&["--moe-runner-backend"], Said::Kernel, true),
        (&["--max-running-requests"], Said::Sequences, true),
        (&["--disable-cuda-graph"], Said::Eager, false),
        (&["--enable-eplb"], Said::Balancer, false),
        (&["--ep-num-redundant-experts"], Said::Redundant, true),
        (&["--eplb-rebalance-num-iterations"], Said::Interval, true),
        (&["--config"], Said::ConfigFile, true),
    ],
};

const TRTLLM: Dialect = Dialect {
    engine: "tensorrt-llm",
    options: &[
        (&["--model"], Said::Model, true),
        (&["--tp-size", "--tensor-parallel-size"], Said::Tensor, true),
        (&["--pp-size", "--pipeline-parallel-size"], Said::Pipeline, true),
        (&["--ep-size", "--moe-expert-parallel-size"], Said::Expert, true),
        (&["--enable-attention-dp"], Said::DataParallelAttention, false),
        (&["--kv-cache-dtype"], Said::Kv, true),
        (&["--max-batch-size"], Said::Sequences, true),
        (&["--extra-llm-api-options", "--config"], Said::ConfigFile, true),
    ],
};

/// A command line as it was understood; one that was not given says nothing.
struct Line {
    given: bool,
    dialect: &'static Dialect,
    said: BTreeMap<Said, String>,
    /// Options that say nothing about a question.
    ignored: Vec<String>,
}

/// Runs `question`: the question goes to `out`, what is not known to standard error.
pub(super) fn run(command: &Question, out: &mut impl Write) -> Result<()> {
    let source = command.from_metrics.as_deref().map(engine_metrics::text).transpose()?;
    let measured = source.as_deref().map(engine_metrics::read).transpose()?;
    let line = line(command, measured.as_ref())?;
    let (question, unknown) = question(command, &line, measured.as_ref())?;
    writeln!(out, "{question:#}")?;
    let mut told = std::io::stderr().lock();
    if let Some(measured) = &measured {
        tell(measured, &mut told)?;
    }
    for (pointer, text) in unknown {
        writeln!(told, "unknown: {pointer}: {text}")?;
    }
    if !line.ignored.is_empty() {
        writeln!(told, "no part of a question: {}", line.ignored.join(" "))?;
    }
    Ok(())
}

/// What was measured and is no part of a question.
fn tell(measured: &Measured, told: &mut impl Write) -> Result<()> {
    if let Some(tpot) = measured.tpot_s {
        writeln!(
            told,
            "measured: tpot_s {tpot:.6}, the mean time between tokens since the engine started"
        )?;
    }
    if 0.0 < measured.waiting {
        writeln!(told, "measured: {} requests wait beside those that run", measured.waiting)?;
    }
    if let Some(cached) = measured.cached.filter(|share| 0.005 <= *share) {
        writeln!(
            told,
            "measured: {:.0} % of the tokens of prompts came from the cache; a question computes all",
            100.0 * cached
        )?;
    }
    Ok(())
}

/// The command line, or the engine and the model that the metrics name.
fn line(command: &Question, measured: Option<&Measured>) -> Result<Line> {
    if let Some(text) = &command.from_args {
        let line = read(text)?;
        let engine = line.dialect.engine;
        if let Some(other) = measured.map(|found| found.engine).filter(|other| *other != engine) {
            bail!("--from-metrics: the text is that of {other}, the command line that of {engine}");
        }
        return Ok(line);
    }
    let measured = measured.context("give --from-args or --from-metrics")?;
    let engines = [&VLLM, &SGLANG, &TRTLLM];
    let dialect = engines.into_iter().find(|dialect| dialect.engine == measured.engine);
    let said = measured.model.iter().map(|model| (Said::Model, model.clone())).collect();
    Ok(Line { given: false, dialect: dialect.unwrap_or(&VLLM), said, ignored: Vec::new() })
}

/// Finds the engine in a command line, and reads its options.
fn read(text: &str) -> Result<Line> {
    let words = shlex::split(text).context("--from-args: a quote is not closed")?;
    let mut said = BTreeMap::new();
    let base = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let mut rest = words.iter();
    let dialect = loop {
        let Some(word) = rest.next() else {
            bail!(
                "--from-args: there is no `vllm serve`, `sglang.launch_server` or `trtllm-serve` in \
                 the line"
            );
        };
        if let Some(backend) = word.strip_prefix("VLLM_ALL2ALL_BACKEND=") {
            said.insert(Said::AllToAll, backend.to_owned());
        }
        match base(word).as_str() {
            "vllm.entrypoints.openai.api_server" => break &VLLM,
            "sglang.launch_server" => break &SGLANG,
            "trtllm-serve" => break &TRTLLM,
            name @ ("vllm" | "sglang") if rest.clone().next().is_some_and(|w| w == "serve") => {
                rest.next();
                break if name == "vllm" { &VLLM } else { &SGLANG };
            }
            _ => {}
        }
    };
    let mut ignored = Vec::new();
    let mut rest = rest.peekable();
    while let Some(word) = rest.next() {
        let (name, joined) = match word.split_once('=') {
            Some((name, value)) if name.starts_with('-') => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        // `trtllm-serve serve MODEL` is a spelling of its own.
        if !name.starts_with('-') {
            if name != "serve" {
                said.entry(Said::Model).or_insert_with(|| name.to_owned());
            }
            continue;
        }
        let plain = name.replace('_', "-");
        let known = dialect.options.iter().find(|(names, ..)| names.contains(&plain.as_str()));
        match known {
            Some((_, what, true)) => {
                let value = joined.or_else(|| rest.next().cloned());
                said.insert(
                    *what,
                    value.with_context(|| format!("--from-args: {name} has no value"))?,
                );
            }
            Some((_, what, false)) => {
                said.insert(*what, joined.unwrap_or_else(|| "true".to_owned()));
            }
            None => {
                ignored.push(name.to_owned());
                // What follows an option that is not known here is its value.
                if joined.is_none() {
                    rest.next_if(|next| !next.starts_with('-'));
                }
            }
        }
    }
    Ok(Line { given: true, dialect, said, ignored })
}

impl Line {
    fn text(&self, what: Said) -> Option<&str> {
        self.said.get(&what).map(String::as_str)
    }

    fn has(&self, what: Said) -> bool {
        self.text(what).is_some_and(|text| !text.eq_ignore_ascii_case("false"))
    }

    fn number(&self, what: Said) -> Result<Option<u64>> {
        let Some(text) = self.text(what) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (1..=4096).contains(number));
        let names = self.dialect.options.iter().find(|(_, said, _)| *said == what);
        let name = names.map_or("", |(names, ..)| names[0]);
        match number {
            Some(number) => Ok(Some(number)),
            None => bail!("--from-args: {name} is {text}; it must be a number from 1 to 4096"),
        }
    }
}

type Unknown = Vec<(&'static str, String)>;

fn question(
    command: &Question,
    line: &Line,
    measured: Option<&Measured>,
) -> Result<(Value, Unknown)> {
    let mut unknown = Unknown::new();
    let mut asked = Map::new();
    asked.insert("model".to_owned(), model(line, &mut unknown)?);
    let spread = if line.given {
        Some(parallelism(line, &mut unknown)?)
    } else {
        let text = "how many GPUs, and how the model is spread over them; give --from-args";
        unknown.push(("/cluster/devices", text.into()));
        None
    };
    let devices = spread.as_ref().map(|(_, devices)| *devices);
    asked.insert("cluster".to_owned(), cluster(command, line, devices, &mut unknown)?);
    let balanced = measured.and_then(|found| found.balancedness);
    let routing = match (command.skewness, balanced, &spread) {
        (Some(skewness), ..) => Some(json!({"skewness": skewness})),
        (None, Some(balancedness), Some((spread, _))) => Some(json!({
            "balancedness": balancedness, "at_devices": spread["expert_parallel"],
        })),
        _ => None,
    };
    if let Some((spread, _)) = spread {
        asked.insert("parallelism".to_owned(), spread);
    }
    asked.insert("workload".to_owned(), workload(command, line, measured, &mut unknown)?);
    asked.insert("engine".to_owned(), engine(line));
    if let Some(routing) = routing {
        asked.insert("routing".to_owned(), routing);
    } else {
        unknown.push((
            "/routing",
            "record the routing and name it as trace_id (docs/engines.md), or give --skewness"
                .into(),
        ));
    }
    balancer(line, devices.unwrap_or(1), &mut asked, &mut unknown)?;
    if let Some(file) = line.text(Said::ConfigFile) {
        unknown.push(("", format!("what {file} sets; it is not read")));
    }
    Ok((asked.into(), unknown))
}

fn model(line: &Line, unknown: &mut Unknown) -> Result<Value> {
    let Some(name) = line.text(Said::Model) else {
        let source = if line.given { "--from-args: the line" } else { "--from-metrics: the text" };
        bail!("{source} names no model");
    };
    Ok(match Catalog::embedded().model(name) {
        Ok(entry) => entry.id.as_str().into(),
        Err(error) => {
            unknown
                .push(("/model", format!("{error}; give the fields of its config.json instead")));
            name.into()
        }
    })
}

/// How the model is spread, and over how many devices.
fn parallelism(line: &Line, unknown: &mut Unknown) -> Result<(Value, u64)> {
    let number = |what| line.number(what).map(|number| number.unwrap_or(1));
    let (tensor, data) = (number(Said::Tensor)?, number(Said::Data)?);
    let pipeline = number(Said::Pipeline)?;
    // vLLM multiplies replicas of attention by their tensor size, and spreads the experts over all.
    let (attention_tensor, attention_data, group) = if line.dialect.engine == VLLM.engine {
        (tensor, data, tensor * data)
    } else if line.has(Said::DataParallelAttention) {
        // The others divide one group among the replicas; TensorRT-LLM has one a device.
        let data = if line.dialect.engine == SGLANG.engine { data } else { tensor };
        if !tensor.is_multiple_of(data) {
            bail!("--from-args: {data} replicas of attention do not divide {tensor} devices");
        }
        (tensor / data, data, tensor)
    } else {
        if 1 < data {
            unknown.push((
                "/cluster/devices",
                format!("{data} whole replicas stand behind a router; the question is about one"),
            ));
        }
        (tensor, 1, tensor)
    };
    let deepep = line.text(Said::AllToAll).is_some_and(|name| name != "none");
    let experts = match line.dialect.engine {
        "vllm" if line.has(Said::ExpertParallel) => group,
        "vllm" => 1,
        // With a backend for all-to-all SGLang spreads experts over the whole group.
        "sglang" if deepep => group,
        _ => number(Said::Expert)?,
    };
    if !group.is_multiple_of(experts) {
        bail!("--from-args: experts over {experts} of {group} devices do not come out even");
    }
    if line.dialect.engine == TRTLLM.engine && !line.has(Said::DataParallelAttention) {
        let text = "whether attention is data-parallel (enable_attention_dp) stands in a file";
        unknown.push(("/parallelism", text.into()));
    }
    let spread = json!({
        "attention_tensor": attention_tensor,
        "attention_data": attention_data,
        "expert_parallel": experts,
        "expert_tensor": group / experts,
        "pipeline": pipeline,
    });
    Ok((spread, group * pipeline))
}

fn cluster(
    command: &Question,
    line: &Line,
    devices: Option<u64>,
    unknown: &mut Unknown,
) -> Result<Value> {
    let mut cluster = Map::new();
    let mut named =
        |name: &str, value: &Option<String>, missing: Option<(&'static str, &str)>| match (
            value, missing,
        ) {
            (Some(value), _) => {
                cluster.insert(name.to_owned(), value.as_str().into());
            }
            (None, Some((pointer, text))) => unknown.push((pointer, text.to_owned())),
            (None, None) => {}
        };
    named("device", &command.device, Some(("/cluster/device", "the GPU; give --device")));
    let inside = ("/cluster/link", "the link inside a node; give --link");
    named("link", &command.link, Some(inside).filter(|_| devices != Some(1)));
    // Replicas of attention over those of one node.
    let local = line.number(Said::DataLocal)?.zip(line.number(Said::Data)?);
    let nodes = match line.number(Said::Nodes)? {
        None => local.filter(|(here, all)| all.is_multiple_of(*here)).map(|(here, all)| all / here),
        stated => stated,
    };
    let between = ("/cluster/inter_node_link", "the link between nodes; give --inter-node-link");
    let several = nodes.is_some_and(|nodes| 1 < nodes);
    named("inter_node_link", &command.inter_node_link, Some(between).filter(|_| several));
    if let Some(devices) = devices {
        cluster.insert("devices".to_owned(), devices.into());
    }
    match nodes {
        Some(nodes) => {
            cluster.insert("nodes".to_owned(), nodes.into());
        }
        // The largest node that is common holds eight.
        None if devices.is_some_and(|devices| 8 < devices) => {
            unknown.push(("/cluster/nodes", "over how many nodes the devices are spread".into()));
        }
        None => {}
    }
    Ok(cluster.into())
}

fn workload(
    command: &Question,
    line: &Line,
    measured: Option<&Measured>,
    unknown: &mut Unknown,
) -> Result<Value> {
    let mut workload = Map::new();
    let phase = command.phase.as_deref().or(measured.map(|_| "serving"));
    match phase {
        Some(phase) => {
            workload.insert("phase".to_owned(), phase.into());
        }
        None => unknown.push(("/workload/phase", "what is asked about; give --phase".into())),
    }
    if phase == Some("serving") {
        traffic(command, line, measured, &mut workload, unknown)?;
    } else {
        step(command, line, &mut workload, unknown)?;
    }
    let mut dtypes = Map::new();
    for (field, what) in
        [("weights", Said::Weights), ("activations", Said::Activations), ("kv", Said::Kv)]
    {
        let Some(text) = line.text(what).filter(|text| *text != "auto") else { continue };
        match dtype(text) {
            Some(dtype) => {
                dtypes.insert(field.to_owned(), dtype.into());
            }
            None => unknown.push(("/workload/dtypes", format!("what {text} is priced as"))),
        }
    }
    if dtypes.is_empty() {
        unknown.push(("/workload/dtypes", "number formats are those of the checkpoint".into()));
    } else {
        workload.insert("dtypes".to_owned(), dtypes.into());
    }
    Ok(workload.into())
}

/// The traffic of a server: what options say, else what the engine measured.
fn traffic(
    command: &Question,
    line: &Line,
    measured: Option<&Measured>,
    workload: &mut Map<String, Value>,
    unknown: &mut Unknown,
) -> Result<()> {
    let ended = "no request has ended since the engine started";
    let running = match measured.and_then(|found| found.running) {
        Some(_) => "no request runs at this moment; take the metrics under load",
        None => "the text does not say how many requests run",
    };
    for (name, stated, found, pointer, missing) in [
        (
            "input_tokens",
            command.input_tokens,
            measured.and_then(|found| found.input_tokens),
            "/workload/input_tokens",
            ended,
        ),
        (
            "output_tokens",
            command.output_tokens,
            measured.and_then(|found| found.output_tokens),
            "/workload/output_tokens",
            ended,
        ),
        (
            "concurrency",
            command.concurrency,
            measured.and_then(|found| found.running),
            "/workload/concurrency",
            running,
        ),
    ] {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 or more")]
        let found = found.map(f64::round).filter(|number| 1.0 <= *number).map(|n| n as u64);
        if let Some(number) = stated.or(found) {
            workload.insert(name.to_owned(), number.into());
            continue;
        }
        let missing = measured.map(|_| format!("{missing}, or ")).unwrap_or_default();
        unknown.push((pointer, format!("{missing}give --{}", name.replace('_', "-"))));
    }
    let replicas = line.number(Said::Data)?.unwrap_or(1);
    let attention = line.has(Said::DataParallelAttention) || line.dialect.engine == VLLM.engine;
    let says = |found: &&Measured| found.running.is_some() && found.replicas < replicas;
    if let Some(found) = measured.filter(says).filter(|_| attention) {
        let text = format!(
            "only {} of {replicas} replicas of attention say what they run (SGLang:              --enable-metrics-for-all-schedulers)",
            found.replicas
        );
        unknown.push(("/workload/concurrency", text));
    }
    Ok(())
}

/// What a step of one phase holds.
fn step(
    command: &Question,
    line: &Line,
    workload: &mut Map<String, Value>,
    unknown: &mut Unknown,
) -> Result<()> {
    let most = line.text(Said::Sequences).map(str::parse::<u64>).transpose();
    let most = most.context("--from-args: the most sequences at once must be a number")?;
    match (command.batch_size, most) {
        (Some(batch), _) => {
            workload.insert("batch_size".to_owned(), batch.into());
        }
        (None, Some(most)) => {
            // vLLM counts for every replica of attention.
            let replicas = match line.dialect.engine {
                "vllm" => line.number(Said::Data)?.unwrap_or(1),
                _ => 1,
            };
            workload.insert("batch_size".to_owned(), (most * replicas).into());
            let text = "how many run at once; the most that may is taken, give --batch-size";
            unknown.push(("/workload/batch_size", text.into()));
        }
        (None, None) => {
            unknown
                .push(("/workload/batch_size", "how many run at once; give --batch-size".into()));
        }
    }
    let decode = command.phase.as_deref() == Some("decode");
    let (name, length, pointer, flag) = if decode {
        ("kv_length", command.kv_length, "/workload/kv_length", "--kv-length")
    } else {
        (
            "sequence_length",
            command.sequence_length,
            "/workload/sequence_length",
            "--sequence-length",
        )
    };
    match length {
        Some(length) => {
            workload.insert(name.to_owned(), length.into());
        }
        None => unknown.push((pointer, format!("how long sequences are; give {flag}"))),
    }
    Ok(())
}

/// The number format of a quantization or cache type, by the beginning of its name.
fn dtype(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let text = match text.as_str() {
        "half" | "float16" => "fp16",
        "bfloat16" => "bf16",
        "float" | "float32" => "fp32",
        other => other,
    };
    Dtype::ALL.iter().map(|(_, name)| *name).find(|name| text.starts_with(name))
}

fn engine(line: &Line) -> Value {
    let mut engine = Map::new();
    engine.insert("name".to_owned(), line.dialect.engine.into());
    for (field, what) in [("all2all_backend", Said::AllToAll), ("moe_kernel", Said::Kernel)] {
        if let Some(text) = line.text(what).filter(|text| *text != "auto") {
            engine.insert(field.to_owned(), text.into());
        }
    }
    if line.has(Said::Eager) {
        engine.insert("cuda_graph".to_owned(), false.into());
    }
    engine.into()
}

/// What the engine's own balancer is set to.
fn balancer(
    line: &Line,
    devices: u64,
    asked: &mut Map<String, Value>,
    unknown: &mut Unknown,
) -> Result<()> {
    if !line.has(Said::Balancer) {
        return Ok(());
    }
    let config = line.text(Said::BalancerConfig).map(serde_json::from_str::<Value>).transpose();
    let config = config.context("--from-args: --eplb-config is not JSON")?.unwrap_or_default();
    let set = |name: &str, what| -> Result<Option<u64>> {
        match config[name].as_u64() {
            Some(number) => Ok(Some(number)),
            None => Ok(line.text(what).map(str::parse).transpose()?),
        }
    };
    let redundant = set("num_redundant_experts", Said::Redundant)?.unwrap_or(0);
    let strategy = if redundant == 0 { "replace_only" } else { "distribution_only" };
    asked.insert("current".to_owned(), json!({"strategy": strategy}));
    let mut rebalance = Map::new();
    for (field, found) in [
        ("interval_steps", set("step_interval", Said::Interval)?),
        ("window_steps", config["window_size"].as_u64()),
    ] {
        if let Some(number) = found {
            rebalance.insert(field.to_owned(), number.into());
        }
    }
    if !rebalance.is_empty() {
        asked.insert("rebalance".to_owned(), rebalance.into());
    }
    let slots = Catalog::embedded()
        .model(line.text(Said::Model).unwrap_or_default())
        .ok()
        .map(|entry| u64::from(entry.value.model.experts.routed) + redundant)
        .filter(|slots| slots.is_multiple_of(devices.max(1)));
    if let Some(slots) = slots.filter(|_| 0 < redundant) {
        asked["current"]["slots_per_device"] = (slots / devices.max(1)).into();
    }
    unknown.push((
        "/current/physical_to_logical",
        "the map in force; without it a plan is made as if nothing were moved yet".into(),
    ));
    Ok(())
}
