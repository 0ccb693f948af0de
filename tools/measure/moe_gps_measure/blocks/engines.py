"""The expert kernels of engines that are installed, under their names. Written to their interfaces, not yet run.

Every pair of a token and an expert is a row of its own, so that the loads are those that are stated.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version

import torch

from moe_gps_measure.blocks.experts import EXPONENTS, zipf_counts
from moe_gps_measure.blocks.rows import rows
from moe_gps_measure.case import Case
from moe_gps_measure.question import Question
from moe_gps_measure.table import Software
from moe_gps_measure.timing import Call, Machine

# From rows, both weights, weights of the pairs and their experts to the call that is timed.
Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], Call]


def _vllm() -> Kernel:
    fused = import_module("vllm.model_executor.layers.fused_moe").fused_experts
    return lambda x, up, down, weights, experts: lambda: fused(x, up, down, weights, experts)


def _sglang() -> Kernel:
    fused = import_module("sglang.srt.layers.moe.fused_moe_triton.fused_moe").fused_experts
    chosen = import_module("sglang.srt.layers.moe.topk").StandardTopKOutput
    config = import_module("sglang.srt.layers.moe").MoeRunnerConfig(inplace=False)
    return lambda x, up, down, weights, experts: lambda: fused(x, up, down, chosen(weights, experts, weights), config)


# Package, its name in tables, its kernel as the shipped tables name it, and how it is called.
ENGINES = (
    ("vllm", "vLLM", "vllm_triton", _vllm),
    ("sglang", "SGLang", "sglang_fused_moe_triton", _sglang),
)


def calls(machine: Machine, kernel: Kernel, hidden: int, intermediate: int, counts: Sequence[int]) -> list[Call]:
    experts = torch.arange(len(counts), device=machine.device, dtype=torch.int32)
    experts = experts.repeat_interleave(torch.tensor(counts, device=machine.device)).view(-1, 1)
    weights = torch.ones(experts.shape, device=machine.device)

    def one() -> Call:
        up, down = machine.weights(len(counts), 2 * intermediate, hidden), machine.weights(len(counts), hidden, intermediate)
        return kernel(machine.random(sum(counts), hidden), up, down, weights, experts)

    return [one() for _ in range(machine.sets(3 * len(counts) * hidden * intermediate * machine.element_bytes()))]


def cases(question: Question) -> list[Case]:
    model, local, found = question.model, question.local_experts, []
    for package, framework, name, made in ENGINES:
        try:
            kernel, software = made(), Software(framework, version(package))
        except (ImportError, AttributeError, TypeError):
            continue
        routed = sorted({max(1, tokens * model.top_k * local // model.experts) for tokens in rows(question)})
        for counts in (zipf_counts(local, pairs, exponent) for pairs in routed for exponent in EXPONENTS):
            shape = {"model": model.name, "hidden": model.hidden, "intermediate": model.intermediate,
                     "counts": "/".join(map(str, counts))}  # fmt: skip
            found.append(Case(
                "grouped_expert_ffn", shape, name,
                lambda machine, kernel=kernel, counts=counts: calls(machine, kernel, model.hidden, model.intermediate, counts),
                software=software,
            ))  # fmt: skip
    return found
