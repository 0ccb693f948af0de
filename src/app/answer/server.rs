//! What a server gives its users, and its kinds of steps.

use crate::app::answer::name_of;
use crate::wire::answer::{GainBody, PhaseBody, ServerBody};
use moe_gps_core::advice::uncertainty::Gain;
use moe_gps_core::advice::{Advised, AdvisedStep, Entry};
use moe_gps_core::question::Question;
use moe_gps_core::serving::{ServerTimes, StepKind};
use moe_gps_core::system::Phase;
use moe_gps_core::units::Seconds;

/// What a server, or a step of decode, gives its users under an entry.
pub(super) fn body(question: &Question, advised: &Advised, index: usize) -> Option<ServerBody> {
    let entry = &advised.entries[index];
    let workload = &question.system.workload;
    let times = match advised.server(question, entry) {
        Some(times) => times,
        None if question.serving.is_none() && workload.phase == Phase::Decode => {
            let step = advised.model_latency(question, entry)?;
            let gained = workload.gained();
            ServerTimes {
                first_token: None,
                per_output_token: Some(step / gained),
                output_tokens_per_s: workload.sequences as f64 * gained / step.get(),
            }
        }
        None => return None,
    };
    let devices = f64::from(question.system.cluster.n_devices);
    Some(ServerBody {
        ttft_s: times.first_token.map(Seconds::get),
        tpot_s: times.per_output_token.map(Seconds::get),
        tokens_per_s_per_device: times.output_tokens_per_s / devices,
        devices_saved: advised
            .gain(question, index)
            .and_then(|gain| devices_saved(question, advised, entry, gain)),
    })
}

/// By how many devices fewer the same is served: N · (1 − T / T of the baseline), where T is the mean
/// step of the whole model. Worked number: of 8 devices, 1.6 where a step takes 8 ms instead of 10.
fn devices_saved(
    question: &Question,
    advised: &Advised,
    entry: &Entry,
    gain: Gain,
) -> Option<GainBody> {
    let layer = entry.latency()?;
    let step = |layer| question.whole_step(layer, advised.dense_layer);
    let devices = f64::from(question.system.cluster.n_devices);
    let saved = |gain: f64| devices * (1.0 - step(layer) / step(layer * gain));
    let Gain { low, mid, high } = gain;
    Some(GainBody { low: saved(low), mid: saved(mid), high: saved(high) })
}

/// Every kind of step of a server under an entry.
pub(super) fn phases(question: &Question, advised: &Advised, index: usize) -> Vec<PhaseBody> {
    let entry = &advised.entries[index];
    let times = advised.step_latencies(question, entry);
    let all: f64 = advised.steps.iter().zip(&times).map(|(one, time)| one.share * time.get()).sum();
    let none = advised.none();
    let of = |(kind, (one, time)): (usize, (&AdvisedStep, &Seconds))| {
        let layer = entry.in_kind(kind)?.total();
        Some(PhaseBody {
            phase: name_of(&one.step.kind, &StepKind::ALL).into(),
            share_of_steps: one.share,
            share_of_time: one.share * time.get() / all,
            tokens_per_step: one.step.workload.tokens_per_step,
            layer_latency_s: layer.get(),
            step_latency_s: time.get(),
            speedup_over_none: none.and_then(|none| Some(none.in_kind(kind)?.total() / layer)),
        })
    };
    advised.steps.iter().zip(&times).enumerate().filter_map(of).collect()
}
