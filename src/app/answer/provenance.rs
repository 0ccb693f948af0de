//! What an answer rests on: switches in force, the system as priced, how far terms are trusted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::app::answer::name_of;
use crate::app::catalog::model_as_read;
use crate::app::question::Answerable;
use crate::wire::answer as wire;
use crate::wire::question::Method;
use moe_gps_core::advice::Advised;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::engines::{self, kernels};
use moe_gps_core::hardware::Device;
use moe_gps_core::price::Basis;
use moe_gps_core::pricing::kinds::served_steps;
use moe_gps_core::question::Question;
use moe_gps_core::serving::{Scheduling, ServedStep, Serving, StepKind};
use moe_gps_core::system::{
    Assumptions, Communication, CopyOverlap, Dtype, ErrorModel, MisrouteRepair, Overlap,
    PredictorOverlap, Preset, Quantization, ReplicaSplit, Speculation,
};
use moe_gps_core::units::Seconds;

/// What the answer rests on.
pub(super) fn provenance(
    asked: &Answerable,
    advised: &Advised,
    catalog: &Catalog,
) -> wire::Provenance {
    let question = &asked.question;
    let paper = question.system.assumptions.preset == Preset::Paper;
    let terms = advised
        .bands
        .named()
        .map(|(name, band)| {
            let basis = if paper {
                "paper"
            } else {
                match band.basis {
                    Basis::Measured => "measured",
                    Basis::Fitted => "fitted",
                    Basis::Roofline => "roofline",
                }
            };
            let basis = basis.into();
            (format!("{name}_s"), wire::TermProvenance { basis, error_band: band.relative })
        })
        .collect();
    wire::Provenance {
        version: env!("CARGO_PKG_VERSION").into(),
        catalog_digest: catalog.digest().to_owned(),
        seed: question.seed,
        method: name_of(&asked.method, &Method::ALL).into(),
        assumptions: assumptions(question, advised),
        system: system(question),
        model: model(asked),
        terms,
        ignored_model_fields: asked.ignored_model_fields.clone(),
        trace_ids: asked.trace_ids(),
    }
}

/// The model as it was read.
fn model(asked: &Answerable) -> wire::ModelProvenance {
    let system = &asked.question.system;
    let dtypes = system.workload.dtypes;
    let formats = Quantization { experts: dtypes.experts.stored, rest: dtypes.weights.stored };
    model_as_read(&system.model, &asked.facts, formats, Some((dtypes.stream, dtypes.kv)))
}

/// Every switch in force.
fn assumptions(question: &Question, advised: &Advised) -> BTreeMap<Cow<'static, str>, Value> {
    let used = &question.system.assumptions;
    let split = used.replica_split.unwrap_or_else(|| question.system.engine_kind().replica_split);
    let launch = used.launch.unwrap_or_else(|| {
        if engines::defaults::cuda_graph(&question.system) {
            Seconds::ZERO
        } else {
            question.system.cluster.device.eager_launch
        }
    });
    let (pattern, because) = &advised.communication;
    let switches = [
        ("preset", json!(name_of(&used.preset, &Preset::ALL))),
        ("error_model", json!(name_of(&used.error_model, &ErrorModel::ALL))),
        ("cap_at_baseline", json!(used.cap_at_baseline)),
        ("communication", json!(name_of(pattern, &Communication::ALL))),
        ("communication_because", json!(because)),
        ("t2e_skips_scatter", json!(used.t2e_skips_scatter)),
        ("predictor_overlap", json!(name_of(&used.predictor_overlap, &PredictorOverlap::ALL))),
        ("overlap", json!(name_of(&used.overlap, &Overlap::ALL))),
        ("k_comm", json!(used.k_comm)),
        ("launch_s", json!(launch.get())),
        ("attention_imbalance", json!(used.attention_imbalance)),
        ("replica_split", json!(name_of(&split, &ReplicaSplit::ALL))),
    ];
    let preset = Assumptions::preset(used.preset);
    let repair = json!(name_of(&used.misroute_repair, &MisrouteRepair::ALL));
    let copies = json!(name_of(&used.copy_overlap, &CopyOverlap::ALL));
    // Said where they are not as the preset has them.
    let otherwise = [
        ("misroute_repair", repair, used.misroute_repair != preset.misroute_repair),
        ("copy_overlap", copies, used.copy_overlap != preset.copy_overlap),
    ];
    let otherwise = otherwise.into_iter().filter(|switch| switch.2);
    switches
        .into_iter()
        .chain(otherwise.map(|(name, value, _)| (name, value)))
        .map(|(name, value)| (name.into(), value))
        .collect()
}

/// The stack whose constants price the experts, and what they were measured with.
fn expert_kernel(question: &Question) -> Value {
    let system = &question.system;
    let Some(stack) = Device::stack_of(system) else { return Value::Null };
    if system.assumptions.preset == Preset::Paper {
        return Value::Null;
    }
    let from = kernels::priced_by(stack, system);
    json!({
        "stack": stack.name,
        "framework": from.framework,
        "version": from.version,
        "kernel": from.kernel,
    })
}

/// The system as priced, defaults filled in.
fn system(question: &Question) -> BTreeMap<Cow<'static, str>, Value> {
    let parallelism = question.system.parallelism;
    let workload = question.system.workload;
    let dtype = |dtype: Dtype| json!(name_of(&dtype, &Dtype::OF_WEIGHTS));
    let parts = [
        (
            "parallelism",
            json!({
                "attention_tensor": parallelism.attention_tensor,
                "attention_data": parallelism.attention_data,
                "expert_parallel": parallelism.expert_parallel,
                "expert_tensor": parallelism.expert_tensor,
                "pipeline": parallelism.pipeline,
            }),
        ),
        (
            "dtypes",
            json!({
                "experts": dtype(workload.dtypes.experts.stored),
                "weights": dtype(workload.dtypes.weights.stored),
                "activations": dtype(workload.dtypes.experts.computed),
                "stream": dtype(workload.dtypes.stream),
                "kv": dtype(workload.dtypes.kv),
                "dispatch": dtype(workload.dtypes.dispatch),
                "combine": dtype(workload.dtypes.combine),
            }),
        ),
        ("tokens_per_step", json!(workload.tokens_per_step)),
        ("expert_kernel", expert_kernel(question)),
    ];
    let server = question.serving.map(|serving| ("server", server(question, &serving)));
    let speculative = workload.speculation.map(|Speculation { drafted, accepted, draft }| {
        let told = json!({
            "draft_tokens": drafted,
            "accepted": accepted,
            "draft_s": draft.map(Seconds::get),
            "drafting_layers": question.system.model.mtp_layers,
        });
        ("speculative", told)
    });
    let parts = parts.into_iter().chain(server).chain(speculative);
    parts.map(|(name, value)| (name.into(), value)).collect()
}

/// The steps that a server is taken to make.
fn server(question: &Question, serving: &Serving) -> Value {
    let step = |(share, step): (f64, ServedStep)| {
        let workload = step.workload;
        json!({
            "phase": name_of(&step.kind, &StepKind::ALL),
            "share": share,
            "per_request": step.per_request,
            "tokens_per_step": workload.tokens_per_step,
            "sequences": workload.sequences + workload.decoding(),
        })
    };
    json!({
        "scheduling": match serving.scheduling {
            Scheduling::Mixed => "prompts beside sequences that decode",
            Scheduling::PromptsFirst => "prompts alone, before any sequence decodes further",
        },
        "max_batched_tokens": serving.max_batched_tokens,
        "steps": served_steps(question).into_iter().map(step).collect::<Vec<_>>(),
    })
}
