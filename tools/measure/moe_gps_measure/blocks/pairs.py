"""Tokens to pairs of a token and an expert, and back: one gather into the order of experts, one weighted sum a token.

The sum is a Triton kernel on GPUs, as engines have one: every output is read once and every token written once.
"""

import torch

from moe_gps_measure.timing import Call, Machine

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

# Columns that a program of the kernel sums.
COLUMNS = 1024

if triton:

    @triton.jit
    def _combine(outputs, at, weights, out, width: tl.constexpr, top_k: tl.constexpr, COLUMNS: tl.constexpr):
        token, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        total = tl.zeros((COLUMNS,), tl.float32)
        for choice in tl.static_range(top_k):
            row = tl.load(at + token * top_k + choice)
            found = tl.load(outputs + row * width + column, mask=column < tl.where(row >= 0, width, 0), other=0.0)
            total += found.to(tl.float32) * tl.load(weights + token * top_k + choice)
        tl.store(out + token * width + column, total.to(out.dtype.element_ty), mask=column < width)


def combine(outputs: torch.Tensor, at: torch.Tensor, weights: torch.Tensor, kernel: bool) -> torch.Tensor:
    """The weighted sum of every token's outputs; `at` has their rows, tokens x top-k, -1 for those of other devices."""
    if not kernel:
        return torch.einsum("tkw,tk->tw", outputs[at.clamp(min=0)], (weights * (at >= 0)).to(outputs.dtype))
    (tokens, top_k), width = at.shape, outputs.shape[1]
    out = torch.empty(tokens, width, dtype=outputs.dtype, device=outputs.device)
    _combine[(tokens, -(-width // COLUMNS))](outputs, at, weights, out, width, top_k, COLUMNS)
    return out


def moved(machine: Machine, tokens: int, top_k: int, pairs: int, width: int) -> Call:
    """So many pairs of these tokens, in an order that is drawn, to the rows of experts and back."""
    rows, weights = machine.random(tokens, width), torch.rand(tokens, top_k, device=machine.device)
    order = torch.randperm(tokens * top_k, device=machine.device)[:pairs]
    at = torch.full((tokens * top_k,), -1, device=machine.device)
    at[order] = torch.arange(pairs, device=machine.device)
    token, at, kernel = order // top_k, at.view(tokens, top_k), machine.on_gpu and triton is not None
    return lambda: combine(rows[token], at, weights, kernel)
