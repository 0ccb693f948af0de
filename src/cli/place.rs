//! `place LOADS`: plans for a load, without a question, and the file an engine loads.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;

use crate::app::place::{self, Balances, GroupsAsked, PlaceRequest, Placed, Scored};
use crate::cli::answer_table::indented;
use crate::cli::trace;
use crate::wire::answer::EnginePlanBody;
use crate::wire::placed::{GreedyLayer, HeldOutBalance, PlacedBody, ScoredBody};
use moe_gps_core::engines::settings::{Balancing, Deployment, EngineSettings, settings};
use moe_gps_core::formats::placement::{self, Deployed, Maps};
use moe_gps_core::placement::paper_greedy::GreedyPlan;

/// Plans where experts go for a load, and writes the file an engine loads.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Tokens per layer and expert: a NumPy array [layers, experts], or any recording.
    pub loads: PathBuf,
    /// What is known beside it.
    #[command(flatten)]
    pub known: trace::Known,
    /// Expert-parallel size (EP): devices that share the routed experts.
    #[arg(long)]
    pub devices: u32,
    /// Expert slots of every device.
    #[arg(long, required_unless_present = "score")]
    pub slots_per_device: Option<u32>,
    /// Expert groups kept on nodes: their number; `soft` (or `soft:NUMBER`) lets copies leave
    /// the node of their group, and without a number there is one group per node.
    #[arg(long, requires = "nodes")]
    pub groups: Option<String>,
    /// Nodes the devices stand in: how many of the dispatched tokens cross them is then said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub nodes: Option<u32>,
    /// `best`, `eplb` or `paper_greedy`.
    #[arg(long, default_value = "best")]
    pub algorithm: String,
    /// Lets `best` put two copies of an expert on one device.
    #[arg(long)]
    pub allow_duplicates: bool,
    /// The placement in force, in any of the formats: the plan stays close to it.
    #[arg(long, value_name = "MAP")]
    pub current: Option<PathBuf>,
    /// Says what this placement is worth, in any of the formats, and plans nothing.
    #[arg(long, value_name = "MAP", conflicts_with_all = ["slots_per_device", "current", "format",
          "groups", "algorithm", "allow_duplicates", "model_layers", "rebalance_interval"])]
    pub score: Option<PathBuf>,
    /// How much less even the plan may be, relatively, where that saves moves; no step gets
    /// measurably slower by a thousandth.
    #[arg(long, value_name = "SHARE", requires = "current", default_value = "0.001",
          value_parser = tolerance)]
    pub move_tolerance: f64,
    /// Plans on this share of the recording, from its beginning, and scores on the rest.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub train_fraction: Option<f64>,
    /// Prints the file an engine loads: `json`, `sglang`, `trtllm` or `vllm_ascend`.
    #[arg(long, conflicts_with = "json")]
    pub format: Option<String>,
    /// Layers of the model, dense ones included; without it, up to the last in the loads.
    #[arg(long)]
    pub model_layers: Option<u32>,
    /// Steps after which the engine is to plan anew by itself; without it, never.
    #[arg(long, value_name = "STEPS")]
    pub rebalance_interval: Option<u64>,
    /// Prints the plan and what it is worth as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs `place` and writes the plan to `out`.
pub fn run(command: &Place, out: &mut dyn Write) -> Result<()> {
    let format = command.format.as_deref().map(placement::by_id).transpose()?;
    let algorithm = place::algorithm(&command.algorithm).ok_or_else(|| {
        anyhow!("algorithm is {}; it must be best, eplb or paper_greedy", command.algorithm)
    })?;
    if let Some(nodes) = command.nodes.filter(|nodes| !command.devices.is_multiple_of(*nodes)) {
        bail!("{} devices are not a multiple of {nodes} nodes", command.devices);
    }
    let groups = command.groups.as_deref().map(|text| groups(text, command.nodes)).transpose()?;
    let taken = trace::take_in(&command.loads, command.known.into())?;
    let stored = taken.open()?;
    let extent = stored.header().extent();
    let split = command.train_fraction.map(|share| stored.split(share)).transpose()?;
    ensure!(
        split.is_none() || extent > 1,
        "--train-fraction needs a recording of two steps or more; this one has {extent}"
    );
    let at = Deployed { experts: stored.header().experts, devices: command.devices };
    let mut warnings = taken.ingested.summary.warnings.clone();
    let request = PlaceRequest {
        loads: stored.count(0..split.unwrap_or(extent))?,
        holdout: split.map(|split| stored.count(split..extent)).transpose()?,
        layers: stored.header().layers.clone(),
        devices: command.devices,
        slots_per_device: command.slots_per_device.unwrap_or(0),
        groups,
        algorithm,
        allow_duplicates: command.allow_duplicates,
        nodes: command.nodes,
        current: command.current.as_ref().map(|path| read_maps(path, at)).transpose()?,
        move_tolerance: command.move_tolerance,
    };
    if let Some(path) = &command.score {
        let scored = place::score(&read_maps(path, at)?, &request)?;
        warnings.extend(scored.warnings.iter().cloned());
        return tell_score(command, &request, scored, warnings, out);
    }
    let mut placed = place::place(&request)?;
    warnings.append(&mut placed.warnings);
    if let Some(n) = command.model_layers {
        let layers = placed.plan.layers().to_vec();
        placed.plan = placement::PlanFile::new(placed.plan.shape(), n, layers)?;
    }
    let engines = settings(&Deployment {
        balancing: Balancing::Plan,
        has_map: true,
        renew_below: None,
        shape: placed.plan.shape(),
        groups: groups.and_then(|groups| groups.n_groups),
        interval_steps: command.rebalance_interval,
        window_steps: None,
    });
    if command.json {
        serde_json::to_writer(&mut *out, &body(&command.algorithm, &placed, engines, warnings))?;
        writeln!(out)?;
    } else if let Some(format) = format {
        out.write_all((format.write)(&placed.plan)?.as_bytes())?;
        // The file is on standard output; how to use it goes beside it.
        let mut beside = std::io::stderr();
        trace::warn(&warnings, &mut beside)?;
        for engine in engines.iter().filter(|engine| engine.format == Some(format.id)) {
            advise(engine, &mut beside)?;
        }
    } else {
        trace::warn(&warnings, out)?;
        summarize(&placed, &engines, out)?;
    }
    Ok(())
}

/// A share between 0 and 1.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if share > 0.0 && share < 1.0 {
        Ok(share)
    } else {
        Err(format!("{share}; it must be above 0 and below 1"))
    }
}

/// A share from 0 on.
fn tolerance(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (0.0..1.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("{share}; it must be 0 or more and below 1"))
    }
}

/// `G`, `soft` or `soft:G`.
fn groups(text: &str, nodes: Option<u32>) -> Result<GroupsAsked> {
    let n_nodes = nodes.context("--groups needs --nodes")?;
    let (soft, number) = match text.strip_prefix("soft") {
        Some("") => return Ok(GroupsAsked { n_groups: None, n_nodes, soft: true }),
        Some(rest) => (true, rest.strip_prefix(':').unwrap_or("")),
        None => (false, text),
    };
    let n_groups = number
        .parse()
        .map_err(|_| anyhow!("groups is {text}; it must be a number, soft, or soft:NUMBER"))?;
    Ok(GroupsAsked { n_groups: Some(n_groups), n_nodes, soft })
}

fn read_maps(path: &PathBuf, at: Deployed) -> Result<Maps> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    placement::read_any(&bytes, at).with_context(|| path.display().to_string())
}

/// What a placement is worth.
fn tell_score(
    command: &Place,
    request: &PlaceRequest,
    scored: Scored,
    warnings: Vec<String>,
    out: &mut dyn Write,
) -> Result<()> {
    if command.json {
        let body = ScoredBody {
            devices: request.devices,
            slots_per_device: scored.slots_per_device,
            layers: request.layers.clone(),
            balance_mean: scored.with.mean(),
            balance_worst: scored.with.worst(),
            balance_without: scored.without.as_ref().map(Balances::mean),
            balance_per_layer: scored.with.per_layer,
            holdout_per_layer: scored.holdout.map(|(_, with)| with.per_layer),
            cross_node_share: scored.cross_node,
            same_device_duplicates: scored.same_device_duplicates,
            warnings,
        };
        serde_json::to_writer(&mut *out, &body)?;
        return Ok(writeln!(out)?);
    }
    trace::warn(&warnings, out)?;
    let slots = scored.slots_per_device.iter().collect::<std::collections::BTreeSet<_>>();
    let slots: Vec<String> = slots.into_iter().map(u32::to_string).collect();
    writeln!(
        out,
        "{} layers of {} experts on {} GPUs of {} slots",
        request.layers.len(),
        request.loads.n_experts(),
        request.devices,
        slots.join(" or ")
    )?;
    let (without, with) = (balances(scored.without.as_ref(), request.devices), &scored.with);
    writeln!(
        out,
        "max/mean GPU load {without} → {:.4} in force (worst layer {:.4})",
        with.mean(),
        with.worst()
    )?;
    if let Some((without, with)) = &scored.holdout {
        let without = balances(without.as_ref(), request.devices);
        let (mean, worst) = (with.mean(), with.worst());
        writeln!(out, "held-out {without} → {mean:.4} in force (worst layer {worst:.4})")?;
    }
    if let Some(share) = scored.cross_node {
        writeln!(out, "dispatched tokens that cross nodes: {:.1} %", share * 100.0)?;
    }
    let duplicates = scored.same_device_duplicates;
    writeln!(out, "copies of an expert beside another on a device {duplicates}")?;
    Ok(())
}

/// The mean without a plan, or why there is none.
fn balances(without: Option<&Balances>, devices: u32) -> String {
    match without.map(Balances::mean) {
        Some(mean) => format!("{mean:.4}"),
        None => format!("- (experts do not divide among {devices} devices)"),
    }
}

/// Everything there is to say.
fn body(
    algorithm: &str,
    placed: &Placed,
    engines: Vec<EngineSettings>,
    warnings: Vec<String>,
) -> PlacedBody {
    let shape = placed.plan.shape();
    let layers = placed.plan.layers();
    PlacedBody {
        algorithm: algorithm.to_owned().into(),
        devices: shape.n_devices(),
        slots_per_device: shape.slots_per_device(),
        redundant_experts: shape.redundant(),
        layers: layers.iter().map(|layer| layer.index).collect(),
        physical_to_logical: layers.iter().map(|layer| layer.physical_to_logical.clone()).collect(),
        balance_mean: placed.with.mean(),
        balance_worst: placed.with.worst(),
        balance_without: placed.without.as_ref().map(Balances::mean),
        balance_in_force: placed.in_force.as_ref().map(Balances::mean),
        balance_in_force_per_layer: placed.in_force.clone().map(|now| now.per_layer),
        balance_per_layer: placed.with.per_layer.clone(),
        balance_without_per_layer: placed.without.clone().map(|without| without.per_layer),
        same_device_duplicates: placed.same_device_duplicates,
        moves: placed.moves,
        plan_s: placed.plan_s,
        engines: engines.into_iter().map(EnginePlanBody::from).collect(),
        holdout: placed.holdout.as_ref().map(|held| HeldOutBalance {
            balance_mean: held.with.mean(),
            balance_worst: held.with.worst(),
            balance_without: held.without.as_ref().map(Balances::mean),
            balance_in_force: held.in_force.as_ref().map(Balances::mean),
            balance_in_force_per_layer: held.in_force.clone().map(|now| now.per_layer),
            eplb_balance_mean: held.eplb.mean(),
            eplb_balance_worst: held.eplb.worst(),
        }),
        algorithm_1: placed.greedy.iter().map(greedy_layer).collect(),
        cross_node_replicas: placed.cross_node_replicas,
        cross_node_share: placed.cross_node.1,
        cross_node_share_in_force: placed.cross_node.0,
        warnings,
    }
}

fn greedy_layer(plan: &GreedyPlan) -> GreedyLayer {
    let devices = || 0..u32::try_from(plan.loads().len()).unwrap_or(u32::MAX);
    let tokens = |device: u32| {
        plan.device(device).iter().map(|expert| plan.quota(*expert, device)).collect()
    };
    GreedyLayer {
        experts: devices().map(|device| plan.device(device).to_vec()).collect(),
        tokens: devices().map(tokens).collect(),
        free_slots: devices().map(|device| plan.free_slots_of(device)).collect(),
    }
}

/// The same for people.
fn summarize(placed: &Placed, engines: &[EngineSettings], out: &mut dyn Write) -> Result<()> {
    let shape = placed.plan.shape();
    ensure!(!placed.plan.layers().is_empty(), "there is no layer to plan");
    writeln!(
        out,
        "{} layers of {} experts on {} GPUs of {} slots ({} redundant experts per layer)",
        placed.plan.layers().len(),
        shape.n_experts(),
        shape.n_devices(),
        shape.slots_per_device(),
        shape.redundant()
    )?;
    let in_force = |now: &Option<Balances>| {
        now.as_ref().map_or(String::new(), |now| format!(", {:.4} in force", now.mean()))
    };
    writeln!(
        out,
        "max/mean GPU load {}{} → {:.4} (worst layer {:.4})",
        balances(placed.without.as_ref(), shape.n_devices()),
        in_force(&placed.in_force),
        placed.with.mean(),
        placed.with.worst()
    )?;
    if let Some(held) = &placed.holdout {
        writeln!(
            out,
            "held-out {}{} → {:.4} (worst layer {:.4}); EPLB's plan {:.4} ({:.4})",
            balances(held.without.as_ref(), shape.n_devices()),
            in_force(&held.in_force),
            held.with.mean(),
            held.with.worst(),
            held.eplb.mean(),
            held.eplb.worst()
        )?;
    }
    if let (now, Some(share)) = placed.cross_node {
        let now = now.map_or(String::new(), |now| format!("{:.1} % in force → ", now * 100.0));
        writeln!(out, "dispatched tokens that cross nodes: {now}{:.1} %", share * 100.0)?;
    }
    writeln!(
        out,
        "moves {}, copies of an expert beside another on a device {}, planned in {:.2} ms",
        placed.moves,
        placed.same_device_duplicates,
        placed.plan_s * 1e3
    )?;
    if let Some(cross) = placed.cross_node_replicas {
        writeln!(out, "copies outside the node of their group: {cross}")?;
    }
    engines.iter().try_for_each(|engine| advise(engine, out))
}

/// How to run the plan in one engine.
fn advise(engine: &EngineSettings, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "\n{}:", engine.engine)?;
    for line in engine.launch.lines() {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "{}", indented(&format!("note: {}", engine.ignores)))?;
    for limit in &engine.limits {
        writeln!(out, "{}", indented(&format!("limit: {limit}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_a_number_or_soft() {
        let of = |text: &str| groups(text, Some(4)).ok();
        let asked = |n_groups, soft| Some(GroupsAsked { n_groups, n_nodes: 4, soft });
        assert_eq!(of("8"), asked(Some(8), false));
        assert_eq!(of("soft"), asked(None, true));
        assert_eq!(of("soft:8"), asked(Some(8), true));
        for text in ["", "hard", "soft8", "soft:", "-1"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert!(groups("8", None).is_err());
    }
}
