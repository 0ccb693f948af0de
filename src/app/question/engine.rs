//! Kernel, backend and version of the engine of a question: known or refused, and what they do.

use crate::wire::read::Violations;
use moe_gps_core::comm::exchange::Exchange;
use moe_gps_core::engines::{self, backends, kernels};
use moe_gps_core::hardware::Device;
use moe_gps_core::system::{Parallelism, Preset, System};

/// Notes a kernel or backend that nothing here knows, with the list of what is known.
pub(super) fn check(system: &System, violations: &Violations) {
    let Some(engine) = &system.engine else { return };
    if let Some(name) = &engine.moe_kernel
        && kernels::named(system, name).is_none()
    {
        let known = kernels::names(&system.cluster.device).join(", ");
        violations.note(
            "/engine/moe_kernel",
            "choice",
            format!(
                "no kernel `{name}` of {} or of an engine is known; known are: auto, {known}",
                system.cluster.device.name
            ),
        );
    }
    if let Some(name) = &engine.all2all_backend
        && !backends::is_automatic(name)
        && backends::pattern(engine.kind, name).is_none()
    {
        let known = backends::names(engine.kind).join(", ");
        violations.note(
            "/engine/all2all_backend",
            "choice",
            format!("no backend `{name}` is known; known are: none, {known}"),
        );
    }
}

/// That dispatch and combine are priced by constants of a group of another size.
pub(super) fn carried_over(system: &System) -> Option<String> {
    let pattern = engines::defaults::communication(system).pattern;
    let found = Exchange::new(system, pattern).carried_over()?;
    let Parallelism { expert_parallel, expert_tensor, .. } = system.parallelism;
    let group = expert_parallel * expert_tensor;
    let inside = group.min(system.cluster.devices_per_node);
    let of = |nodes: u32, devices: u32| match nodes {
        1 => format!("one node of {devices} GPUs"),
        _ => format!("{nodes} nodes of {devices} GPUs"),
    };
    Some(format!(
        "dispatch and combine rest on {}'s all-to-all as measured on {} and carried over to {}: their \
         error band is widened, and they are priced at no more than NCCL takes for the same rows{}",
        found.measured.stack.name,
        of(found.measured.nodes, found.measured.per_node),
        of(group.div_ceil(inside), inside),
        if found.is_bounded { ", which is less" } else { "" },
    ))
}

/// What of the engine's settings is priced by something else than itself.
pub(super) fn warnings(system: &System) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(engine) = &system.engine else { return warnings };
    if system.assumptions.preset == Preset::Paper {
        return warnings;
    }
    let device = &system.cluster.device;
    let Some(stack) = Device::stack_of(system) else { return warnings };
    let from = kernels::priced_by(stack, system);
    let priced_by = format!(
        "`{}` of {} {} (stack `{}` of {})",
        from.kernel, from.framework, from.version, stack.name, device.name
    );
    if let Some(name) = &engine.moe_kernel
        && let Some(named) = kernels::named(system, name)
    {
        if !named.shipped {
            warnings.push(format!(
                "/engine/moe_kernel: {} is not known to ship `{name}`; it is priced as asked",
                engine.kind.name
            ));
        }
        if !named.priced {
            warnings.push(format!(
                "/engine/moe_kernel: nobody measured `{name}` on {} in this phase and number \
                 format; the experts are priced by {priced_by}",
                device.name
            ));
        }
    }
    if let Some(version) = &engine.version
        && !kernels::measured_at(from, engine.kind, version)
    {
        warnings.push(format!(
            "/engine/version: nothing was measured with {} {version}; the nearest that prices the \
             experts is {priced_by}",
            engine.kind.name
        ));
    }
    if let Some(name) = &engine.all2all_backend {
        let unused = if system.assumptions.communication.is_some() {
            Some("`assumptions.communication` takes its place")
        } else if engine.kind.backend_needs_attention_data
            && system.parallelism.attention_data < 2
            && !backends::is_automatic(name)
        {
            Some("the engine uses it with data-parallel attention only")
        } else {
            None
        };
        if let Some(because) = unused {
            warnings.push(format!("/engine/all2all_backend: `{name}` changes nothing: {because}"));
        }
    }
    warnings
}
