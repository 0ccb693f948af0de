"""Latent attention: prompts with keys and values written out, decoding over the shared latent cache.

Decoding is the absorbed form: every head attends to the same rows of kv_lora_rank + qk_rope_head_dim
numbers, the first kv_lora_rank of which are its values.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

from moe_gps_measure.blocks.attention import CACHES, PROMPTS, sizes
from moe_gps_measure.blocks.fp8_block import dense
from moe_gps_measure.case import Case
from moe_gps_measure.question import Latent, Model, Question
from moe_gps_measure.timing import Build, Call, Machine


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


def block(model: Model, widths: Latent, tensor: int, context: int, blocked: bool = False) -> Build:
    """Projections and latent attention of whole prompts, or of one new token over a cache of `context` tokens."""
    heads = max(1, model.q_heads // tensor)
    nope, rope, value, rank = widths.nope, widths.rope, widths.value, widths.kv_rank

    def build(machine: Machine, batch: int, length: int) -> Call:
        tokens = batch * length
        queries = dense(machine, tokens, model.hidden, heads * (nope + rope), blocked)
        back = dense(machine, tokens, heads * value, model.hidden, blocked)
        down, rows = dense(machine, tokens, model.hidden, rank + rope, blocked), machine.random(tokens, model.hidden)
        up = dense(machine, tokens, rank, heads * (nope + value), blocked)

        def prompt() -> torch.Tensor:
            query = queries(rows).view(batch, length, heads, nope + rope).transpose(1, 2)
            shared, turned = down(rows).split([rank, rope], dim=-1)
            keys, values = up(shared).view(batch, length, heads, nope + value).transpose(1, 2).split([nope, value], dim=-1)
            turned = turned.view(batch, 1, length, rope).expand(-1, heads, -1, -1)
            mixed = attend(query, torch.cat((keys, turned), dim=-1), values, is_causal=True)
            return back(mixed.transpose(1, 2).reshape(tokens, heads * value))

        if length > 1:
            return prompt
        into, out = machine.weights(heads, nope, rank), machine.weights(heads, rank, value)
        cache = machine.random(batch, context, rank + rope)

        def token() -> torch.Tensor:
            down(rows)  # what the token adds to the cache
            plain, turned = queries(rows).view(batch, heads, nope + rope).split([nope, rope], dim=-1)
            absorbed = torch.bmm(plain.transpose(0, 1), into).transpose(0, 1)
            scores = torch.bmm(torch.cat((absorbed, turned), dim=-1), cache.transpose(1, 2)).mul_((nope + rope) ** -0.5)
            mixed = torch.bmm(scores.softmax(-1), cache[..., :rank]).transpose(0, 1)
            return back(torch.bmm(mixed, out).transpose(0, 1).reshape(batch, heads * value))

        return token

    return build


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
