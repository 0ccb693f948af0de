//! What could change the answer, and so turns the verdict into `insufficient_evidence`.

use crate::advice::Advised;
use crate::advice::pricing::Pricing;
use crate::advice::routing_evidence::Known;
use crate::question::Question;

/// Doubts about the routing the answer rests on.
pub(crate) fn of_routing(known: &Known, pricing: &Pricing, advised: &Advised) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Known::Balancedness { .. } = known {
        doubts.push(
            "counts per expert: the balance of devices gives the ceiling, but no plan can be made"
                .to_owned(),
        );
    }
    if let (Some(orders), Some(chosen)) = (&advised.orders, advised.chosen()) {
        let changed = pricing.winners_at(orders, chosen.strategy);
        if !changed.is_empty() {
            let names: Vec<&str> = changed.iter().map(|strategy| strategy.id()).collect();
            doubts.push(format!(
                "counts per expert: a scalar skewness leaves device imbalance between {:.2} and \
                 {:.2}, and inside that range {} wins as well",
                orders.imbalance[0],
                orders.imbalance[1],
                names.join(" or ")
            ));
        }
    }
    doubts
}

/// Doubts about the deployment: whether it fits, and whether the model describes it.
pub(crate) fn of_deployment(question: &Question, advised: &mut Advised) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some(reason) = advised.none().and_then(|none| none.infeasible.clone()) {
        for entry in &mut advised.entries {
            entry.infeasible.get_or_insert_with(|| reason.clone());
        }
        doubts.push(format!("a deployment that fits: even without any strategy it {reason}"));
    }
    if let (Some(measured), Some(none)) = (question.measured_step, advised.none())
        && let Some(modelled) = advised.model_latency(question, none)
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
