//! What plans for one trace are worth on the others, as the answer shows it.

use crate::app::question::{Answerable, AskedRouting};
use crate::wire::transfer as wire;
use moe_gps_core::advice::Advised;
use moe_gps_core::evaluate::transfer::{OnLoad, Scored, Transfer};
use moe_gps_core::units::Seconds;

/// The matrix of plans and loads; `None` where there is one load.
pub(super) fn body(asked: &Answerable, advised: &Advised) -> Option<wire::TransferBody> {
    let transfer = advised.transfer.as_ref()?;
    Some(wire::TransferBody {
        trace_ids: asked.trace_ids(),
        slots_per_device: transfer.slots_per_device,
        replayed_steps: transfer.replayed_steps.clone(),
        none: plan(transfer, &transfer.none),
        plans: transfer.own.iter().map(|own| plan(transfer, own)).collect(),
        worst_case: plan(transfer, &transfer.worst_case),
    })
}

fn plan(transfer: &Transfer, scored: &Scored) -> wire::PlanOnLoads {
    let over_loads = |value: &dyn Fn(&OnLoad) -> f64| scored.on.iter().map(value).collect();
    let latencies = |scored: &Scored| scored.on.iter().map(|on| on.latency).collect::<Vec<_>>();
    let speedup = |(none, plan): (Seconds, Seconds)| none / plan;
    wire::PlanOnLoads {
        in_sample_imbalance: scored.in_sample,
        planned_imbalance: over_loads(&|on| on.planned),
        imbalance: over_loads(&|on| on.imbalance),
        step_imbalance: over_loads(&|on| on.step_imbalance),
        layer_latency_s: over_loads(&|on| on.latency.get()),
        speedup_over_none: latencies(&transfer.none)
            .into_iter()
            .zip(latencies(scored))
            .map(speedup)
            .collect(),
    }
}

/// A warning for every plan that makes some load slower than no plan.
pub(super) fn warnings(asked: &Answerable, advised: &Advised) -> Vec<String> {
    let (Some(transfer), AskedRouting::Trace(used)) = (&advised.transfer, &asked.routing) else {
        return Vec::new();
    };
    let name = |load: &usize| used.traces.get(*load).map_or("", |trace| trace.id.as_str());
    let warning = |what: String, plan: &Scored| {
        let worse = transfer.worse_than_none(plan);
        let on = |load: &usize| {
            let slower = plan.on[*load].latency / transfer.none.on[*load].latency - 1.0;
            format!("{} ({:.2} %)", name(load), slower * 100.0)
        };
        let loads: Vec<String> = worse.iter().map(on).collect();
        (!loads.is_empty()).then(|| {
            format!("{what} makes a layer slower than no plan on trace {}", loads.join(" and "))
        })
    };
    let own = transfer.own.iter().enumerate();
    own.filter_map(|(load, plan)| warning(format!("a plan made on trace {}", name(&load)), plan))
        .chain(warning(
            "even the plan for the worst of the traces".to_owned(),
            &transfer.worst_case,
        ))
        .collect()
}
