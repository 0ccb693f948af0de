//! All-to-all backends by name, and the communication pattern each leads to.

use crate::engines::Engine;
use crate::system::{Communication, Phase};

/// The communication pattern of an all-to-all backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendPattern {
    /// One pattern in both phases.
    Always(Communication),
    /// One copy per distinct device in prefill, one per token and expert in decode.
    ByPhase,
}

impl BackendPattern {
    /// One copy of a token per distinct device.
    pub const NORMAL: Self = Self::Always(Communication::AllToAllNormal);
    /// One copy per token and expert.
    pub const LOW_LATENCY: Self = Self::Always(Communication::AllToAllLowLatency);
    /// All tokens gathered on every device.
    pub const GATHERED: Self = Self::Always(Communication::AllgatherReducescatter);

    /// The pattern in a phase.
    #[must_use]
    pub const fn of(self, phase: Phase) -> Communication {
        match (self, phase) {
            (Self::Always(pattern), _) => pattern,
            (Self::ByPhase, Phase::Prefill) => Communication::AllToAllNormal,
            (Self::ByPhase, Phase::Decode) => Communication::AllToAllLowLatency,
        }
    }
}

/// Parts of the names of communication libraries and their modes; the first that a name
/// contains decides, so that modes stand before libraries.
const LIBRARIES: [(&str, BackendPattern); 14] = [
    ("low_latency", BackendPattern::LOW_LATENCY),
    ("lowlatency", BackendPattern::LOW_LATENCY),
    ("pplx", BackendPattern::LOW_LATENCY),
    ("high_throughput", BackendPattern::NORMAL),
    ("normal", BackendPattern::NORMAL),
    ("flashinfer", BackendPattern::NORMAL),
    ("onesided", BackendPattern::NORMAL),
    ("allgather", BackendPattern::GATHERED),
    ("naive", BackendPattern::GATHERED),
    ("deepep", BackendPattern::ByPhase),
    ("mooncake", BackendPattern::ByPhase),
    ("nixl", BackendPattern::ByPhase),
    ("mori", BackendPattern::ByPhase),
    ("mc2", BackendPattern::ByPhase),
];

/// The pattern of the backend that `engine` calls `name`, in upper or lower case: the
/// engine's own entry, else that of the library in the name; `None` if it names neither.
#[must_use]
pub fn pattern(engine: &Engine, name: &str) -> Option<BackendPattern> {
    let name = name.to_ascii_lowercase();
    let own = engine.backends.iter().find(|(backend, _)| *backend == name);
    let (_, found) = own.or_else(|| LIBRARIES.iter().find(|(part, _)| name.contains(part)))?;
    Some(*found)
}

/// Whether the name leaves the exchange to the engine, as SGLang's `none` does.
#[must_use]
pub fn is_automatic(name: &str) -> bool {
    ["none", "auto"].iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// Every name `engine` takes, and the libraries known by a part of a name.
#[must_use]
pub fn names(engine: &Engine) -> Vec<&'static str> {
    let own = engine.backends.iter().map(|(name, _)| *name);
    let mut names: Vec<&str> = own.chain(LIBRARIES.iter().map(|(part, _)| *part)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::{LIST, sglang, unnamed, vllm};

    #[test]
    fn names_lead_to_patterns_by_engine_then_by_library() {
        for (name, expected) in [
            ("DeepEP_Low_Latency", Some(BackendPattern::LOW_LATENCY)),
            ("deepep_v2", Some(BackendPattern::ByPhase)),
            ("flashinfer_all2allv", Some(BackendPattern::NORMAL)),
            ("allgather_reducescatter", Some(BackendPattern::GATHERED)),
            ("none", None),
        ] {
            assert_eq!(pattern(&vllm::ENGINE, name), expected, "{name}");
            assert_eq!(pattern(&unnamed::ENGINE, name), expected, "{name}");
        }
        assert_eq!(pattern(&sglang::ENGINE, "mooncake"), Some(BackendPattern::ByPhase));
    }

    #[test]
    fn own_names_can_be_met_and_stand_once() {
        for engine in LIST {
            for (nth, (name, _)) in engine.backends.iter().enumerate() {
                assert_eq!(*name, name.to_ascii_lowercase(), "{engine:?}");
                let before = &engine.backends[..nth];
                assert!(before.iter().all(|(other, _)| other != name), "{engine:?}: {name}");
            }
        }
    }
}
