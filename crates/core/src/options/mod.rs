//! Options of engines beside the strategies: one file each, and one list of them.
//!
//! An option changes what an engine does with the tokens of a step under the plan that it follows
//! anyway. It is priced off and on for the chosen strategy alone
//! ([`option_prices`](crate::advice::option_prices)), each on its own: options are never multiplied
//! with slots, intervals or predictors. Everything that goes over options goes over [`LIST`].

pub mod lp;
pub mod min_active;
pub mod waterfill;

use std::fmt;

use crate::engines::support::Classes;
use crate::engines::{Engine, LIST as ENGINES};
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::slot_shares::SlotShares;
use crate::system::{Communication, System};
use crate::units::Seconds;

/// Every option, in the order shown to users.
pub static LIST: &[&ServingOption] = &[&lp::LP, &waterfill::CONSERVATIVE, &waterfill::ALL_RANKS];

/// What no released engine has: priced in studies alone, not in answers.
pub static STUDIED: &[&ServingOption] = &[&min_active::MIN_ACTIVE];

/// What is known of one option.
pub struct ServingOption {
    /// What it sets.
    pub id: &'static str,
    /// To what.
    pub value: &'static str,
    /// Which of its modes this is, where it has several.
    pub mode: Option<&'static str>,
    /// What it does, in half a sentence.
    pub summary: &'static str,
    /// How engines that have it are told.
    pub switches: &'static [&'static Switch],
    /// Why it does nothing on a system, with these patterns of communication in its kinds of steps.
    pub obstacle: fn(&System, &[Communication]) -> Option<String>,
    /// What it adds to every layer and part of a step, before any balance.
    pub overhead: fn(&System) -> Seconds,
    /// Error band of that.
    pub overhead_band: f64,
    /// What it makes of one layer of one step.
    pub balance: fn(&Ground, &SlotShares, &[f64]) -> Balanced,
}

impl ServingOption {
    /// What it is told from others by.
    const fn name(&self) -> (&'static str, &'static str, Option<&'static str>) {
        (self.id, self.value, self.mode)
    }
}

impl PartialEq for ServingOption {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// Its name alone: where its functions lie differs from run to run, and digests of questions are of
/// what is shown.
impl fmt::Debug for ServingOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// How one engine is told to use an option.
#[derive(Debug)]
pub struct Switch {
    /// The engine.
    pub engine: &'static Engine,
    /// The first version known to take these arguments.
    pub since: [u32; 3],
    /// The arguments of its command line; empty where how it is told was not read.
    pub arguments: &'static [&'static str],
    /// What else must be known of it.
    pub note: &'static str,
    /// The classes of models that it works for; `None`: those whose experts the engine's balancer
    /// moves.
    pub classes: Option<Classes>,
    /// Devices of the catalog that its kernels do not run on.
    pub not_on: &'static [&'static str],
}

/// A kind of step that an option is priced in.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The system, in that kind of step.
    pub system: &'a System,
    /// The laws of its layer.
    pub costs: &'a LayerCosts,
}

/// One layer of one step with an option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balanced {
    /// Its routed time.
    pub routed: Routed,
    /// Work of the busiest device over the mean of the routed work, without the option and with it:
    /// routed tokens and, where the option moves it, the shared expert's.
    pub busiest: [f64; 2],
}

/// Whether one engine can use one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionSupport {
    /// The engine.
    pub engine: &'static Engine,
    /// Whether it can.
    pub runnable: bool,
    /// Why, and how it is told.
    pub because: String,
    /// The arguments that tell it; empty where it cannot.
    pub arguments: &'static [&'static str],
}

impl ServingOption {
    /// What every engine can do with it on a system.
    #[must_use]
    pub fn support(&self, system: &System) -> Vec<OptionSupport> {
        let of = |engine: &&'static Engine| {
            let switch = self.switches.iter().find(|switch| switch.engine == *engine);
            let Some(switch) = switch else {
                let because = format!("{} has no such option", engine.name);
                return OptionSupport { engine, runnable: false, because, arguments: &[] };
            };
            match switch.obstacle(system) {
                Some(because) => OptionSupport { engine, runnable: false, because, arguments: &[] },
                None => OptionSupport {
                    engine,
                    runnable: true,
                    because: switch.told(),
                    arguments: switch.arguments,
                },
            }
        };
        ENGINES.iter().map(of).collect()
    }
}

impl Switch {
    fn told(&self) -> String {
        let [major, minor, patch] = self.since;
        format!("{}, from {major}.{minor}.{patch} on", self.note)
    }

    /// Why the engine cannot use it on a system.
    fn obstacle(&self, system: &System) -> Option<String> {
        let [major, minor, patch] = self.since;
        let stated = system.engine.as_ref().filter(|asked| asked.kind == self.engine);
        if let Some(version) = stated.and_then(|asked| asked.version.as_deref())
            && numbers(version).is_some_and(|numbers| numbers < self.since)
        {
            return Some(format!(
                "it needs {} {major}.{minor}.{patch} or newer; the question states {version}",
                self.engine.name
            ));
        }
        let class = &system.model.class;
        let moved = match self.classes {
            Some(classes) => classes.has(class).unwrap_or(false),
            None => self.engine.balanced.has(class) != Some(false),
        };
        if !moved {
            return Some(format!(
                "{} {major}.{minor}.{patch} is not known to have it for models of class {class}",
                self.engine.name
            ));
        }
        let device = &system.cluster.device.name;
        self.not_on
            .contains(&device.as_str())
            .then(|| format!("its kernels do not run on {device}"))
    }
}

/// The first three numbers of a version such as `0.5.16` or `v0.5.16.post1`; `None` of another text.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.trim().trim_start_matches('v').split('.');
    let mut next = || {
        let part = parts.next()?;
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok()
    };
    Some([next()?, next()?, next().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::comm::fixtures::system;
    use crate::engines::sglang;
    use crate::system::ServingEngine;

    #[test]
    fn names_tell_options_apart_and_engines_take_them_from_a_version_on() {
        let names: BTreeSet<_> = LIST.iter().map(|one| (one.id, one.value, one.mode)).collect();
        assert_eq!(names.len(), LIST.len());
        let mut asked = system(8, 8, 512);
        asked.model.class = "deepseek_v3".to_owned();
        asked.cluster.device.name = "h200-sxm".to_owned();
        let runnable = |asked: &System| {
            let all = lp::LP.support(asked);
            all.iter().filter(|one| one.runnable).map(|one| one.engine.id).collect::<Vec<_>>()
        };
        assert_eq!(runnable(&asked), ["sglang"]);
        let mut engine = ServingEngine {
            kind: &sglang::ENGINE,
            version: None,
            all2all_backend: None,
            moe_kernel: None,
            cuda_graph: None,
        };
        for (version, runs) in
            [("0.5.9", false), ("v0.5.15.post1", false), ("0.5.16", true), ("0.6", true)]
        {
            engine.version = Some(version.to_owned());
            asked.engine = Some(engine.clone());
            assert_eq!(!runnable(&asked).is_empty(), runs, "{version}");
        }
        for device in ["a100-sxm4-80gb", "mi300x", "ascend-910c", "l40s"] {
            asked.cluster.device.name = device.to_owned();
            assert!(runnable(&asked).is_empty(), "{device}");
        }
        asked.cluster.device.name = "h200-sxm".to_owned();
        asked.model.class = "llama4".to_owned();
        assert!(runnable(&asked).is_empty());
        assert_eq!(numbers("main"), None);
    }

    #[test]
    fn every_switch_is_of_an_engine_of_the_list_and_says_how() {
        for switch in LIST.iter().flat_map(|option| option.switches) {
            assert!(ENGINES.contains(&switch.engine));
            assert!(!switch.note.is_empty());
        }
    }
}
