//! The number formats of a question: what is stated, what a checkpoint publishes, what a device
//! multiplies and an engine has kernels for.
//!
//! A narrow `dtype` is that of the checkpoint: engines keep the cache, everything between operators
//! and outputs of experts in 16 bits where nothing else is said.

use moe_gps_core::engines::defaults;
use moe_gps_core::hardware::{Device, fit_for};
use moe_gps_core::named::name_of;
use moe_gps_core::system::{Communication, Dtype, Dtypes, Operands, Preset, Quantization, System};

use crate::wire::question as wire;
use crate::wire::read::Violations;

fn name(dtype: Dtype) -> &'static str {
    name_of(&Dtype::OF_WEIGHTS, &dtype)
}

/// Formats one by one; weights have the published ones where nothing says which. What depends on
/// device and engine is settled later ([`settle`]).
pub(super) fn of(asked: &wire::Workload, published: Option<Quantization>) -> Dtypes {
    let stream = asked.dtype.filter(|dtype| dtype.is_wide()).unwrap_or(Dtype::Bf16);
    let quantization = quantization(asked, published);
    let products = |stored: Dtype| {
        let input = asked.dtypes.activations.filter(|_| !stored.is_wide());
        Operands::of(stored, input.unwrap_or_else(|| stored.usual_input()))
    };
    Dtypes {
        weights: products(quantization.rest),
        experts: products(quantization.experts),
        stream,
        kv: asked.dtypes.kv.unwrap_or(stream),
        dispatch: asked.dtypes.dispatch.unwrap_or(stream),
        combine: asked.dtypes.combine.unwrap_or(stream),
    }
}

/// Formats of weights as stated, else as published, else in 16 bits.
fn quantization(asked: &wire::Workload, published: Option<Quantization>) -> Quantization {
    let plain = asked.dtypes.weights.or(asked.dtype);
    let left_out =
        |of: fn(Quantization) -> Dtype| plain.or(published.map(of)).unwrap_or(Dtype::Bf16);
    let parts = match asked.quantization {
        Some(wire::Quantization::All(all)) => [Some(all), Some(all)],
        Some(wire::Quantization::Apart(parts)) => [parts.experts, parts.rest],
        None => [None, None],
    };
    Quantization {
        experts: parts[0].unwrap_or_else(|| left_out(|published| published.experts)),
        rest: parts[1].unwrap_or_else(|| left_out(|published| published.rest)),
    }
}

/// The field that says in which format weights are.
fn field(asked: &wire::Workload) -> &'static str {
    match () {
        () if asked.quantization.is_some() => "/workload/quantization",
        () if asked.dtypes.weights.is_some() => "/workload/dtypes/weights",
        () if asked.dtype.is_some() => "/workload/dtype",
        () => "/workload/quantization",
    }
}

/// Multiplies weights in 16 bits where the device has no products of their format, refuses what the
/// engine cannot unpack, and sends tokens in 8 bits where its all-to-all does.
pub(super) fn settle(
    asked: &wire::Workload,
    system: &mut System,
    violations: &Violations,
) -> Option<()> {
    if system.assumptions.preset == Preset::Paper {
        return Some(());
    }
    let engine = system.engine_kind();
    let device = &system.cluster.device;
    let stream = system.workload.dtypes.stream;
    let settled = |operands: Operands| {
        let Operands { stored, computed } = operands;
        if stored.is_wide() || device.peak.has(computed) && !computed.is_wide() {
            return Some(operands);
        }
        if engine.unpacks.contains(&stored) {
            return Some(Operands::of(stored, stream));
        }
        let runs = |dtype: &Dtype| device.peak.has(*dtype) || engine.unpacks.contains(dtype);
        let known: Vec<&str> = Dtype::OF_WEIGHTS
            .iter()
            .filter(|(dtype, _)| runs(dtype))
            .map(|(_, name)| *name)
            .collect();
        let (engine, device) = (engine.name, &device.name);
        let detail = format!(
            "{engine} has no kernel for {} weights{} on {device}; formats it runs there: {}",
            name(stored),
            if runs(&stored) {
                format!(" with {} activations", name(computed))
            } else {
                String::new()
            },
            known.join(", ")
        );
        violations.note(field(asked), "choice", detail);
        None
    };
    let dtypes = system.workload.dtypes;
    let experts = settled(dtypes.experts)?;
    let weights = if dtypes.weights == dtypes.experts { experts } else { settled(dtypes.weights)? };
    system.workload.dtypes = Dtypes { weights, experts, ..dtypes };
    let pattern = defaults::communication(system).pattern;
    let exchanged =
        matches!(pattern, Communication::AllToAllNormal | Communication::AllToAllLowLatency);
    let quantised = experts.computed == Dtype::Fp8 && engine.sends_8_bit.contains(&experts.stored);
    if asked.dtypes.dispatch.is_none() && exchanged && quantised {
        system.workload.dtypes.dispatch = Dtype::Fp8;
    }
    Some(())
}

/// What the user should know of the formats of weights: where they are not the checkpoint's, where
/// they are multiplied in another one, and where no law of theirs was fitted.
pub(super) fn warnings(
    asked: &wire::Question,
    system: &System,
    published: Option<Quantization>,
) -> Vec<String> {
    let Some(workload) = &asked.workload else { return Vec::new() };
    let dtypes = system.workload.dtypes;
    let parts = [("experts", dtypes.experts), ("the rest", dtypes.weights)];
    let field = field(workload);
    let mut warnings = Vec::new();
    if let Some(published) = published {
        // Scales of blocks are all that sets the two 8-bit formats apart.
        let alike = |one: Dtype, other: Dtype| {
            one.usual_input() == other.usual_input() && (one.bytes() - other.bytes()).abs() < 0.01
        };
        let stored = [published.experts, published.rest];
        if parts.iter().zip(stored).any(|((_, used), stored)| !alike(used.stored, stored)) {
            warnings.push(format!(
                "{field}: the published checkpoint has its experts in {} and the rest in {}; {} and \
                 {} are stated and win",
                name(published.experts),
                name(published.rest),
                name(dtypes.experts.stored),
                name(dtypes.weights.stored),
            ));
        }
    }
    if system.assumptions.preset == Preset::Paper {
        return warnings;
    }
    let device = &system.cluster.device;
    let inputs = workload.dtypes.activations;
    if inputs.is_some() && parts.iter().all(|(_, used)| used.stored.is_wide()) {
        warnings.push(
            "/workload/dtypes/activations has no effect here: no weights are quantised, and \
             everything else is multiplied as it is"
                .to_owned(),
        );
    }
    let Some(stack) = Device::stack_of(system) else { return warnings };
    let own = [
        fit_for(&stack.experts, &stack.formats.experts, dtypes.experts).own,
        fit_for(&stack.gemm, &stack.formats.gemm, dtypes.weights).own,
    ];
    let mut told = Vec::new();
    for ((part, used), own) in parts.into_iter().zip(own) {
        if used.stored.is_wide() || told.contains(&used) {
            continue;
        }
        let (stored, computed) = (name(used.stored), name(used.computed));
        let wanted = inputs.unwrap_or_else(|| used.stored.usual_input());
        if wanted != used.computed && !wanted.is_wide() {
            told.push(used);
            warnings.push(format!(
                "{field}: {} multiplies no {}; {part} in {stored} are priced as weight-only: read in \
                 that format, multiplied in {computed}",
                device.name,
                name(wanted),
            ));
        } else if !own {
            told.push(used);
            warnings.push(format!(
                "{field}: no product of {stored} weights with {computed} was measured on {} with the \
                 stack `{}`; {part} are priced with the constants of another format, and a wider band",
                device.name, stack.name,
            ));
        }
    }
    warnings
}
