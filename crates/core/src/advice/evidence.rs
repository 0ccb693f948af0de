//! What could change the answer, and so turns the verdict into `insufficient_evidence`.

use crate::advice::uncertainty::ORDERS;
use crate::pricing::entry::Entry;
use crate::pricing::routing_evidence::{OrderRange, RoutingEvidence};
use crate::question::Question;
use crate::strategies::NONE;
use crate::units::Seconds;

/// Doubts about the routing the answer rests on.
pub(crate) fn of_routing(
    known: &RoutingEvidence,
    orders: Option<&OrderRange>,
    is_open: impl Fn(&[&str]) -> bool,
) -> Vec<String> {
    let mut doubts = Vec::new();
    if let RoutingEvidence::Balancedness { .. } = known {
        doubts.push(
            "counts per expert: the balance of devices gives the ceiling, but no plan can be made"
                .to_owned(),
        );
    }
    if let Some(orders) = orders
        && is_open(&[])
        && !is_open(&[ORDERS])
    {
        doubts.push(format!(
            "counts per expert: a scalar skewness leaves device imbalance between {:.2} and {:.2}, \
             and inside that range balancing may pay or not",
            orders.imbalance[0], orders.imbalance[1],
        ));
    }
    doubts
}

/// Doubts about the deployment: whether it fits, and whether the model describes it.
pub(crate) fn of_deployment(
    question: &Question,
    entries: &[Entry],
    dense_layer: Seconds,
) -> Vec<String> {
    let Some(none) = entries.iter().find(|entry| entry.strategy == NONE) else { return Vec::new() };
    let mut doubts = Vec::new();
    if let Some(reason) = &none.infeasible {
        doubts.push(format!("a deployment that fits: even without any strategy it {reason}"));
    }
    if let (Some(measured), Some(modelled)) =
        (question.measured_step, none.model_latency(question, dense_layer))
        && !(0.5..=2.0).contains(&(modelled / measured))
    {
        doubts.push(format!(
            "a model of this deployment: a step is measured at {:.3} ms and modelled at {:.3} ms; \
             check engine, dtype, parallelism and link",
            measured.get() * 1e3,
            modelled.get() * 1e3
        ));
    }
    doubts
}

/// Where the deployment does not fit without any strategy, no strategy can be run.
pub(crate) fn none_fits_or_nothing(entries: &mut [Entry]) {
    let none = entries.iter().find(|entry| entry.strategy == NONE);
    let Some(reason) = none.and_then(|none| none.infeasible.clone()) else { return };
    for entry in entries {
        entry.infeasible.get_or_insert_with(|| reason.clone());
    }
}
