"""Dense products: projections of attention, the router, experts that every token visits."""

import torch

from moe_gps_measure.blocks.rows import rows
from moe_gps_measure.case import Case
from moe_gps_measure.question import Model, Question
from moe_gps_measure.timing import Call, Machine


def widths(model: Model, tensor: int) -> list[tuple[int, int]]:
    """Output and input width of every product of a layer, heads divided among `tensor` devices."""
    heads = max(1, model.q_heads // tensor)
    hidden = model.hidden
    if model.latent is None:
        kv = max(1, model.kv_heads // tensor)
        found = [((heads + 2 * kv) * model.head_dim, hidden), (hidden, heads * model.head_dim)]
    else:
        lat = model.latent
        found = [
            (lat.kv_rank + lat.rope, hidden),
            (heads * (lat.nope + lat.rope), hidden),
            (heads * (lat.nope + lat.value), lat.kv_rank),
            (hidden, heads * lat.value),
        ]
    found.append((model.experts, hidden))
    # An expert as a dense product: as large as a device has it where experts are not divided.
    found += [(2 * model.intermediate, hidden), (hidden, model.intermediate)]
    if shared := model.shared_intermediate // tensor:
        found += [(2 * shared, hidden), (hidden, shared)]
    return found


def calls(machine: Machine, m: int, n: int, k: int) -> list[Call]:
    size = (m * k + n * k + m * n) * machine.element_bytes()

    def one() -> Call:
        a, b = machine.random(m, k), machine.weights(k, n).t().contiguous().t()
        out = machine.random(m, n)
        return lambda: torch.mm(a, b, out=out)

    return [one() for _ in range(machine.sets(size))]


def cases(question: Question) -> list[Case]:
    every = sorted({pair for tensor in {1, question.attention_tensor} for pair in widths(question.model, tensor)})
    return [
        Case("gemm", {"M": m, "N": n, "K": k}, "cublas", lambda machine, m=m, n=n, k=k: calls(machine, m, n, k))
        for n, k in every
        for m in rows(question)
    ]
