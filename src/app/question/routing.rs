//! The routing of a question, checked against the model and the stored traces.

use std::collections::BTreeMap;
use std::fs::File;

use crate::app::advisor::TraceFacts;
use crate::app::question::predictors::unreached;
use crate::wire::question::{self as wire, AskedPhase, ErrorPoint, NamedTrace, Routing};
use crate::wire::read::Violations;
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::model::Model;
use moe_gps_core::system::{Phase, Preset};
use moe_gps_core::trace::counts::ExpertCounts;
use moe_gps_core::trace::impossible::{BeyondTopK, OneBlock};
use moe_gps_core::trend::Trend;

/// Part of a trace that plans if the question does not say.
const TRAIN_FRACTION: f64 = 0.5;

/// What a question says of the routing.
#[derive(Debug, Clone, PartialEq)]
pub enum AskedRouting {
    /// Expert skewness, and the forecast's error where stated.
    Skewness {
        /// Skewness s.
        skewness: f64,
        /// Distribution error of the forecast, over skewness.
        distribution_error: Option<Trend>,
    },
    /// Shares by the exponent of a power law.
    PowerLaw {
        /// The exponent.
        exponent: f64,
    },
    /// Shares per layer, each summing to one.
    Shares(Vec<Vec<f64>>),
    /// Only the balance of devices, as an engine logs it.
    Balancedness {
        /// Mean over maximum of device loads.
        balancedness: f64,
        /// At how many devices.
        at_devices: u32,
    },
    /// Stored traces.
    Trace(TraceUse),
}

/// Which traces plan and which score.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceUse {
    /// Traces whose first part (or all, with a hold-out) plans.
    pub traces: Vec<TraceFacts>,
    /// Share of the traces that plans.
    pub train_fraction: f64,
    /// Traces of their own that score; of windows of both phases one of each.
    pub holdouts: Vec<TraceFacts>,
    /// Whether the traces are windows of one load, or of one of every phase, to be joined.
    pub joined: bool,
    /// The phase that each trace was recorded in, in their order; empty where none is said to be.
    pub phases: Vec<Phase>,
}

impl TraceUse {
    /// Whether the score comes from other steps than the plan.
    #[must_use]
    pub fn holds_out(&self) -> bool {
        !self.holdouts.is_empty() || self.traces.iter().all(TraceFacts::holds_out)
    }

    /// Whether there are steps to replay: every trace that scores is one of routes, or of
    /// more than one count matrix.
    #[must_use]
    pub fn has_steps(&self) -> bool {
        let scoring = if self.holdouts.is_empty() { &self.traces } else { &self.holdouts };
        scoring.iter().all(TraceFacts::holds_out)
    }
}

impl AskedRouting {
    /// What the user should know of this routing.
    #[must_use]
    pub fn warnings(&self, model: &Model) -> Vec<String> {
        let mut warnings = Vec::new();
        match self {
            Self::Trace(used) => {
                for trace in used.traces.iter().chain(&used.holdouts) {
                    if trace.layers != u64::from(model.moe_layers) {
                        warnings.push(format!(
                            "trace {} covers {} layers, the model has {} mixture-of-experts \
                             layers: layer_latency_s is the mean over the trace's layers",
                            trace.id, trace.layers, model.moe_layers
                        ));
                    }
                }
            }
            Self::Shares(layers) => {
                warnings.extend(one_block(layers));
                warnings.extend(fewer_layers(layers.len(), model));
            }
            Self::Skewness { distribution_error: Some(trend), .. }
                if trend.range().0 < trend.range().1 =>
            {
                warnings.extend(unreached("/routing/distribution_error_points", trend, self));
            }
            _ => {}
        }
        warnings
    }
}

/// Says that the shares given are of other layers than the model has.
fn fewer_layers(given: usize, model: &Model) -> Option<String> {
    (given as u64 != u64::from(model.moe_layers)).then(|| {
        format!(
            "expert_shares has {given} layers, the model has {} mixture-of-experts layers: \
             layer_latency_s is the mean over the given layers",
            model.moe_layers
        )
    })
}

/// Says that the shares are those of one device's experts.
fn one_block(layers: &[Vec<f64>]) -> Option<String> {
    let counts = ExpertCounts::from_values(layers.len(), layers.first()?.len(), layers.concat())?;
    OneBlock::of(&counts).map(|block| format!("expert_shares is doubtful: {block}"))
}

/// Checks the routing; `None` with violations noted if it cannot be used.
pub(super) fn check(
    asked: &wire::Question,
    model: Option<&Model>,
    traces: &BTreeMap<String, TraceFacts>,
    violations: &Violations,
) -> Option<AskedRouting> {
    let routing = asked.routing.as_ref()?;
    let paper = asked.assumptions.preset == Some(Preset::Paper);
    if let Some(skewness) = routing.skewness {
        return scalar(routing, skewness, paper, model, violations);
    }
    if let Some(law) = routing.power_law {
        return Some(AskedRouting::PowerLaw { exponent: law.exponent? });
    }
    if let Some(shares) = &routing.expert_shares {
        return layers(shares, model, violations);
    }
    if let Some(balancedness) = routing.balancedness {
        if paper {
            violations.note(
                "/routing/balancedness",
                "choice",
                "the paper's formulas need expert skewness, which the balance of devices does \
                 not give; state `skewness`, shares or a trace",
            );
            return None;
        }
        let at_devices = routing.at_devices?;
        if balancedness * f64::from(at_devices) < 1.0 {
            violations.note(
                "/routing/balancedness",
                "range",
                format!("mean over maximum of {at_devices} devices is at least 1/{at_devices}"),
            );
            return None;
        }
        return Some(AskedRouting::Balancedness { balancedness, at_devices });
    }
    let stored = stored(routing, model, traces, violations)?;
    let phase = asked.workload.as_ref().and_then(|workload| workload.phase);
    if let (false, Some(AskedPhase::Step(_))) = (stored.phases.is_empty(), phase) {
        let detail = "traces of both phases belong to `serving`; give the ids of those of this \
                      step's phase, or ask about `serving`";
        violations.note(several(routing).0, "choice", detail);
        return None;
    }
    Some(AskedRouting::Trace(stored))
}

fn scalar(
    routing: &Routing,
    skewness: f64,
    paper: bool,
    model: Option<&Model>,
    violations: &Violations,
) -> Option<AskedRouting> {
    let points = routing.distribution_error_points.as_ref();
    if paper && routing.distribution_error.is_none() && points.is_none() {
        violations.note(
            "/routing",
            "required",
            "`distribution_error` is missing; the paper's formulas need it",
        );
        return None;
    }
    if let Some(model) = model {
        let most = f64::from(model.experts.routed) / f64::from(model.experts.top_k);
        if skewness > most {
            violations.note(
                "/routing/skewness",
                "range",
                format!(
                    "{skewness} is out of range; with {} experts and top-{} it must be from 1 to \
                     {most}",
                    model.experts.routed, model.experts.top_k
                ),
            );
            return None;
        }
    }
    let point = |point: &ErrorPoint| point.skewness.zip(point.distribution_error);
    let points = points.and_then(|points| points.iter().map(point).collect::<Option<_>>());
    let stated = routing.distribution_error.map(Trend::constant);
    let distribution_error = stated.or_else(|| Trend::through(points?));
    Some(AskedRouting::Skewness { skewness, distribution_error })
}

fn layers(
    shares: &[Vec<f64>],
    model: Option<&Model>,
    violations: &Violations,
) -> Option<AskedRouting> {
    let mut whole = true;
    if let Some(model) = model {
        let experts = model.experts.routed as usize;
        for (layer, row) in shares.iter().enumerate() {
            if row.len() != experts {
                violations.note(
                    format!("/routing/expert_shares/{layer}"),
                    "length",
                    format!("the layer has {} shares; the model has {experts} experts", row.len()),
                );
                whole = false;
            }
        }
    }
    if let Some(model) = model
        && let Some((layer, found, _)) =
            BeyondTopK::worst(shares.iter().map(Vec::as_slice), model.experts.top_k)
    {
        let pointer = format!("/routing/expert_shares/{layer}/{}", found.expert);
        violations.note(pointer, "top_k", found.to_string());
        whole = false;
    }
    let normalised = shares.iter().map(|row| moe_gps_core::routing::normalised(row));
    whole.then(|| AskedRouting::Shares(normalised.collect()))
}

/// The stored traces of a question, fitting the model.
fn stored(
    routing: &Routing,
    model: Option<&Model>,
    traces: &BTreeMap<String, TraceFacts>,
    violations: &Violations,
) -> Option<TraceUse> {
    let mut named: Vec<(String, &String)> = Vec::new();
    named.extend(routing.trace_id.iter().map(|id| ("/routing/trace_id".to_owned(), id)));
    let (list, several) = several(routing);
    for (index, trace) in several.iter().enumerate() {
        named.push((format!("{list}/{index}"), trace.id()?));
    }
    if named.is_empty() {
        return None;
    }
    let find = |pointer: &str, id: &String| -> Option<TraceFacts> {
        let Some(trace) = traces.get(id) else {
            violations.note(
                pointer,
                "not_found",
                format!("no trace {id:?} is stored; upload it to /v1/traces first"),
            );
            return None;
        };
        let fits = model.is_none_or(|model| fits(trace, model, pointer, violations));
        fits.then(|| trace.clone())
    };
    let found: Vec<Option<TraceFacts>> =
        named.iter().map(|(pointer, id)| find(pointer, id)).collect();
    let holdout = match &routing.holdout_trace_id {
        Some(id) => Some(find("/routing/holdout_trace_id", id)?),
        None => None,
    };
    let holdouts: Vec<TraceFacts> = holdout.into_iter().collect();
    let known: Vec<&TraceFacts> = found.iter().flatten().collect();
    for (trace, (pointer, _)) in known.iter().zip(&named).skip(1) {
        if trace.layers != known[0].layers {
            violations.note(
                pointer,
                "layers",
                format!(
                    "the trace covers {} layers, the first one {}; one plan serves the same layers \
                     of all",
                    trace.layers, known[0].layers
                ),
            );
            return None;
        }
    }
    if routing.windows.is_some() {
        // Their counts are added.
        for (trace, (pointer, _)) in known.iter().zip(&named).skip(1) {
            if trace.experts != known[0].experts {
                let detail = format!(
                    "the window has {} experts, the first one {}; upload both with the same \
                     `num_experts` or `model`",
                    trace.experts, known[0].experts
                );
                violations.note(pointer, "experts", detail);
                return None;
            }
        }
    }
    let phases = phases(routing, violations)?;
    let used = TraceUse {
        phases,
        traces: found.into_iter().collect::<Option<_>>()?,
        train_fraction: routing.train_fraction.unwrap_or(TRAIN_FRACTION),
        holdouts,
        joined: false,
    };
    Some(if routing.windows.is_some() { windows(used) } else { used })
}

/// Traces that follow each other, as windows: the newest of every phase scores what those before
/// plan. A window that is alone plans and scores.
fn windows(mut used: TraceUse) -> TraceUse {
    used.joined = true;
    if used.phases.is_empty() {
        if 1 < used.traces.len() {
            used.holdouts.extend(used.traces.pop());
        }
        return used;
    }
    let all: Vec<(TraceFacts, Phase)> = used.traces.drain(..).zip(used.phases.drain(..)).collect();
    for phase in [Phase::Prefill, Phase::Decode] {
        let mut of_phase: Vec<TraceFacts> =
            all.iter().filter(|(_, one)| *one == phase).map(|(facts, _)| facts.clone()).collect();
        let newest = if 1 < of_phase.len() { of_phase.pop() } else { of_phase.first().cloned() };
        used.holdouts.extend(newest);
        used.phases.extend(std::iter::repeat_n(phase, of_phase.len()));
        used.traces.append(&mut of_phase);
    }
    used
}

/// The list of traces of a question, and where it stands.
fn several(routing: &Routing) -> (&'static str, &[NamedTrace]) {
    match (&routing.trace_ids, &routing.windows) {
        (None, Some(windows)) => ("/routing/windows", windows),
        (ids, _) => ("/routing/trace_ids", ids.as_deref().unwrap_or_default()),
    }
}

/// The phase of every trace of a server, of which both have one; none where none is said.
fn phases(routing: &Routing, violations: &Violations) -> Option<Vec<Phase>> {
    let (list, named) = several(routing);
    let phases: Vec<Phase> = named.iter().filter_map(NamedTrace::phase).collect();
    if phases.is_empty() {
        return Some(phases);
    }
    let has = |phase| phases.contains(&phase);
    if phases.len() == named.len() && has(Phase::Prefill) && has(Phase::Decode) {
        return Some(phases);
    }
    let detail = "where one trace has a phase all must, and there must be traces of `prefill` and of \
                  `decode`";
    violations.note(list, "choice", detail);
    None
}

/// Whether a trace can stand for the model's routing.
fn fits(trace: &TraceFacts, model: &Model, pointer: &str, violations: &Violations) -> bool {
    let experts = &model.experts;
    let mut fits = true;
    if trace.top_k != 0 && trace.top_k != u64::from(experts.top_k) {
        violations.note(
            pointer,
            "top_k",
            format!(
                "the trace routes every token to {} experts, the model to {}",
                trace.top_k, experts.top_k
            ),
        );
        fits = false;
    }
    // Of counts whose k was not stated, it is the model's that tells what cannot be.
    if trace.top_k == 0
        && let Some((layer, found, _)) = beyond(trace, experts.top_k)
    {
        violations.note(pointer, "top_k", format!("layer {layer} of the trace: {found}"));
        fits = false;
    }
    if trace.experts > u64::from(experts.routed) {
        violations.note(
            pointer,
            "experts",
            format!("the trace has {} experts, the model {}", trace.experts, experts.routed),
        );
        fits = false;
    }
    fits
}

/// What the counts of a trace hold that top-k does not allow; a trace that cannot be read says so
/// when it is priced.
fn beyond(trace: &TraceFacts, top_k: u32) -> Option<(u16, BeyondTopK, usize)> {
    let stored = StoredTrace::from_file(File::open(&trace.path).ok()?).ok()?;
    let counts = stored.count(0..stored.header().extent()).ok()?;
    let (nth, found, of) = BeyondTopK::worst(counts.layers(), top_k)?;
    Some((*stored.header().layers.get(nth)?, found, of))
}
