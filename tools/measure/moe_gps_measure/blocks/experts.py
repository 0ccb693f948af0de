"""The routed experts of one device under even and uneven loads."""

import math
from collections.abc import Sequence

import torch

from moe_gps_measure.blocks.fp8_block import BlockExperts
from moe_gps_measure.blocks.rows import rows
from moe_gps_measure.case import Case
from moe_gps_measure.question import BLOCKED, Question
from moe_gps_measure.timing import Call, Machine

# Exponents of the loads: equal, and that of a strongly skewed layer.
EXPONENTS = (0.0, 1.0)


def grouped_product():
    """PyTorch's own grouped product, under the name it has had since 2.10 or the one before; else nothing."""
    return getattr(torch.nn.functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)


def zipf_counts(experts: int, tokens: int, exponent: float) -> list[int]:
    """Tokens of every expert, in proportion to rank to the power of minus the exponent, whole, the rest to the first."""
    weights = [(rank + 1) ** -exponent for rank in range(experts)]
    counts = [math.floor(weight / sum(weights) * tokens + 1e-9) for weight in weights]
    counts[0] += tokens - sum(counts)
    return counts


class Experts:
    """The weights of some experts and the buffers of their tokens."""

    def __init__(self, machine: Machine, hidden: int, intermediate: int, counts: Sequence[int], looped: bool) -> None:
        experts = len(counts)
        self.counts, self.looped = list(counts), looped
        # Column-major, as the weights of a linear layer are stored.
        self.up = machine.weights(experts, hidden, 2 * intermediate).transpose(1, 2).contiguous().transpose(1, 2)
        self.down = machine.weights(experts, intermediate, hidden).transpose(1, 2).contiguous().transpose(1, 2)
        self.tokens = machine.random(sum(counts), hidden)
        self.ends = torch.tensor(counts).cumsum(0).to(machine.device, torch.int32)

    def _product(self, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        product = grouped_product()
        if product is None or self.looped:
            parts = rows.split(self.counts)
            return torch.cat([part @ weight for part, weight in zip(parts, weights, strict=True)])
        return product(rows, weights, offs=self.ends)

    def __call__(self) -> torch.Tensor:
        gate, up = self._product(self.tokens, self.up).chunk(2, dim=-1)
        return self._product(torch.nn.functional.silu(gate) * up, self.down)


def looped(machine: Machine) -> bool:
    """Grouped products of PyTorch are for GPUs; elsewhere experts are computed one after another."""
    return grouped_product() is None or not machine.on_gpu


def calls(
    machine: Machine, hidden: int, intermediate: int, counts: Sequence[int], loop: bool, number_format: str = ""
) -> list[Call]:
    blocked = number_format == BLOCKED
    size = 3 * len(counts) * hidden * intermediate * (1 if blocked else machine.element_bytes())
    kind = BlockExperts if blocked else Experts
    return [kind(machine, hidden, intermediate, counts, loop) for _ in range(machine.sets(size))]


def case(
    hidden: int, intermediate: int, counts: Sequence[int], name: str, loop: bool, number_format: str = ""
) -> Case:
    shape = {"model": name, "hidden": hidden, "intermediate": intermediate, "counts": "/".join(map(str, counts))}
    op, kernel = ("looped_expert_ffn", "loop") if loop else ("grouped_expert_ffn", "grouped_mm")
    if number_format == BLOCKED:
        shape, kernel = {**shape, "format": BLOCKED}, kernel if loop else "triton_block"
    return Case(op, shape, kernel, lambda machine: calls(machine, hidden, intermediate, counts, loop, number_format))


def cases(question: Question) -> list[Case]:
    model, found = question.model, []
    loop = looped(Machine.here(False))
    for local in sorted({question.local_experts, max(1, question.local_experts // 2)}):
        # Pairs that reach the device where every device has as many experts and the load is even.
        pairs = {max(1, tokens * model.top_k * local // model.experts) for tokens in rows(question)}
        for routed in sorted(pairs):
            for exponent in EXPONENTS:
                counts = zipf_counts(local, routed, exponent)
                for number_format in sorted({"", question.experts_format} & {"", BLOCKED}):
                    found.append(case(model.hidden, model.intermediate, counts, model.name, loop, number_format))
    return found
