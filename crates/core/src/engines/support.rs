//! Which strategies an engine can run in a configuration, and the limits on slots.

use crate::engines::{Engine, LIST};
use crate::strategies::Strategy;
use crate::system::System;

/// Whether one engine can run one strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSupport {
    /// The engine.
    pub engine: &'static Engine,
    /// Whether it can.
    pub runnable: bool,
    /// Why, and how it is switched on.
    pub because: String,
    /// Whether its balancer moves the experts of the model's class; `None` where nobody read it.
    pub balances_model: Option<bool>,
}

/// Classes of models, by the `model_type` of their configurations.
#[derive(Debug, Clone, Copy)]
pub struct Classes {
    /// Those whose experts the engine's balancer moves.
    pub with: &'static [&'static str],
    /// Those that it does not know.
    pub without: &'static [&'static str],
}

impl Classes {
    /// Nobody read which.
    pub const UNREAD: Self = Self { with: &[], without: &[] };

    /// Whether the balancer moves the experts of a class; `None` where nobody read it.
    #[must_use]
    pub fn has(&self, class: &str) -> Option<bool> {
        let known = self.with.contains(&class);
        (known || self.without.contains(&class)).then_some(known)
    }
}

/// Classes that neither vLLM 0.33 nor SGLang 0.5.23 balances (their model folders, read).
const NOWHERE: [&str; 11] = [
    "arctic",
    "dbrx",
    "grok-1",
    "jamba",
    "llama_moe",
    "minimax_m1",
    "nllb-moe",
    "olmoe",
    "phimoe",
    "switch_transformers",
    "nllb_moe",
];

/// Classes that one engine does not balance although the other does, and those that neither does.
pub(super) const fn without(own: &'static str) -> [&'static str; 12] {
    let mut all = [own; 12];
    let mut at = 0;
    while at < NOWHERE.len() {
        all[at] = NOWHERE[at];
        at += 1;
    }
    all
}

/// What every engine can do with `strategy` in the configuration of `system`.
#[must_use]
pub fn support(strategy: Strategy, system: &System) -> Vec<EngineSupport> {
    LIST.iter()
        .map(|&engine| {
            let (runnable, because) = match obstacle(strategy, engine, system) {
                Some(obstacle) => (false, obstacle),
                None => (true, strategy.switched_on(engine).to_owned()),
            };
            let balances_model = engine.balanced.has(&system.model.class);
            EngineSupport { engine, runnable, because, balances_model }
        })
        .collect()
}

/// Whether `engine` can run `strategy` in the configuration of `system`.
#[must_use]
pub fn runnable(strategy: Strategy, engine: &Engine, system: &System) -> bool {
    obstacle(strategy, engine, system).is_none()
}

fn obstacle(strategy: Strategy, engine: &Engine, system: &System) -> Option<String> {
    let parallelism = &system.parallelism;
    if !strategy.renews() {
        return strategy.unsupported(system);
    }
    if engine.balanced.has(&system.model.class) == Some(false) {
        return Some(format!(
            "its class of this model ({}) has no expert balancer, and its options for one do nothing",
            system.model.class
        ));
    }
    if parallelism.expert_parallel < 2 {
        return Some(
            "its expert balancer needs expert parallelism over 2 devices or more".to_owned(),
        );
    }
    if parallelism.expert_tensor > 1 {
        return Some("its expert balancer places whole experts; set expert_tensor to 1".to_owned());
    }
    if let Some(why) = engine.balancer_needs_attention_data
        && parallelism.attention_data < 2
    {
        return Some(why.to_owned());
    }
    strategy.unsupported(system)
}

/// A limit on the slots of a group of experts, copies included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimit {
    /// Most slots of one group.
    pub slots: u32,
    /// What the names of the expert kernels it holds for contain.
    pub kernel_part: &'static str,
    /// The rule in words, with its source.
    pub rule: &'static str,
    /// What to do instead.
    pub way_out: &'static str,
}

impl GroupLimit {
    /// That `slots` in `groups` groups break the limit, in words; `None` if they keep it.
    pub(super) fn broken(&self, slots: u32, groups: u32) -> Option<String> {
        let per_group = slots.div_ceil(groups);
        (per_group > self.slots).then(|| format!("{per_group} slots a group; {}", self.rule))
    }
}

/// What speaks against `slots` expert slots per layer over all devices; empty if nothing.
#[must_use]
pub fn slot_obstacles(system: &System, slots: u32) -> Vec<String> {
    let n = system.parallelism.expert_parallel;
    let experts = system.model.experts.routed;
    let mut obstacles = Vec::new();
    if slots < experts {
        obstacles.push(format!("{slots} slots cannot hold {experts} experts"));
    }
    if !slots.is_multiple_of(n) {
        obstacles.push(format!("{slots} slots do not divide by {n} devices; engines demand it"));
    }
    let kernel = system.engine.as_ref().and_then(|engine| engine.moe_kernel.as_deref());
    if let (Some(limit), Some(kernel), Some(groups)) =
        (system.engine_kind().group_limit, kernel, system.model.experts.groups)
        && kernel.contains(limit.kernel_part)
    {
        obstacles.extend(limit.broken(slots, groups.groups));
    }
    obstacles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::system;
    use crate::engines::{tensorrt_llm, vllm};
    use crate::model::RoutingGroups;
    use crate::strategies::{DISTRIBUTION_ONLY, NONE, REPLACE_ONLY, TOKEN_TO_EXPERT};
    use crate::system::ServingEngine;

    /// The engines that cannot run a strategy.
    fn refusing(strategy: Strategy, system: &System) -> Vec<&'static str> {
        let support = support(strategy, system);
        support.iter().filter(|one| !one.runnable).map(|one| one.engine.id).collect()
    }

    #[test]
    fn support_depends_on_the_configuration() {
        let tensor = system(8, 8, 512);
        let all: Vec<_> = LIST.iter().map(|engine| engine.id).collect();
        assert!(refusing(NONE, &tensor).is_empty());
        assert_eq!(refusing(TOKEN_TO_EXPERT, &tensor), all);
        let needing = LIST.iter().filter(|engine| engine.balancer_needs_attention_data.is_some());
        let needing: Vec<_> = needing.map(|engine| engine.id).collect();
        assert!(needing.contains(&"tensorrt-llm"));
        assert_eq!(refusing(DISTRIBUTION_ONLY, &tensor), needing);
        let mut data = tensor.clone();
        data.parallelism.attention_tensor = 4;
        data.parallelism.attention_data = 2;
        assert!(refusing(DISTRIBUTION_ONLY, &data).is_empty());
        assert!(refusing(REPLACE_ONLY, &data).is_empty());
        data.parallelism.expert_parallel = 3;
        assert_eq!(refusing(REPLACE_ONLY, &data), all);
        data.parallelism.expert_parallel = 1;
        assert_eq!(refusing(DISTRIBUTION_ONLY, &data), all);
        assert!(!runnable(DISTRIBUTION_ONLY, &vllm::ENGINE, &data));
    }

    #[test]
    fn the_class_of_the_model_decides() {
        let mut data = system(8, 8, 512);
        (data.parallelism.attention_tensor, data.parallelism.attention_data) = (4, 2);
        let mut refused = |class: &str| {
            class.clone_into(&mut data.model.class);
            refusing(REPLACE_ONLY, &data)
        };
        assert!(refused("qwen3_moe").is_empty());
        assert_eq!(refused("gpt_oss"), ["vllm"]);
        assert_eq!(refused("llama4"), ["sglang"]);
        assert_eq!(refused("switch_transformers"), ["vllm", "sglang"]);
        assert!(refused("a class of tomorrow").is_empty());
        data.model.class = "gpt_oss".to_owned();
        let known: Vec<_> =
            support(NONE, &data).iter().map(|one| (one.runnable, one.balances_model)).collect();
        assert_eq!(known[..3], [(true, Some(false)), (true, Some(true)), (true, None)]);
    }

    #[test]
    fn slots_fill_devices_evenly_and_respect_the_kernel() {
        let mut system = system(8, 8, 512);
        assert!(slot_obstacles(&system, 16).is_empty());
        assert_eq!(slot_obstacles(&system, 12).len(), 1);
        assert_eq!(slot_obstacles(&system, 4).len(), 2);
        system.model.experts.routed = 256;
        system.model.experts.groups = Some(RoutingGroups { groups: 8, per_token: 4 });
        assert!(slot_obstacles(&system, 288).is_empty());
        system.engine = Some(ServingEngine {
            kind: &tensorrt_llm::ENGINE,
            version: None,
            all2all_backend: None,
            moe_kernel: Some("trtllm-gen".to_owned()),
            cuda_graph: None,
        });
        assert!(slot_obstacles(&system, 256).is_empty());
        assert_eq!(slot_obstacles(&system, 288).len(), 1);
    }
}
