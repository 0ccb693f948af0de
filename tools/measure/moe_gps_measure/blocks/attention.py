"""Attention with heads of keys and values of its own: whole prompts, and one new token a sequence."""

from torch.nn.functional import scaled_dot_product_attention as attend

from moe_gps_measure.case import Case
from moe_gps_measure.question import Question
from moe_gps_measure.timing import Call, Machine

PROMPTS = ((1, 512), (4, 512), (16, 512), (1, 1024), (1, 2048), (4, 2048), (1, 4096), (1, 8192), (2, 8192))
CACHES = ((1, 1024), (1, 8192), (4, 1024), (4, 4096), (16, 512), (16, 2048), (16, 8192), (32, 1024), (32, 4096),
          (64, 512), (64, 1024), (64, 2048), (128, 512), (128, 1024), (128, 2048), (256, 512), (256, 1024))  # fmt: skip
TINY = ((1, 8), (2, 8), (1, 16), (2, 16), (4, 16), (1, 32), (2, 32))


def calls(machine: Machine, batch: int, q_heads: int, kv_heads: int, new: int, context: int, width: int) -> list[Call]:
    size = 2 * batch * kv_heads * context * width * machine.element_bytes()

    def one() -> Call:
        # Tokens before heads, as projections leave them.
        query = machine.random(batch, new, q_heads, width).transpose(1, 2)
        keys, values = (machine.random(batch, context, kv_heads, width).transpose(1, 2) for _ in range(2))
        causal = new > 1
        return lambda: attend(query, keys, values, is_causal=causal, enable_gqa=q_heads != kv_heads)

    return [one() for _ in range(machine.sets(size))]


def sizes(question: Question, prefill: bool, usual: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """Usual batches and lengths and those of the question."""
    known = TINY if question.model.name.startswith("tiny-") else usual
    asked = {(max(1, question.sequences // question.attention_data), question.length)}
    return sorted({*known, *(asked if question.prefill == prefill else ())})


def cases(question: Question) -> list[Case]:
    model = question.model
    if model.latent is not None:
        return []
    found = []
    for tensor in sorted({1, question.attention_tensor}):
        q_heads, kv_heads = max(1, model.q_heads // tensor), max(1, model.kv_heads // tensor)
        heads = {"q_heads": q_heads, "kv_heads": kv_heads}
        for batch, length in sizes(question, True, PROMPTS):
            found.append(Case(
                "attention_prefill", {"batch": batch, **heads, "seq": length, "head_dim": model.head_dim}, "sdpa",
                lambda machine, b=batch, s=length, q=q_heads, kv=kv_heads: calls(machine, b, q, kv, s, s, model.head_dim),
            ))  # fmt: skip
        for batch, length in sizes(question, False, CACHES):
            found.append(Case(
                "attention_decode", {"batch": batch, **heads, "kv_len": length, "head_dim": model.head_dim}, "sdpa",
                lambda machine, b=batch, s=length, q=q_heads, kv=kv_heads: calls(machine, b, q, kv, 1, s, model.head_dim),
            ))  # fmt: skip
    return found
