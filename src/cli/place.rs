//! `place LOADS`: plans for a load, without a question, and the file an engine loads.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::app::place::{self, Balances, GroupsAsked, PlaceRequest, Placed};
use crate::cli::trace;
use crate::wire::answer::EnginePlanBody;
use crate::wire::placed::{HeldOutBalance, PlacedBody};
use moe_gps_core::engines::settings::{Deployment, EngineSettings, settings};
use moe_gps_core::formats::placement::{self, PlannedLayer};

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
    #[arg(long)]
    pub slots_per_device: u32,
    /// Expert groups kept on nodes: their number; `soft` (or `soft:NUMBER`) lets copies leave
    /// the node of their group, and without a number there is one group per node.
    #[arg(long, requires = "nodes")]
    pub groups: Option<String>,
    /// Nodes the devices stand in.
    #[arg(long, requires = "groups")]
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
    let groups = command.groups.as_deref().map(|text| groups(text, command.nodes)).transpose()?;
    let current = command.current.as_ref().map(read_current).transpose()?.unwrap_or_default();
    let taken = trace::take_in(&command.loads, command.known.into())?;
    let stored = taken.open()?;
    let extent = stored.header().extent();
    let split = command.train_fraction.map(|share| stored.split(share)).transpose()?;
    ensure!(
        split.is_none() || extent > 1,
        "--train-fraction needs a recording of two steps or more; this one has {extent}"
    );
    let mut placed = place::place(&PlaceRequest {
        loads: stored.count(0..split.unwrap_or(extent))?,
        holdout: split.map(|split| stored.count(split..extent)).transpose()?,
        layers: stored.header().layers.clone(),
        devices: command.devices,
        slots_per_device: command.slots_per_device,
        groups,
        algorithm,
        allow_duplicates: command.allow_duplicates,
        current,
        move_tolerance: command.move_tolerance,
    })?;
    if let Some(n) = command.model_layers {
        let layers = placed.plan.layers().to_vec();
        placed.plan = placement::PlanFile::new(placed.plan.shape(), n, layers)?;
    }
    let engines = settings(&Deployment {
        shape: placed.plan.shape(),
        groups: groups.and_then(|groups| groups.n_groups),
        interval_steps: command.rebalance_interval,
        window_steps: None,
    });
    if command.json {
        serde_json::to_writer(&mut *out, &body(&command.algorithm, &placed, engines))?;
        writeln!(out)?;
    } else if let Some(format) = format {
        out.write_all((format.write)(&placed.plan)?.as_bytes())?;
        // The file is on standard output; how to use it goes beside it.
        let mut beside = std::io::stderr();
        for engine in engines.iter().filter(|engine| engine.format == Some(format.id)) {
            advise(engine, &mut beside)?;
        }
    } else {
        trace::warn(&taken.ingested.summary.warnings, out)?;
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

fn read_current(path: &PathBuf) -> Result<Vec<PlannedLayer>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    placement::read_any(&text).with_context(|| path.display().to_string())
}

/// Everything there is to say.
fn body(algorithm: &str, placed: &Placed, engines: Vec<EngineSettings>) -> PlacedBody {
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
            eplb_balance_mean: held.eplb.mean(),
            eplb_balance_worst: held.eplb.worst(),
        }),
        cross_node_replicas: placed.cross_node_replicas,
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
    let without =
        placed.without.as_ref().map(Balances::mean).map_or("-".to_owned(), |r| format!("{r:.4}"));
    writeln!(
        out,
        "max/mean GPU load {without} → {:.4} (worst layer {:.4})",
        placed.with.mean(),
        placed.with.worst()
    )?;
    if let Some(held) = &placed.holdout {
        let without =
            held.without.as_ref().map(Balances::mean).map_or("-".to_owned(), |r| format!("{r:.4}"));
        writeln!(
            out,
            "held-out {without} → {:.4} (worst layer {:.4}); EPLB's plan {:.4} ({:.4})",
            held.with.mean(),
            held.with.worst(),
            held.eplb.mean(),
            held.eplb.worst()
        )?;
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
    writeln!(out, "\n{}: {}", engine.engine, engine.set.join("  "))?;
    writeln!(out, "  note: {}", engine.ignores)?;
    for limit in &engine.limits {
        writeln!(out, "  limit: {limit}")?;
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
