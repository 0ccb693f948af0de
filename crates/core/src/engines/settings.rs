//! What to set in each engine so that it runs a plan, and what it will not do.

use std::borrow::Cow;
use std::collections::BTreeMap;

use shlex::Quoter;

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
    /// How it is told.
    pub launch: Launch,
    /// What it ignores or does otherwise.
    pub ignores: &'static str,
    /// Limits of the engine the plan comes close to or breaks.
    pub limits: Vec<String>,
}

/// What an engine is told at its start; `FILE` stands for the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// Arguments of its command line, each on its own.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Lines of its YAML configuration.
    pub yaml: Vec<String>,
    /// What is set by hand.
    pub notes: Vec<String>,
}

impl Launch {
    /// Adds an argument with its values.
    pub(super) fn flag<const N: usize>(mut self, parts: [&str; N]) -> Self {
        self.args.extend(parts.map(str::to_owned));
        self
    }

    /// One line for every setting, as a person types it.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for arg in &self.args {
            match lines.last_mut() {
                Some(line) if !arg.starts_with("--") => {
                    line.push(' ');
                    *line += &quoted(arg);
                }
                _ => lines.push(arg.clone()),
            }
        }
        lines.extend(self.env.iter().map(|(name, value)| format!("{name}={value}")));
        lines.extend(self.yaml.iter().cloned());
        lines.extend(self.notes.iter().cloned());
        lines
    }

    /// One line for a shell.
    #[must_use]
    pub fn shell(&self) -> String {
        let env = self.env.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        env.chain(self.args.iter().map(|arg| quoted(arg).into_owned()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// An argument as a POSIX shell reads it back.
fn quoted(arg: &str) -> Cow<'_, str> {
    Quoter::new().allow_nul(true).quote(arg).unwrap_or(Cow::Borrowed(arg))
}

/// What an engine is to do about the load of its experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balancing {
    /// Nothing: its balancer is off.
    Off,
    /// What it does now, under the map in force.
    Keep,
    /// To follow the plan.
    Plan,
}

/// What decides the settings beside the engine.
#[derive(Debug, Clone, Copy)]
pub struct Deployment {
    /// What is to be done.
    pub balancing: Balancing,
    /// Whether there is a map to load: not where it was made up, or is the engine's own.
    pub has_map: bool,
    /// Experts, devices and slots.
    pub shape: Shape,
    /// Groups that limit routing, where the model has them.
    pub groups: Option<u32>,
    /// Steps between renewals of the plan; `None` keeps it as it is.
    pub interval_steps: Option<u64>,
    /// Steps a renewal looks back on; `None` as the interval, and no more than engines do.
    pub window_steps: Option<u64>,
    /// Mean over largest device load above which a renewal costs more than it saves.
    pub renew_below: Option<f64>,
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
        launch: (engine.launch)(at),
        ignores: engine.ignores,
        limits: broken.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::placement::FORMATS;

    fn plan() -> Deployment {
        Deployment {
            balancing: Balancing::Plan,
            has_map: true,
            shape: Shape::new(256, 32, 288).unwrap(),
            groups: Some(8),
            interval_steps: Some(500),
            window_steps: None,
            renew_below: None,
        }
    }

    fn told(deployment: &Deployment) -> Vec<(&'static str, String)> {
        let line = |engine: EngineSettings| (engine.engine, engine.launch.lines().join(" "));
        settings(deployment).into_iter().map(line).collect()
    }

    #[test]
    fn every_engine_says_what_to_set_and_loads_a_format_that_is_written() {
        for engine in settings(&plan()) {
            assert!(!engine.launch.lines().is_empty(), "{engine:?}");
            assert!(!engine.ignores.is_empty(), "{engine:?}");
            let known = |id| FORMATS.iter().any(|format| format.id == id);
            assert!(engine.format.is_none_or(known), "{engine:?}: no such placement format");
        }
        let all = settings(&plan());
        for format in FORMATS.iter().filter(|format| format.id != "json") {
            assert!(all.iter().any(|engine| engine.format == Some(format.id)), "{}", format.id);
        }
    }

    #[test]
    fn no_engine_balances_unless_it_is_told_to() {
        // What switches a balancer on, or loads a plan, in each engine.
        let switches = ["--enable-eplb", "FILE", "DYNAMIC_EPLB=true", "\"dynamic_eplb\":true"];
        let off = told(&Deployment { balancing: Balancing::Off, ..plan() });
        for (engine, line) in &off {
            assert!(!switches.iter().any(|switch| line.contains(switch)), "{engine}: {line}");
            assert!(!line.is_empty(), "{engine} is told to leave it off");
        }
        assert!(off[0].1.contains("--no-enable-eplb"), "{off:?}");
        for (engine, line) in told(&Deployment { balancing: Balancing::Keep, ..plan() }) {
            let rest = line.replace("FILE", "");
            assert!(!switches.iter().any(|switch| rest.contains(switch)), "{engine}: {line}");
        }
        let own = Deployment { balancing: Balancing::Keep, has_map: false, ..plan() };
        assert!(told(&own).iter().all(|(_, line)| line.is_empty()), "{:?}", told(&own));
        for (engine, line) in told(&plan()) {
            assert!(switches.iter().any(|switch| line.contains(switch)), "{engine}: {line}");
        }
        for (engine, line) in told(&Deployment { has_map: false, ..plan() }) {
            assert!(!line.contains("FILE"), "{engine}: {line}");
        }
    }

    #[test]
    fn flags_carry_the_plans_counts() {
        let all = told(&plan());
        assert!(all[0].1.contains("\"num_redundant_experts\":32,\"step_interval\":500"));
        assert!(all[0].1.contains("\"window_size\":500"));
        assert!(all[1].1.contains("--ep-num-redundant-experts 32"));
        let far = told(&Deployment { window_steps: Some(2000), ..plan() });
        assert!(far[0].1.contains("\"window_size\":2000"), "{far:?}");
        assert!(far[1].1.contains("buffer-size 500"), "{far:?}");
        let seldom = told(&Deployment { renew_below: Some(0.8765), ..plan() });
        let threshold = "--eplb-min-rebalancing-utilization-threshold 0.876";
        assert!(seldom[1].1.contains(threshold), "{seldom:?}");
        let limits = |at: &Deployment| settings(at).remove(2).limits;
        assert!(limits(&plan())[0].contains("36 slots a group"), "{:?}", limits(&plan()));
        // 256 experts on 36 GPUs: no engine starts without 32 more.
        let uneven = Shape::new(256, 36, 288).unwrap();
        let off = told(&Deployment { balancing: Balancing::Off, shape: uneven, ..plan() });
        assert!(off[1].1.contains("--ep-num-redundant-experts 32"), "{off:?}");
        assert!(off[3].1.contains("\"num_redundant_experts\":32"), "{off:?}");
        let shape = Shape::new(256, 32, 256).unwrap();
        let fixed = Deployment { shape, interval_steps: None, ..plan() };
        assert!(limits(&fixed).is_empty());
        assert!(!told(&fixed)[1].1.contains("--enable-eplb"));
    }

    #[test]
    fn a_shell_reads_back_what_is_quoted() {
        let args = ["--a", "x y", "it's", "{\"n\":1}"];
        let launch = Launch::default().flag(args);
        assert_eq!(shlex::split(&launch.shell()).unwrap(), args);
        assert_eq!(launch.lines(), [launch.shell()]);
    }
}
