//! Which strategies an engine can run in a configuration, and the limits on slots.

use crate::strategies::{REPLACE_ONLY, Strategy};
use crate::system::{EngineName, System};

/// Whether one engine can run one strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSupport {
    /// The engine.
    pub engine: EngineName,
    /// Whether it can.
    pub runnable: bool,
    /// Why, and how it is switched on.
    pub because: String,
}

/// What every engine can do with `strategy` in the configuration of `system`.
#[must_use]
pub fn support(strategy: Strategy, system: &System) -> Vec<EngineSupport> {
    EngineName::ALL
        .into_iter()
        .map(|(engine, _)| {
            let (runnable, because) = match obstacle(strategy, engine, system) {
                Some(obstacle) => (false, obstacle),
                None => (true, how(strategy, engine).to_owned()),
            };
            EngineSupport { engine, runnable, because }
        })
        .collect()
}

/// Whether `engine` can run `strategy` in the configuration of `system`.
#[must_use]
pub fn runnable(strategy: Strategy, engine: EngineName, system: &System) -> bool {
    obstacle(strategy, engine, system).is_none()
}

fn obstacle(strategy: Strategy, engine: EngineName, system: &System) -> Option<String> {
    let parallelism = &system.parallelism;
    if !strategy.renews() {
        return strategy.unsupported(system);
    }
    if parallelism.expert_parallel < 2 {
        return Some(
            "its expert balancer needs expert parallelism over 2 devices or more".to_owned(),
        );
    }
    if parallelism.expert_tensor > 1 {
        return Some("its expert balancer places whole experts; set expert_tensor to 1".to_owned());
    }
    if engine == EngineName::TensorRtLlm && parallelism.attention_data < 2 {
        return Some(
            "TensorRT-LLM ignores its load balancer without data-parallel attention (#18626)"
                .to_owned(),
        );
    }
    strategy.unsupported(system)
}

fn how(strategy: Strategy, engine: EngineName) -> &'static str {
    if !strategy.renews() {
        return "the engine's static placement";
    }
    let copies = strategy != REPLACE_ONLY;
    match engine {
        EngineName::Vllm if copies => {
            "--enable-eplb with num_redundant_experts above 0; it loads no map of ours"
        }
        EngineName::Vllm => "--enable-eplb with num_redundant_experts 0; it loads no map of ours",
        EngineName::Sglang if copies => {
            "--init-expert-location with the plan and --ep-num-redundant-experts, or --enable-eplb"
        }
        EngineName::Sglang => {
            "--init-expert-location with the plan, or --enable-eplb with 0 redundant experts"
        }
        EngineName::TensorRtLlm => {
            "moe_config.load_balancer with the plan, on architectures of its list"
        }
        EngineName::VllmAscend => "eplb_config with expert_map_path, or dynamic_eplb",
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
    let is_trtllm_gen = system.engine.as_ref().is_some_and(|engine| {
        engine.name == EngineName::TensorRtLlm
            && engine.moe_kernel.as_deref().is_some_and(|kernel| kernel.contains("trtllm"))
    });
    if let (true, Some(groups)) = (is_trtllm_gen, system.model.experts.groups) {
        let per_group = slots.div_ceil(groups.groups);
        if per_group > 32 {
            obstacles.push(format!(
                "{per_group} slots a group; the trtllm-gen routing kernel takes at most 32 (#8886)"
            ));
        }
    }
    obstacles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::system;
    use crate::model::RoutingGroups;
    use crate::strategies::{DISTRIBUTION_ONLY, NONE, TOKEN_TO_EXPERT};
    use crate::system::Engine;

    fn runs(strategy: Strategy, system: &System) -> Vec<bool> {
        support(strategy, system).iter().map(|one| one.runnable).collect()
    }

    #[test]
    fn support_depends_on_the_configuration() {
        let tensor = system(8, 8, 512);
        assert_eq!(runs(NONE, &tensor), [true; 4]);
        assert_eq!(runs(TOKEN_TO_EXPERT, &tensor), [false; 4]);
        assert_eq!(runs(DISTRIBUTION_ONLY, &tensor), [true, true, false, true]);
        let mut data = tensor.clone();
        data.parallelism.attention_tensor = 4;
        data.parallelism.attention_data = 2;
        assert_eq!(runs(DISTRIBUTION_ONLY, &data), [true; 4]);
        assert_eq!(runs(REPLACE_ONLY, &data), [true; 4]);
        data.parallelism.expert_parallel = 3;
        assert_eq!(runs(REPLACE_ONLY, &data), [false; 4]);
        data.parallelism.expert_parallel = 1;
        assert_eq!(runs(DISTRIBUTION_ONLY, &data), [false; 4]);
        assert!(!runnable(DISTRIBUTION_ONLY, EngineName::Vllm, &data));
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
        system.engine = Some(Engine {
            name: EngineName::TensorRtLlm,
            version: None,
            all2all_backend: None,
            moe_kernel: Some("trtllm-gen".to_owned()),
            cuda_graph: None,
        });
        assert!(slot_obstacles(&system, 256).is_empty());
        assert_eq!(slot_obstacles(&system, 288).len(), 1);
    }
}
