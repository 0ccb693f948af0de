//! What is priced beside the strategies and never chosen: ways not to need balancing.

use crate::advice::layouts::Layout;
use crate::question::Question;
use crate::system::Preset;
use crate::units::Seconds;

/// Time of a linear programme that balances a batch after the gate.
///
/// About 100 µs on a GPU: LPLB (DeepSeek), as its authors state.
const SOLVER: Seconds = Seconds::new(100e-6);

/// A priced reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Its id on the wire.
    pub id: &'static str,
    /// What it stands for.
    pub what: &'static str,
    /// Latency of one layer.
    pub layer_latency: Seconds,
}

/// The references of a question; none in paper mode, which has no formulas for them.
pub(crate) fn price(
    question: &Question,
    layouts: &[Layout],
    balanced: Option<Seconds>,
) -> Vec<Reference> {
    if question.system.assumptions.preset == Preset::Paper {
        return Vec::new();
    }
    let mut references = Vec::new();
    if let Some(sharded) = layouts.iter().find(|one| one.parallelism.expert_parallel == 1) {
        references.push(Reference {
            id: "tensor_experts",
            what: "no expert parallelism: every expert sharded over all devices",
            layer_latency: sharded.layer_latency,
        });
    }
    if let Some(balanced) = balanced {
        references.push(Reference {
            id: "post_gate_split",
            what: "tokens split exactly after the gate, with the solver's time",
            layer_latency: balanced + SOLVER,
        });
        references.push(Reference {
            id: "balanced",
            what: "perfect balance at no cost: the ceiling",
            layer_latency: balanced,
        });
    }
    references
}
