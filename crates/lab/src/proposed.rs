//! What was proposed since the paper and no engine has released: predictors that look ahead from the
//! layer before or from before attention, as stated points, and replicas by layer under a budget.

use std::fmt::Write as _;

use serde_json::json;

use moe_gps_core::advice;
use moe_gps_core::cancel::Cancel;
use moe_gps_core::pricing::error::PricingError;
use moe_gps_core::pricing::routing_evidence::RoutingEvidence;
use moe_gps_core::strategies::{DISTRIBUTION_ONLY, REPLACE_ONLY, TOKEN_TO_EXPERT};
use moe_gps_core::units::Seconds;

use crate::beyond::{Recorded, Recordings, STEPS, answered, recorded_question, written};
use crate::guidelines::{DEVICES, SIZES, question_with};
use crate::reproduce::{Read, fastest};

/// A predictor as its authors state it.
struct Foreseer {
    name: &'static str,
    source: &'static str,
    /// The model by catalog id.
    model: &'static str,
    /// What the accuracy counts, as in a question.
    metric: &'static str,
    accuracy: f64,
    /// Its time per layer, seconds.
    overhead: f64,
    /// What they measured of it.
    measured: &'static str,
}

/// Points as stated. Where a forecast is made in the layer before, its time is hidden there.
const FORESEERS: [Foreseer; 6] = [
    Foreseer {
        name: "before attention",
        source: "arXiv 2511.10676",
        model: "deepseek-v2-lite",
        metric: "exact_set",
        accuracy: 0.9303,
        overhead: 150e-6,
        measured: "two linear layers beside attention of 0.7 to 1.1 ms",
    },
    Foreseer {
        name: "before attention",
        source: "arXiv 2511.10676",
        model: "qwen3-30b-a3b",
        metric: "exact_set",
        accuracy: 0.9469,
        overhead: 150e-6,
        measured: "the same",
    },
    Foreseer {
        name: "layer before, Libra, least",
        source: "ICLR 2026",
        model: "qwen3-235b-a22b",
        metric: "per_choice",
        accuracy: 0.7,
        overhead: 0.0,
        measured: "up to +19.2 % of prefill throughput on 8 H200 (Qwen3-MoE, GLM-4.5)",
    },
    Foreseer {
        name: "layer before, Libra, most",
        source: "ICLR 2026",
        model: "qwen3-235b-a22b",
        metric: "per_choice",
        accuracy: 0.9,
        overhead: 0.0,
        measured: "the same",
    },
    Foreseer {
        name: "layer before, Libra, most",
        source: "ICLR 2026",
        model: "glm-4.5",
        metric: "per_choice",
        accuracy: 0.9,
        overhead: 0.0,
        measured: "the same",
    },
    Foreseer {
        name: "layer before, PROBE, were it perfect",
        source: "arXiv 2602.00509",
        model: "qwen3-235b-a22b",
        metric: "per_choice",
        accuracy: 1.0,
        overhead: 0.0,
        measured: "prefill up to 1.32×, decode up to 1.26×; its accuracy is not known",
    },
];

/// Routing of those models: recorded of Qwen3-30B-A3B, skewness and the error of a forecast by other
/// traffic (see the guidelines).
const SKEWNESS: f64 = 8.7;
const ERROR: f64 = 0.22;

/// The sections of the page, whose questions `read` reads.
pub(crate) fn sections<E: From<PricingError>>(
    page: &mut String,
    recordings: &Recordings,
    read: Read<E>,
) -> Result<(), E> {
    foreseen(page, read)?;
    let mut of_layers = recordings.bundled.iter().chain(&recordings.others);
    // The last is a recording of the model itself, where it is there.
    let Some(recorded) = of_layers.rfind(|one| one.model == "deepseek-v3") else { return Ok(()) };
    let _ = write!(
        page,
        "\n## Replicas by layer\n\nEngines give every layer the same number of slots. CRAFT (arXiv \
         2603.28768) gives a layer as many replicas as pay there, under a budget for all: of every division \
         of the budget the one whose layers take the least time together. {}, prefill; beside the slots of \
         its own experts a device has up to {} more in a layer. *The same time* is the least budget, in the \
         mean over layers, that takes no longer than the same number everywhere. The authors report 1.14 \
         times the throughput in the mean over EPLB, with 7.25 to 7.5 times fewer replicas.\n\n\
         | GPUs | slots more, the same everywhere | a layer, µs | by layer, µs | gain | slots for the same \
         time | times fewer |\n| --: | --: | --: | --: | --: | --: | --: |\n",
        recorded.name,
        MORE_SLOTS[MORE_SLOTS.len() - 1]
    );
    for devices in SIZES {
        by_layer(page, &Recorded { devices, ..recorded.clone() }, read)?;
    }
    Ok(())
}

fn foreseen<E: From<PricingError>>(page: &mut String, read: Read<E>) -> Result<(), E> {
    let _ = write!(
        page,
        "\n## Forecasts from before attention and from the layer before\n\n\
         A forecast made beside attention, or in the layer before, shows no time of its own as far as that \
         is longer, and experts are copied beside attention (`predictor_overlap` and `copy_overlap` \
         `attention`). No released engine does either. The points are stated by their authors and priced as \
         `token_to_expert` on 8 H200 at a skewness of {SKEWNESS} with a forecast error of {ERROR}; the gain \
         is over what is advised today. Accuracies are compared per choice: the k-th root of an exact set, \
         choices taken as independent. Tokens are dispatched by their true routes.\n\n\
         | predictor | model | accuracy | per choice | step | over today's choice | renewals and copies seen, µs | measured by \
         its authors |\n| --- | --- | --- | --: | --- | --- | --: | --- |\n",
    );
    for one in &FORESEERS {
        for step in STEPS {
            let routing = json!({"skewness": SKEWNESS, "distribution_error": ERROR});
            let mut asked = question_with(one.model, DEVICES[0], 8, step, &routing);
            asked["predictors"] = json!([{
                "name": one.name, "metric": one.metric, "accuracy": one.accuracy,
                "overhead_s": one.overhead,
            }]);
            asked["assumptions"] =
                json!({"predictor_overlap": "attention", "copy_overlap": "attention"});
            let advised = answered(&asked, read)?;
            let chosen = advised.choice.as_ref().map(|choice| choice.chosen);
            let at = advised.entries.iter().position(|entry| entry.strategy == TOKEN_TO_EXPERT);
            let (Some(chosen), Some(at)) = (chosen, at) else {
                let _ = writeln!(
                    page,
                    "| {} ({}) | `{}` | {} `{}` | – | {step} | does not fit | – | {} |",
                    one.name, one.source, one.model, one.accuracy, one.metric, one.measured
                );
                continue;
            };
            let gain = advised.uncertainty.gain(&advised.entries, at, chosen);
            let accuracy =
                advised.entries[at].predictor.as_ref().map_or(f64::NAN, |one| one.accuracy);
            let copies = |index: usize| {
                advised.entries[index].terms.map_or(f64::NAN, |terms| terms.rebalance.get() * 1e6)
            };
            let _ = writeln!(
                page,
                "| {} ({}) | `{}` | {} `{}` | {accuracy:.3} | {step} | {} of `{}` | {:.1} | {} |",
                one.name,
                one.source,
                one.model,
                one.accuracy,
                one.metric,
                gain.map_or_else(|| "–".to_owned(), written),
                advised.entries[chosen].strategy.id(),
                copies(at),
                one.measured
            );
        }
    }
    Ok(())
}

/// Slots that a device may have beside those of its own experts, in one layer.
const MORE_SLOTS: [usize; 4] = [0, 1, 2, 4];

/// Replicas by layer: the same number in every layer, or as many as pay in each.
fn by_layer<E: From<PricingError>>(
    page: &mut String,
    recorded: &Recorded,
    read: Read<E>,
) -> Result<(), E> {
    let asked = recorded_question(recorded, STEPS[0]);
    let (question, known) = read(&asked)?;
    let RoutingEvidence::Layers(layers) = known else { return Ok(()) };
    let own = question.system.model.experts.routed / question.system.parallelism.expert_parallel;
    let mut times = Vec::with_capacity(layers.len());
    for layer in layers {
        let known = RoutingEvidence::Layers(vec![layer]);
        let mut of_layer = Vec::with_capacity(MORE_SLOTS.len());
        for more in MORE_SLOTS {
            let mut question = question.clone();
            let strategy = if more == 0 { REPLACE_ONLY } else { DISTRIBUTION_ONLY };
            question.duplication.slots_per_device = Some(own + u32::try_from(more).unwrap_or(0));
            let entries = advice::price(&question, &known, Cancel::NEVER)?.entries;
            of_layer.push(fastest(&entries, strategy).map_or(f64::INFINITY, Seconds::get));
        }
        times.push(of_layer);
    }
    let n = times.len() as f64;
    let most = MORE_SLOTS[MORE_SLOTS.len() - 1] * times.len();
    let least = allocated(&times, &MORE_SLOTS, most);
    for (place, more) in MORE_SLOTS.iter().enumerate() {
        let everywhere: f64 = times.iter().map(|of_layer| of_layer[place]).sum();
        let budget = more * times.len();
        let enough =
            least.iter().position(|time| *time <= everywhere * (1.0 + 1e-12)).unwrap_or(budget);
        let fewer = if enough == 0 {
            "–".to_owned()
        } else {
            format!("{:.2}", budget as f64 / enough as f64)
        };
        let _ = writeln!(
            page,
            "| {} | {more} | {:.1} | {:.1} | {:.2} % | {:.2} | {fewer} |",
            recorded.devices,
            everywhere / n * 1e6,
            least[budget] / n * 1e6,
            (everywhere / least[budget] - 1.0) * 100.0,
            enough as f64 / n
        );
    }
    Ok(())
}

/// The least time of all layers together under every budget from nothing to `most`.
///
/// ```text
/// T(b) = min Σ_l t_l(n_l)   over n_l of `choices` with Σ_l n_l ≤ b
/// ```
///
/// `t_l(n)` time of layer l with n slots more on every device, b the budget over all layers; solved exactly,
/// layer after layer: `T_l(b) = min over n of T_{l−1}(b − n) + t_l(n)`. The budget is CRAFT's (arXiv
/// 2603.28768), the time our laws'. Worked number: layers of 10, 9 and 10, 4 with no and one slot more take
/// 20 with none, 14 with one (the second layer's) and 13 with two.
fn allocated(times: &[Vec<f64>], choices: &[usize], most: usize) -> Vec<f64> {
    let mut least = vec![0.0; most + 1];
    for of_layer in times {
        let at = |budget: usize| {
            let taken = choices.iter().zip(of_layer).filter(|(slots, _)| **slots <= budget);
            taken.map(|(slots, time)| least[budget - slots] + time).fold(f64::INFINITY, f64::min)
        };
        least = (0..=most).map(at).collect();
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_goes_where_it_saves_most() {
        let times = [vec![10.0, 9.0], vec![10.0, 4.0]];
        assert_eq!(allocated(&times, &[0, 1], 3), [20.0, 14.0, 13.0, 13.0]);
        // Two slots that save nothing alone: 8 with all four, 11 with the first layer's two.
        let times = [vec![10.0, 10.0, 5.0], vec![6.0, 6.0, 3.0]];
        assert_eq!(allocated(&times, &[0, 1, 2], 4), [16.0, 16.0, 11.0, 11.0, 8.0]);
    }
}
