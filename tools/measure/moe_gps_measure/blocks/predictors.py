"""Predictors of a token's experts: alone, in front of attention, and on a second stream beside it.

`predictor_X` is the network alone, `attention_block` projections and attention alone. Then
`predictor_X_before_attention` is both in series, `predictor_X_beside_attention` the time until both have
ended where the predictor runs on a second stream. What a predictor costs there is that time less
`attention_block`: its own part that shows, and what attention loses to it.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

from moe_gps_measure.blocks.fp8_block import dense
from moe_gps_measure.case import Case
from moe_gps_measure.question import Model, Question
from moe_gps_measure.timing import Build, Call, Machine

# Inner widths of the networks: those that the shipped constants were measured with.
FFN_WIDTHS = (128, 64)
LINEAR_WIDTH = 128
LSTM_WIDTH, LSTM_LAYERS = 64, 2

# Tokens in the cache of a sequence that decodes.
PROMPT = 1024
# Sequences and tokens of each. A recurrent network takes time in proportion to the tokens of a sequence.
STEPS = ((1, 512), (2, 512), (4, 512), (16, 512), (32, 512), (1, 2048))
DECODE = ((16, 1), (64, 1), (256, 1))
TINY = ((1, 8), (2, 8), (4, 8), (4, 1))


def _linear(machine: Machine, widths: list[int], activate: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    weights = [(machine.weights(before, after), machine.random(after)) for before, after in pairwise(widths)]

    def run(rows: torch.Tensor) -> torch.Tensor:
        for at, (weight, bias) in enumerate(weights):
            rows = torch.addmm(bias, rows, weight)
            if activate and at + 1 < len(weights):
                rows = rows.relu_()
        return rows

    return run


def _dense(widths: list[int], activate: bool) -> Build:
    def build(machine: Machine, batch: int, length: int) -> Call:
        run, rows = _linear(machine, widths, activate), machine.random(batch * length, widths[0])
        return lambda: run(rows)

    return build


def _recurrent(model: Model, cudnn: bool = True) -> Build:
    """By cuDNN, which computes a layer's steps in one kernel, or by PyTorch's own kernels, several for every step."""
    def build(machine: Machine, batch: int, length: int) -> Call:
        project = _linear(machine, [model.hidden, LSTM_WIDTH], False)
        cells = torch.nn.LSTM(LSTM_WIDTH, LSTM_WIDTH, LSTM_LAYERS, batch_first=True).to(machine.device, machine.dtype)
        cells.flatten_parameters()
        head = _linear(machine, [LSTM_WIDTH, model.experts], False)
        rows = machine.random(batch * length, model.hidden)

        def run() -> torch.Tensor:
            with torch.backends.cudnn.flags(enabled=cudnn):
                inner, _ = cells(project(rows).view(batch, length, LSTM_WIDTH))
            return head(inner.reshape(-1, LSTM_WIDTH))

        return run

    return build


def attention_block(model: Model, tensor: int, context: int = PROMPT, blocked: bool = False) -> Build:
    """Projections and attention of whole prompts, or of one new token over a cache of `context` tokens."""
    heads, kv_heads, width = max(1, model.q_heads // tensor), max(1, model.kv_heads // tensor), model.head_dim

    def build(machine: Machine, batch: int, length: int) -> Call:
        kv = kv_heads * width
        tokens = batch * length
        into = dense(machine, tokens, model.hidden, heads * width + 2 * kv, blocked)
        back = dense(machine, tokens, heads * width, model.hidden, blocked)
        rows = machine.random(tokens, model.hidden)
        cache = [machine.random(batch, kv_heads, context, width) for _ in range(2)] if length == 1 else None

        def run() -> torch.Tensor:
            query, keys, values = (
                part.view(batch, length, -1, width).transpose(1, 2)
                for part in into(rows).split([heads * width, kv, kv], dim=-1)
            )
            keys, values = cache or (keys, values)
            mixed = attend(query, keys, values, is_causal=cache is None, enable_gqa=heads != kv_heads)
            return back(mixed.transpose(1, 2).reshape(tokens, heads * width))

        return run

    return build


def _series(first: Build, second: Build) -> Build:
    def build(machine: Machine, batch: int, length: int) -> Call:
        one, two = first(machine, batch, length), second(machine, batch, length)

        def run() -> None:
            one()
            two()

        return run

    return build


def _beside(predictor: Build, attention: Build) -> Build:
    def build(machine: Machine, batch: int, length: int) -> Call:
        one, two = predictor(machine, batch, length), attention(machine, batch, length)
        if not machine.on_gpu:
            return lambda: (one(), two())
        second = torch.cuda.Stream()

        def run() -> None:
            main = torch.cuda.current_stream()
            second.wait_stream(main)
            with torch.cuda.stream(second):
                one()
            two()
            main.wait_stream(second)

        return run

    return build


def calls(build: Build, size: float, batch: int, length: int) -> Callable[[Machine], list[Call]]:
    return lambda machine: [build(machine, batch, length) for _ in range(min(4, machine.sets(size)))]


def cases(question: Question) -> list[Case]:
    model, tensor, found = question.model, question.attention_tensor, []
    if model.latent is not None:
        tensor = 1
    ffn, linear = [model.hidden, *FFN_WIDTHS, model.experts], [model.hidden, LINEAR_WIDTH, model.experts]
    recurrent = f"{model.hidden}-{LSTM_WIDTH}x{LSTM_LAYERS}-{model.experts}"
    kinds: dict[str, tuple[Build, str]] = {
        "predictor_ffn": (_dense(ffn, True), "-".join(map(str, ffn))),
        "predictor_linear": (_dense(linear, False), "-".join(map(str, linear))),
        "predictor_lstm": (_recurrent(model), recurrent),
    }
    attention = attention_block(model, tensor)
    heads = {"q_heads": max(1, model.q_heads // tensor), "kv_heads": max(1, model.kv_heads // tensor)}
    tiny = model.name.startswith("tiny-")
    asked = {(question.sequences, question.length if question.prefill else 1)}
    for batch, length in sorted({*(TINY if tiny else (*STEPS, *DECODE)), *asked}):
        steps = {"batch": batch, "seq": length, "tokens": batch * length}
        block = {**steps, "hidden": model.hidden, **heads, "head_dim": model.head_dim, "kv_len": PROMPT if length == 1 else length}
        size = batch * length * model.hidden * 2
        found.append(Case("attention_block", block, "sdpa", calls(attention, size, batch, length)))
        for op, (build, dims) in kinds.items():
            kernel = "cudnn" if op == "predictor_lstm" else "cublas"
            found.append(Case(op, {**steps, "dims": dims}, kernel, calls(build, size, batch, length)))
            if op == "predictor_lstm":
                own = calls(_recurrent(model, False), size, batch, length)
                found.append(Case(op, {**steps, "dims": dims}, "pytorch", own))
                if length > 512:
                    continue
            for way, both in (("before", _series(build, attention)), ("beside", _beside(build, attention))):
                found.append(Case(f"{op}_{way}_attention", {**block, "dims": dims}, kernel, calls(both, size, batch, length)))
    return found
