//! Looks at a trace step by step: how uneven steps are, how soon forecasts grow stale.

use std::ops::Range;

use crate::app::report::ReportError;
use crate::wire::report::{ForecastBody, LagBody, Steps, StepsOfPlan};
use moe_gps_core::cancel::{Cancel, Canceled};
use moe_gps_core::diagnosis::PlanBalance;
use moe_gps_core::diagnosis::steps::StepImbalance;
use moe_gps_core::forecast::ForecastKind;
use moe_gps_core::forecast::staleness::Staleness;
use moe_gps_core::formats::trace::stored::StoredTrace;
use moe_gps_core::trace::TraceKind;
use moe_gps_core::trace::counts::ExpertCounts;
use moe_gps_core::trace::steps::{StepOrder, StepPlan};

/// Steps a trace is cut into where nothing is said of their size.
const STEPS: u64 = 256;
/// Most steps that are looked at one by one; of more, several are taken together.
const MOST_STEPS: u64 = 2048;
/// What looking at the steps one by one gives.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) steps: Option<Steps>,
    pub(super) forecasts: Vec<ForecastBody>,
}

/// Looks at the steps one by one: the planning part teaches forecasts, the rest scores.
pub(super) fn walk(
    trace: &StoredTrace,
    split: u64,
    tokens_per_step: Option<u64>,
    plans: &[PlanBalance],
    warnings: &mut Vec<String>,
    cancel: &Cancel,
) -> Result<Walked, ReportError> {
    let header = trace.header();
    let extent = header.extent();
    let routes = header.kind == TraceKind::Routes;
    let wanted = match tokens_per_step {
        Some(tokens) if routes => tokens,
        _ if routes => (extent / STEPS).max(1),
        _ => 1,
    };
    let together = (extent / wanted).div_ceil(MOST_STEPS).max(1);
    let size = wanted.saturating_mul(together);
    let (n_planning, n_scoring) = (split / size, extent.saturating_sub(split) / size);
    if n_planning == 0 || n_scoring < 2 {
        if extent >= 2 {
            warnings.push(format!(
                "steps of {size} are too long to look at one by one: {n_planning} would plan and \
                 {n_scoring} score"
            ));
        }
        return Ok(Walked::default());
    }
    if together > 1 {
        warnings.push(format!(
            "there are more than {MOST_STEPS} steps; {together} at a time were taken together"
        ));
    }
    let scale = usize::try_from((n_planning / 4).clamp(1, 16)).unwrap_or(1);
    let kinds = [
        ForecastKind::Mle,
        ForecastKind::Window { steps: scale },
        ForecastKind::ExponentialAverage { half_life: scale as f64 },
    ];
    let n_steps = usize::try_from(n_planning).unwrap_or(usize::MAX);
    let mut scored: Vec<Staleness> = kinds
        .into_iter()
        .map(|kind| Staleness::new(kind, header.n_layers(), header.n_experts(), n_steps))
        .collect();
    let mut steps: Vec<StepImbalance> =
        plans.iter().map(|plan| StepImbalance::new(plan.maps.clone())).collect();
    each_step(trace, 0..split, size, cancel, |step| {
        for one in &mut scored {
            one.plan(step);
        }
    })?;
    each_step(trace, split..extent, size, cancel, |step| {
        for one in &mut scored {
            one.score(step);
        }
        for one in &mut steps {
            one.add(step);
        }
    })?;
    let plans = steps.iter().filter_map(StepImbalance::mean_and_p95);
    Ok(Walked {
        steps: Some(Steps {
            tokens_per_step: routes.then_some(size),
            recorded_steps_per_step: (!routes).then_some(size),
            steps: n_scoring,
            plans: plans.map(|(mean, p95)| StepsOfPlan { mean, p95 }).collect(),
        }),
        forecasts: scored.iter().map(forecast_body).collect(),
    })
}

/// Hands out whole steps of so many tokens or recorded steps.
fn each_step(
    trace: &StoredTrace,
    range: Range<u64>,
    size: u64,
    cancel: &Cancel,
    mut take: impl FnMut(&ExpertCounts),
) -> Result<(), ReportError> {
    if trace.header().kind == TraceKind::Counts {
        for at in range.clone().step_by(usize::try_from(size).unwrap_or(usize::MAX)) {
            if at + size <= range.end {
                let counts = trace.count_unless(at..at + size, cancel)?;
                take(&counts.ok_or(Canceled)?);
            }
        }
        return Ok(());
    }
    let order = StepOrder::Prefill { tokens_per_step: size };
    let mut steps = trace.steps(&StepPlan { order, range, with_routes: false });
    while let Some(step) = steps.next_step()? {
        cancel.check()?;
        take(&step.counts);
    }
    Ok(())
}

fn forecast_body(scored: &Staleness) -> ForecastBody {
    let (mut window_steps, mut half_life_steps) = (None, None);
    match scored.kind() {
        ForecastKind::Mle => {}
        ForecastKind::Window { steps } => window_steps = Some(steps as u64),
        ForecastKind::ExponentialAverage { half_life } => half_life_steps = Some(half_life),
    }
    let errors = scored.errors().into_iter();
    ForecastBody {
        kind: scored.kind().name().into(),
        window_steps,
        half_life_steps,
        errors: errors
            .map(|at| LagBody { lag_steps: at.lag as u64, distribution_error: at.error })
            .collect(),
    }
}
