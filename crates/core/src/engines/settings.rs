//! What to set in each engine so that it runs a plan, and what it will not do.

use crate::engines::{Engine, LIST};
use crate::placement::Shape;

/// Steps of load vLLM and SGLang look back at if nobody says otherwise.
const WINDOW_STEPS: u64 = 1000;

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
    /// Steps of load an engine looks back at.
    pub(super) fn window(&self) -> u64 {
        let by_interval = || self.interval_steps.unwrap_or(WINDOW_STEPS).clamp(1, WINDOW_STEPS);
        self.window_steps.unwrap_or_else(by_interval)
    }
}

/// The settings of every engine.
#[must_use]
pub fn settings(deployment: &Deployment) -> Vec<EngineSettings> {
    LIST.iter().map(|engine| of(engine, deployment)).collect()
}

fn of(engine: &Engine, at: &Deployment) -> EngineSettings {
    let limit = engine.group_limit.zip(at.groups.filter(|groups| *groups > 1));
    let broken = limit.and_then(|(limit, groups)| {
        let rule = limit.broken(at.shape.n_slots(), groups)?;
        Some(format!("{rule}: {}", limit.way_out))
    });
    EngineSettings {
        engine: engine.id,
        format: engine.plan_format,
        set: (engine.launch)(at),
        ignores: engine.ignores,
        limits: broken.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::placement::FORMATS;

    #[test]
    fn every_engine_says_what_to_set_and_loads_a_format_that_is_written() {
        let shape = Shape::new(4, 2, 4).unwrap();
        let at = Deployment { shape, groups: None, interval_steps: Some(500), window_steps: None };
        for engine in settings(&at) {
            assert!(!engine.set.is_empty(), "{engine:?}");
            assert!(!engine.ignores.is_empty(), "{engine:?}");
            let known = |id| FORMATS.iter().any(|format| format.id == id);
            assert!(engine.format.is_none_or(known), "{engine:?}: no such placement format");
        }
    }

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
