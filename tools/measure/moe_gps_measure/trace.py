"""The experts of a step's tokens: recorded, or drawn by the load of every expert. Read without NumPy."""

import ast
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

TYPES = {
    "u1": torch.uint8, "i1": torch.int8, "u2": torch.uint16, "i2": torch.int16,
    "u4": torch.uint32, "i4": torch.int32, "i8": torch.int64,
}  # fmt: skip


def routes(path: Path) -> torch.Tensor:
    """Experts of every token: sequences x tokens x layers x top-k."""
    with zipfile.ZipFile(path) as archive:
        if "routes.npy" not in archive.namelist():
            raise SystemExit(f"{path} holds no routes.npy: give a trace of routes in npz (docs/api.md says how one is made)")
        raw = archive.read("routes.npy")
    start = 10 if raw[6] == 1 else 12
    length = int.from_bytes(raw[8:start], "little")
    header = ast.literal_eval(raw[start : start + length].decode("latin1"))
    if header["fortran_order"] or header["descr"][1:] not in TYPES:
        raise SystemExit(f"{path}: routes.npy is {header['descr']}, not whole numbers in C order")
    shape = header["shape"]
    values = torch.frombuffer(bytearray(raw[start + length :]), dtype=TYPES[header["descr"][1:]]).to(torch.int64)
    return values.reshape(-1, *shape[-3:])


def counts(path: Path) -> dict[int, list[float]]:
    """Tokens of every expert by layer, over the second half of the steps, from the JSON of `moe-gps trace convert --to json`."""
    try:
        recorded = torch.tensor(json.loads(path.read_text())["counts"], dtype=torch.float64)
        recorded = recorded.view(-1, *recorded.shape[-2:])
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise SystemExit(f"{path}: no `counts` of [steps x] layers x experts (moe-gps trace convert FILE --to json {path}): {error}")
    return dict(enumerate(recorded[recorded.shape[0] // 2 :].sum(0).tolist()))


@dataclass(frozen=True)
class Recorded:
    """Steps of recorded routes."""

    chosen: torch.Tensor
    tokens: int
    said: str

    def steps(self) -> int | None:
        return self.chosen.shape[0] // self.tokens

    def has(self, layer: int) -> bool:
        return layer < self.chosen.shape[1]

    def step(self, at: int, layer: int) -> torch.Tensor:
        return self.chosen[at * self.tokens : (at + 1) * self.tokens, layer]


@dataclass(frozen=True)
class Drawn:
    """Steps drawn by the loads of some layers: every token by itself, so that steps vary less than those of real text."""

    loads: dict[int, Sequence[float]]
    tokens: int
    top_k: int
    said: str

    def steps(self) -> int | None:
        return None

    def has(self, layer: int) -> bool:
        return layer in self.loads

    def step(self, at: int, layer: int) -> torch.Tensor:
        return draw(self.loads[layer], self.tokens, self.top_k, at, layer)


def draw(load: Sequence[float], tokens: int, top_k: int, step: int, layer: int) -> torch.Tensor:
    """As many different experts for every token, each as often as its load says; the same for the same step and layer.

    Systematic sampling: chances are laid out on a line in an order that is drawn for every token, and read off at
    equal distances from a start that is drawn.
    """
    chances = torch.tensor(load, dtype=torch.float64)
    chances = top_k * chances / chances.sum()
    # What more than every token would visit goes to the others.
    while float(chances.max()) > 1.0 + 1e-9:
        full = chances >= 1.0
        left = (top_k - int(full.sum())) / float(chances[~full].sum())
        chances = torch.where(full, 1.0, chances * left)
    drawn = torch.Generator().manual_seed(layer << 32 | step)
    order = torch.rand(tokens, len(load), generator=drawn).argsort(1)
    ends = chances[order].cumsum(1)
    marks = torch.rand(tokens, 1, generator=drawn, dtype=torch.float64) + torch.arange(top_k)
    # Sums are whole but for rounding: the last mark stays inside.
    at = torch.searchsorted(ends, marks.clamp(max=float(ends[:, -1].min()) - 1e-9), right=True)
    return order.gather(1, at)


def source(path: Path | None, answer: dict[str, Any], routing: dict[str, Any], tokens: int, top_k: int, prefill: bool) -> Recorded | Drawn:
    """Where the routes come from: a recording of routes or of counts, else the load of the question or of its answer."""
    if path is None:
        shares = dict(enumerate(routing.get("expert_shares") or []))
        if shares:
            return Drawn(shares, tokens, top_k, "drawn by the expert_shares of the question")
        busiest = answer["routing"]["busiest_layer"]
        load, layer = busiest["expert_shares"], busiest["layer"]
        skewness = max(load) * len(load) / sum(load)
        return Drawn({layer: load}, tokens, top_k, f"drawn by the load of layer {layer} in the answer, skewness {skewness:.2f}")
    if path.suffix == ".json":
        return Drawn(counts(path), tokens, top_k, f"drawn by the counts in the second half of {path.name}")
    chosen = routes(path)
    chosen = chosen[chosen.shape[0] // 2 :]
    # Steps of prefill go through one sequence after another, steps of decode through all at one position.
    chosen = (chosen if prefill else chosen.transpose(0, 1)).flatten(0, 1)
    return Recorded(chosen, min(tokens, chosen.shape[0]), f"recorded, the second half of {path.name}")
