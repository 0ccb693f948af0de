//! Ceiling and diagnosis of a stored trace, as values and as a page.

mod page;
mod walk;

use std::io;
use std::ops::Range;

use crate::app::context::App;
use crate::app::error::AppError;
use crate::app::routing_evidence;
use crate::wire::question::{DEVICES, TOKENS};
use crate::wire::report::{
    Convention, DriftBody, Imbalance, Over, ReportCeiling, Slots, TraceReport,
};
use crate::wire::violation::Violation;
use moe_gps_core::cancel::{Cancel, Canceled};
use moe_gps_core::diagnosis::{self, PlanBalance, base_slots};
use moe_gps_core::forecast::drift;
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::placement::PlacementError;
use moe_gps_core::placement::balance::{Balance, OverLayers};
use moe_gps_core::routing::normalised;
use moe_gps_core::trace::TraceKind;
use moe_gps_core::trace::checks::{Warning, examine, repeated_rows};
use moe_gps_core::trace::counts::ExpertCounts;
use moe_gps_core::trace::stats::TraceStatistics;
use moe_gps_core::trace::steps::split_point;

pub use page::{STYLE, html, levels};

/// Equal parts the trace is cut into to see it drift.
const PARTS: u64 = 8;
/// Slots more than needed on each device.
const EXTRA: [u32; 3] = [0, 1, 2];

/// What is asked of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Expert-parallel size (EP).
    pub devices: u32,
    /// Tokens of a step; a 256th of the trace if left out.
    pub tokens_per_step: Option<u64>,
}

impl Asked {
    /// Everything that is out of range.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        if !DEVICES.contains(&self.devices) {
            let (least, most) = DEVICES.into_inner();
            let detail = format!("devices is {}; it must be from {least} to {most}", self.devices);
            found.push(Violation::new("/devices", "range", detail));
        }
        if let Some(tokens) = self.tokens_per_step.filter(|tokens| !TOKENS.contains(tokens)) {
            let (least, most) = TOKENS.into_inner();
            let detail = format!("tokens_per_step is {tokens}; it must be from {least} to {most}");
            found.push(Violation::new("/tokens_per_step", "range", detail));
        }
        found
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The stored trace could not be read.
    #[error("the trace could not be read")]
    Trace(#[from] io::Error),
    /// No plan could be made.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// Some devices would hold no expert.
    #[error(
        "devices is {devices}; the recording has {experts} experts, so at most {experts} devices \
         can share them (if it names too few, state num_experts or a model)"
    )]
    Devices {
        /// Devices asked for.
        devices: u32,
        /// Experts of a layer.
        experts: u32,
    },
    /// The caller asked to stop.
    #[error("nobody waits for the report any more")]
    Canceled(#[from] Canceled),
}

/// The report of a stored trace.
pub async fn report(app: &App, id: &str, asked: Asked) -> Result<TraceReport, AppError> {
    let violations = asked.violations();
    if !violations.is_empty() {
        return Err(AppError::Refused(violations));
    }
    let record = crate::app::traces::fetch(app, id).await?;
    let fail = |source| AppError::trace(id.to_owned(), source);
    let _place = app.uploads.at_once.acquire().await;
    let id = id.to_owned();
    let cancel = Cancel::default();
    let _when_dropped = cancel.on_drop();
    let directory = app.traces.clone();
    let made = move || of(&directory.open_row(&record)?, &id, record.name, asked, &cancel);
    let made = tokio::task::spawn_blocking(made).await;
    let made = made.map_err(|error| AppError::Internal(format!("a report panicked: {error}")))?;
    made.map_err(|error| match error {
        ReportError::Trace(source) => fail(source),
        error @ ReportError::Devices { .. } => {
            AppError::Refused(vec![Violation::new("/devices", "range", error.to_string())])
        }
        error => AppError::Internal(error.to_string()),
    })
}

/// The report of an open trace, unless it is canceled.
pub fn of(
    trace: &StoredTrace,
    id: &str,
    name: Option<String>,
    asked: Asked,
    cancel: &Cancel,
) -> Result<TraceReport, ReportError> {
    let header = trace.header();
    let (devices, experts) = (asked.devices, header.experts);
    if devices > experts {
        return Err(ReportError::Devices { devices, experts });
    }
    let extent = header.extent();
    let split = routing_evidence::split(trace, 0.5)?;
    let count = |range| Ok(trace.count_unless(range, cancel)?.ok_or(Canceled)?);
    let (planned, scored) = if extent < 2 {
        let all = count(0..extent)?;
        (all.clone(), all)
    } else {
        (count(0..split)?, count(split..extent)?)
    };
    let middle = split_point(extent, 0.5);
    let halves = TraceStatistics::of_halves(count(0..middle)?, count(middle..extent)?);
    let mut warnings: Vec<String> =
        examine(header, &halves).iter().map(Warning::to_string).collect();
    if !experts.is_multiple_of(devices) {
        warnings.push(format!(
            "{experts} experts do not divide among {devices} devices: engines start only with \
             redundant experts that make up the rest, and the contiguous placement here has them"
        ));
    }
    if extent < 2 {
        warnings.push(
            "the trace is one count matrix: plans are scored on the load they were made for"
                .to_owned(),
        );
    }
    let mut total = planned.clone();
    total.add(&scored);
    let whole = diagnosis::contiguous(&total, &total, asked.devices)?;
    if repeated_rows(header).is_some() {
        let without = trace.count_without_repeats()?;
        let without = diagnosis::contiguous(&without, &without, devices)?;
        let mean = |layers: &[Balance]| OverLayers::of(layers).weighted;
        warnings.push(format!(
            "max/mean GPU load is {:.3} with the repeated tokens, {:.3} without",
            mean(&whole.per_layer),
            mean(&without.per_layer)
        ));
    }
    let mut plans = vec![diagnosis::contiguous(&planned, &scored, asked.devices)?];
    for extra in EXTRA {
        if base_slots(header.experts, asked.devices) + extra <= header.experts {
            plans.push(diagnosis::planned(&planned, &scored, asked.devices, extra)?);
        }
    }
    let walked = walk::walk(trace, split, asked.tokens_per_step, &plans, &mut warnings, cancel)?;
    let slots: Vec<Slots> =
        plans.iter().enumerate().map(|plan| slots(plan, &plans[0], asked)).collect();
    let imbalance = imbalance(&whole.per_layer);
    let ceiling = ceiling(&imbalance);
    Ok(TraceReport {
        id: id.to_owned(),
        name,
        devices: asked.devices,
        experts: header.experts,
        top_k: header.top_k,
        tokens: (header.kind == TraceKind::Routes).then_some(header.tokens),
        layers: header.layers.clone(),
        finding: finding(&ceiling, &slots, asked.devices, 2 <= extent),
        imbalance,
        ceiling,
        slots,
        steps: walked.steps,
        drift: drifted(trace.header().extent(), count)?,
        forecasts: walked.forecasts,
        expert_shares: total.layers().map(shares).collect(),
        warnings,
    })
}

fn shares(counts: &[f64]) -> Vec<f64> {
    if counts.iter().any(|count| *count > 0.0) { normalised(counts) } else { counts.to_vec() }
}

fn imbalance(layers: &[Balance]) -> Imbalance {
    let over = OverLayers::of(layers);
    let convention = |value: fn(f64) -> f64| Convention {
        mean: value(over.weighted),
        worst: value(over.worst),
        per_layer: layers.iter().map(|layer| value(layer.imbalance())).collect(),
    };
    Imbalance {
        max_over_mean: convention(|r| r),
        mean_over_max: convention(|r| 1.0 / r),
        excess: convention(|r| r - 1.0),
    }
}

fn ceiling(imbalance: &Imbalance) -> ReportCeiling {
    let r = imbalance.max_over_mean.mean;
    ReportCeiling {
        expert_speedup_at_most: r,
        expert_time_saved_at_most: 1.0 - 1.0 / r,
        because: "perfect balance brings the most loaded GPU down to the mean; attention, \
                  communication that does not depend on routing, and steps that are bound by \
                  reading weights gain nothing, so a whole step gains less"
            .to_owned(),
    }
}

fn slots((place, plan): (usize, &PlanBalance), contiguous: &PlanBalance, asked: Asked) -> Slots {
    let over = |over: OverLayers| Over { mean: over.weighted, worst: over.worst };
    let extra = plan.slots_per_device - contiguous.slots_per_device;
    Slots {
        plan: if place == 0 { "contiguous" } else { "best" }.into(),
        extra_slots: u64::from(extra) * u64::from(asked.devices),
        slots_per_device: plan.slots_per_device,
        in_sample: over(plan.in_sample),
        held_out: over(plan.held_out),
        expert_time_saved: plan.saves(contiguous),
        per_layer: plan.per_layer.iter().map(|layer| layer.imbalance()).collect(),
    }
}

/// What matters most, in one sentence.
fn finding(ceiling: &ReportCeiling, slots: &[Slots], devices: u32, held_out: bool) -> String {
    let r = ceiling.expert_speedup_at_most;
    if devices == 1 {
        return "On one GPU there is nothing to balance.".to_owned();
    }
    // The fewest slots that come within a point of the most any of the plans saves.
    let most = slots.iter().map(|plan| plan.expert_time_saved).fold(0.0, f64::max);
    let best = slots.iter().skip(1).find(|plan| plan.expert_time_saved > most - 0.01);
    let on = if held_out { "held-out load" } else { "in-sample load" };
    let bought = match best.filter(|best| best.expert_time_saved > 0.005) {
        Some(best) if best.extra_slots == 0 => format!(
            "moving experts without copies saves {:.1} % of it on {on}",
            best.expert_time_saved * 100.0
        ),
        Some(best) => format!(
            "{} extra slots save {:.1} % of it on {on}",
            best.extra_slots,
            best.expert_time_saved * 100.0
        ),
        None => format!("no static plan saves any of it on {on}"),
    };
    format!(
        "max/mean GPU load is {r:.2} over {devices} GPUs, so balance can save at most {:.1} % of the \
         expert computation's time; {bought}.",
        ceiling.expert_time_saved_at_most * 100.0
    )
}

/// Compares equal parts of the trace.
fn drifted(
    extent: u64,
    count: impl Fn(Range<u64>) -> Result<ExpertCounts, ReportError>,
) -> Result<Option<DriftBody>, ReportError> {
    let n = PARTS.min(extent);
    let at = |part: u64| {
        let at = u128::from(extent) * u128::from(part) / u128::from(n.max(1));
        u64::try_from(at).unwrap_or(extent)
    };
    let parts: Vec<ExpertCounts> =
        (0..n).map(|part| count(at(part)..at(part + 1))).collect::<Result<_, _>>()?;
    Ok(drift::between(&parts).map(|found| DriftBody {
        parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        distribution_error: found.errors,
        mean: found.mean,
        most: found.most,
        by_chance: found.by_chance,
    }))
}
