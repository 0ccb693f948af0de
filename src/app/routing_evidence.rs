//! From the routing as asked to what is known of it: stored traces are counted here.

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::app::advisor::{AdviceError, TraceFacts};
use crate::app::question::{Answerable, AskedRouting, TraceUse};
use moe_gps_core::cancel::Cancel;
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::model::{Experts, Model};
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::routing::{
    LayerRouting, by_expert, by_share, capped, forecast, in_order, normalised, power_law,
};
use moe_gps_core::seed::{Purpose, stream};
use moe_gps_core::system::{Phase, Workload};
use moe_gps_core::trace::checks;
use moe_gps_core::trace::counts::ExpertCounts;
use moe_gps_core::trace::stats::TraceStatistics;
use moe_gps_core::trace::steps::{StepOrder, split_point};
use moe_gps_core::trace::{TraceHeader, TraceKind};

/// What is known of the routing, and what speaks against relying on it.
pub(crate) struct LoadedRouting {
    pub(crate) known: RoutingEvidence,
    pub(super) missing: Vec<String>,
    /// The layers of the traces that are priced: all but those some part leaves empty.
    pub(super) layers: Vec<usize>,
    /// Their places in the first recording, which may have rows for dense layers as well.
    pub(super) places: Vec<u16>,
    /// Tokens per expert of every trace's planning part, `[trace][layer][expert]`, in those
    /// layers.
    pub(super) planned: Vec<Vec<Vec<f64>>>,
}

/// Makes the routing of a question ready, reading its traces.
pub(crate) fn load(asked: &Answerable, cancel: &Cancel) -> Result<LoadedRouting, AdviceError> {
    let model = &asked.question.system.model;
    let (experts, top_k) = (model.experts.routed, model.experts.top_k);
    let known = match &asked.routing {
        AskedRouting::Skewness { skewness, distribution_error } => RoutingEvidence::Scalar {
            shares: power_law::with_skewness(experts, top_k, *skewness),
            distribution_error: distribution_error.clone(),
        },
        AskedRouting::PowerLaw { exponent } => RoutingEvidence::Scalar {
            shares: power_law::with_exponent(experts, top_k, *exponent),
            distribution_error: None,
        },
        AskedRouting::Shares(layers) => {
            let believed = |(index, truth): (usize, &Vec<f64>)| {
                let mut rng = stream(
                    asked.question.seed,
                    Purpose::ForecastError,
                    u64::try_from(index).unwrap_or(0),
                );
                let error = forecast::sampling_error(truth);
                let order = by_share(truth);
                let drawn = forecast::drawn_around(&in_order(truth, &order), error, &mut rng);
                LayerRouting { forecast: by_expert(&drawn, &order), truth: truth.clone() }
            };
            RoutingEvidence::Layers(layers.iter().enumerate().map(believed).collect())
        }
        AskedRouting::Balancedness { balancedness, at_devices } => {
            RoutingEvidence::Balancedness { balancedness: *balancedness, at_devices: *at_devices }
        }
        AskedRouting::Trace(used) => return from_traces(used, model, cancel),
    };
    let (layers, places, planned) = (Vec::new(), Vec::new(), Vec::new());
    Ok(LoadedRouting { known, missing: Vec::new(), layers, places, planned })
}

/// The counts of a trace's parts.
struct CountedParts {
    planned: ExpertCounts,
    scored: ExpertCounts,
    statistics: TraceStatistics,
}

impl CountedParts {
    /// Counts every token once: up to the middle, up to the end of the planning part, and
    /// the rest.
    fn of(
        used: &TraceUse,
        facts: &TraceFacts,
        cancel: &Cancel,
    ) -> Result<(Self, StoredTrace), AdviceError> {
        let trace = open(facts)?;
        let extent = trace.header().extent();
        let middle = split_point(extent, 0.5);
        let end = planning_end(used, &trace).map_err(|source| facts.unread(source))?;
        let count = |range| count(&trace, facts, range, cancel);
        let first = count(0..middle.min(end))?;
        let between = count(middle.min(end)..middle.max(end))?;
        let last = count(middle.max(end)..extent)?;
        let whole = |one: &ExpertCounts, other: &ExpertCounts| {
            let mut sum = one.clone();
            sum.add(other);
            sum
        };
        let (head, tail) = (whole(&first, &between), whole(&between, &last));
        let (halves, parts) = if middle <= end {
            ((first, tail), (head, last))
        } else {
            ((head, last), (first, tail))
        };
        let statistics = TraceStatistics::of_halves(halves.0, halves.1);
        Ok((Self { planned: parts.0, scored: parts.1, statistics }, trace))
    }
}

/// Counts a range of a trace, or ends when canceled.
pub(super) fn count(
    trace: &StoredTrace,
    facts: &TraceFacts,
    range: Range<u64>,
    cancel: &Cancel,
) -> Result<ExpertCounts, AdviceError> {
    let counted = trace.count_unless(range, cancel);
    counted.map_err(|source| facts.unread(source))?.ok_or(AdviceError::Canceled)
}

/// Counts the planning and the scoring part of every trace.
fn from_traces(
    used: &TraceUse,
    model: &Model,
    cancel: &Cancel,
) -> Result<LoadedRouting, AdviceError> {
    let mut missing = Vec::new();
    let mut loads = Vec::with_capacity(used.traces.len());
    let mut single = Vec::new();
    let mut headers = Vec::new();
    let mut recorded: Option<Vec<u16>> = None;
    let weak = |header: &TraceHeader, statistics: &TraceStatistics, id: &str| {
        let found = checks::examine(header, statistics);
        let found = found.iter().filter(|warning| warning.is_weak_evidence());
        found.map(|warning| format!("a better recording than {id}: {warning}")).collect::<Vec<_>>()
    };
    for (load, facts) in used.traces.iter().enumerate() {
        let (CountedParts { planned, mut scored, statistics }, trace) =
            CountedParts::of(used, facts, cancel)?;
        recorded.get_or_insert_with(|| trace.header().layers.clone());
        let is_window = used.joined && !used.holdouts.is_empty();
        if !is_window {
            missing.extend(weak(trace.header(), &statistics, &facts.id));
        }
        // Of windows of both phases the second one is that of decode.
        let of_phase = usize::from(used.phases.get(load) == Some(&Phase::Decode));
        let holdout = used.holdouts.get(of_phase).or_else(|| used.holdouts.first());
        if let Some(facts) = holdout {
            let trace = open(facts)?;
            scored = count(&trace, facts, 0..trace.header().extent(), cancel)?;
            if is_window && facts.id == used.traces[load].id {
                single.push(facts.id.as_str());
            }
        } else if !facts.holds_out() {
            single.push(facts.id.as_str());
            scored = planned.clone();
        }
        loads.push((planned, scored));
        if is_window {
            headers.push(trace.header().clone());
        }
    }
    let mut phases = used.phases.clone();
    if used.joined {
        (loads, phases) = joined(loads, &phases);
        for ((planned, scored), header) in loads.iter().zip(&headers) {
            let statistics = TraceStatistics::of_halves(planned.clone(), scored.clone());
            missing.extend(weak(header, &statistics, "the windows of this load"));
        }
    }
    if !single.is_empty() {
        missing.push(format!(
            "a second step: trace {} is one count matrix, so the plan is scored on the load it was \
             made for",
            single.join(" and ")
        ));
    }
    // Layers that some load leaves empty cannot be compared.
    let n_layers = loads.iter().map(|(planned, scored)| planned.n_layers().min(scored.n_layers()));
    let is_full = |layer: &usize| {
        let full = |counts: &ExpertCounts| counts.layer(*layer).iter().sum::<f64>() > 0.0;
        loads.iter().all(|(planned, scored)| full(planned) && full(scored))
    };
    let layers: Vec<usize> = (0..n_layers.min().unwrap_or(0)).filter(is_full).collect();
    let routing = |(planned, scored): &(ExpertCounts, ExpertCounts)| -> Vec<LayerRouting> {
        let of = |layer: &usize| LayerRouting {
            forecast: shares_of(planned.layer(*layer), &model.experts),
            truth: shares_of(scored.layer(*layer), &model.experts),
        };
        layers.iter().map(of).collect()
    };
    let of_layers = |(planned, _): &(ExpertCounts, ExpertCounts)| -> Vec<Vec<f64>> {
        layers.iter().map(|layer| padded(planned.layer(*layer), &model.experts)).collect()
    };
    let planned = loads.iter().map(of_layers).collect();
    let routed = loads.iter().map(routing).collect();
    let known = known(routed, &phases);
    let recorded = recorded.unwrap_or_default();
    let places = layers.iter().filter_map(|layer| recorded.get(*layer)).copied().collect();
    Ok(LoadedRouting { known, missing, layers, places, planned })
}

/// Loads of the same phase as one, their planning parts added.
fn joined(
    loads: Vec<(ExpertCounts, ExpertCounts)>,
    phases: &[Phase],
) -> (Vec<(ExpertCounts, ExpertCounts)>, Vec<Phase>) {
    let mut together: Vec<(Option<Phase>, (ExpertCounts, ExpertCounts))> = Vec::new();
    for (nth, (planned, scored)) in loads.into_iter().enumerate() {
        let phase = phases.get(nth).copied();
        match together.iter_mut().find(|(one, _)| *one == phase) {
            Some((_, (sum, _))) => sum.add(&planned),
            None => together.push((phase, (planned, scored))),
        }
    }
    let phases = together.iter().filter_map(|(phase, _)| *phase).collect();
    (together.into_iter().map(|(_, load)| load).collect(), phases)
}

/// What is known of one load, or of several that one plan must serve, each of its phase where that is
/// said.
pub(super) fn known(mut loads: Vec<Vec<LayerRouting>>, phases: &[Phase]) -> RoutingEvidence {
    if !phases.is_empty() {
        let of = |phase| {
            let of_phase = loads.iter().zip(phases).filter(|(_, one)| **one == phase);
            mean(&of_phase.map(|(load, _)| load.as_slice()).collect::<Vec<_>>())
        };
        return RoutingEvidence::ByPhase { prefill: of(Phase::Prefill), decode: of(Phase::Decode) };
    }
    match loads.len() {
        0 | 1 => RoutingEvidence::Layers(loads.pop().unwrap_or_default()),
        _ => RoutingEvidence::Several(loads),
    }
}

/// The mean of loads, layer by layer.
fn mean(loads: &[&[LayerRouting]]) -> Vec<LayerRouting> {
    let n_layers = loads.first().map_or(0, |load| load.len());
    let of = |layer: usize, shares: fn(&LayerRouting) -> &[f64]| {
        let mut sum = vec![0.0; shares(&loads[0][layer]).len()];
        for load in loads {
            sum.iter_mut().zip(shares(&load[layer])).for_each(|(sum, share)| *sum += share);
        }
        normalised(&sum)
    };
    let layer = |layer| LayerRouting {
        truth: of(layer, |one| &one.truth),
        forecast: of(layer, |one| &one.forecast),
    };
    (0..n_layers).map(layer).collect()
}

/// Counts over all experts of the model.
pub(super) fn padded(counts: &[f64], experts: &Experts) -> Vec<f64> {
    let mut padded = counts.to_vec();
    padded.resize(experts.routed as usize, 0.0);
    padded
}

/// Counts as shares of all experts of the model, none above what top-k allows.
pub(super) fn shares_of(counts: &[f64], experts: &Experts) -> Vec<f64> {
    capped(normalised(&padded(counts, experts)), 1.0 / f64::from(experts.top_k))
}

/// Opens the stored form of a trace.
pub(super) fn open(facts: &TraceFacts) -> Result<StoredTrace, AdviceError> {
    let trace = File::open(&facts.path).and_then(StoredTrace::from_file);
    trace.map_err(|source| facts.unread(source))
}

/// Where the planning part of a trace ends: between sequences where there are several.
pub(super) fn split(trace: &StoredTrace, fraction: f64) -> io::Result<u64> {
    let header = trace.header();
    if header.kind == TraceKind::Routes && header.sequences > 1 {
        trace.split_between_sequences(fraction)
    } else {
        Ok(split_point(header.extent(), fraction))
    }
}

/// Where the planning part of a trace ends; one that holds nothing out plans with all of it.
pub(super) fn planning_end(used: &TraceUse, trace: &StoredTrace) -> io::Result<u64> {
    let extent = trace.header().extent();
    if !used.holdouts.is_empty() || extent < 2 {
        Ok(extent)
    } else {
        split(trace, used.train_fraction)
    }
}

/// The part of the scoring trace that scores.
pub(super) fn scoring_range(used: &TraceUse, trace: &StoredTrace) -> io::Result<Range<u64>> {
    let first = if used.holdouts.is_empty() { split(trace, used.train_fraction)? } else { 0 };
    Ok(first..trace.header().extent())
}

/// How tokens of a trace form the steps of a workload.
pub(super) fn step_order(trace: &StoredTrace, workload: &Workload) -> StepOrder {
    match (trace.header().kind, workload.phase) {
        (TraceKind::Counts, _) => StepOrder::Recorded,
        (TraceKind::Routes, Phase::Prefill) => {
            StepOrder::Prefill { tokens_per_step: workload.tokens_per_step }
        }
        (TraceKind::Routes, Phase::Decode) => {
            StepOrder::Decode { sequences: workload.tokens_per_step }
        }
    }
}

/// The traces whose steps score.
pub(super) fn scoring_traces(used: &TraceUse) -> &[TraceFacts] {
    if used.holdouts.is_empty() { &used.traces } else { &used.holdouts }
}
