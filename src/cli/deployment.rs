//! `moe-gps deployment` and `moe-gps watch`: tell a service what runs, post its loads, and follow what
//! is found.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::http::{Method, StatusCode, header};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::answer_table::wrapped;
use crate::cli::client::{Service, json_wanted};
use crate::wire::deployment::{
    ConditionBody, DeploymentBody, DeploymentItem, DeploymentList, JudgementBody, JudgementPage,
    WindowBody, is_name,
};
use crate::wire::written::{gain, percent, scaled};

#[derive(Debug, Subcommand)]
pub(super) enum DeploymentCommand {
    /// Tell what a deployment is: a question, and when a change is to be said.
    #[command(
        after_help = "Examples:\n  moe-gps deployment put prod question.json --for 30m --every 1m"
    )]
    Put(Put),
    /// Tell which map is in force.
    #[command(after_help = "Examples:\n  moe-gps deployment current prod placement.json")]
    Current {
        /// The deployment.
        name: String,
        /// A placement file of any engine, or JSON with `strategy` and `physical_to_logical`.
        file: PathBuf,
        #[command(flatten)]
        service: Service,
    },
    /// Post recordings as loads, the oldest first.
    #[command(after_help = "Examples:\n  moe-gps deployment loads prod window.npz --wait")]
    Loads(Loads),
    /// Show a deployment with its conditions.
    #[command(after_help = "Examples:\n  moe-gps deployment show prod")]
    Show {
        /// The deployment.
        name: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        service: Service,
    },
    /// List deployments.
    #[command(after_help = "Examples:\n  moe-gps deployment list --json")]
    List {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        service: Service,
    },
    /// List the judgements of a deployment, the newest first.
    #[command(after_help = "Examples:\n  moe-gps deployment judgements prod --limit 5")]
    Judgements {
        /// The deployment.
        name: String,
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        service: Service,
    },
    /// Delete a deployment with its loads; what was recommended stays.
    #[command(after_help = "Examples:\n  moe-gps deployment delete prod")]
    Delete {
        /// The deployment.
        name: String,
        #[command(flatten)]
        service: Service,
    },
}

#[derive(Debug, Args)]
pub(super) struct Put {
    /// Names it: letters, digits and `._-`.
    name: String,
    /// A file with the question, whose routing is left out; or with `question`, `current`, `policy` and
    /// `labels`.
    file: PathBuf,
    /// The least gain that is said, as a share of the step.
    #[arg(long, value_name = "SHARE")]
    min_gain: Option<f64>,
    /// How long every judgement must have found it, such as 30m.
    #[arg(long = "for", value_name = "TIME")]
    hold: Option<String>,
    /// The shortest time between two judgements, such as 1m.
    #[arg(long, value_name = "TIME")]
    every: Option<String>,
    /// Windows of loads that are kept.
    #[arg(long)]
    keep_windows: Option<u32>,
    /// How long serving stops when a map is replaced, seconds.
    #[arg(long)]
    stall_s: Option<f64>,
    /// A label, NAME=TEXT; may be given several times.
    #[arg(long, value_name = "NAME=TEXT")]
    label: Vec<String>,
    #[command(flatten)]
    service: Service,
}

#[derive(Debug, Args)]
pub(super) struct Loads {
    /// The deployment.
    name: String,
    /// Recordings in any format that `trace inspect` takes.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// When the recording began, RFC 3339; of one file.
    #[arg(long)]
    from: Option<String>,
    /// When it ended, RFC 3339; now if left out.
    #[arg(long)]
    to: Option<String>,
    /// The phase it was recorded in: `prefill` or `decode`.
    #[arg(long)]
    phase: Option<String>,
    /// Waits until the loads are judged, and shows what was found.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    service: Service,
}

/// Follows deployments and prints every change of a condition.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// The deployments; all if left out.
    names: Vec<String>,
    /// Shows them once; the status is 4 where a map is no longer right.
    #[arg(long)]
    once: bool,
    /// Seconds from one look to the next, where several are followed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every_s: u64,
    /// Prints a JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

fn path_of(name: &str) -> Result<String> {
    if !is_name(name) {
        bail!("{name:?} is no name of a deployment: letters, digits and `._-`");
    }
    Ok(format!("/v1/deployments/{name}"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Runs `deployment` and writes what it finds to `out`.
pub(super) fn run(command: &DeploymentCommand, out: &mut impl Write) -> Result<()> {
    match command {
        DeploymentCommand::Put(command) => put(command, out),
        DeploymentCommand::Current { name, file, service } => {
            let path = format!("{}/current", path_of(name)?);
            show(&service.put(&path, read(file)?)?, out)
        }
        DeploymentCommand::Loads(command) => loads(command, out),
        DeploymentCommand::Show { name, json, service } => {
            let body: Value = service.get(&path_of(name)?)?;
            if *json {
                return Ok(writeln!(out, "{body:#}")?);
            }
            show(&serde_json::from_value(body)?, out)
        }
        DeploymentCommand::List { json, service } => {
            let body: Value = service.get("/v1/deployments")?;
            if *json {
                return Ok(writeln!(out, "{body:#}")?);
            }
            let list: DeploymentList = serde_json::from_value(body)?;
            if list.items.is_empty() {
                writeln!(out, "nothing is watched: moe-gps deployment put NAME FILE")?;
            }
            list.items.iter().try_for_each(|item| line(item, out))
        }
        DeploymentCommand::Judgements { name, limit, json, service } => {
            let path = format!("{}/judgements?limit={limit}", path_of(name)?);
            let body: Value = service.get(&path)?;
            if *json {
                return Ok(writeln!(out, "{body:#}")?);
            }
            judgements(&serde_json::from_value::<JudgementPage>(body)?.items, out)
        }
        DeploymentCommand::Delete { name, service } => {
            service.send(Method::DELETE, &path_of(name)?, json_wanted(), Vec::new())?;
            Ok(writeln!(out, "{name} is deleted")?)
        }
    }
}

fn put(command: &Put, out: &mut impl Write) -> Result<()> {
    let told: Value = serde_json::from_slice(&read(&command.file)?)
        .with_context(|| format!("{} is not JSON", command.file.display()))?;
    let mut body = if told.get("question").is_some() { told } else { of_question(told) };
    let policy = [
        ("min_gain", command.min_gain.map(|share| json!(share))),
        ("for", command.hold.as_ref().map(|time| json!(time))),
        ("every", command.every.as_ref().map(|time| json!(time))),
        ("keep_windows", command.keep_windows.map(|windows| json!(windows))),
        ("stall_s", command.stall_s.map(|seconds| json!(seconds))),
    ];
    for (name, value) in policy {
        if let Some(value) = value {
            body["policy"][name] = value;
        }
    }
    for label in &command.label {
        let (name, text) = label.split_once('=').unwrap_or((label, ""));
        body["labels"][name] = text.into();
    }
    let path = path_of(&command.name)?;
    show(&command.service.put(&path, body.to_string().into_bytes())?, out)
}

/// What a deployment of a question is: its routing is watched, its map and labels are beside it.
fn of_question(mut question: Value) -> Value {
    let mut body = json!({});
    if let Some(fields) = question.as_object_mut() {
        fields.shift_remove("routing");
        for name in ["current", "labels"] {
            if let Some(value) = fields.shift_remove(name) {
                body[name] = value;
            }
        }
    }
    body["question"] = question;
    body
}

fn loads(command: &Loads, out: &mut impl Write) -> Result<()> {
    let times = command.from.is_some() || command.to.is_some();
    if times && 1 < command.files.len() {
        bail!("--from and --to are of one recording; post several one by one");
    }
    let deployment = path_of(&command.name)?;
    for file in &command.files {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in
            [("from", &command.from), ("to", &command.to), ("phase", &command.phase)]
        {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if let Some(format) = format_of(file) {
            query.append_pair("format", format);
        }
        let path = format!("{deployment}/loads?{}", query.finish());
        let typed = vec![(header::CONTENT_TYPE, "application/octet-stream".to_owned())];
        let reply = command.service.send(Method::POST, &path, typed, read(file)?)?;
        let window: WindowBody = serde_json::from_slice(&reply.body)?;
        let id = window.trace_id.get(..12).unwrap_or(&window.trace_id);
        writeln!(out, "posted {} as {id}, until {}", file.display(), window.to)?;
    }
    if command.wait {
        show(&waited(&command.service, &deployment)?, out)?;
    }
    Ok(())
}

/// The end of a file's name that tells its format, before that of its compression.
fn format_of(file: &Path) -> Option<&str> {
    let name = file.file_name()?.to_str()?;
    let name = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    name.rsplit_once('.').map(|(_, end)| end)
}

/// Longest time a service keeps a client waiting, seconds.
const LONGEST_WAIT_S: u64 = 60;

/// The deployment once nothing of it waits to be judged.
fn waited(service: &Service, path: &str) -> Result<DeploymentBody> {
    let mut headers = json_wanted();
    headers.push((header::HeaderName::from_static("prefer"), format!("wait={LONGEST_WAIT_S}")));
    let reply = service.send(Method::GET, path, headers, Vec::new())?;
    Ok(serde_json::from_slice(&reply.body)?)
}

/// A deployment for a person.
fn show(deployment: &DeploymentBody, out: &mut impl Write) -> Result<()> {
    let DeploymentBody { name, version, windows, last_judgement, conditions, .. } = deployment;
    writeln!(out, "{name}, version {version}, {} windows of loads", windows.len())?;
    for condition in conditions {
        tell(condition, out)?;
    }
    if let Some(id) = &deployment.judging {
        writeln!(out, "being judged: /v1/recommendations/{id}")?;
    }
    if let Some(last) = last_judgement {
        writeln!(out, "last judgement: /v1/recommendations/{}", last.id)?;
        judgements(std::slice::from_ref(last), out)?;
    }
    Ok(())
}

/// A condition: in a line what it is, and below it why.
fn tell(condition: &ConditionBody, out: &mut impl Write) -> Result<()> {
    let ConditionBody { kind, status, reason, message, last_transition_time } = condition;
    writeln!(out, "{kind:<14} {status:<8} {reason}, since {last_transition_time}")?;
    for line in wrapped(message).lines() {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// A deployment in one line.
fn line(item: &DeploymentItem, out: &mut impl Write) -> Result<()> {
    let of = |kind: &str| item.conditions.iter().find(|one| one.kind == kind);
    let advice = of("AdviceCurrent").map_or("", |one| &one.reason);
    let told = |kind: &str| of(kind).map_or("", |one| &one.status);
    writeln!(
        out,
        "{:<24} {advice:<22} loads fresh: {}, judged: {}",
        item.name,
        told("LoadsFresh"),
        told("Judged")
    )?;
    Ok(())
}

fn judgements(items: &[JudgementBody], out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "{:<17} {:<22} {:<18} {:>7} {:>9}",
        "loads until", "finding", "advice", "gain", "imbalance"
    )?;
    for one in items {
        let until = one.loads_until.to_string().replace('T', " ");
        let finding = one.finding.as_deref().or(one.verdict.as_deref());
        let ratio = one.net_gain.or(one.gain);
        writeln!(
            out,
            "{:<17} {:<22} {:<18} {:>7} {:>9}",
            until.get(..16).unwrap_or(&until),
            finding.unwrap_or(one.status.as_str()),
            one.strategy.as_deref().unwrap_or("-"),
            ratio.map_or_else(|| "-".to_owned(), |ratio| percent(ratio.mid)),
            scaled(one.imbalance, 1.0, 3),
        )?;
        if let Some(interval) = gain(ratio).filter(|_| items.len() == 1) {
            writeln!(out, "gain after the stall, as an interval: {interval}")?;
        }
    }
    Ok(())
}

/// Runs `watch`; says whether every map is right.
pub(super) fn watch(command: &Watch, out: &mut impl Write) -> Result<bool> {
    let mut known: Vec<(String, Vec<ConditionBody>)> = Vec::new();
    let mut tag = None;
    loop {
        let mut is_right = true;
        for (name, conditions) in looked_at(command, &mut tag)? {
            is_right &=
                !conditions.iter().any(|one| one.kind == "AdviceCurrent" && one.status == "False");
            let before = known.iter().position(|(one, _)| *one == name);
            let is_new = |one: &&ConditionBody| {
                before.is_none_or(|place| {
                    let said = |old: &ConditionBody| {
                        (&old.kind, &old.status, &old.reason)
                            == (&one.kind, &one.status, &one.reason)
                    };
                    !known[place].1.iter().any(said)
                })
            };
            for condition in conditions.iter().filter(is_new) {
                if command.json {
                    let mut line = json!(condition);
                    line["deployment"] = name.clone().into();
                    writeln!(out, "{line}")?;
                } else {
                    write!(out, "{name}: ")?;
                    tell(condition, out)?;
                }
            }
            out.flush()?;
            match before {
                Some(place) => known[place].1 = conditions,
                None => known.push((name, conditions)),
            }
        }
        if command.once {
            if known.is_empty() && !command.json {
                writeln!(out, "nothing is watched: moe-gps deployment put NAME FILE")?;
            }
            return Ok(is_right);
        }
        // One that is followed alone tells by itself when there is news.
        if command.names.len() != 1 {
            std::thread::sleep(Duration::from_secs(command.every_s));
        }
    }
}

/// The conditions of what is followed; of one alone, once they are others than those known.
fn looked_at(
    command: &Watch,
    tag: &mut Option<String>,
) -> Result<Vec<(String, Vec<ConditionBody>)>> {
    let service = &command.service;
    if let [name] = &command.names[..] {
        let mut headers = json_wanted();
        if let Some(tag) = tag.clone() {
            headers.push((header::IF_NONE_MATCH, tag));
            let wait = format!("wait={LONGEST_WAIT_S}");
            headers.push((header::HeaderName::from_static("prefer"), wait));
        }
        let reply = service.send(Method::GET, &path_of(name)?, headers, Vec::new())?;
        if reply.status == StatusCode::NOT_MODIFIED {
            return Ok(Vec::new());
        }
        *tag = reply.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body: DeploymentBody = serde_json::from_slice(&reply.body)?;
        return Ok(vec![(body.name, body.conditions)]);
    }
    let list: DeploymentList = service.get("/v1/deployments")?;
    let absent = command.names.iter().find(|name| !list.items.iter().any(|one| one.name == **name));
    if let Some(name) = absent {
        bail!("there is no deployment {name} of yours: see `moe-gps deployment list`");
    }
    let wanted = |name: &String| command.names.is_empty() || command.names.contains(name);
    let items = list.items.into_iter().filter(|item| wanted(&item.name));
    Ok(items.map(|item| (item.name, item.conditions)).collect())
}
