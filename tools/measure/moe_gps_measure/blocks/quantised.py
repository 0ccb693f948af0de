"""Dense products with 8-bit operands, one scale for each, 16-bit results."""

import torch

from moe_gps_measure.blocks.fp8_block import CAPABILITY
from moe_gps_measure.blocks.gemm import widths
from moe_gps_measure.blocks.rows import rows
from moe_gps_measure.case import Case
from moe_gps_measure.question import Question
from moe_gps_measure.timing import Call, Machine

# Widths that cuBLAS takes with 8-bit operands are multiples of this.
ALIGNED = 16


def calls(machine: Machine, m: int, n: int, k: int) -> list[Call]:
    def one() -> Call:
        a = machine.random(m, k).to(torch.float8_e4m3fn)
        b = machine.weights(k, n).t().contiguous().to(torch.float8_e4m3fn).t()
        scale = torch.ones((), device=machine.device)
        return lambda: torch._scaled_mm(a, b, scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16)

    return [one() for _ in range(machine.sets(m * k + n * k))]


def cases(question: Question) -> list[Case]:
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < CAPABILITY:
        return []
    every = sorted({pair for tensor in {1, question.attention_tensor} for pair in widths(question.model, tensor)})
    return [
        Case(
            "gemm", {"M": m, "N": n, "K": k, "format": "fp8"}, "scaled_mm",
            lambda machine, m=m, n=n, k=k: calls(machine, m, n, k),
        )
        for n, k in every if n % ALIGNED == 0 and k % ALIGNED == 0
        for m in rows(question)
    ]  # fmt: skip
