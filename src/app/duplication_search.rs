//! The search for the number of slots, as the answer shows it.

use crate::app::answer::redundant_experts;
use crate::wire::duplication_search as wire;
use moe_gps_core::advice::Advised;
use moe_gps_core::evaluate::slot_search::{SlotSearch, TriedSlots};
use moe_gps_core::memory::expert_bytes;
use moe_gps_core::question::Question;

/// What was tried and what was taken; `None` where nothing was searched.
pub(super) fn body(question: &Question, advised: &Advised) -> Option<wire::DuplicationSearch> {
    let search = advised.search.as_ref()?;
    let slots = search.tried.iter().enumerate();
    let taken = taken(advised, search);
    Some(wire::DuplicationSearch {
        slots: slots.map(|(index, one)| tried(question, search, index, one)).collect(),
        best_slots_per_device: search.tried[search.best].slots_per_device,
        chosen_slots_per_device: search.tried[taken].slots_per_device,
        because: because(search, taken),
    })
}

fn tried(
    question: &Question,
    search: &SlotSearch,
    index: usize,
    one: &TriedSlots,
) -> wire::SlotsTried {
    wire::SlotsTried {
        strategy: one.strategy.id().into(),
        slots_per_device: one.slots_per_device,
        redundant_experts: redundant_experts(question, one.slots_per_device),
        layer_latency_s: one.terms.total().get(),
        behind_best: search.behind(index),
        error_band: search.bands[index],
        fits: one.memory.fits(),
        replica_bytes: one.memory.replicas.get(),
        kv_tokens_lost_per_device: one.memory.kv_tokens_lost_to_replicas,
        moved_bytes: one.first_moves as f64 * expert_bytes(&question.system).get(),
        first_stall_s: one.renewal.first_stall.get(),
        stall_s: one.renewal.stall.get(),
        rebalance_s: one.terms.rebalance.get(),
    }
}

/// The plan that the answer advises, where it has one: of the strategy that is surely faster than the
/// baseline; else the smallest that is not surely slower than the fastest.
fn taken(advised: &Advised, search: &SlotSearch) -> usize {
    let advised_plan = || {
        let strategy = advised.chosen()?.strategy;
        let slots = advised.plan(strategy)?.layers.first()?.shape().slots_per_device();
        let is_it = |one: &TriedSlots| {
            one.strategy == strategy.planned_by() && one.slots_per_device == slots
        };
        search.tried.iter().position(is_it)
    };
    advised_plan().unwrap_or(search.chosen)
}

fn because(search: &SlotSearch, taken: usize) -> String {
    let (best, chosen) = (&search.tried[search.best], &search.tried[search.chosen]);
    if taken != search.chosen {
        let taken = &search.tried[taken];
        return format!(
            "{} slots per GPU, the plan of {}, which is surely faster than the baseline; {} slots \
             ({}) are not surely slower than that plan, but not surely faster than the baseline",
            taken.slots_per_device,
            taken.strategy.id(),
            chosen.slots_per_device,
            chosen.strategy.id(),
        );
    }
    if search.best == search.chosen {
        return format!(
            "{} slots per GPU are the fastest that fit; every smaller plan is surely slower",
            best.slots_per_device
        );
    }
    format!(
        "smallest plan that is not surely slower than the fastest: {} slots per GPU instead of {}, \
         {:.2} % slower (up to {:.2} % is not sure), with {:.2} GB less of replicas on every GPU",
        chosen.slots_per_device,
        best.slots_per_device,
        search.behind(search.chosen) * 100.0,
        search.bands[search.chosen] * 100.0,
        (best.memory.replicas - chosen.memory.replicas).get() / 1e9,
    )
}
