"""Norms, the activation between an expert's matrices, and the choice of experts."""

import torch

from moe_gps_measure.blocks.rows import few
from moe_gps_measure.case import Case
from moe_gps_measure.question import Question
from moe_gps_measure.timing import Call, Machine


def norm(machine: Machine, tokens: int, width: int) -> list[Call]:
    def one() -> Call:
        rows, weight = machine.random(tokens, width), machine.random(width)
        return lambda: torch.nn.functional.rms_norm(rows, (width,), weight)

    return [one() for _ in range(machine.sets(tokens * width * machine.element_bytes()))]


def silu_mul(machine: Machine, tokens: int, width: int) -> list[Call]:
    def one() -> Call:
        both = machine.random(tokens, 2 * width)

        def activate() -> torch.Tensor:
            gate, up = both.chunk(2, dim=-1)
            return torch.nn.functional.silu(gate) * up

        return activate

    return [one() for _ in range(machine.sets(2 * tokens * width * machine.element_bytes()))]


def softmax_topk(machine: Machine, tokens: int, experts: int, top_k: int) -> list[Call]:
    def one() -> Call:
        scores = machine.random(tokens, experts)
        return lambda: scores.float().softmax(-1).topk(top_k, dim=-1)

    return [one() for _ in range(machine.sets(tokens * experts * machine.element_bytes()))]


def cases(question: Question) -> list[Case]:
    model, found = question.model, []
    for tokens in few(question):
        found.append(Case("rms_norm", {"tokens": tokens, "dim": model.hidden}, "rms_norm",
                          lambda machine, t=tokens: norm(machine, t, model.hidden)))  # fmt: skip
        found.append(Case("silu_mul", {"tokens": tokens, "dim": model.intermediate}, "silu_mul",
                          lambda machine, t=tokens: silu_mul(machine, t, model.intermediate)))  # fmt: skip
        found.append(Case("softmax_topk", {"tokens": tokens, "experts": model.experts, "top_k": model.top_k}, "softmax_topk",
                          lambda machine, t=tokens: softmax_topk(machine, t, model.experts, model.top_k)))  # fmt: skip
    return found
