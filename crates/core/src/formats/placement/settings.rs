//! What to set in each engine so that it runs a plan, and what it will not do.
//!
//! Flags and limits as read at vLLM 0.33.0, SGLang 0.5.23, TensorRT-LLM main and vllm-ascend
//! 182b75ea, November 2026; numbers behind `#` are issues of the engine named.

use crate::placement::Shape;

/// Steps of load vLLM and SGLang look back at if nobody says otherwise.
const WINDOW_STEPS: u64 = 1000;
/// Experts of a group, copies included, that TensorRT-LLM's trtllm-gen routing kernel takes
/// (#8886).
const TRTLLM_GEN_GROUP: u32 = 32;

/// How to run a plan in one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// The engine.
    pub engine: &'static str,
    /// The format of the file it loads; `None` where it loads none.
    pub format: Option<&'static str>,
    /// Flags, variables and configuration keys; `FILE` stands for the plan.
    pub set: Vec<String>,
    /// What it ignores or does otherwise.
    pub ignores: &'static str,
    /// Limits of the engine the plan comes close to or breaks.
    pub limits: Vec<String>,
}

/// What decides the settings beside the engine.
#[derive(Debug, Clone, Copy)]
pub struct Deployment {
    /// Experts, devices and slots.
    pub shape: Shape,
    /// Groups that limit routing, where the model has them.
    pub groups: Option<u32>,
    /// Steps between renewals of the plan; `None` keeps it as it is.
    pub interval_steps: Option<u64>,
    /// Steps a renewal looks back on; `None` as the interval, and no more than engines do.
    pub window_steps: Option<u64>,
}

impl Deployment {
    fn window(&self) -> u64 {
        let by_interval = || self.interval_steps.unwrap_or(WINDOW_STEPS).clamp(1, WINDOW_STEPS);
        self.window_steps.unwrap_or_else(by_interval)
    }
}

/// The settings of every engine.
#[must_use]
pub fn settings(deployment: &Deployment) -> Vec<EngineSettings> {
    vec![vllm(deployment), sglang(deployment), trtllm(deployment), ascend(deployment)]
}

fn vllm(at: &Deployment) -> EngineSettings {
    let redundant = at.shape.redundant();
    let interval = at.interval_steps.unwrap_or(3000);
    EngineSettings {
        engine: "vllm",
        format: None,
        set: vec![
            "--enable-expert-parallel --enable-eplb".to_owned(),
            format!(
                "--eplb-config '{{\"num_redundant_experts\":{redundant},\
                 \"step_interval\":{interval},\"window_size\":{}}}'",
                at.window()
            ),
        ],
        ignores: "vLLM loads no placement file: it starts from its own map and rearranges by its \
                  own greedy rule, first after a quarter of step_interval",
        limits: Vec::new(),
    }
}

fn sglang(at: &Deployment) -> EngineSettings {
    let mut set = vec![
        "--init-expert-location FILE".to_owned(),
        format!("--ep-num-redundant-experts {}", at.shape.redundant()),
        format!("--ep-size {}", at.shape.n_devices()),
    ];
    if let Some(interval) = at.interval_steps {
        set.push(format!(
            "--enable-eplb --eplb-rebalance-num-iterations {interval} \
             --expert-distribution-recorder-buffer-size {}",
            // SGLang wants a buffer no longer than the interval.
            at.window().min(interval)
        ));
    }
    EngineSettings {
        engine: "sglang",
        format: Some("sglang"),
        set,
        ignores: "SGLang prefers the nearest copy of an expert under --ep-dispatch-algorithm \
                  static, so shares of copies are not exactly even; with --enable-eplb its own \
                  map replaces this one after the first interval",
        limits: Vec::new(),
    }
}

fn trtllm(at: &Deployment) -> EngineSettings {
    let mut limits = Vec::new();
    if let Some(groups) = at.groups.filter(|groups| *groups > 1) {
        let per_group = at.shape.n_slots().div_ceil(groups);
        if per_group > TRTLLM_GEN_GROUP {
            limits.push(format!(
                "{per_group} slots a group; the trtllm-gen routing kernel takes at most \
                 {TRTLLM_GEN_GROUP} (#8886): choose another MoE backend or fewer slots"
            ));
        }
    }
    let mut set = vec![
        "moe_config: {load_balancer: FILE}".to_owned(),
        format!("moe_expert_parallel_size: {}", at.shape.n_devices()),
        "enable_attention_dp: true".to_owned(),
    ];
    if at.interval_steps.is_some() {
        set.push("layer_updates_per_iter above 0 in FILE, for its online balancer".to_owned());
    }
    EngineSettings {
        engine: "tensorrt-llm",
        format: Some("trtllm"),
        set,
        ignores: "TensorRT-LLM ignores the file without a word unless experts are parallel, \
                  attention is data-parallel and the architecture is on its list (#18626)",
        limits,
    }
}

fn ascend(at: &Deployment) -> EngineSettings {
    let redundant = at.shape.redundant();
    let mut set = vec![format!(
        "--additional-config '{{\"eplb_config\":{{\"expert_map_path\":\"FILE\",\
         \"num_redundant_experts\":{redundant}}}}}'"
    )];
    if let Some(interval) = at.interval_steps {
        set.push(format!(
            "DYNAMIC_EPLB=true, and in eplb_config \"dynamic_eplb\":true,\
             \"expert_heat_collection_interval\":{interval}"
        ));
    }
    EngineSettings {
        engine: "vllm-ascend",
        format: Some("vllm_ascend"),
        set,
        ignores: "the v1 model runner of vllm-ascend loads the file, the v2 runner loads none; \
                  its guide advises against EPLB below 1024 prefill tokens or 128 decode tokens \
                  a die",
        limits: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::placement::FORMATS;

    #[test]
    fn every_format_belongs_to_an_engine_and_flags_carry_the_plans_counts() {
        let shape = Shape::new(256, 32, 288).unwrap();
        let deployment =
            Deployment { shape, groups: Some(8), interval_steps: Some(500), window_steps: None };
        let all = settings(&deployment);
        for format in FORMATS.iter().filter(|format| format.id != "json") {
            assert!(all.iter().any(|engine| engine.format == Some(format.id)), "{}", format.id);
        }
        let said = |name: &str| {
            let engine = all.iter().find(|engine| engine.engine == name).unwrap();
            engine.set.join(" ")
        };
        assert!(said("vllm").contains("\"num_redundant_experts\":32,\"step_interval\":500"));
        assert!(said("vllm").contains("\"window_size\":500"));
        assert!(said("sglang").contains("--ep-num-redundant-experts 32"));
        let far = settings(&Deployment { window_steps: Some(2000), ..deployment });
        assert!(far[0].set.join(" ").contains("\"window_size\":2000"), "{:?}", far[0]);
        assert!(far[1].set.join(" ").contains("buffer-size 500"), "{:?}", far[1]);
        assert!(all[2].limits[0].contains("36 slots a group"), "{:?}", all[2].limits);
        let shape = Shape::new(256, 32, 256).unwrap();
        let fixed = settings(&Deployment { shape, interval_steps: None, ..deployment });
        assert!(fixed.iter().all(|engine| engine.limits.is_empty()));
        assert!(!fixed[1].set.join(" ").contains("--enable-eplb"));
    }
}
