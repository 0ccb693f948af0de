//! Fields of a question that are valid but change nothing in it, each with its pointer.

use crate::wire::question::{self as wire, IdOrObject, Method};
use moe_gps_core::engines::defaults;
use moe_gps_core::formats::device_toml;
use moe_gps_core::question::RebalanceMode;
use moe_gps_core::serving::Serving;
use moe_gps_core::system::{Communication, Phase, Preset, System};

/// What is stated and changes nothing, and why.
pub(super) fn unused(
    asked: &wire::Question,
    (system, serving): (&System, Option<&Serving>),
    mode: RebalanceMode,
    method: Option<Method>,
) -> Vec<String> {
    let paper = system.assumptions.preset == Preset::Paper;
    let mut found = of_the_preset(asked, paper);
    let devices = system.parallelism.expert_parallel;
    if asked.duplication.allow_duplicates == Some(true)
        && asked.duplication.max_copies.is_none_or(|copies| copies <= devices)
    {
        found.push(format!(
            "/duplication/allow_duplicates seldom changes a plan in which no expert has more \
             copies than there are devices; max_copies above {devices} allows them"
        ));
    }
    found.extend(of_drafting(asked, system, paper));
    found.extend(of_links(asked, system));
    let mut note = |stated: bool, pointer: &str, because: &str| {
        if stated {
            found.push(format!("{pointer} changes nothing here: {because}"));
        }
    };
    let cluster = asked.cluster.as_ref();
    note(
        cluster.is_some_and(|cluster| cluster.inter_node_link.is_some())
            && system.cluster.n_nodes() < 2,
        "/cluster/inter_node_link",
        "all devices stand in one node",
    );
    note(
        cluster.is_some_and(|cluster| cluster.link.is_some())
            && system.cluster.devices_per_node < 2,
        "/cluster/link",
        "every device is alone in its node",
    );
    note(
        asked.workload.as_ref().is_some_and(|workload| workload.sequence_length.is_some())
            && system.workload.phase == Phase::Decode,
        "/workload/sequence_length",
        "a sequence has one new token in decode",
    );
    let bounds = |serving: &Serving| {
        let unbounded = Serving { max_batched_tokens: u64::from(u32::MAX), ..*serving };
        let steps = |serving: &Serving| serving.steps(system.workload.dtypes);
        steps(serving) != steps(&unbounded)
    };
    note(
        asked.workload.as_ref().is_some_and(|workload| workload.max_batched_tokens.is_some())
            && !serving.is_some_and(bounds),
        "/workload/max_batched_tokens",
        "no step has as many new tokens",
    );
    let renewal = &asked.rebalance;
    if mode == RebalanceMode::StartupMap {
        let because = "a map that is loaded at start is not renewed";
        note(renewal.interval_steps.is_some(), "/rebalance/interval_steps", because);
        note(renewal.window_steps.is_some(), "/rebalance/window_steps", because);
    } else {
        note(
            renewal.window_steps.is_some() && method != Some(Method::Simulated),
            "/rebalance/window_steps",
            "only a replay of a recording has steps to look back on",
        );
    }
    note(
        asked.duplication.groups.is_some()
            && (system.model.experts.groups.is_none() || system.cluster.n_nodes() < 2),
        "/duplication/groups",
        "only models with groups of experts, on several nodes, are planned by groups",
    );
    note(
        asked.current.as_ref().is_some_and(|current| current.slots_per_device.is_some()),
        "/current/slots_per_device",
        "`physical_to_logical` says it; without a map the strategy's own plan stands in",
    );
    note(
        asked.assumptions.misroute_repair.is_some() && !system.assumptions.t2e_skips_scatter,
        "/assumptions/misroute_repair",
        "no dispatch is skipped, so that every token goes where its experts are; `t2e_skips_scatter` \
         skips it",
    );
    if paper {
        return found;
    }
    let sent_otherwise = asked.workload.as_ref().is_some_and(|workload| {
        workload.dtypes.dispatch.is_some_and(|sent| sent != system.workload.dtypes.stream)
    });
    note(
        sent_otherwise && defaults::communication(system).pattern == Communication::Replicated,
        "/workload/dtypes/dispatch",
        "every device holds every token, so that none is sent to experts",
    );
    note(
        asked.engine.as_ref().is_some_and(|engine| engine.cuda_graph.is_some())
            && asked.assumptions.launch_s.is_some(),
        "/engine/cuda_graph",
        "`assumptions.launch_s` says what a launch costs",
    );
    note(
        asked.assumptions.attention_imbalance.is_some() && asked.measured_layer.is_some(),
        "/assumptions/attention_imbalance",
        "`measured_layer.attention_s` takes the place of attention",
    );
    found
}

/// What is stated of drafting in vain.
fn of_drafting(asked: &wire::Question, system: &System, paper: bool) -> Option<String> {
    let asked = asked.workload.as_ref().and_then(|workload| workload.speculative)?;
    let told = match asked.draft_s {
        Some(_) if paper => {
            "/workload/speculative/draft_s changes nothing here: the paper's formulas have no drafting; \
             `step_overhead_s` adds a time to the step"
        }
        None if system.model.mtp_layers == 0 || paper => {
            "/workload/speculative: drafting is priced at nothing, because no layer of the model that \
             drafts is known, or the paper's formulas have none; state `draft_s`"
        }
        _ => return None,
    };
    Some(told.to_owned())
}

/// Names of links, given beside numbers, over which nothing was measured.
fn of_links(asked: &wire::Question, system: &System) -> Vec<String> {
    let names = |link: Option<&wire::Link>| matches!(link, Some(wire::Link::Numbers(numbers)) if numbers.name.is_some());
    let (cluster, stated) = (&system.cluster, asked.cluster.as_ref());
    let measured = cluster.device.collectives.as_deref();
    let mut found = Vec::new();
    if names(stated.and_then(|stated| stated.link.as_ref()))
        && measured.is_none_or(|measured| measured.link != cluster.link.name)
    {
        found.push(
            "/cluster/link/name changes nothing here: nothing was measured over that link on this \
             device"
                .to_owned(),
        );
    }
    let sends = matches!(
        defaults::communication(system).pattern,
        Communication::AllToAllNormal | Communication::AllToAllLowLatency
    );
    let outer = cluster.inter_node_link.as_ref().map(|link| link.name.as_str());
    if names(stated.and_then(|stated| stated.inter_node_link.as_ref()))
        && !(sends && measured.is_some_and(|of| of.inter_node_link.as_deref() == outer))
    {
        found.push(
            "/cluster/inter_node_link/name changes nothing here: no all-to-all was measured over that \
             link on this device, or none is used"
                .to_owned(),
        );
    }
    found
}

/// What belongs to the other preset, and what a profile of the device states in vain.
fn of_the_preset(asked: &wire::Question, paper: bool) -> Vec<String> {
    let mut found = Vec::new();
    let assumed = &asked.assumptions;
    let belongs = if paper {
        vec![
            (asked.engine.is_some(), "/engine"),
            (assumed.overlap.is_some(), "/assumptions/overlap"),
            (assumed.launch_s.is_some(), "/assumptions/launch_s"),
            (assumed.attention_imbalance.is_some(), "/assumptions/attention_imbalance"),
            (assumed.replica_split.is_some(), "/assumptions/replica_split"),
        ]
    } else {
        let by_the_paper = assumed.communication == Some(Communication::Paper);
        vec![
            (assumed.error_model.is_some(), "/assumptions/error_model"),
            (assumed.cap_at_baseline.is_some(), "/assumptions/cap_at_baseline"),
            (assumed.k_comm.is_some() && !by_the_paper, "/assumptions/k_comm"),
        ]
    };
    let other = if paper { "the calibrated preset" } else { "the paper preset" };
    found.extend(
        belongs
            .into_iter()
            .filter(|(stated, _)| *stated)
            .map(|(_, pointer)| format!("{pointer} changes nothing here: it belongs to {other}")),
    );
    let device = asked.cluster.as_ref().and_then(|cluster| cluster.device.as_ref());
    if let Some(IdOrObject::Object(profile)) = device
        && device_toml::names_engines(profile)
    {
        found.push(
            "`engines` in the stacks of the device's profile is ignored: an engine uses the stack \
             that has its kernel"
                .to_owned(),
        );
    }
    found
}
