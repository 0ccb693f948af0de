//! From the question as asked to the question as checked: ids looked up, defaults filled
//! in, and everything refused that needs more than one field to see.

mod device;
mod digest;
mod engine;
mod formats;
mod predictors;
mod routing;
mod system;
mod unused;

use serde_json::Value;

use crate::app::advisor::AdviceError;
use crate::app::place::unlike;
use crate::app::references::References;
use crate::wire::question::{self as wire, AskedPhase, Method, Objective};
use crate::wire::read::Violations;
use crate::wire::violation::Violation;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::formats::hf_config::MULTI_TOKEN_PREDICTION;
use moe_gps_core::model::Model;
use moe_gps_core::options;
use moe_gps_core::question::{
    Algorithm, Current, Duplication, Grouping, MeasuredLayer, Question, Rebalance,
};
use moe_gps_core::strategies::Strategy;
use moe_gps_core::system::{Assumptions, Phase, Preset, System};
use moe_gps_core::units::Seconds;

pub(super) use device::profile;
pub use predictors::AskedFit;
pub use routing::{AskedRouting, TraceUse};
pub use system::{ModelFacts, as_read};

/// A question that can be answered, and how.
#[derive(Debug, Clone)]
pub struct Answerable {
    /// The question.
    pub question: Question,
    /// What it says of the routing.
    pub routing: AskedRouting,
    /// Analytic or simulated.
    pub method: Method,
    /// Fields of an inline model that nothing here depends on.
    pub ignored_model_fields: Vec<String>,
    /// Catalog id or name of the model.
    pub model: String,
    /// What was read of it besides its shape.
    pub facts: ModelFacts,
    /// Catalog id or name of the device.
    pub device: String,
    /// What the user should know although the question is answerable.
    pub warnings: Vec<String>,
    /// Predictors to fit on the trace.
    pub fits: Vec<AskedFit>,
    /// Whether the interval of renewal is stated, not to be searched.
    pub interval_is_stated: bool,
    /// Whether the predictors were left to us, and are to be priced by the laws.
    pub assume_predictors: bool,
}

/// A question as it was read.
#[derive(Debug)]
pub struct ReadQuestion {
    /// The body, as it is stored and echoed.
    pub request: Value,
    /// What it says; what could not be read is absent.
    pub asked: wire::Question,
    /// What is wrong with it so far.
    pub violations: Vec<Violation>,
}

/// Reads a question field by field.
#[must_use]
pub fn read(request: Value) -> ReadQuestion {
    let violations = Violations::default();
    let asked = wire::read(&request, &violations);
    ReadQuestion { request, asked, violations: violations.into_vec() }
}

impl ReadQuestion {
    /// Checks the question, or says everything that is wrong with it.
    pub fn answerable(
        &self,
        catalog: &Catalog,
        references: &References,
    ) -> Result<Answerable, AdviceError> {
        answerable(&self.asked, self.violations.clone(), catalog, references)
    }
}

/// The model of a question, where it can be read.
pub(super) fn as_asked(
    asked: &wire::Question,
    catalog: &Catalog,
    references: &References,
) -> Option<Model> {
    let unsaid = Violations::default();
    let registered = references.model.as_ref();
    system::model(asked.model.as_ref(), catalog, registered, &unsaid).map(|named| named.model)
}

/// Checks what was read, beside the violations of reading.
pub(super) fn answerable(
    asked: &wire::Question,
    violations: Vec<Violation>,
    catalog: &Catalog,
    references: &References,
) -> Result<Answerable, AdviceError> {
    let violations = Violations::from(violations);
    let checked = check(asked, catalog, references, &violations);
    match checked {
        Some(answerable) if violations.is_empty() => Ok(answerable),
        _ => Err(AdviceError::Refused(violations.into_vec())),
    }
}

/// Checks what was read; whatever can be checked is, even after other violations.
fn check(
    asked: &wire::Question,
    catalog: &Catalog,
    references: &References,
    violations: &Violations,
) -> Option<Answerable> {
    let assumptions = assumptions(&asked.assumptions);
    let seed = seed(asked, violations);
    let model = system::model(asked.model.as_ref(), catalog, references.model.as_ref(), violations);
    let cluster =
        system::cluster(asked.cluster.as_ref(), catalog, references.device.as_ref(), violations);
    let system = system::system(asked, model.as_ref(), cluster, assumptions, violations);
    let (system, serving) = system.unzip();
    if let Some(system) = &system {
        engine::check(system, violations);
    }
    let serving = serving.flatten();
    if serving.is_some() {
        of_one_step(asked, violations);
    }
    let traces = &references.traces;
    let routing =
        routing::check(asked, model.as_ref().map(|named| &named.model), traces, violations);
    let current = current(asked, model.as_ref().map(|named| &named.model), violations);
    let top_k = model.as_ref().map(|named| named.model.experts.top_k);
    let predictors = predictors::check(asked, routing.as_ref(), top_k, violations);
    let method = method(asked, routing.as_ref(), violations);
    greedy_groups(asked, violations);

    let (named, system, routing) = (model?, system?, routing?);
    let default = system.engine_kind().rebalance;
    let device = system.cluster.device.name.clone();
    let mut warnings = routing.warnings(&named.model);
    let mut facts = named.facts;
    if system.workload.speculation.is_some() {
        facts.not_priced.retain(|what| !what.starts_with(MULTI_TOKEN_PREDICTION));
    }
    warnings.extend(facts.warnings());
    warnings.extend(formats::warnings(asked, &system, facts.quantization));
    let mode = asked.rebalance.mode.unwrap_or(default.mode);
    warnings.extend(unused::unused(asked, (&system, serving.as_ref()), mode, method));
    warnings.extend(predictors.warnings);
    warnings.extend(uneven_replicas(asked, &system));
    warnings.extend(unlike_slots(asked, &system));
    warnings.extend(engine::warnings(&system));
    warnings.extend(engine::carried_over(&system));
    Some(Answerable {
        question: Question {
            rebalance: Rebalance {
                mode,
                interval_steps: asked.rebalance.interval_steps.unwrap_or(default.interval_steps),
                window_steps: asked.rebalance.window_steps,
            },
            system,
            serving,
            predictors: predictors.stated,
            measured_layer: asked.measured_layer.and_then(measured_layer),
            duplication: Duplication {
                slots_per_device: asked.duplication.slots_per_device,
                max_copies: asked.duplication.max_copies,
                algorithm: asked.duplication.algorithm.unwrap_or(Algorithm::Best),
                allow_duplicates: asked.duplication.allow_duplicates.unwrap_or(false),
                groups: asked.duplication.groups,
            },
            current,
            // A set: in whatever order it is written, it is one question.
            allowed: Strategy::ALL
                .map(|(strategy, _)| strategy)
                .into_iter()
                .filter(|strategy| {
                    asked.allowed_strategies.as_ref().is_none_or(|asked| asked.contains(strategy))
                })
                .collect(),
            names_allowed: asked.allowed_strategies.is_some()
                && asked.predictors.as_ref().is_some_and(|stated| !stated.is_empty()),
            flip_points: asked.flip_points.unwrap_or(true),
            options: options::LIST.to_vec(),
            throughput_at_tpot: asked.objective == Some(Objective::ThroughputAtTpot),
            measured_step: asked.measured_step_s.map(Seconds::new),
            step_overhead: asked.step_overhead_s.map_or(Seconds::ZERO, Seconds::new),
            seed: seed?,
        },
        routing,
        method: method?,
        ignored_model_fields: named.ignored,
        facts,
        model: named.id,
        device,
        warnings,
        fits: predictors.fits,
        interval_is_stated: asked.rebalance.interval_steps.is_some(),
        assume_predictors: asked.predictors.as_ref().is_none_or(Vec::is_empty),
    })
}

/// The preset with everything the question overrides.
fn assumptions(asked: &wire::Assumptions) -> Assumptions {
    let mut assumptions = Assumptions::preset(asked.preset.unwrap_or(Preset::Calibrated));
    let wire::Assumptions { communication, launch_s, replica_split, .. } = *asked;
    assumptions.communication = communication.or(assumptions.communication);
    assumptions.launch = launch_s.map(Seconds::new).or(assumptions.launch);
    assumptions.replica_split = replica_split.or(assumptions.replica_split);
    let set = |value: &mut f64, asked: Option<f64>| *value = asked.unwrap_or(*value);
    set(&mut assumptions.k_comm, asked.k_comm);
    set(&mut assumptions.attention_imbalance, asked.attention_imbalance);
    assumptions.error_model = asked.error_model.unwrap_or(assumptions.error_model);
    assumptions.cap_at_baseline = asked.cap_at_baseline.unwrap_or(assumptions.cap_at_baseline);
    assumptions.t2e_skips_scatter =
        asked.t2e_skips_scatter.unwrap_or(assumptions.t2e_skips_scatter);
    assumptions.misroute_repair = asked.misroute_repair.unwrap_or(assumptions.misroute_repair);
    assumptions.predictor_overlap =
        asked.predictor_overlap.unwrap_or(assumptions.predictor_overlap);
    assumptions.copy_overlap = asked.copy_overlap.unwrap_or(assumptions.copy_overlap);
    assumptions.overlap = asked.overlap.unwrap_or(assumptions.overlap);
    assumptions
}

fn seed(asked: &wire::Question, violations: &Violations) -> Option<u64> {
    match (asked.seed, asked.assumptions.seed) {
        (Some(one), Some(other)) if one != other => {
            violations.note(
                "/assumptions/seed",
                "exactly_one",
                format!("`seed` is {one} and `assumptions.seed` is {other}; give one of them"),
            );
            None
        }
        (one, other) => Some(one.or(other).unwrap_or(0)),
    }
}

fn method(
    asked: &wire::Question,
    routing: Option<&AskedRouting>,
    violations: &Violations,
) -> Option<Method> {
    let paper = asked.assumptions.preset == Some(Preset::Paper);
    let phase = asked.workload.as_ref().and_then(|workload| workload.phase);
    let serves = phase == Some(AskedPhase::Serving);
    let steps = matches!(routing, Some(AskedRouting::Trace(used)) if used.has_steps());
    let drafts = asked.workload.as_ref().is_some_and(|workload| workload.speculative.is_some());
    let method = asked.method.unwrap_or(if steps && !paper && !serves && !drafts {
        Method::Simulated
    } else {
        Method::Analytic
    });
    if method == Method::Simulated && routing.is_some() {
        if paper {
            violations.note(
                "/method",
                "choice",
                "the paper preset has formulas only; use `analytic`, or the calibrated preset",
            );
            return None;
        }
        if drafts {
            violations.note(
                "/method",
                "choice",
                "a replay of decode has one token of each sequence in a step; leave `method` out where \
                 `workload.speculative` is stated",
            );
            return None;
        }
        if !steps {
            violations.note(
                "/method",
                "choice",
                "a simulation replays a trace of two or more steps; give `routing.trace_id` of \
                 such a trace, or use `analytic`",
            );
            return None;
        }
    }
    Some(method)
}

/// Refuses what is known of one kind of step only where a server is asked about.
fn of_one_step(asked: &wire::Question, violations: &Violations) {
    let one = "of one step; leave it out, or ask about `prefill` or `decode`";
    let refused = [
        (
            asked.assumptions.preset == Some(Preset::Paper),
            "/assumptions/preset",
            "the paper's formulas price one step; ask about `prefill` or `decode`, or leave \
             `preset` out"
                .to_owned(),
        ),
        (
            asked.method == Some(Method::Simulated),
            "/method",
            "a replay prices one kind of step; leave `method` out: a server is priced on steps drawn \
             from the load of its traces"
                .to_owned(),
        ),
        (
            asked.objective == Some(Objective::ThroughputAtTpot),
            "/objective",
            "the concurrency of a server is stated; leave `objective` out, the answer has \
             `serving.tokens_per_s_per_device`"
                .to_owned(),
        ),
        (asked.measured_layer.is_some(), "/measured_layer", format!("this is a layer {one}")),
        (asked.measured_step_s.is_some(), "/measured_step_s", format!("this is the time {one}")),
    ];
    for (_, pointer, detail) in refused.into_iter().filter(|(refused, ..)| *refused) {
        violations.note(pointer, "choice", detail);
    }
}

/// Refuses groups for the planner that knows none.
fn greedy_groups(asked: &wire::Question, violations: &Violations) {
    let wire::Duplication { algorithm, groups, .. } = asked.duplication;
    if algorithm == Some(Algorithm::PaperGreedy)
        && matches!(groups, Some(Grouping::Hard | Grouping::Soft))
    {
        violations.note(
            "/duplication/groups",
            "choice",
            "`paper_greedy` knows no groups; use `best` or `eplb`, or `none`",
        );
    }
}

fn measured_layer(asked: wire::MeasuredLayer) -> Option<MeasuredLayer> {
    Some(MeasuredLayer {
        attention: Seconds::new(asked.attention_s?),
        all_reduce: Seconds::new(asked.all_reduce_s?),
        expert_ffn_balanced: Seconds::new(asked.expert_ffn_balanced_s?),
    })
}

/// The current placement, every slot naming an expert and every expert having a slot.
fn current(
    asked: &wire::Question,
    model: Option<&Model>,
    violations: &Violations,
) -> Option<Current> {
    let current = asked.current.as_ref()?;
    if let (Some(maps), Some(model)) = (&current.physical_to_logical, model) {
        let experts = model.experts.routed;
        for (layer, map) in maps.iter().enumerate() {
            let pointer = format!("/current/physical_to_logical/{layer}");
            if let Some(wrong) = map.iter().find(|expert| **expert >= experts) {
                violations.note(
                    &pointer,
                    "range",
                    format!("expert {wrong} does not exist; the model has {experts}"),
                );
            } else if let Some(absent) = (0..experts).find(|expert| !map.contains(expert)) {
                violations.note(&pointer, "complete", format!("expert {absent} has no slot"));
            }
            let devices = asked.cluster.as_ref().and_then(|cluster| cluster.devices);
            let group = asked.parallelism.expert_parallel.or(devices).unwrap_or(1) as usize;
            if map.len() % group != 0 {
                violations.note(
                    &pointer,
                    "divides",
                    format!("{} slots do not divide evenly over {group} devices", map.len()),
                );
            }
        }
    }
    Some(Current {
        strategy: current.strategy,
        physical_to_logical: current.physical_to_logical.clone(),
        slots_per_device: current.slots_per_device,
    })
}

/// That the placement in force has unlike numbers of slots in its layers.
fn unlike_slots(asked: &wire::Question, system: &System) -> Option<String> {
    let maps = asked.current.as_ref()?.physical_to_logical.as_ref()?;
    let group = system.parallelism.expert_parallel as usize;
    let said = unlike(maps.iter().map(|map| map.len() / group.max(1)).enumerate())?;
    Some(format!("/current/physical_to_logical: {said}"))
}

/// Replicas of attention that wait for the busiest one, or that are assumed to have a prompt each.
fn uneven_replicas(asked: &wire::Question, system: &System) -> Option<String> {
    let replicas = u64::from(system.parallelism.attention_data);
    let workload = asked.workload.as_ref()?;
    if replicas < 2 || system.assumptions.preset == Preset::Paper {
        return None;
    }
    let sequences = system.workload.sequences;
    let most = system.busiest_sequences();
    if sequences.is_multiple_of(replicas) {
        let alone = workload.batch_size.or(workload.sequence_length).is_none();
        return (alone && system.workload.phase == Phase::Prefill).then(|| {
            format!(
                "/workload/tokens_per_step: nothing says how many prompts these are; one for each \
                 of {replicas} replicas of attention is assumed (give `batch_size` or \
                 `sequence_length`)"
            )
        });
    }
    let idle = replicas.saturating_sub(sequences);
    let waiting = if idle > 0 {
        format!("{idle} replicas idle")
    } else {
        format!("{} replicas idle part of the step", replicas * most - sequences)
    };
    Some(format!(
        "/workload: {sequences} sequences do not divide evenly over {replicas} replicas of \
         attention: the busiest holds {most} and {waiting} (a sequence stays on its replica; \
         {} sequences would take as long)",
        most * replicas
    ))
}

impl Answerable {
    /// Ids of the traces the answer needs.
    #[must_use]
    pub fn trace_ids(&self) -> Vec<String> {
        match &self.routing {
            AskedRouting::Trace(used) => {
                used.traces.iter().chain(&used.holdouts).map(|trace| trace.id.clone()).collect()
            }
            _ => Vec::new(),
        }
    }
}
