"""Latent attention: prompts with keys and values written out, decoding over the shared latent cache.

Decoding is the absorbed form: every head attends to the same rows of kv_lora_rank + qk_rope_head_dim
numbers, the first kv_lora_rank of which are its values.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

from moe_gps_measure.blocks.attention import CACHES, PROMPTS, sizes
from moe_gps_measure.case import Case
from moe_gps_measure.question import Latent, Question
from moe_gps_measure.timing import Call, Machine


def prompts(machine: Machine, batch: int, heads: int, length: int, widths: Latent) -> list[Call]:
    width = widths.nope + widths.rope
    size = batch * heads * length * (2 * width + widths.value) * machine.element_bytes()

    def one() -> Call:
        query, keys = (machine.random(batch, length, heads, width).transpose(1, 2) for _ in range(2))
        values = machine.random(batch, length, heads, widths.value).transpose(1, 2)
        return lambda: attend(query, keys, values, is_causal=True)

    return [one() for _ in range(machine.sets(size))]


def decoding(machine: Machine, batch: int, heads: int, length: int, widths: Latent) -> list[Call]:
    width = widths.kv_rank + widths.rope
    size = batch * length * width * machine.element_bytes()

    def one() -> Call:
        query, cache = machine.random(batch, heads, width), machine.random(batch, length, width)
        scale = (widths.nope + widths.rope) ** -0.5

        def attend_absorbed() -> torch.Tensor:
            scores = torch.bmm(query, cache.transpose(1, 2)).mul_(scale)
            return torch.bmm(scores.softmax(-1), cache[..., : widths.kv_rank])

        return attend_absorbed

    return [one() for _ in range(machine.sets(size))]


def cases(question: Question) -> list[Case]:
    latent = question.model.latent
    if latent is None:
        return []
    ranks = {"kv_lora_rank": latent.kv_rank, "qk_nope_head_dim": latent.nope,
             "qk_rope_head_dim": latent.rope, "v_head_dim": latent.value}  # fmt: skip
    found = []
    for tensor in sorted({1, question.attention_tensor}):
        heads = max(1, question.model.q_heads // tensor)
        for batch, length in sizes(question, True, PROMPTS):
            found.append(Case(
                "latent_attention_prefill", {"batch": batch, "q_heads": heads, "seq": length, **ranks}, "sdpa",
                lambda machine, b=batch, s=length, h=heads: prompts(machine, b, h, s, latent),
            ))  # fmt: skip
        for batch, length in sizes(question, False, CACHES):
            found.append(Case(
                "latent_attention_decode", {"batch": batch, "q_heads": heads, "kv_len": length, **ranks}, "bmm",
                lambda machine, b=batch, s=length, h=heads: decoding(machine, b, h, s, latent),
            ))  # fmt: skip
    return found
