//! Model, cluster, parallelism and workload of a question, looked up and made whole.

use serde_json::{Map, Value};

use crate::app::question::formats;
use crate::wire::question::{self as wire, AskedPhase, IdOrObject};
use crate::wire::read::Violations;
use crate::wire::violation::Violation;
use moe_gps_core::catalog::{Catalog, UnknownId, names};
use moe_gps_core::engines::{self, Engine};
use moe_gps_core::formats::catalog_entry::CatalogEntry;
use moe_gps_core::formats::hf_config;
use moe_gps_core::formats::model_toml::ModelSheet;
use moe_gps_core::hardware::{Device, Link};
use moe_gps_core::model::Model;
use moe_gps_core::serving::Serving;
use moe_gps_core::system::{
    Assumptions, Cluster, Dtypes, Parallelism, Phase, Quantization, ServingEngine, Speculation,
    System, Workload,
};
use moe_gps_core::units::{BytesPerSecond, Seconds};

/// Tokens a step may have.
const MOST_TOKENS: u64 = 1 << 24;

/// A model with its name for lists.
pub(super) struct NamedModel {
    pub(super) id: String,
    pub(super) model: Model,
    pub(super) facts: ModelFacts,
    pub(super) ignored: Vec<String>,
}

/// What was read of a model besides its shape.
#[derive(Debug, Clone, Default)]
pub struct ModelFacts {
    /// The family by which it was read.
    pub family: String,
    /// Formats of the published checkpoint's weights, where known.
    pub quantization: Option<Quantization>,
    /// What it has and no law prices.
    pub not_priced: Vec<String>,
    /// What was guessed.
    pub guessed: Option<String>,
}

impl ModelFacts {
    /// What the user should know of how the model was read.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let guessed = self.guessed.iter().map(|what| format!("/model/model_type: {what}"));
        let not_priced = self.not_priced.iter().map(|what| format!("/model: not priced is {what}"));
        guessed.chain(not_priced).collect()
    }
}

/// The model by id, shipped or registered, or from the fields of a `config.json`.
pub(super) fn model(
    asked: Option<&IdOrObject>,
    catalog: &Catalog,
    registered: Option<&CatalogEntry<ModelSheet>>,
    violations: &Violations,
) -> Option<NamedModel> {
    match asked? {
        IdOrObject::Id(id) => {
            let shipped = || {
                let found = catalog.model(id);
                let or = "or give the fields of the model's config.json";
                found.map_err(|unknown| UnknownId {
                    hint: format!("{} ({or})", unknown.hint),
                    ..unknown
                })
            };
            let entry = match registered {
                Some(entry) => entry,
                None => known(shipped(), "/model", violations)?,
            };
            Some(NamedModel {
                id: entry.id.clone(),
                model: entry.value.model.clone(),
                facts: ModelFacts {
                    family: entry.value.family.clone(),
                    quantization: entry.value.quantization,
                    not_priced: entry.value.not_priced.clone(),
                    guessed: entry.value.guessed.clone(),
                },
                ignored: Vec::new(),
            })
        }
        IdOrObject::Object(config) => match as_read(config) {
            Ok((model, facts, ignored)) => {
                Some(NamedModel { id: model.name.clone(), model, facts, ignored })
            }
            Err(problems) => {
                violations.note_under("/model", problems);
                None
            }
        },
    }
}

/// A model by the fields of its `config.json`: its shape, what was read besides, and the fields that
/// nothing depends on.
pub fn as_read(
    config: &Map<String, Value>,
) -> Result<(Model, ModelFacts, Vec<String>), Vec<Violation>> {
    let read = hf_config::read(config)?;
    let facts = ModelFacts {
        family: read.family,
        quantization: read.quantization,
        not_priced: read.not_priced,
        guessed: read.guessed,
    };
    Ok((read.model, facts, read.ignored))
}

/// The entry of an id, or a violation that names the nearest one.
fn known<T>(found: Result<T, UnknownId>, pointer: &str, violations: &Violations) -> Option<T> {
    found.map_err(|unknown| violations.note(pointer, "not_found", unknown.to_string())).ok()
}

/// The whole system.
pub(super) fn system(
    asked: &wire::Question,
    named: Option<&NamedModel>,
    cluster: Option<Cluster>,
    assumptions: Assumptions,
    violations: &Violations,
) -> Option<(System, Option<Serving>)> {
    let parallelism = named
        .zip(cluster.as_ref())
        .and_then(|(named, cluster)| parallelism(asked, &named.model, cluster, violations));
    let replicas = parallelism.map_or(1, |parallelism| parallelism.attention_data);
    let published = named.and_then(|named| named.facts.quantization);
    let workload = asked.workload.as_ref().and_then(|workload| match workload.phase? {
        AskedPhase::Step(phase) => {
            of_phases(workload, violations, Some(phase));
            Some((
                step(workload, phase, replicas, formats::of(workload, published), violations)?,
                None,
            ))
        }
        AskedPhase::Serving => {
            of_phases(workload, violations, None);
            let kind = asked.engine.as_ref().and_then(|engine| engine.name);
            let kind = kind.unwrap_or(&engines::unnamed::ENGINE);
            let serving = serving(workload, kind, replicas, violations)?;
            let last = serving.steps(formats::of(workload, published)).pop()?;
            Some((last.workload, Some(serving)))
        }
    });
    let (named, cluster) = (named?, cluster?);
    let engine = asked.engine.as_ref().and_then(|engine| {
        Some(ServingEngine {
            kind: engine.name?,
            version: engine.version.clone(),
            all2all_backend: engine.all2all_backend.clone(),
            moe_kernel: engine.moe_kernel.clone(),
            cuda_graph: engine.cuda_graph,
        })
    });
    let (workload, serving) = workload?;
    let mut system = System {
        model: named.model.clone(),
        cluster,
        parallelism: parallelism?,
        workload,
        engine,
        assumptions,
    };
    formats::settle(asked.workload.as_ref()?, &mut system, violations)?;
    Some((system, serving))
}

/// The devices and what links them; `registered` is the device where its id is not the catalog's.
pub(super) fn cluster(
    asked: Option<&wire::Cluster>,
    catalog: &Catalog,
    registered: Option<&Device>,
    violations: &Violations,
) -> Option<Cluster> {
    let asked = asked?;
    let device = match asked.device.as_ref() {
        Some(IdOrObject::Id(id)) => registered.cloned().or_else(|| {
            known(catalog.device(id), "/cluster/device", violations)
                .map(|entry| entry.value.clone())
        }),
        Some(IdOrObject::Object(fields)) => {
            crate::app::question::device::inline(fields, "/cluster/device", catalog, violations)
        }
        None => None,
    };
    let own = device.as_ref().and_then(|device| Some(&*device.collectives.as_ref()?.link));
    let found_link = |asked: Option<&wire::Link>, name: &str, own: Option<&str>| -> Option<Link> {
        link(asked?, &format!("/cluster/{name}"), own, catalog, violations)
    };
    let inner = found_link(asked.link.as_ref(), "link", own);
    let outer = found_link(asked.inter_node_link.as_ref(), "inter_node_link", None);
    let n_devices = asked.devices?;
    let domain = inner.as_ref().and_then(|link| link.domain);
    let devices_per_node = per_node(asked, n_devices, domain, violations)?;
    if asked.link.is_none() && devices_per_node > 1 {
        let detail = format!("`link` is missing: a node has {devices_per_node} devices");
        violations.note("/cluster", "required", detail);
        return None;
    }
    if devices_per_node < n_devices && asked.inter_node_link.is_none() {
        violations.note(
            "/cluster",
            "required",
            format!(
                "`inter_node_link` is missing: {n_devices} devices stand in {} nodes",
                n_devices / devices_per_node
            ),
        );
        return None;
    }
    // What is alone in its node sends nothing inside it.
    let unused = || asked.link.is_none().then(|| outer.clone().unwrap_or_else(Link::unused));
    Some(Cluster {
        device: device?,
        n_devices,
        devices_per_node,
        link: inner.or_else(unused)?,
        inter_node_link: outer,
    })
}

/// Devices of one node, from `nodes` or from the size of an NVLink domain, stated or known of the link.
fn per_node(
    asked: &wire::Cluster,
    n_devices: u32,
    domain: Option<u32>,
    violations: &Violations,
) -> Option<u32> {
    let domain = domain.filter(|_| asked.nodes.is_none());
    match (asked.nodes, asked.devices_per_nvlink_domain.or(domain)) {
        (Some(_), Some(_)) => {
            violations.note(
                "/cluster",
                "exactly_one",
                "give `nodes` or `devices_per_nvlink_domain`, not both",
            );
            None
        }
        (Some(nodes), None) if !n_devices.is_multiple_of(nodes) => {
            violations.note(
                "/cluster/nodes",
                "divides",
                format!("{nodes} nodes do not divide {n_devices} devices"),
            );
            None
        }
        (None, Some(domain)) if !n_devices.is_multiple_of(domain.min(n_devices)) => {
            violations.note(
                "/cluster/devices_per_nvlink_domain",
                "divides",
                format!("domains of {domain} devices do not divide {n_devices} devices"),
            );
            None
        }
        (Some(nodes), None) => Some(n_devices / nodes),
        (None, Some(domain)) => Some(domain.min(n_devices)),
        (None, None) => Some(n_devices),
    }
}

/// The link of a name, of its numbers, or of a name with other numbers; a name that may mean several
/// is answered with the device's own.
fn link(
    asked: &wire::Link,
    pointer: &str,
    own: Option<&str>,
    catalog: &Catalog,
    violations: &Violations,
) -> Option<Link> {
    let named = |id: &str, pointer: &str| {
        let found = catalog.link(id).map_err(|unknown| match own {
            Some(own) => UnknownId { hint: names::hint(id, &[own], &unknown.hint), ..unknown },
            None => unknown,
        });
        known(found, pointer, violations).map(|entry| entry.value.clone())
    };
    let numbers = match asked {
        wire::Link::Id(id) => return named(id, pointer),
        wire::Link::Numbers(numbers) => numbers,
    };
    let bandwidth = numbers.bandwidth_bytes_per_s.map(BytesPerSecond::new);
    let latency = numbers.latency_s.map(Seconds::new);
    let base = if let Some(id) = &numbers.name {
        named(id, &format!("{pointer}/name"))?
    } else {
        let name = "inline".to_owned();
        Link { name, bandwidth: bandwidth?, latency: latency?, domain: None }
    };
    Some(Link {
        bandwidth: bandwidth.unwrap_or(base.bandwidth),
        latency: latency.unwrap_or(base.latency),
        ..base
    })
}

/// Notes fields of the workload that belong to other phases than `phase`, a server if there is none.
fn of_phases(asked: &wire::Workload, violations: &Violations, phase: Option<Phase>) {
    let of_step = "prefill and decode";
    let fields = [
        ("kv_length", asked.kv_length.is_some(), "decode", phase == Some(Phase::Decode)),
        ("sequence_length", asked.sequence_length.is_some(), of_step, phase.is_some()),
        ("batch_size", asked.batch_size.is_some(), of_step, phase.is_some()),
        ("tokens_per_step", asked.tokens_per_step.is_some(), of_step, phase.is_some()),
        ("input_tokens", asked.input_tokens.is_some(), "serving", phase.is_none()),
        ("output_tokens", asked.output_tokens.is_some(), "serving", phase.is_none()),
        ("concurrency", asked.concurrency.is_some(), "serving", phase.is_none()),
        ("max_batched_tokens", asked.max_batched_tokens.is_some(), "serving", phase.is_none()),
        (
            "speculative",
            asked.speculative.is_some(),
            "decode and serving",
            phase != Some(Phase::Prefill),
        ),
    ];
    for (field, _, with, _) in fields.iter().filter(|(_, stated, _, fits)| *stated && !*fits) {
        let detail = format!("`{field}` goes with {with}");
        violations.note(format!("/workload/{field}"), "choice", detail);
    }
}

/// What a running server is asked to do.
fn serving(
    asked: &wire::Workload,
    engine: &Engine,
    replicas: u32,
    violations: &Violations,
) -> Option<Serving> {
    let given = |field: &str, value: Option<u64>| {
        let unread = violations.has_at(&format!("/workload/{field}"));
        if value.is_none() && !unread {
            let detail = format!(
                "`{field}` is missing: serving needs `input_tokens`, `output_tokens` and `concurrency`"
            );
            violations.note("/workload", "required", detail);
        }
        value
    };
    let input_tokens = given("input_tokens", asked.input_tokens);
    let output_tokens = given("output_tokens", asked.output_tokens);
    let concurrency = given("concurrency", asked.concurrency)?;
    let (input_tokens, output_tokens) = (input_tokens?, output_tokens?);
    let speculation = speculation(asked);
    let decoded = concurrency.saturating_mul(1 + speculation.map_or(0, |of| u64::from(of.drafted)));
    let default = engine.batched_tokens * u64::from(replicas);
    let default = default.max(decoded.saturating_mul(2)).min(MOST_TOKENS);
    let max_batched_tokens = asked.max_batched_tokens.unwrap_or(default);
    if output_tokens > 1 && max_batched_tokens < decoded {
        let detail = format!(
            "a step of {max_batched_tokens} tokens cannot hold the {decoded} of {concurrency} \
             requests that decode; give `max_batched_tokens` of {decoded} or more"
        );
        violations.note("/workload/max_batched_tokens", "range", detail);
        return None;
    }
    Some(Serving {
        input_tokens,
        output_tokens,
        concurrency,
        max_batched_tokens,
        replicas: u64::from(replicas),
        scheduling: engine.scheduling,
        speculation,
    })
}

/// What is drafted for sequences that decode.
fn speculation(asked: &wire::Workload) -> Option<Speculation> {
    let asked = asked.speculative?;
    Some(Speculation {
        drafted: asked.draft_tokens?,
        accepted: asked.accepted?,
        draft: asked.draft_s.map(Seconds::new),
    })
}

/// What one step computes; `replicas` of attention have a prompt each where nothing says how many
/// there are.
fn step(
    asked: &wire::Workload,
    phase: Phase,
    replicas: u32,
    dtypes: Dtypes,
    violations: &Violations,
) -> Option<Workload> {
    let missing = |what: &str| -> Option<Workload> {
        // A number that could not be read is not one that was left out.
        let fields = ["batch_size", "sequence_length", "kv_length", "tokens_per_step"];
        if !fields.iter().any(|field| violations.has_at(&format!("/workload/{field}"))) {
            violations.note("/workload", "required", what.to_owned());
        }
        None
    };
    let speculation = if phase == Phase::Decode { speculation(asked) } else { None };
    let (sequences, tokens, context) = match phase {
        Phase::Prefill => match (asked.batch_size, asked.sequence_length, asked.tokens_per_step) {
            (Some(batch), Some(length), tokens) => {
                let product = batch.saturating_mul(length);
                if tokens.is_some_and(|tokens| tokens != product) {
                    violations.note(
                        "/workload/tokens_per_step",
                        "exactly_one",
                        format!("batch_size times sequence_length is {product}; leave one out"),
                    );
                }
                (batch, product, length)
            }
            (None, Some(length), Some(tokens)) => (tokens.div_ceil(length), tokens, length),
            (Some(batch), None, Some(tokens)) => {
                (batch.min(tokens), tokens, tokens.div_ceil(batch))
            }
            (None, None, Some(tokens)) => {
                let prompts = u64::from(replicas).clamp(1, tokens.max(1));
                (prompts, tokens, tokens.div_ceil(prompts))
            }
            (Some(_), None, None) => {
                return missing("`sequence_length` is missing (or `tokens_per_step`)");
            }
            (None, _, None) => {
                return missing("`batch_size` is missing (or `tokens_per_step`)");
            }
        },
        Phase::Decode => {
            if asked.sequence_length.is_some_and(|length| length != 1) {
                violations.note(
                    "/workload/sequence_length",
                    "choice",
                    "in decode every sequence has one new token; say how many it attends to in \
                     `kv_length`",
                );
            }
            let verified = 1 + speculation.map_or(0, |of| u64::from(of.drafted));
            let of_batch = |batch: u64| batch.saturating_mul(verified);
            let (Some(tokens), Some(kv_length)) =
                (asked.tokens_per_step.or(asked.batch_size.map(of_batch)), asked.kv_length)
            else {
                return missing("decode needs `batch_size` (or `tokens_per_step`) and `kv_length`");
            };
            if asked.batch_size.is_some_and(|batch| of_batch(batch) != tokens)
                || !tokens.is_multiple_of(verified)
            {
                let each =
                    if verified == 1 { "one token".into() } else { format!("{verified} tokens") };
                violations.note(
                    "/workload/tokens_per_step",
                    "exactly_one",
                    format!(
                        "in decode a step has {each} per sequence; leave `batch_size` or \
                         `tokens_per_step` out"
                    ),
                );
            }
            (tokens / verified, tokens, kv_length)
        }
    };
    if tokens > MOST_TOKENS {
        violations.note(
            "/workload",
            "range",
            format!(
                "a step of {tokens} tokens is out of range; it must be from 1 to {MOST_TOKENS}"
            ),
        );
        return None;
    }
    let tokens_per_step = tokens;
    let running = None;
    Some(Workload { phase, sequences, tokens_per_step, context, dtypes, running, speculation })
}

/// Parallelism as asked, the rest by the engine's habit; refused where it does not fit.
fn parallelism(
    asked: &wire::Question,
    model: &Model,
    cluster: &Cluster,
    violations: &Violations,
) -> Option<Parallelism> {
    let given = &asked.parallelism;
    let default = engines::defaults::parallelism(model, cluster);
    let pipeline = given.pipeline.unwrap_or(default.pipeline);
    if pipeline > cluster.n_devices || !cluster.n_devices.is_multiple_of(pipeline) {
        violations.note(
            "/parallelism/pipeline",
            "divides",
            format!("{pipeline} stages do not divide {} devices", cluster.n_devices),
        );
        return None;
    }
    let stage = cluster.n_devices / pipeline;
    let (attention_tensor, attention_data) = match (given.attention_tensor, given.attention_data) {
        (Some(tensor), Some(data)) => (tensor, data),
        (Some(tensor), None) => (tensor, (stage / tensor).max(1)),
        (None, Some(data)) => ((stage / data).max(1), data),
        (None, None) if pipeline == default.pipeline => {
            (default.attention_tensor, default.attention_data)
        }
        (None, None) => {
            let tensor = default.attention_tensor.min(stage);
            (tensor, stage / tensor)
        }
    };
    let expert_tensor = given.expert_tensor.unwrap_or(1);
    let expert_parallel = given.expert_parallel.unwrap_or((stage / expert_tensor).max(1));
    let found =
        Parallelism { attention_tensor, attention_data, expert_parallel, expert_tensor, pipeline };
    let mut fits = true;
    for (name, one, other) in [
        ("attention", attention_tensor, attention_data),
        ("expert", expert_parallel, expert_tensor),
    ] {
        if one.saturating_mul(other) != stage {
            violations.note(
                "/parallelism",
                "product",
                format!(
                    "{name} parallelism spreads over {one} x {other} devices; a pipeline stage \
                     has {stage}"
                ),
            );
            fits = false;
        }
    }
    let experts = model.experts.routed;
    let slots = asked.duplication.slots_per_device.unwrap_or(0);
    if !experts.is_multiple_of(expert_parallel) && slots.saturating_mul(expert_parallel) < experts {
        violations.note(
            "/parallelism/expert_parallel",
            "divides",
            format!(
                "{expert_parallel} devices do not divide {experts} experts; choose a divisor, or \
                 give `duplication.slots_per_device` of {} or more",
                experts.div_ceil(expert_parallel)
            ),
        );
        fits = false;
    } else if slots != 0 && slots.saturating_mul(expert_parallel) < experts {
        violations.note(
            "/duplication/slots_per_device",
            "range",
            format!(
                "{slots} slots on {expert_parallel} devices cannot hold {experts} experts; at \
                 least {} are needed",
                experts.div_ceil(expert_parallel)
            ),
        );
        fits = false;
    }
    fits.then_some(found)
}
