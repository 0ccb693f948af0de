//! From the routing as asked to what is known of it: stored traces are counted here.

use std::fs::File;
use std::io;
use std::ops::Range;

use super::advisor::{AdviceError, TraceFacts};
use super::question::{Answerable, AskedRouting, TraceUse};
use crate::domain::advice::known::Known;
use crate::domain::model::Model;
use crate::domain::routing::{
    LayerRouting, by_expert, by_share, capped, forecast, in_order, normalised, power_law,
};
use crate::domain::seed::{Purpose, stream};
use crate::domain::system::{Phase, Workload};
use crate::domain::trace::Kind;
use crate::domain::trace::checks;
use crate::domain::trace::counts::ExpertCounts;
use crate::domain::trace::steps::{StepOrder, StepPlan};
use crate::formats::trace::stored::StoredTrace;

/// Held-out steps below which a replay is weak evidence.
pub(super) const ENOUGH_STEPS: u64 = 20;

/// What is known of the routing, and what speaks against relying on it.
pub(super) struct Loaded {
    pub(super) known: Known,
    pub(super) missing: Vec<String>,
}

/// Makes the routing of a question ready, reading its traces.
pub(super) fn load(asked: &Answerable) -> Result<Loaded, AdviceError> {
    let model = &asked.question.system.model;
    let (experts, top_k) = (model.experts.routed, model.experts.top_k);
    let known = match &asked.routing {
        AskedRouting::Skewness { skewness, distribution_error } => Known::Scalar {
            shares: power_law::with_skewness(experts, top_k, *skewness),
            distribution_error: *distribution_error,
        },
        AskedRouting::PowerLaw { exponent } => Known::Scalar {
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
            Known::Layers(layers.iter().enumerate().map(believed).collect())
        }
        AskedRouting::Balancedness { balancedness, at_devices } => {
            Known::Balancedness { balancedness: *balancedness, at_devices: *at_devices }
        }
        AskedRouting::Trace(used) => return from_traces(used, model),
    };
    Ok(Loaded { known, missing: Vec::new() })
}

/// Counts the planning and the scoring part of the traces.
fn from_traces(used: &TraceUse, model: &Model) -> Result<Loaded, AdviceError> {
    let mut missing = Vec::new();
    let mut planned: Option<ExpertCounts> = None;
    let mut scored: Option<ExpertCounts> = None;
    let pool = |into: &mut Option<ExpertCounts>, counts: ExpertCounts| match into {
        Some(pooled)
            if (pooled.n_layers(), pooled.n_experts())
                == (counts.n_layers(), counts.n_experts()) =>
        {
            pooled.add(&counts);
        }
        Some(_) => {}
        None => *into = Some(counts),
    };
    for facts in &used.traces {
        let trace = open(facts)?;
        let fail = |source| AdviceError::Trace { id: facts.id.clone(), source };
        let extent = trace.header().extent();
        let all = trace.count(0..extent).map_err(fail)?;
        let statistics = trace.statistics().map_err(fail)?;
        missing.extend(
            checks::examine(trace.header(), &statistics)
                .iter()
                .filter(|warning| warning.is_weak_evidence())
                .map(|warning| format!("a better recording than {}: {warning}", facts.id)),
        );
        if used.holdout.is_some() || extent < 2 {
            if used.holdout.is_none() {
                missing.push(format!(
                    "a second step: trace {} is one count matrix, so the plan is scored on the \
                     load it was made for",
                    facts.id
                ));
                pool(&mut scored, all.clone());
            }
            pool(&mut planned, all);
        } else {
            let split = split(&trace, used.train_fraction).map_err(fail)?;
            pool(&mut planned, trace.count(0..split).map_err(fail)?);
            pool(&mut scored, trace.count(split..extent).map_err(fail)?);
        }
    }
    if let Some(facts) = &used.holdout {
        let trace = open(facts)?;
        let extent = trace.header().extent();
        let fail = |source| AdviceError::Trace { id: facts.id.clone(), source };
        pool(&mut scored, trace.count(0..extent).map_err(fail)?);
    }
    let (Some(planned), Some(scored)) = (planned, scored) else {
        return Ok(Loaded { known: Known::Layers(Vec::new()), missing });
    };
    let experts = model.experts.routed as usize;
    let cap = 1.0 / f64::from(model.experts.top_k);
    let shares = |counts: &[f64]| {
        let mut padded = counts.to_vec();
        padded.resize(experts, 0.0);
        capped(normalised(&padded), cap)
    };
    let layers = planned
        .layers()
        .zip(scored.layers())
        .filter(|(planned, scored)| [planned, scored].iter().all(|c| c.iter().sum::<f64>() > 0.0))
        .map(|(planned, scored)| LayerRouting { forecast: shares(planned), truth: shares(scored) })
        .collect();
    Ok(Loaded { known: Known::Layers(layers), missing })
}

/// Opens the stored form of a trace.
pub(super) fn open(facts: &TraceFacts) -> Result<StoredTrace, AdviceError> {
    let fail = |source: io::Error| AdviceError::Trace { id: facts.id.clone(), source };
    let file = File::open(&facts.path).map_err(fail)?;
    StoredTrace::from_file(file).map_err(fail)
}

/// Where the planning part of a trace ends: between sequences where there are several.
pub(super) fn split(trace: &StoredTrace, fraction: f64) -> io::Result<u64> {
    let header = trace.header();
    if header.kind == Kind::Routes && header.sequences > 1 {
        trace.split_between_sequences(fraction)
    } else {
        Ok(crate::domain::trace::steps::split_point(header.extent(), fraction))
    }
}

/// Where the planning part of the first trace ends.
pub(super) fn planning_end(used: &TraceUse, trace: &StoredTrace) -> io::Result<u64> {
    if used.holdout.is_some() {
        Ok(trace.header().extent())
    } else {
        split(trace, used.train_fraction)
    }
}

/// The part of the scoring trace that scores.
pub(super) fn scoring_range(used: &TraceUse, trace: &StoredTrace) -> io::Result<Range<u64>> {
    let first = if used.holdout.is_some() { 0 } else { split(trace, used.train_fraction)? };
    Ok(first..trace.header().extent())
}

/// The steps that score: of the hold-out trace, or of the trace's own second part.
pub(super) fn scoring_plan(
    used: &TraceUse,
    trace: &StoredTrace,
    workload: &Workload,
) -> io::Result<StepPlan> {
    let order = match (trace.header().kind, workload.phase) {
        (Kind::Counts, _) => StepOrder::Recorded,
        (Kind::Routes, Phase::Prefill) => {
            StepOrder::Prefill { tokens_per_step: workload.tokens_per_step }
        }
        (Kind::Routes, Phase::Decode) => StepOrder::Decode { sequences: workload.tokens_per_step },
    };
    Ok(StepPlan { order, range: scoring_range(used, trace)?, with_routes: false })
}

/// The trace whose steps score.
pub(super) fn scoring_trace(used: &TraceUse) -> Option<&TraceFacts> {
    used.holdout.as_ref().or_else(|| used.traces.first())
}
