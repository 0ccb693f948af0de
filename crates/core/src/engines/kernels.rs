//! Kernels of the routed experts: what a question may call them, and the stack that prices each.
//!
//! A kernel is named as device profiles name it (a stack's `kernels`, or the `kernel` that its
//! expert constants were measured with), or by a word of an engine's own option. The stack
//! follows from engine, backend, phase and number format ([`Device::stack_of`]).

use std::collections::BTreeSet;

use crate::engines::{Engine, LIST, sglang, tensorrt_llm, vllm};
use crate::hardware::{Device, Provenance, Stack, fit_for};
use crate::system::{Dtype, Operands, Phase, ServingEngine, System};

/// An engine's own word for a kernel.
struct Word {
    /// The word, in lower case.
    name: &'static str,
    /// Engines whose option takes it.
    engines: &'static [&'static Engine],
    /// Kernels of device profiles it stands for, the nearest first; empty where nobody measured it.
    kernels: &'static [&'static str],
}

/// CUTLASS' grouped products as TensorRT-LLM builds them, 16 bits and fp8 with block scales;
/// `FlashInfer` compiles the same kernels.
const CUTLASS: &[&str] = &["moe_torch_flow_cutlass", "wideep_compute_cutlass", "moe_torch_flow"];
const TRITON: &[&str] = &["vllm_triton", "vllm_fused_moe", "sglang_fused_moe_triton"];
/// `DeepGEMM`, contiguous in prefill and masked in decode, as SGLang's DeepEP layer calls it.
const DEEP_GEMM: &[&str] = &[DEEP_EP_PREFILL, DEEP_EP_DECODE];
const DEEP_EP_PREFILL: &str = "deepepmoe context";
const DEEP_EP_DECODE: &str = "deepepmoe generation";

const VLLM: &Engine = &vllm::ENGINE;
const SGLANG: &Engine = &sglang::ENGINE;
const TRTLLM: &Engine = &tensorrt_llm::ENGINE;

const fn word(
    name: &'static str,
    engines: &'static [&'static Engine],
    kernels: &'static [&'static str],
) -> Word {
    Word { name, engines, kernels }
}

/// Sources: SGLang's `--moe-runner-backend` (`srt/server_args.py`, `MOE_RUNNER_BACKEND_CHOICES`, read);
/// vLLM's `--moe-backend` (vllm/config/kernel.py) and TensorRT-LLM's `moe_config.backend`
/// (`llmapi/llm_args.py`) as known, not read: a word that is missing there is refused with the list.
static WORDS: &[Word] = &[
    word("triton", &[VLLM, SGLANG, TRTLLM], TRITON),
    word("triton_kernel", &[SGLANG], TRITON),
    word("deep_gemm", &[VLLM, SGLANG], DEEP_GEMM),
    word("deepgemm", &[TRTLLM], DEEP_GEMM),
    word("cutlass", &[VLLM, SGLANG, TRTLLM], CUTLASS),
    word("flashinfer_cutlass", &[VLLM, SGLANG], CUTLASS),
    word("wideep", &[TRTLLM], &["wideep_compute_cutlass"]),
    word("flashinfer_trtllm", &[VLLM, SGLANG], &[]),
    word("trtllm", &[TRTLLM], &[]),
    word("trtllm-gen", &[TRTLLM], &[]),
    word("flashinfer_cutedsl", &[VLLM, SGLANG], &[]),
    word("cutedsl", &[TRTLLM], &[]),
    word("flashinfer_mxfp4", &[SGLANG], &[]),
    word("marlin", &[VLLM, SGLANG], &[]),
    word("aiter", &[VLLM, SGLANG], &[]),
    word("vanilla", &[TRTLLM], &[]),
];

/// The kernel an engine runs its experts with where a backend moves the tokens, by phase and format.
struct BackendKernel {
    engine: &'static Engine,
    /// How the backend's name begins.
    backend: &'static str,
    phase: Phase,
    weights: Dtype,
    kernel: &'static str,
}

/// Source: SGLang's `DeepEPMoE` (`srt/layers/moe/ep_moe/layer.py`), which runs `DeepGEMM` on what
/// DeepEP hands over, whatever the runner backend.
const BACKEND_KERNELS: [BackendKernel; 2] = [
    BackendKernel {
        engine: SGLANG,
        backend: "deepep",
        phase: Phase::Prefill,
        weights: Dtype::Fp8,
        kernel: DEEP_EP_PREFILL,
    },
    BackendKernel {
        engine: SGLANG,
        backend: "deepep",
        phase: Phase::Decode,
        weights: Dtype::Fp8,
        kernel: DEEP_EP_DECODE,
    },
];

/// A kernel that a question named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Whether the engine ships it, as far as is known here.
    pub shipped: bool,
    /// Whether a stack of the device holds its constants in the question's format.
    pub priced: bool,
}

/// What is known of the kernel `name`; `None` where it is neither a kernel of the device or of an
/// engine, nor an engine's word for one.
#[must_use]
pub fn named(system: &System, name: &str) -> Option<Named> {
    let engine = system.engine_kind();
    let device = &system.cluster.device;
    let priced = named_stacks(system, name).next().is_some();
    if is_automatic(name) {
        return Some(Named { shipped: true, priced: true });
    }
    if let Some(word) = find(name) {
        return Some(Named { shipped: word.engines.contains(&engine), priced });
    }
    let of = |engine: &Engine| {
        let backend = |own: &BackendKernel| own.engine == engine && own.kernel == name;
        engine.moe_kernels.contains(&name) || BACKEND_KERNELS.iter().any(backend)
    };
    let known = device.stacks.iter().any(|stack| kernels_of(stack).any(|kernel| kernel == name))
        || LIST.iter().any(|engine| of(engine));
    known.then(|| Named { shipped: of(engine), priced })
}

/// Every name a question about `device` may give: its stacks' kernels, then engines' words.
#[must_use]
pub fn names(device: &Device) -> Vec<&str> {
    let kernels: BTreeSet<&str> = device.stacks.iter().flat_map(kernels_of).collect();
    kernels.into_iter().chain(WORDS.iter().map(|word| word.name)).collect()
}

/// Every word that leads to a kernel of `stack`.
pub fn words_of(stack: &Stack) -> impl Iterator<Item = &'static str> {
    let leads = |word: &&Word| {
        word.kernels.iter().any(|kernel| kernels_of(stack).any(|own| own == *kernel))
    };
    WORDS.iter().filter(leads).map(|word| word.name)
}

/// The kernels that the constants of a stack stand for, in any number format.
pub fn kernels_of(stack: &Stack) -> impl Iterator<Item = &str> {
    let others = stack.formats.experts.iter().map(|(_, fit)| fit);
    let measured = std::iter::once(&stack.experts).chain(others);
    let measured = measured.map(|fit| fit.provenance.kernel.as_str());
    stack.kernels.iter().map(String::as_str).chain(measured)
}

fn find(name: &str) -> Option<&'static Word> {
    let name = name.to_ascii_lowercase();
    WORDS.iter().find(|word| word.name == name)
}

/// Whether a name leaves the kernel to the engine.
fn is_automatic(name: &str) -> bool {
    name.eq_ignore_ascii_case("auto")
}

/// Whether the constants of `stack` for such operands stand for `kernel`.
fn stands_for(stack: &Stack, kernel: &str, operands: Operands) -> bool {
    measured_for(stack, operands).kernel == kernel || stack.kernels.iter().any(|own| own == kernel)
}

/// Where the constants of `stack` for experts of such operands come from.
fn measured_for(stack: &Stack, operands: Operands) -> &Provenance {
    &fit_for(&stack.experts, &stack.formats.experts, operands).fit.provenance
}

/// The stacks that price the kernel `name` in the question's phase and format, the nearest first:
/// those of the engine's own build before others.
fn named_stacks<'a>(system: &'a System, name: &str) -> impl Iterator<Item = &'a Stack> {
    let operands = system.workload.dtypes.experts;
    let own = [name];
    let mut kernels: Vec<String> = find(name)
        .map_or(&own[..], |word| word.kernels)
        .iter()
        .filter(|kernel| !is_of_other_phase(kernel, system.workload.phase))
        .map(|kernel| (*kernel).to_owned())
        .collect();
    let ships = system.engine_kind().moe_kernels;
    kernels.sort_by_key(|kernel| ships.iter().position(|own| own == kernel).unwrap_or(ships.len()));
    kernels.into_iter().flat_map(move |kernel| {
        let stacks = system.cluster.device.stacks.iter();
        stacks.filter(move |stack| stands_for(stack, &kernel, operands))
    })
}

/// Whether `kernel` runs in the other phase only.
fn is_of_other_phase(kernel: &str, phase: Phase) -> bool {
    BACKEND_KERNELS.iter().any(|own| own.kernel == kernel && own.phase != phase)
}

/// Whether `stack` holds the constants of a kernel that goes with a backend.
pub(crate) fn is_of_a_backend(stack: &Stack) -> bool {
    BACKEND_KERNELS.iter().any(|own| kernels_of(stack).any(|kernel| kernel == own.kernel))
}

/// The stack of the kernel that goes with the engine's backend, where it has one.
fn of_backend(system: &System, engine: &ServingEngine) -> Option<&'static str> {
    let backend = engine.all2all_backend.as_ref()?.to_ascii_lowercase();
    let own = BACKEND_KERNELS.iter().find(|own| {
        own.engine == engine.kind
            && backend.starts_with(own.backend)
            && own.phase == system.workload.phase
            && own.weights == system.workload.dtypes.experts.computed
    })?;
    Some(own.kernel)
}

/// How far two versions lie apart, by their numbers from the first on; of several measured ones
/// (`1.3.0rc10, 1.3.0rc20`) the nearest counts.
fn distance(measured: &str, asked: &str) -> Vec<u64> {
    let numbers = |version: &str| -> Vec<u64> {
        let parts = version.split(|c: char| !c.is_ascii_digit());
        let mut numbers: Vec<u64> = parts.filter_map(|part| part.parse().ok()).collect();
        numbers.resize(4, 0);
        numbers
    };
    let asked = numbers(asked);
    let apart = |one: &str| -> Vec<u64> {
        numbers(one).iter().zip(&asked).map(|(one, other)| one.abs_diff(*other)).collect()
    };
    measured.split(',').map(apart).min().unwrap_or_default()
}

impl Device {
    /// The stack that prices a system: that of the kernel the question names, else of the kernel
    /// that goes with the engine's backend, else the engine's default; of several of one kernel that
    /// whose version lies nearest to the one asked for.
    #[must_use]
    pub fn stack_of(system: &System) -> Option<&Stack> {
        let device = &system.cluster.device;
        let engine = system.engine.as_ref();
        let asked = engine.and_then(|engine| {
            let name = engine.moe_kernel.as_deref().filter(|name| !is_automatic(name));
            named_stacks(system, name.or_else(|| of_backend(system, engine))?).next()
        });
        let found = asked.or_else(|| device.default_stack(system.engine_kind()))?;
        let Some(version) = engine.and_then(|engine| engine.version.as_deref()) else {
            return Some(found);
        };
        let alike =
            |stack: &&Stack| priced_by(stack, system).kernel == priced_by(found, system).kernel;
        let apart = |stack: &&Stack| {
            (distance(&priced_by(stack, system).version, version), stack.name != found.name)
        };
        device.stacks.iter().filter(alike).min_by_key(apart)
    }
}

/// Where the constants come from that price the experts of a system by `stack`.
#[must_use]
pub fn priced_by<'a>(stack: &'a Stack, system: &System) -> &'a Provenance {
    measured_for(stack, system.workload.dtypes.experts)
}

/// Whether constants were measured with that version of that engine.
#[must_use]
pub fn measured_at(from: &Provenance, engine: &Engine, version: &str) -> bool {
    let asked = version.trim_start_matches('v');
    crate::engines::by_framework(&from.framework) == Some(engine)
        && from.version.split(',').any(|one| one.trim() == asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::comm::fixtures::system;

    fn on_h200(
        kind: &'static Engine,
        backend: Option<&str>,
        kernel: Option<&str>,
        phase: Phase,
        weights: Dtype,
    ) -> System {
        let mut asked = system(8, 8, 512);
        asked.cluster.device = Catalog::embedded().device("h200-sxm").unwrap().value.clone();
        asked.workload.phase = phase;
        asked.workload.dtypes.experts = Operands::of(weights, weights);
        asked.engine = Some(ServingEngine {
            kind,
            version: None,
            all2all_backend: backend.map(str::to_owned),
            moe_kernel: kernel.map(str::to_owned),
            cuda_graph: None,
        });
        asked
    }

    #[test]
    fn engine_backend_phase_and_format_choose_the_stack() {
        use Dtype::{Bf16, Fp8};
        use Phase::{Decode, Prefill};
        for (engine, backend, kernel, phase, weights, expected) in [
            (SGLANG, None, None, Prefill, Fp8, "sglang"),
            (SGLANG, Some("deepep"), None, Prefill, Fp8, "sglang-deepep-prefill"),
            (SGLANG, Some("DeepEP"), None, Decode, Fp8, "sglang-deepep-decode"),
            (SGLANG, Some("deepep"), None, Prefill, Bf16, "sglang"),
            (SGLANG, Some("deepep"), Some("triton"), Prefill, Fp8, "sglang"),
            (SGLANG, None, Some("deep_gemm"), Decode, Fp8, "sglang-deepep-decode"),
            (VLLM, Some("deepep_high_throughput"), None, Prefill, Fp8, "vllm"),
            (VLLM, None, Some("cutlass"), Prefill, Bf16, "tensorrt-llm"),
            (VLLM, None, Some("grouped_mm"), Prefill, Bf16, "pytorch"),
            (VLLM, None, Some("flashinfer_trtllm"), Prefill, Bf16, "vllm"),
            (TRTLLM, None, Some("auto"), Prefill, Bf16, "tensorrt-llm"),
        ] {
            let asked = on_h200(engine, backend, kernel, phase, weights);
            let found = Device::stack_of(&asked).unwrap();
            assert_eq!(found.name, expected, "{engine:?} {backend:?} {kernel:?} {weights:?}");
        }
    }

    #[test]
    fn names_are_known_or_not() {
        let asked = on_h200(VLLM, None, None, Phase::Prefill, Dtype::Bf16);
        let known = |name| named(&asked, name);
        assert_eq!(known("nonsense"), None);
        assert_eq!(known("Triton"), Some(Named { shipped: true, priced: true }));
        assert_eq!(known("grouped_mm"), Some(Named { shipped: false, priced: true }));
        assert_eq!(known("aiter"), Some(Named { shipped: true, priced: false }));
        assert_eq!(known("deep_gemm"), Some(Named { shipped: true, priced: false }), "not in bf16");
        assert!(names(&asked.cluster.device).contains(&"vllm_triton"));
        assert!(words_of(&asked.cluster.device.stacks[0]).eq(["triton", "triton_kernel"]));
    }

    #[test]
    fn the_nearest_version_is_taken() {
        assert!(distance("1.3.0rc10, 1.3.0rc20", "1.3.0rc19") < distance("1.2.0", "1.3.0rc19"));
        assert_eq!(distance("0.24.0", "v0.24.0"), [0; 4]);
        let mut asked = on_h200(VLLM, None, None, Phase::Prefill, Dtype::Bf16);
        let mut newer = asked.cluster.device.stacks[0].clone();
        newer.name = "newer".to_owned();
        newer.experts.provenance.version = "0.33.0".to_owned();
        let stacks = asked.cluster.device.stacks.iter().cloned().chain([newer]);
        asked.cluster.device.stacks = stacks.collect();
        let mut taken = |version: &str| {
            asked.engine.as_mut().unwrap().version = Some(version.to_owned());
            Device::stack_of(&asked).unwrap().name.clone()
        };
        assert_eq!(taken("0.24.1"), "vllm");
        assert_eq!(taken("0.31.0"), "newer");
    }
}
