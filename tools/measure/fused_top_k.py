"""Softmax and top-k of a router's scores in one Triton kernel, timed on the GPU at hand: a table of operators.

    python tools/measure/fused_top_k.py h200-sxm > h200_fused_top_k.operators.csv

The argument is the catalog's id of the device. `catalog/devices/*.toml` has the constants (`top_k.fused`).
"""

import sys

import torch
import triton
import triton.language as tl
from moe_gps_measure.timing import Machine

SHAPES = ((8, 2), (32, 4), (64, 8), (128, 8), (256, 8))
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384)
# Tokens of a program and warps that compute it; an engine picks one, the fastest is timed.
LAUNCHES = ((1, 1), (4, 1), (4, 4), (16, 4), (32, 4))
BUFFERS = 16


@triton.jit
def choose(scores, weights, ids, n_tokens, E: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr):
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, E)
    inside = row < n_tokens
    score = tl.load(scores + row[:, None] * E + column[None, :], mask=inside[:, None], other=-1e30).to(tl.float32)
    share = tl.exp(score - tl.max(score, 1)[:, None])
    share = share / tl.sum(share, 1)[:, None]
    total = tl.zeros((ROWS,), tl.float32)
    for k in tl.static_range(K):
        best, at = tl.max(share, 1), tl.argmax(share, 1)
        tl.store(weights + row * K + k, best, mask=inside)
        tl.store(ids + row * K + k, at.to(tl.int32), mask=inside)
        total += best
        share = tl.where(column[None, :] == at[:, None], -1.0, share)
    for k in tl.static_range(K):
        tl.store(weights + row * K + k, tl.load(weights + row * K + k, mask=inside) / total, mask=inside)


def call(machine: Machine, tokens: int, experts: int, top_k: int, rows: int, warps: int):
    scores = machine.random(tokens, experts)
    weights = torch.empty(tokens, top_k, device=machine.device)
    ids = torch.empty(tokens, top_k, device=machine.device, dtype=torch.int32)
    grid = (triton.cdiv(tokens, rows),)

    def run() -> torch.Tensor:
        choose[grid](scores, weights, ids, tokens, experts, top_k, rows, num_warps=warps)
        return ids

    # Equal scores may be chosen in either order, so scores are compared and not ids.
    chosen, best = scores.gather(1, run().long()), scores.topk(top_k).values
    assert torch.equal(chosen, best), f"{tokens} tokens, {experts} experts: other scores than the best were chosen"
    return run


def main(device: str) -> None:
    machine = Machine.here(tiny=False)
    print(f"# {machine.name()}, torch {torch.__version__}, Triton {triton.__version__}")
    print("device,framework,version,kernel,op,shape,seconds")
    for experts, top_k in SHAPES:
        for tokens in TOKENS:
            fitting = [launch for launch in LAUNCHES if launch[0] * experts <= 8192]
            times = [
                machine.seconds([call(machine, tokens, experts, top_k, *launch) for _ in range(BUFFERS)]) for launch in fitting
            ]
            shape = f"tokens={tokens};experts={experts};top_k={top_k}"
            print(f"{device},Triton,{triton.__version__},fused_softmax_topk,softmax_topk,{shape},{min(times):.4e}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
