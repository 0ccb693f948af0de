//! Serving engines: one file each, and one list of them.
//!
//! State of the engines: vLLM 0.33, SGLang 0.5.23, TensorRT-LLM main, vllm-ascend
//! 182b75ea (November 2026), read from their sources; numbers behind `#` are issues of the
//! engine named. Everything that depends on the engine is a field of [`Engine`]; nothing
//! outside this folder compares engines. [`defaults`] says what an engine does when it is not
//! told otherwise, [`support`] which strategies it runs, [`settings`] how it runs a plan, [`kernels`] what its experts run on.

pub mod backends;
pub mod defaults;
pub mod kernels;
pub mod settings;
pub mod sglang;
pub mod support;
pub mod tensorrt_llm;
pub mod unnamed;
pub mod vllm;
pub mod vllm_ascend;

use std::cmp::Ordering;
use std::fmt;

use crate::comm::profile::CollectiveKernel;
use crate::question::Rebalance;
use crate::serving::Scheduling;
use crate::system::{Dtype, ReplicaSplit, System};
use crate::units::{BytesPerSecond, Seconds};
use backends::BackendPattern;
use defaults::CommunicationChoice;
use settings::{Deployment, Launch};
use support::{Classes, GroupLimit};

/// Every engine, in the order shown to users.
pub static LIST: &[&Engine] =
    &[&vllm::ENGINE, &sglang::ENGINE, &tensorrt_llm::ENGINE, &vllm_ascend::ENGINE];

/// What is known of one serving engine.
///
/// Engines are equal if their ids are, and ordered as in [`LIST`].
pub struct Engine {
    /// Its name in requests and answers.
    pub id: &'static str,
    /// Its name in prose.
    pub name: &'static str,
    /// Other names in tables of measurements, in lower-case letters and digits.
    pub frameworks: &'static [&'static str],
    /// Its all-to-all backends, by the names its own option takes, and the pattern of each.
    pub backends: &'static [(&'static str, BackendPattern)],
    /// Whether it uses an all-to-all backend only with data-parallel attention.
    pub backend_needs_attention_data: bool,
    /// The pattern with data-parallel attention where no backend is named.
    pub communication: fn(&System) -> CommunicationChoice,
    /// The kernel of its all-reduce; NCCL runs its other collectives.
    pub all_reduce: CollectiveKernel,
    /// Builds of DeepEP whose measured laws price its all-to-all, the nearest first.
    pub exchange_builds: &'static [&'static Self],
    /// Share of the memory it gives to a pool of weights and KV cache whose size activations do
    /// not change; `None` where the pool takes what activations leave.
    pub static_pool: Option<f64>,
    /// Number format of dispatched tokens where a measurement does not state it.
    pub dispatch_format: Dtype,
    /// Formats of experts whose tokens its DeepEP backends send in 8 bits.
    pub sends_8_bit: &'static [Dtype],
    /// Formats whose weights it unpacks where a device does not multiply them.
    pub unpacks: &'static [Dtype],
    /// Kernels of the routed experts, as device profiles name them: its default one, then
    /// those whose constants stand in for it.
    pub moe_kernels: &'static [&'static str],
    /// How an expert's tokens are split over its replicas.
    pub replica_split: ReplicaSplit,
    /// How plans are renewed.
    pub rebalance: Rebalance,
    /// Time its planner takes for 58 layers of 288 slots on a two-core server processor.
    pub planning: Seconds,
    /// How it puts the steps of a server together.
    pub scheduling: Scheduling,
    /// The most new tokens of a step on each replica of attention where it is not told otherwise.
    pub batched_tokens: u64,
    /// Rate at which it moves experts while serving stops, from the second renewal on, beside the
    /// link's own time.
    pub moving: BytesPerSecond,
    /// How it spreads attention and experts over the devices of a stage.
    pub layouts: Layouts,
    /// Tokens per device up to which a prefill step is replayed as a CUDA graph.
    pub graphed_prefill_tokens: u64,
    /// Why its expert balancer needs data-parallel attention, if it does.
    pub balancer_needs_attention_data: Option<&'static str>,
    /// Classes of models whose experts its balancer moves.
    pub balanced: Classes,
    /// How a plan without copies is switched on.
    pub replaces: &'static str,
    /// How a plan with copies is switched on.
    pub duplicates: &'static str,
    /// The limit on slots of a group of experts, if it has one.
    pub group_limit: Option<GroupLimit>,
    /// The format of the placement file it loads; `None` where it loads none.
    pub plan_format: Option<&'static str>,
    /// What it is told at its start.
    pub launch: fn(&Deployment) -> Launch,
    /// What it ignores of a plan or does otherwise.
    pub ignores: &'static str,
    /// How the run with forced balance is started.
    pub confirm: &'static str,
}

/// Which mixed layouts an engine builds; all build the pure ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layouts {
    /// Attention in several replicas of several devices each.
    pub mixes_attention: bool,
    /// Experts spread over groups of devices that shard each of them.
    pub mixes_experts: bool,
}

/// Every engine with its name on the wire.
#[must_use]
pub fn names() -> Vec<(&'static Engine, &'static str)> {
    LIST.iter().map(|engine| (*engine, engine.id)).collect()
}

/// The engine that tables of measurements call `framework`.
#[must_use]
pub fn by_framework(framework: &str) -> Option<&'static Engine> {
    let name = plain(framework);
    let is_called =
        |engine: &Engine| plain(engine.id) == name || engine.frameworks.contains(&name.as_str());
    LIST.iter().copied().find(|engine| is_called(engine))
}

/// A name in lower-case letters and digits.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

impl Engine {
    /// Its place in [`LIST`].
    fn position(&self) -> usize {
        LIST.iter().take_while(|engine| engine.id != self.id).count()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl PartialEq for Engine {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Engine {}

impl PartialOrd for Engine {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Engine {
    fn cmp(&self, other: &Self) -> Ordering {
        self.position().cmp(&other.position())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_engines_share_a_name() {
        let mut seen = BTreeSet::new();
        for engine in LIST {
            assert!(seen.insert(plain(engine.id)), "{engine:?}");
            assert!(engine.frameworks.iter().all(|name| seen.insert((*name).to_owned())));
            assert_eq!(by_framework(engine.name), Some(*engine), "{}", engine.name);
        }
        assert_eq!(by_framework("TRTLLM"), Some(&tensorrt_llm::ENGINE));
        assert_eq!(by_framework("PyTorch"), None);
    }

    #[test]
    fn engines_are_ordered_as_they_are_listed() {
        assert!(LIST.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(LIST.iter().all(|engine| **engine < unnamed::ENGINE));
    }

    #[test]
    fn every_engine_names_a_kernel_and_a_build_of_its_exchange() {
        for engine in LIST {
            assert!(!engine.moe_kernels.is_empty(), "{engine:?} names no kernel of its experts");
            assert!(!engine.exchange_builds.is_empty(), "{engine:?} names no build of DeepEP");
        }
    }
}
