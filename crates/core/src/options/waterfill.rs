//! `shared_expert: waterfill`: the shared expert's tokens go where routed experts leave room.
//!
//! Otherwise every GPU computes the shared expert for its own tokens, also the busiest one.
//!
//! ```text
//! busiest = max_g L_g + w·T/N   →   max(max_g L_g, (Σ_g L_g + w·T)/N),   w = I_shared / I_routed
//! ffn     = max_g (F_g + S(x_g·T/N))
//! exchange grows by  away · T/N · (b_dispatch + b_combine) · d / W
//! ```
//!
//! - `L_g` routed tokens of GPU g, T tokens of the step, N GPUs, `I` widths of an expert; a GPU is
//!   filled up to a common level and then takes `x_g·T/N` of the shared expert's tokens, Σ `x_g` = N.
//! - `F_g` time of its routed experts, S of the shared one (s); *away* = 1 − Σ min(`x_g`, 1)/N, the
//!   share that leaves its own GPU; b bytes of an element, d width, W bandwidth of the slowest link.
//! - Mode `conservative`: a token's shared expert stays on the GPUs that the token visits anyway, or at
//!   home; the exchange does not grow, and no GPU takes more than the tokens that visit it.
//! - Source: SGLang's `--enable-waterfill` (sgl-project/sglang#19290), which draws the GPU of every
//!   token with chances after the room left, so that the level is met in expectation.
//! - Valid for an all-to-all, with the shared expert neither beside the exchange nor in two half
//!   batches. The level counts tokens, as the engine does, not time.
//! - Worked number (k = 8, w = 1, in units of k·T/N): r = 1.139: 1.264 → 1.139; r = 1.017: 1.142 → 1.125.

use crate::comm::exchange::slowest_link;
use crate::engines::sglang;
use crate::engines::support::Classes;
use crate::options::{Balanced, Ground, ServingOption, Switch};
use crate::pricing::attention_block::dense_block;
use crate::pricing::slot_shares::{SlotShares, visitors};
use crate::system::{Communication, Overlap, System};
use crate::units::{Bytes, Seconds};

/// The option as the engine has it by default: among the GPUs that a token visits anyway.
pub static CONSERVATIVE: ServingOption = ServingOption {
    id: "shared_expert",
    value: "waterfill",
    mode: Some("conservative"),
    summary: "computes the shared expert of a token on the least busy of the GPUs that it visits anyway",
    switches: &[&Switch {
        arguments: &["--enable-waterfill"],
        note: "--enable-waterfill with --moe-a2a-backend deepep and --enable-dp-attention",
        ..SGLANG
    }],
    obstacle,
    overhead: |_| Seconds::ZERO,
    overhead_band: 0.0,
    balance: |at, placed, counts| {
        let stays = at.costs.tokens / f64::from(placed.map.shape().n_devices());
        let visited = visitors(placed, counts, at.costs.tokens);
        // Who does not visit a GPU may still be at home there.
        let most: Vec<f64> = visited
            .iter()
            .map(|visited| visited + (1.0 - visited / at.costs.tokens).max(0.0) * stays)
            .collect();
        balance(at, placed, counts, Some(&most))
    },
};

/// The option over all GPUs.
pub static ALL_RANKS: ServingOption = ServingOption {
    id: "shared_expert",
    value: "waterfill",
    mode: Some("all_ranks"),
    summary: "computes the shared expert of a token on any GPU that has room, which makes the exchange \
              grow",
    switches: &[&Switch {
        arguments: &[],
        note: "--enable-waterfill in its mode of all ranks",
        ..SGLANG
    }],
    obstacle,
    overhead: |_| Seconds::ZERO,
    overhead_band: 0.0,
    balance: |at, placed, counts| balance(at, placed, counts, None),
};

const SGLANG: Switch = Switch {
    engine: &sglang::ENGINE,
    // Before, the same was --enable-deepep-waterfill.
    since: [0, 5, 16],
    arguments: &[],
    note: "",
    // Models of deepseek_v2.py and deepseek_v4.py with one shared expert (read).
    classes: Some(Classes {
        with: &["deepseek_v3", "deepseek_v32", "deepseek_v4", "kimi_k2", "kimi_k25"],
        without: &[],
    }),
    // DeepEP needs CUDA.
    not_on: &["mi300x", "mi355x", "ascend-910b", "ascend-910c"],
};

fn obstacle(system: &System, patterns: &[Communication]) -> Option<String> {
    let dispatches = |pattern: &Communication| {
        matches!(pattern, Communication::AllToAllNormal | Communication::AllToAllLowLatency)
    };
    let why = if system.model.experts.shared_intermediate == 0 {
        "the model has no shared expert"
    } else if system.parallelism.expert_parallel < 2 {
        "one GPU holds every expert: there is nowhere else to compute the shared one"
    } else if !patterns.iter().all(dispatches) {
        "no all-to-all takes tokens to other GPUs; name one (engine.all2all_backend \"deepep\")"
    } else {
        match system.assumptions.overlap {
            Overlap::None => return None,
            Overlap::SharedExpert => {
                "the shared expert runs beside the exchange (assumptions.overlap \"shared_expert\"), \
                 at home; one excludes the other"
            }
            Overlap::TwoBatch => {
                "two half batches overlap (assumptions.overlap \"two_batch\"), for which engines do \
                 not fuse the shared expert with the routed ones"
            }
        }
    };
    Some(why.to_owned())
}

/// What every device takes of `total` so that the level of the fullest is as low as can be; none
/// takes more than its `most`, whose sum is at least `total`.
fn filled(loads: &[f64], total: f64, most: Option<&[f64]>) -> Vec<f64> {
    let takes = |level: f64| {
        let most = (0..loads.len()).map(|at| most.map_or(f64::INFINITY, |most| most[at]));
        loads.iter().zip(most).map(move |(load, most)| (level - load).max(0.0).min(most))
    };
    let mut low = loads.iter().copied().fold(f64::INFINITY, f64::min);
    let mut high = loads.iter().copied().fold(0.0, f64::max) + total;
    // Halved until the doubles are neighbours.
    for _ in 0..f64::MANTISSA_DIGITS + 10 {
        let level = f64::midpoint(low, high);
        if takes(level).sum::<f64>() < total { low = level } else { high = level }
    }
    takes(high).collect()
}

fn balance(at: &Ground, placed: &SlotShares, counts: &[f64], most: Option<&[f64]>) -> Balanced {
    let Ground { system, costs } = *at;
    let experts = &system.model.experts;
    let loads: Vec<f64> = placed.device_tokens(counts).collect();
    let n = loads.len() as f64;
    let (each, width) = (costs.tokens / n, f64::from(experts.shared_intermediate));
    // A token of the shared expert is as much work as so many routed ones.
    let weight = width / f64::from(experts.intermediate);
    let most: Option<Vec<f64>> = most.map(|most| most.iter().map(|most| most * weight).collect());
    let takes = filled(&loads, weight * costs.tokens, most.as_deref());

    let d = f64::from(system.model.hidden_size);
    let shared = |tokens: f64| {
        if tokens > 0.0 {
            dense_block(&costs.laws, tokens, d, width, experts.gated).time
        } else {
            Seconds::ZERO
        }
    };
    let mut routed = costs.routed(&costs.loaded(placed, counts));
    let times = costs.device_times(placed, counts);
    let with = times.iter().zip(&takes).map(|(time, takes)| *time + shared(takes / weight));
    // The layer adds the shared expert as it is computed at home.
    routed.ffn = with.fold(Seconds::ZERO, Seconds::max) - shared(each);
    if most.is_none() {
        let kept = takes.iter().map(|takes| (takes / weight / each).min(1.0)).sum::<f64>() / n;
        let dtypes = system.workload.dtypes;
        let link = slowest_link(system).bandwidth;
        let grown = |bytes: f64| Bytes::new((1.0 - kept) * each * d * bytes) / link;
        routed.dispatch += grown(dtypes.dispatch.bytes());
        routed.combine += grown(dtypes.combine.bytes());
    }
    let mean = loads.iter().sum::<f64>() / n;
    let over_mean = |tokens: f64| if mean > 0.0 { tokens / mean } else { 1.0 };
    let busiest = |loads: &mut dyn Iterator<Item = f64>| loads.fold(0.0, f64::max);
    Balanced {
        routed,
        busiest: [
            over_mean(busiest(&mut loads.iter().copied()) + weight * each),
            over_mean(busiest(&mut loads.iter().zip(&takes).map(|(load, takes)| load + takes))),
        ],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The level of the fullest device, in units of the mean routed load.
    fn level(loads: &[f64], total: f64, most: Option<&[f64]>) -> f64 {
        let takes = filled(loads, total, most);
        assert!((takes.iter().sum::<f64>() - total).abs() < 1e-9 * total.max(1.0));
        loads.iter().zip(&takes).map(|(load, takes)| load + takes).fold(0.0, f64::max)
    }

    #[test]
    fn the_worked_numbers_come_out() {
        // Sixteen devices, one of them busiest, k = 8 and w = 1: the shared expert is an eighth.
        for (r, expected) in [(1.139, 1.139), (1.017, 1.125)] {
            let rest = (16.0 - r) / 15.0;
            let loads: Vec<f64> = (0..16).map(|at| if at == 3 { r } else { rest }).collect();
            assert!((level(&loads, 16.0 / 8.0, None) - expected).abs() < 1e-9, "{r}");
        }
    }

    proptest! {
        #[test]
        fn the_level_is_the_formula_and_no_limit_is_broken(
            loads in prop::collection::vec(0.0..1e5_f64, 2..33), share in 0.0..1.0_f64, room in 1.0..4.0_f64,
        ) {
            let sum: f64 = loads.iter().sum();
            let total = share * (sum + 1.0);
            let n = loads.len() as f64;
            let most = loads.iter().copied().fold(0.0, f64::max);
            let expected = most.max((sum + total) / n);
            prop_assert!((level(&loads, total, None) / expected - 1.0).abs() < 1e-9);
            let limits = vec![room * total / n; loads.len()];
            prop_assert!(level(&loads, total, Some(&limits)) >= expected * (1.0 - 1e-9));
            let takes = filled(&loads, total, Some(&limits));
            prop_assert!(takes.iter().zip(&limits).all(|(takes, most)| takes <= most));
        }
    }
}
