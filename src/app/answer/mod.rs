//! From advice to the answer on the wire.

mod provenance;
mod server;

use std::borrow::Cow;

use crate::app::fit_predictors::Fits;
use crate::app::question::{Answerable, AskedRouting};
use crate::app::{duplication_search, transfer};
use crate::wire::answer as wire;
use crate::wire::interval_search::IntervalSearch;
use moe_gps_core::advice::choose::Verdict;
use moe_gps_core::advice::explain;
use moe_gps_core::advice::group_cost::GroupCost;
use moe_gps_core::advice::layouts::Layout;
use moe_gps_core::advice::option_prices::PricedOption;
use moe_gps_core::advice::trial;
use moe_gps_core::advice::uncertainty::Gain;
use moe_gps_core::advice::{Advised, Entry, PlanSummary, PricedPredictor};
use moe_gps_core::catalog::Catalog;
use moe_gps_core::engines;
use moe_gps_core::evaluate::{LayerImbalance, StepStatistics};
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::question::{Grouping, PredictorKind, PredictorSource, Question, RebalanceMode};
use moe_gps_core::strategies;
use moe_gps_core::system::{Communication, Parallelism, Preset};
use moe_gps_core::terms::Terms;
use moe_gps_core::units::Seconds;

/// The name of a value in its list of names.
pub(super) fn name_of<T: PartialEq>(value: &T, names: &[(T, &'static str)]) -> &'static str {
    names.iter().find(|(other, _)| other == value).map_or("", |(_, name)| name)
}

/// The answer.
pub(super) fn result(
    asked: &Answerable,
    known: &RoutingEvidence,
    advised: &Advised,
    fits: &Fits,
    interval: Option<IntervalSearch>,
    catalog: &Catalog,
) -> wire::ResultBody {
    let question = &asked.question;
    let chosen = advised.chosen();
    wire::ResultBody {
        recommendation: recommendation(question, known, advised, fits),
        strategies: (0..advised.entries.len())
            .map(|index| strategy(question, advised, fits, index))
            .collect(),
        references: advised
            .references
            .iter()
            .map(|reference| wire::ReferenceBody {
                id: reference.id.into(),
                description: reference.what.into(),
                layer_latency_s: reference.layer_latency.get(),
            })
            .collect(),
        layouts: advised.layouts.iter().map(layout).collect(),
        options: advised.options.iter().map(option).collect(),
        ceiling: wire::CeilingBody {
            speedup_over_none: advised
                .none()
                .and_then(Entry::latency)
                .zip(advised.ceiling)
                .map(|(none, ceiling)| none / ceiling),
            layer_latency_s: advised.ceiling.map(Seconds::get),
        },
        flip_points: flip_points(advised),
        routing: routing(known, advised),
        plan: chosen
            .and_then(|entry| advised.plan(entry.strategy))
            .map(|plan| plan_body(asked, advised, plan)),
        duplication_search: duplication_search::body(question, advised),
        interval_search: interval,
        transfer: transfer::body(asked, advised),
        confirm: [Some(confirm(question, advised)), trial(question, advised)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(". "),
        warnings: [
            asked.warnings.clone(),
            transfer::warnings(asked, advised),
            advised.groups.as_ref().map(grouped).into_iter().collect(),
        ]
        .concat(),
        provenance: provenance::provenance(asked, advised, catalog),
    }
}

/// What keeping groups of experts on nodes costs, and how to have it otherwise.
fn grouped(cost: &GroupCost) -> String {
    let (kept, otherwise) = match cost.rule {
        Grouping::Hard | Grouping::None => {
            ("all copies of an expert group stay on one node", "`soft` or `none`")
        }
        Grouping::Soft => ("a copy of every expert stays on its group's node", "`none`"),
    };
    format!(
        "{kept}: with {} slots a device the busiest device \
         carries {:.2} times the mean, without that rule {:.2}, and a layer takes {:.1} % longer; \
         `duplication.groups` {otherwise} plans without it (what the rule saves between nodes \
         is not priced)",
        cost.slots_per_device,
        cost.imbalance,
        cost.imbalance_without,
        cost.slower * 100.0
    )
}

fn recommendation(
    question: &Question,
    known: &RoutingEvidence,
    advised: &Advised,
    fits: &Fits,
) -> wire::Recommendation {
    let reason = explain::reason(question, known, advised);
    let Some(choice) = &advised.choice else {
        return wire::Recommendation {
            strategy: None,
            predictor: None,
            verdict: Verdict::CannotRun.id().into(),
            baseline: baseline_id(question).into(),
            gain: None,
            runner_up_gain: None,
            equivalent: Vec::new(),
            doubts: Vec::new(),
            speedup_over_none: None,
            speedup_over_current: None,
            margin_over_runner_up: None,
            margin_error_band: None,
            runner_up: None,
            best_runnable: None,
            missing: vec!["a deployment that fits into memory".to_owned()],
            reason,
        };
    };
    let chosen = &advised.entries[choice.chosen];
    let compared =
        if choice.chosen == choice.baseline { choice.runner_up } else { Some(choice.chosen) };
    let runner_up_gain = choice
        .runner_up
        .and_then(|index| advised.uncertainty.gain(&advised.entries, index, choice.baseline));
    let parts =
        compared.map(|index| advised.uncertainty.parts(&advised.entries, index, choice.baseline));
    let doubts = parts
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, gain)| gain.high > gain.low)
        .map(|(id, gain)| wire::DoubtBody { id: id.into(), low: gain.low, high: gain.high })
        .collect();
    let mut equivalent: Vec<Cow<'static, str>> = Vec::new();
    for index in &choice.equivalent {
        let id = advised.entries[*index].strategy.id();
        if id != chosen.strategy.id() && !equivalent.contains(&Cow::Borrowed(id)) {
            equivalent.push(id.into());
        }
    }
    wire::Recommendation {
        strategy: Some(chosen.strategy.id().into()),
        predictor: chosen.predictor.as_ref().map(|priced| predictor(priced, fits)),
        verdict: choice.verdict.id().into(),
        baseline: baseline_id(question).into(),
        gain: Some(gain(choice.gain)),
        runner_up_gain: runner_up_gain.map(gain),
        equivalent,
        doubts,
        speedup_over_none: speedup(advised.none(), chosen),
        speedup_over_current: speedup(advised.current(question), chosen),
        margin_over_runner_up: Some(choice.margin),
        margin_error_band: Some(choice.margin_band),
        runner_up: choice.runner_up.map(|index| advised.entries[index].strategy.id().into()),
        best_runnable: choice.best_runnable.map(|strategy| strategy.id().into()),
        missing: choice.missing.clone(),
        reason,
    }
}

/// What the verdict is against.
const fn baseline_id(question: &Question) -> &'static str {
    if question.current.is_some() { "current" } else { "none" }
}

const fn gain(gain: Gain) -> wire::GainBody {
    wire::GainBody { low: gain.low, mid: gain.mid, high: gain.high }
}

fn speedup(over: Option<&Entry>, entry: &Entry) -> Option<f64> {
    let before = over?.latency()?;
    entry.latency().map(|latency| before / latency)
}

fn predictor(priced: &PricedPredictor, fits: &Fits) -> wire::PredictorBody {
    let fitted = priced.source == PredictorSource::Fitted;
    wire::PredictorBody {
        name: priced.name.clone(),
        kind: priced.kind.map(|kind| name_of(&kind, &PredictorKind::ALL).into()),
        accuracy: priced.accuracy,
        accuracy_per_layer: fits.accuracy_per_layer(&priced.name).filter(|_| fitted),
        overhead_s: priced.overhead.get(),
        source: name_of(&priced.source, &PredictorSource::ALL).into(),
        fit: priced
            .curve
            .map(|curve| wire::CurveBody { a_s: curve.at_zero.get(), c: curve.growth }),
    }
}

fn strategy(
    question: &Question,
    advised: &Advised,
    fits: &Fits,
    index: usize,
) -> wire::StrategyBody {
    let entry = &advised.entries[index];
    let replayed = advised.replayed(index);
    let unbalanced = replayed.and_then(|_| advised.replayed(0));
    let support = engines::support::support(entry.strategy, &question.system);
    let plan = advised.plans.iter().find(|plan| plan.strategy == entry.strategy);
    let expert = moe_gps_core::memory::expert_bytes(&question.system);
    wire::StrategyBody {
        strategy: entry.strategy.id().into(),
        predictor: entry.predictor.as_ref().map(|priced| predictor(priced, fits)),
        feasible: entry.infeasible.is_none(),
        infeasible_reason: entry.infeasible.clone(),
        engine_support: support
            .into_iter()
            .map(|support| wire::EngineSupportBody {
                engine: support.engine.id.into(),
                runnable: support.runnable,
                because: support.because,
                balances_model: support.balances_model,
            })
            .collect(),
        layer_latency_s: entry.latency().map(Seconds::get),
        model_latency_s: advised.model_latency(question, entry).map(Seconds::get),
        speedup_over_none: speedup(advised.none(), entry),
        gain: advised.gain(question, index).map(gain),
        terms: entry.terms.as_ref().map(terms),
        serving: match entry.served {
            Some(served) => Some(wire::ServingBody::AtTpot(wire::AtTpot {
                sequences: served.sequences,
                tokens_per_s: served.tokens_per_s,
                step_latency_s: served.step.get(),
            })),
            None => server::body(question, advised, index).map(wire::ServingBody::Server),
        },
        phases: server::phases(question, advised, index),
        step_latency_s: replayed.map(|found| {
            let StepStatistics { mean, p50, p95, p99 } = found.steps;
            wire::StepLatency { mean, p50, p95, p99 }
        }),
        speedup_interval_95: replayed.map(|found| found.speedup_interval),
        imbalance_before: unbalanced.map(|none| none.imbalance.clone()),
        imbalance_after: replayed.map(|found| found.imbalance.clone()),
        moved_bytes: match (plan.map(|plan| plan.first_moves as f64 * expert.get()), replayed) {
            (first, Some(found)) => Some(first.unwrap_or(0.0) + found.moved.get()),
            (first, None) => first,
        },
        replica_bytes: plan.map(|plan| plan.memory.replicas.get()),
        kv_tokens_lost_per_device: plan.map(|plan| plan.memory.kv_tokens_lost_to_replicas),
    }
}

/// Terms on the wire.
pub(super) fn terms(terms: &Terms) -> wire::TermsBody {
    wire::TermsBody {
        attention_s: terms.attention.get(),
        all_reduce_s: terms.all_reduce.get(),
        router_s: terms.router.get(),
        dispatch_s: terms.dispatch.get(),
        expert_ffn_s: terms.expert_ffn.get(),
        combine_s: terms.combine.get(),
        predictor_s: terms.predictor.get(),
        rebalance_s: terms.rebalance.get(),
        overlap_hidden_s: terms.overlap_hidden.get(),
        other_s: terms.other.get(),
    }
}

fn flip_points(advised: &Advised) -> Vec<wire::FlipPoint> {
    let mut points: Vec<wire::FlipPoint> = advised
        .flips
        .iter()
        .map(|flip| wire::FlipPoint {
            parameter: flip.parameter.id().into(),
            value: flip.at.map(|change| change.value),
            interval: flip.at.map(|change| change.interval),
            becomes: flip.at.map(|change| change.becomes.id().into()),
            range: Some([flip.range.0, flip.range.1]),
            communication: None,
            copies: None,
        })
        .collect();
    points.extend(advised.copies.iter().map(|(now, flip)| {
        let hidden = flip.at.map_or(*now, |change| change.becomes);
        wire::FlipPoint {
            parameter: flip.parameter.id().into(),
            value: flip.at.map(|change| change.value),
            interval: flip.at.map(|change| change.interval),
            becomes: None,
            range: Some([flip.range.0, flip.range.1]),
            communication: None,
            copies: Some(if hidden { "hidden" } else { "exposed" }.into()),
        }
    }));
    points.extend(advised.other_communication.map(|(pattern, winner)| wire::FlipPoint {
        parameter: "communication".into(),
        value: None,
        interval: None,
        becomes: Some(winner.id().into()),
        range: None,
        communication: Some(name_of(&pattern, &Communication::ALL).into()),
        copies: None,
    }));
    points
}

fn routing(known: &RoutingEvidence, advised: &Advised) -> wire::RoutingBody {
    let errors = known.paper();
    let mean_error = errors.iter().map(|layer| layer.distribution_error).sum::<f64>()
        / errors.len().max(1) as f64;
    wire::RoutingBody {
        skewness: known.skewness().and_then(wire::Summary::of),
        distribution_error: (!errors.is_empty()).then_some(mean_error),
        device_imbalance: device_imbalance(advised),
        busiest_layer: busiest_layer(advised),
    }
}

/// Where the load of the most uneven layer lies, as it is and with the chosen plan.
fn busiest_layer(advised: &Advised) -> Option<wire::BusiestLayer> {
    let before = advised.plan(strategies::NONE)?;
    let map = before.layers.get(before.busiest)?;
    let chosen = advised.chosen().filter(|entry| entry.strategy != strategies::NONE);
    let after = chosen.and_then(|entry| advised.plan(entry.strategy)?.layers.get(before.busiest));
    Some(wire::BusiestLayer {
        layer: before.busiest,
        devices: map.shape().n_devices(),
        expert_shares: before.busiest_shares.clone(),
        slots_before: map.physical_to_logical().to_vec(),
        slots_after: after.map(|map| map.physical_to_logical().to_vec()),
    })
}

/// Device imbalance without and with the chosen plan: over the recorded steps where there are
/// any, else over sampled ones.
fn device_imbalance(advised: &Advised) -> Option<wire::DeviceImbalance> {
    let drawn = |plan: &PlanSummary| -> Vec<f64> {
        plan.imbalance.iter().map(|layer| layer.drawn).collect()
    };
    let before = wire::Summary::of(drawn(advised.plan(strategies::NONE)?))?;
    let chosen = advised.chosen().map(|entry| entry.strategy);
    let plan = chosen.and_then(|strategy| advised.plan(strategy));
    let after = plan.and_then(|plan| wire::Summary::of(drawn(plan)));
    let recorded = |index: usize| wire::Summary::of(advised.replayed(index)?.imbalance.clone());
    let recorded_before = recorded(0);
    let with_plan = advised.entries.iter().position(|entry| Some(entry.strategy) == chosen);
    let recorded_after = with_plan.filter(|_| recorded_before.is_some()).and_then(recorded);
    let expected = after.as_ref().map_or(1.0, |after| after.mean);
    let residual = plan.map(|plan| {
        let n = plan.imbalance.len().max(1) as f64;
        let mean = |value: &dyn Fn(&LayerImbalance) -> f64| {
            plan.imbalance.iter().map(value).sum::<f64>() / n
        };
        wire::Residual {
            plan: mean(&|layer| layer.planned - 1.0),
            forecast_error: mean(&|layer| layer.expected - layer.planned),
            sampling: mean(&|layer| layer.drawn - layer.expected),
            drift: recorded_after.as_ref().map_or(0.0, |after| after.mean - expected),
        }
    });
    let (before, after) = (recorded_before.unwrap_or(before), recorded_after.or(after));
    Some(wire::DeviceImbalance {
        balancedness_before: 1.0 / before.mean,
        balancedness_after: after.as_ref().map(|after| 1.0 / after.mean),
        before,
        after,
        residual,
        range_over_orders: advised.orders.as_ref().map(|orders| orders.imbalance),
    })
}

/// Slots of a layer beyond one per expert, over all devices.
pub(super) fn redundant_experts(question: &Question, slots_per_device: u32) -> u32 {
    let total = slots_per_device * question.system.parallelism.expert_parallel;
    total.saturating_sub(question.system.model.experts.routed)
}

fn layout(layout: &Layout) -> wire::LayoutBody {
    let Parallelism { attention_tensor, attention_data, expert_parallel, expert_tensor, .. } =
        layout.parallelism;
    let memory = &layout.memory;
    wire::LayoutBody {
        attention_tensor,
        attention_data,
        expert_parallel,
        expert_tensor,
        layer_latency_s: layout.layer_latency.get(),
        model_latency_s: layout.model_latency.get(),
        fits: memory.fits(),
        needed_bytes: (memory.weights + memory.kv_needed + memory.reserve).get(),
        missing_bytes: memory.missing.get(),
    }
}

fn option(priced: &PricedOption) -> wire::OptionBody {
    let PricedOption { option, support, price } = priced;
    wire::OptionBody {
        id: option.id.into(),
        value: option.value.into(),
        mode: option.mode.map(Into::into),
        description: option.summary.into(),
        engine_support: support
            .iter()
            .map(|support| wire::OptionSupportBody {
                engine: support.engine.id.into(),
                runnable: support.runnable,
                because: support.because.clone(),
                argv: support.arguments.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        price: price.as_ref().ok().map(|price| wire::OptionPriceBody {
            layer_latency_off_s: price.layer[0].get(),
            layer_latency_on_s: price.layer[1].get(),
            overhead_s: price.overhead.get(),
            gain: gain(price.gain),
            busiest_off: price.busiest[0],
            busiest_on: price.busiest[1],
        }),
        not_priced_reason: price.as_ref().err().cloned(),
    }
}

fn plan_body(asked: &Answerable, advised: &Advised, plan: &PlanSummary) -> wire::PlanBody {
    let question = &asked.question;
    let memory = &plan.memory;
    let traces = match &asked.routing {
        AskedRouting::Trace(used) => Some(used),
        _ => None,
    };
    let imbalance =
        |of: fn(&LayerImbalance) -> f64| wire::Summary::of(plan.imbalance.iter().map(of).collect());
    let saving = advised
        .none()
        .and_then(|none| advised.model_latency(question, none))
        .zip(advised.chosen().and_then(|entry| advised.model_latency(question, entry)))
        .map_or(Seconds::ZERO, |(none, chosen)| none - chosen);
    wire::PlanBody {
        slots_per_device: plan.slots_per_device,
        redundant_experts: redundant_experts(question, plan.slots_per_device),
        layer_latency_s: plan.latency.get(),
        rebalance_mode: name_of(&question.rebalance.mode, &RebalanceMode::ALL).into(),
        interval_steps: question.rebalance.interval_steps,
        first_stall_s: plan.renewal.first_stall.get(),
        stall_s: plan.renewal.stall.get(),
        move_s: question.current.as_ref().map(|_| plan.renewal.once.get()),
        break_even_steps: plan.renewal.break_even_steps(saving),
        moved_experts: plan.first_moves,
        in_sample_imbalance: traces.and_then(|_| imbalance(|layer| layer.planned)),
        held_out_imbalance: traces
            .filter(|used| used.holds_out())
            .and_then(|_| imbalance(|layer| layer.expected)),
        memory: wire::MemoryBody {
            capacity_bytes: memory.capacity.get(),
            reserve_bytes: memory.reserve.get(),
            weights_bytes: memory.weights.get(),
            replica_bytes: memory.replicas.get(),
            kv_needed_bytes: memory.kv_needed.get(),
            missing_bytes: memory.missing.get(),
            kv_tokens_lost_per_device: memory.kv_tokens_lost_to_replicas,
            max_concurrent_sequences_before: memory.max_concurrent_sequences_before,
            max_concurrent_sequences_after: memory.max_concurrent_sequences_after,
        },
    }
}

/// What a forced uniform routing must gain for the run to show what balancing gives.
const SHOWS: f64 = 1.02;

/// A run on the user's own machines that shows whether balancing gives what is said.
fn confirm(question: &Question, advised: &Advised) -> String {
    let Some(none) = advised.none().and_then(Entry::feasible_latency) else {
        return "make a deployment that fits first".to_owned();
    };
    let us = |time: Seconds| time.get() * 1e6;
    let run = question.system.engine_kind().confirm;
    let Some(uniform) = advised.uniform else { return format!("{run} on this workload") };
    if none / uniform > SHOWS {
        return format!(
            "{run} on this workload: a mixture-of-experts layer should take {:.1} µs instead of {:.1} \
             µs ({:.1} % faster); if it does not, no balancing will help",
            us(uniform),
            us(none),
            (none / uniform - 1.0) * 100.0
        );
    }
    let chosen = advised.chosen().filter(|chosen| chosen.strategy != strategies::NONE);
    let measure = match chosen.and_then(Entry::latency) {
        Some(latency) => format!(
            "run with the placement of this answer and without it: a mixture-of-experts layer should \
             take {:.1} µs instead of {:.1} µs",
            us(latency),
            us(none)
        ),
        None => format!("time a mixture-of-experts layer: it should take {:.1} µs", us(none)),
    };
    format!(
        "{measure}; forced uniform routing would show nothing here, since it takes {:.1} µs",
        us(uniform)
    )
}

/// A trial of the strategy itself, on a server and on a layer built of its operators.
fn trial(question: &Question, advised: &Advised) -> Option<String> {
    let chosen = advised.chosen()?;
    if chosen.strategy == strategies::NONE || question.system.assumptions.preset == Preset::Paper {
        return None;
    }
    let step = |entry: &Entry| advised.model_latency(question, entry);
    let gain = step(advised.none()?)? / step(chosen)?;
    if gain <= 1.0 {
        return None;
    }
    let steps = trial::steps(trial::SPREAD, gain);
    let shows = match steps {
        ..1.5 => "one of each shows".to_owned(),
        _ => format!("{steps:.0} independent ones each show"),
    };
    Some(format!(
        "To see {} itself, time steps with it and without it in turns: {shows} a step that is \
         {:.1} % faster (if steps spread by {:.0} %; if neighbours correlate by ρ, (1 + ρ)/(1 − ρ) \
         times as many). `torchrun --nproc-per-node {} -m moe_gps_measure layer` \
         (docs/measuring.md) builds this layer on your GPUs and holds it against this answer",
        chosen.strategy.id(),
        (gain - 1.0) * 100.0,
        trial::SPREAD * 100.0,
        question.system.cluster.n_devices,
    ))
}
