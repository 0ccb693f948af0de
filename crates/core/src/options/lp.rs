//! `replica_split: lp`: every step's tokens are split over the replicas by a linear programme.
//!
//! ```text
//! minimise M  subject to  Σ_{g ∈ H_e} x_{e,g} = n_e,  Σ_e x_{e,g} ≤ M,  x ≥ 0
//! layer = … + max_g F(x_{·,g}) + exchange(x) + t_lp
//! t_lp  = all-reduce of 4·E bytes over the group + solve
//! ```
//!
//! - `n_e` tokens of expert e in the step, `H_e` the GPUs that hold it, `x_{e,g}` its tokens that GPU
//!   g takes, M tokens of the busiest GPU, F a GPU's expert law (s), E experts.
//! - The programme is solved exactly, as a maximum flow
//!   ([`split::optimal`](crate::placement::split::optimal)).
//! - Source: SGLang's `--ep-dispatch-algorithm lp` (sgl-project/sglang#24515, after DeepSeek's LPLB).
//! - Valid where the plan holds copies; without any, `t_lp` is paid for nothing.
//! - Worked number: expert A with 60 tokens on both of two GPUs, B with 50 on the first, C with 10 on
//!   the second: split evenly the GPUs take 80 and 40 tokens (r = 1.333), with the programme 60 and 60.

use crate::comm::collectives::CollectiveLaw;
use crate::comm::profile::Collective;
use crate::engines::sglang;
use crate::options::{Balanced, Ground, ServingOption, Switch};
use crate::pricing::slot_shares::SlotShares;
use crate::system::{Communication, System};
use crate::units::{Bytes, Seconds};

/// The option.
pub static LP: ServingOption = ServingOption {
    id: "replica_split",
    value: "lp",
    mode: None,
    summary: "splits every step's tokens over the copies of their experts so that the busiest GPU \
              takes as few as can be",
    switches: &[&Switch {
        engine: &sglang::ENGINE,
        // Merged in May 2026; the first version known to carry it.
        since: [0, 5, 16],
        arguments: &["--ep-dispatch-algorithm", "lp"],
        note: "--ep-dispatch-algorithm lp",
        classes: None,
        // Its solver needs CUDA and compute capability 9.0.
        not_on: &[
            "a100-sxm4-40gb",
            "a100-sxm4-80gb",
            "l40s",
            "mi300x",
            "mi355x",
            "ascend-910b",
            "ascend-910c",
        ],
    }],
    obstacle,
    overhead,
    // Without copies it cost 0.95, 1.50 and 1.61 % of a step on three data sets.
    overhead_band: 0.5,
    balance,
};

/// Time of the solver.
///
/// Without copies DeepSeek-R1 on two nodes of eight H20 (EP16, 19,200 tokens a step, 10.9 ms a layer)
/// lost 0.95 to 1.61 %, 1.35 % in the mean, with the option (LMSYS, Waterfill and LPLB, June 2026):
/// 147 µs a layer, of which the all-reduce of 1 KiB takes 40 µs by the law here. The authors of LPLB
/// state about 100 µs.
const SOLVE: Seconds = Seconds::new(107e-6);

fn obstacle(system: &System, _patterns: &[Communication]) -> Option<String> {
    (system.parallelism.expert_parallel < 2)
        .then(|| "one GPU holds every expert: there is nothing to split".to_owned())
}

fn overhead(system: &System) -> Seconds {
    let group = system.parallelism.expert_parallel * system.parallelism.expert_tensor;
    let engine = system.engine_kind();
    let counts = Bytes::new(4.0 * f64::from(system.model.experts.routed));
    CollectiveLaw::new(&system.cluster, engine, Collective::AllReduce, group).time(counts) + SOLVE
}

fn balance(at: &Ground, placed: &SlotShares, counts: &[f64]) -> Balanced {
    let split = placed.split_for(counts);
    Balanced {
        routed: at.costs.routed(&at.costs.loaded(&split, counts)),
        busiest: [placed.imbalance(counts), split.imbalance(counts)],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::comm::fixtures::system;
    use crate::placement::{Shape, SlotMap, eplb};
    use crate::pricing::layer::LayerCosts;
    use crate::system::ReplicaSplit;

    fn balanced(placed: &SlotShares, counts: &[f64], devices: u32) -> Balanced {
        let system = system(devices, devices, 512);
        let costs = LayerCosts::new(&system, Communication::AllToAllNormal, None, 512.0).unwrap();
        balance(&Ground { system: &system, costs: &costs }, placed, counts)
    }

    #[test]
    fn the_worked_number_comes_out() {
        let map = SlotMap::new(Shape::new(3, 2, 4).unwrap(), vec![0, 1, 0, 2]).unwrap();
        let counts = [60.0, 50.0, 10.0];
        let placed = SlotShares::new(map, ReplicaSplit::Hashed, 2, &counts);
        let tokens = |placed: &SlotShares| placed.device_tokens(&counts).collect::<Vec<f64>>();
        assert_eq!(tokens(&placed), [80.0, 40.0]);
        let split = tokens(&placed.split_for(&counts));
        assert!(split.iter().all(|tokens| (tokens - 60.0).abs() < 1e-6), "{split:?}");
        let [off, on] = balanced(&placed, &counts, 2).busiest;
        assert!((off - 4.0 / 3.0).abs() < 1e-12 && (on - 1.0).abs() < 1e-9, "{off} {on}");
    }

    proptest! {
        #[test]
        fn the_busiest_gpu_never_takes_more_and_without_copies_nothing_changes(
            counts in prop::collection::vec(0.0..900.0_f64, 12), planned in prop::collection::vec(1.0..900.0_f64, 12),
            more in 0..4_u32,
        ) {
            let map = eplb::flat(&planned, Shape::new(12, 4, 12 + 4 * more).unwrap()).unwrap();
            let placed = SlotShares::new(map, ReplicaSplit::Hashed, 4, &planned);
            let [off, on] = balanced(&placed, &counts, 4).busiest;
            prop_assert!(on <= off * (1.0 + 1e-9), "{off} {on}");
            prop_assert!(on >= 1.0 - 1e-9);
            if more == 0 {
                prop_assert!((on - off).abs() < 1e-9);
            }
        }
    }
}
