//! The interval of renewal, searched on the planning part of a recording.

use std::ops::Range;

use crate::app::advisor::{AdviceError, Progress};
use crate::app::question::{Answerable, AskedRouting, TraceUse};
use crate::app::routing_evidence::{self, shares_of};
use crate::app::trace_steps::{Part, Recorded};
use crate::wire::interval_search as wire;
use crate::wire::question::Method;
use moe_gps_core::advice::{self, Entry, PlanSummary, Priced};
use moe_gps_core::evaluate::interval::{self, TriedInterval};
use moe_gps_core::evaluate::{BATCH, replay::Simulator};
use moe_gps_core::question::{Question, Rebalance, RebalanceMode};
use moe_gps_core::rebalance::RebalanceCost;
use moe_gps_core::routing::LayerRouting;
use moe_gps_core::strategies;
use moe_gps_core::system::Preset;
use moe_gps_core::trace::counts::ExpertCounts;
use moe_gps_core::units::Seconds;

/// Most steps that are replayed for the search: enough to see four of the longest default
/// interval, and no more, so that long recordings do not cost more.
const MOST_STEPS: u64 = 12_000;

/// Searches the interval, puts it into the question, and says what was tried; `None` where
/// it is stated or plans are never renewed.
pub(super) fn search(
    asked: &mut Answerable,
    progress: &dyn Progress,
) -> Result<Option<wire::IntervalSearch>, AdviceError> {
    let Rebalance { mode, interval_steps: default, .. } = asked.question.rebalance;
    let paper = asked.question.system.assumptions.preset == Preset::Paper;
    if asked.interval_is_stated || paper || mode == RebalanceMode::StartupMap {
        return Ok(None);
    }
    let (mut tried, mut replayed) = (Vec::new(), 0);
    if let AskedRouting::Trace(used) = &asked.routing
        && asked.method == Method::Simulated
        && !used.joined
    {
        (tried, replayed) = on_planning_part(&asked.question, used, progress)?;
    }
    if tried.is_empty() {
        let because = if replayed > 0 {
            format!(
                "engine default; recording too short to search: its planning part serves {replayed} \
                 steps, and an interval must be seen twice"
            )
        } else {
            "engine default; no recorded steps to search on".to_owned()
        };
        return Ok(Some(wire::IntervalSearch {
            intervals: Vec::new(),
            replayed_steps: 0,
            chosen_interval_steps: default,
            because,
        }));
    }
    let chosen = tried[interval::choose(&tried, default)].steps;
    asked.question.rebalance.interval_steps = chosen;
    let because = if chosen == default {
        "engine default; no other interval is better by more than 1 %".to_owned()
    } else {
        format!(
            "better than the engine default of {default} by more than 1 %, stalls included, over \
             {replayed} steps of the planning part"
        )
    };
    let body = |tried: &TriedInterval| wire::IntervalTried {
        interval_steps: tried.steps,
        layer_latency_s: tried.latency().map(Seconds::get),
        rebalance_s: tried.rebalance.get(),
        renewals: replayed.saturating_sub(1) / tried.steps,
    };
    Ok(Some(wire::IntervalSearch {
        intervals: tried.iter().map(body).collect(),
        replayed_steps: replayed,
        chosen_interval_steps: chosen,
        because,
    }))
}

/// Replays the second half of every planning part with every interval worth trying; no
/// prices where only the engine's own is, and the steps there are.
fn on_planning_part(
    question: &Question,
    used: &TraceUse,
    progress: &dyn Progress,
) -> Result<(Vec<TriedInterval>, u64), AdviceError> {
    let mut parts = Vec::with_capacity(used.traces.len());
    let mut first_halves = Vec::with_capacity(used.traces.len());
    for facts in &used.traces {
        let trace = routing_evidence::open(facts)?;
        let fail = |source| facts.unread(source);
        let end = routing_evidence::planning_end(used, &trace).map_err(fail)?;
        let share = end as f64 / trace.header().extent().max(1) as f64;
        let middle = routing_evidence::split(&trace, share / 2.0).map_err(fail)?.min(end);
        first_halves.push(0..middle);
        parts.push(Part::new(facts, trace, middle..end, &question.system.workload)?);
    }
    let n_steps = parts.iter().map(|part| part.n_steps).sum::<u64>().min(MOST_STEPS);
    let default = question.rebalance.interval_steps;
    let intervals = interval::candidates(default, n_steps);
    if intervals.len() < 2 {
        return Ok((Vec::new(), n_steps));
    }
    let experts = &question.system.model.experts;
    // What is served is not looked at: the plan that is followed is chosen on the past alone.
    let cancel = progress.cancel();
    let count = |(part, range): (&Part, Range<u64>)| part.count(range, cancel);
    let pasts: Vec<ExpertCounts> =
        parts.iter().zip(first_halves).map(count).collect::<Result<_, _>>()?;
    let n_layers = pasts.iter().map(ExpertCounts::n_layers).min().unwrap_or(0);
    let layers: Vec<usize> = (0..n_layers).collect();
    let empty = |past: &ExpertCounts| past.layers().any(|layer| layer.iter().sum::<f64>() <= 0.0);
    if pasts.iter().any(empty) {
        return Ok((Vec::new(), n_steps));
    }
    let routing = |past: &[f64]| {
        let shares = shares_of(past, experts);
        LayerRouting { forecast: shares.clone(), truth: shares }
    };
    let loads = pasts.iter().map(|past| past.layers().map(routing).collect()).collect();
    let Priced { entries, plans, .. } =
        advice::price(question, &routing_evidence::known(loads, &[]), cancel)?;
    let Some((entries, plans)) = followed(&entries, &plans) else {
        return Ok((Vec::new(), 0));
    };
    let padded = |past: &ExpertCounts| -> Vec<Vec<f64>> {
        past.layers().map(|layer| routing_evidence::padded(layer, experts)).collect()
    };
    let planned: Vec<Vec<Vec<f64>>> = pasts.iter().map(padded).collect();
    let renewed_every = |steps: &u64| {
        let mut question = question.clone();
        question.rebalance.interval_steps = *steps;
        question
    };
    let questions: Vec<Question> = intervals.iter().map(renewed_every).collect();
    let mut simulators = Vec::with_capacity(questions.len());
    for question in &questions {
        let pattern = advice::communication(question).0;
        let made = Simulator::new(question, pattern, &entries, &plans, &planned)
            .map_err(moe_gps_core::pricing::error::PricingError::from)?;
        simulators.extend(made);
    }
    let mut recorded = Recorded::new(&parts, &layers, question);
    let mut left = n_steps;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(BATCH);
        let batch = recorded.batch(most, cancel, |_| ())?;
        if batch.is_empty() {
            break;
        }
        left -= batch.len() as u64;
        for simulator in &mut simulators {
            simulator.replay(&batch, &[]);
            cancel.check()?;
        }
    }
    let price = |(simulator, question): (Simulator, &Question)| {
        let found = simulator.finish().unwrap_or_default();
        TriedInterval {
            steps: question.rebalance.interval_steps,
            served: found.get(1).map(|layer| layer.terms.total() - layer.terms.rebalance),
            rebalance: renewal(question, &plans[1]),
        }
    };
    Ok((simulators.into_iter().zip(&questions).map(price).collect(), n_steps))
}

/// `none` and the faster of the strategies that renew a plan, and the plans of both.
fn followed(entries: &[Entry], plans: &[PlanSummary]) -> Option<([Entry; 2], [PlanSummary; 2])> {
    let renews = |entry: &&Entry| entry.strategy.renews();
    let latency = |entry: &&Entry| entry.feasible_latency().map_or(f64::INFINITY, Seconds::get);
    let fastest = entries.iter().filter(renews).min_by(|a, b| latency(a).total_cmp(&latency(b)))?;
    let none = entries.iter().find(|entry| entry.strategy == strategies::NONE)?;
    let plan = |of: &Entry| plans.iter().find(|plan| plan.strategy == of.strategy).cloned();
    Some(([none.clone(), fastest.clone()], [plan(none)?, plan(fastest)?]))
}

/// What renewals of a plan cost per layer and step at the question's interval, if each moves
/// as much as the first.
fn renewal(question: &Question, plan: &PlanSummary) -> Seconds {
    let RebalanceCost { stall, slowdown, .. } = plan.renewal;
    let steps = question.rebalance.interval_steps.max(1) as f64;
    (stall + slowdown) / steps / f64::from(question.system.model.moe_layers.max(1))
}
