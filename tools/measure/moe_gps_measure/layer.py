"""A whole layer on recorded routes: without a strategy, under the advised placement, under forced balance.

With as many processes as the answer has devices each is a device, and tokens travel. With one process
the devices are emulated one after another and communication is left out, of the prediction too. The
steps that are replayed come from the second half of the trace, which the plan has not seen; without a
trace of routes they are drawn by a load (see `trace.py`).
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from moe_gps_measure import trace
from moe_gps_measure.blocks import experts, latent
from moe_gps_measure.blocks.fp8_block import dense
from moe_gps_measure.blocks.pairs import moved
from moe_gps_measure.blocks.predictors import attention_block
from moe_gps_measure.case import Budget, Case, measure
from moe_gps_measure.group import Group
from moe_gps_measure.question import BLOCKED, SIXTEEN, Question, read, tiny
from moe_gps_measure.table import Table
from moe_gps_measure.timing import Call, Machine

# What is compared; `advised` is the strategy of the plan that is given.
ARMS = ("none", "advised", "balanced")
COMMUNICATION = ("all_reduce_s", "dispatch_s", "combine_s")
# Terms of the answer that the layer built here has too.
COMPUTE = ("attention_s", "router_s", "expert_ffn_s", "other_s")

# Patterns of communication, as an answer names them; every other is an exchange of pairs.
REPLICATED, GATHERED = "replicated", "allgather_reducescatter"


@dataclass(frozen=True)
class Load:
    """Pairs of a token and an expert in one step of one layer: of every slot of every device."""

    slots: list[list[int]]
    # Pairs from the device that holds a token to the device that holds its expert.
    sent: list[list[int]]

    def pairs(self) -> list[int]:
        return [sum(counts) for counts in self.slots]


def load(chosen: torch.Tensor, slots: list[int], devices: int, experts_in_all: int) -> Load:
    """What every slot receives where the copies of an expert share its pairs in turn."""
    per_device = len(slots) // devices
    counts, sent = [0] * len(slots), torch.zeros(devices, devices, dtype=torch.int64)
    source = torch.arange(chosen.shape[0]) * devices // chosen.shape[0]
    for expert in range(experts_in_all):
        copies = [at for at, held in enumerate(slots) if held == expert]
        rows = (chosen == expert).any(dim=-1).nonzero().flatten()
        for at, slot in enumerate(copies):
            taken = rows[at :: len(copies)]
            counts[slot] = len(taken)
            sent[:, slot // per_device] += torch.bincount(source[taken], minlength=devices)
    return Load([counts[at : at + per_device] for at in range(0, len(counts), per_device)], sent.tolist())


def balanced(tokens: int, top_k: int, devices: int, local: int) -> Load:
    """The same number of pairs for every expert."""
    pairs = tokens * top_k
    counts = [pairs * (at + 1) // (devices * local) - pairs * at // (devices * local) for at in range(devices * local)]
    sent = [[pairs // devices // devices] * devices for _ in range(devices)]
    return Load([counts[at : at + local] for at in range(0, len(counts), local)], sent)


def pairs_of(question: Question) -> int:
    """Pairs of a token and an expert in a step, over all devices."""
    return question.tokens * question.model.top_k


class Layer:
    """The parts of a layer on one device."""

    def __init__(self, question: Question, devices: int, pattern: str) -> None:
        self.question, self.devices, self.pattern = question, devices, pattern
        # Whether the weights beside the routed experts are in 8 bits.
        self.blocked = question.rest_format == BLOCKED
        self.sequences = max(1, question.sequences // question.attention_data)
        self.tokens = self.sequences * (question.length if question.prefill else 1)

    def attention(self, machine: Machine) -> list[Call]:
        asked = self.question
        widths = asked.model.latent
        if widths is None:
            block = attention_block(asked.model, asked.attention_tensor, asked.length, self.blocked)
        else:
            block = latent.block(asked.model, widths, asked.attention_tensor, asked.length, self.blocked)
        return [block(machine, self.sequences, asked.length if asked.prefill else 1)]

    def router(self, machine: Machine) -> list[Call]:
        model = self.question.model
        rows, weight = machine.random(self.tokens, model.hidden), machine.weights(model.hidden, model.experts)
        return [lambda: (rows @ weight).float().softmax(-1).topk(model.top_k, dim=-1)]

    def other(self, machine: Machine) -> list[Call]:
        """Two norms, two sums with the residual stream, and tokens to pairs and back."""
        model = self.question.model
        rows, weight = machine.random(self.tokens, model.hidden), machine.random(model.hidden)
        # Where tokens are gathered a device has those of all.
        held = self.tokens * (self.devices if self.pattern == GATHERED else 1)
        move = moved(machine, held, model.top_k, pairs_of(self.question) // self.devices, model.hidden)

        def run() -> torch.Tensor:
            for _ in range(2):
                torch.nn.functional.rms_norm(rows + rows, (model.hidden,), weight)
            return move()

        return [run]

    def experts(self, machine: Machine, counts: list[int]) -> list[Call]:
        model = self.question.model
        loop, number_format = experts.looped(machine), self.question.experts_format
        return experts.calls(machine, model.hidden, model.intermediate, counts, loop, number_format)

    def shared(self, machine: Machine) -> list[Call]:
        """The expert that every token visits, divided as attention is."""
        model = self.question.model
        width = max(1, model.shared_intermediate // self.question.attention_tensor)
        rows = machine.random(self.tokens, model.hidden)
        up = dense(machine, self.tokens, model.hidden, 2 * width, self.blocked)
        down = dense(machine, self.tokens, width, model.hidden, self.blocked)

        def run() -> torch.Tensor:
            gate, other = up(rows).chunk(2, dim=-1)
            return down(torch.nn.functional.silu(gate) * other)

        return [run]

    def all_reduce(self, machine: Machine) -> list[Call]:
        """The sum over the devices that share the heads, or the experts, of the same tokens."""
        rows = machine.random(self.tokens, self.question.model.hidden)
        return [lambda: dist.all_reduce(rows)]

    def exchange(self, machine: Machine, rank: int, load: Load, back: bool) -> list[Call]:
        """Tokens of this device to their experts or back, by the pattern of the answer."""
        hidden = self.question.model.hidden
        if self.pattern == REPLICATED:
            return self.all_reduce(machine)
        if self.pattern == GATHERED:
            own, every = machine.random(self.tokens, hidden), machine.random(self.tokens * self.devices, hidden)
            if back:
                return [lambda: dist.reduce_scatter_tensor(own, every)]
            return [lambda: dist.all_gather_into_tensor(every, own)]
        out, received = load.sent[rank], [row[rank] for row in load.sent]
        if back:
            out, received = received, out
        source, target = machine.random(sum(out), hidden), machine.random(sum(received), hidden)
        return [lambda: dist.all_to_all_single(target, source, received, out)]


def _slowest(group: Group, calls: Callable[[Machine], list[Call]]) -> Callable[[Machine], float]:
    return lambda machine: machine.agree(machine.seconds(calls(machine)))


def _sample(of: int, wanted: int) -> list[int]:
    """Some of so many, evenly."""
    wanted = min(of, wanted)
    return [at * of // wanted for at in range(wanted)]


def loads(
    asked: argparse.Namespace, question: Question, plan: dict, source: trace.Recorded | trace.Drawn
) -> dict[str, list[Load]]:
    """The loads of every arm, in the same steps and layers."""
    model, devices = question.model, plan["devices"]
    layers = [layer for layer in plan["layers"] if source.has(layer["layer"])]
    if not layers:
        raise SystemExit("the plan has none of the layers whose routes are known: take the plan of this answer and trace")
    steps = source.steps()
    per_device = model.experts // devices
    found: dict[str, list[Load]] = {arm: [] for arm in ARMS}
    for step in range(asked.steps) if steps is None else _sample(steps, asked.steps):
        for at in _sample(len(layers), asked.layers):
            routed, layer = source.step(step, layers[at]["layer"]), layers[at]
            if model.experts != plan["n_logical_experts"] or int(routed.max()) >= model.experts:
                had = f"{model.experts}, {plan['n_logical_experts']} and {int(routed.max()) + 1} experts"
                raise SystemExit(f"model, plan and trace have {had}: they must belong together")
            found["none"].append(load(routed, list(range(model.experts)), devices, model.experts))
            found["advised"].append(load(routed, layer["physical_to_logical"], devices, model.experts))
            found["balanced"].append(balanced(source.tokens, model.top_k, devices, per_device))
    return found


def predicted(answer: dict, strategy: str, communication: bool) -> dict[str, float]:
    """The terms of a strategy that are measured here."""
    entry = next(entry for entry in answer["strategies"] if entry["strategy"] == strategy)
    names = COMPUTE + (COMMUNICATION if communication else ())
    return {name: entry["terms"][name] for name in names}


class Terms:
    """The terms of a layer as rows of the table; equal ones are measured once."""

    def __init__(self, layer: Layer, group: Group, rows: Table) -> None:
        self.layer, self.group, self.rows = layer, group, rows
        self.cases: dict[tuple[str, ...], Case] = {}
        asked = layer.question
        self.tokens = {"tokens": layer.tokens, "seq": asked.length, "attention_tensor": asked.attention_tensor}
        self.products = {**self.tokens, **({"format": BLOCKED} if layer.blocked else {})}

    def _key(self, case: Case) -> tuple[str, ...]:
        return self.rows.key(case.software, case.kernel, case.op, case.shape)

    def _once(self, case: Case) -> Case:
        return self.cases.setdefault(self._key(case), case)

    def _add(self, op: str, shape: dict[str, object], calls: Callable[[Machine], list[Call]]) -> Case:
        shape = {"model": self.layer.question.model.name, "devices": self.layer.devices, **shape}
        return self._once(Case(op, shape, "layer", lambda machine: [], _slowest(self.group, calls)))

    def seconds(self, case: Case) -> float:
        return self.rows.rows[self._key(case)]

    def fixed(self) -> dict[str, Case]:
        """What does not depend on the routes."""
        layer, asked = self.layer, self.layer.question
        found = {
            "attention_s": self._add("layer_attention", self.products, layer.attention),
            "router_s": self._add("layer_router", self.tokens, layer.router),
            "other_s": self._add("layer_other", {**self.tokens, "pairs": pairs_of(asked) // layer.devices}, layer.other),
        }
        if asked.model.shared_intermediate:
            found["shared_s"] = self._add("layer_shared", self.products, layer.shared)
        if self.group.size > 1 and asked.attention_tensor > 1:
            found["all_reduce_s"] = self._add("layer_all_reduce", self.tokens, layer.all_reduce)
        return found

    def emulated(self, load: Load) -> dict[str, list[Case]]:
        """The experts of every device, one after another."""
        model, loop = self.layer.question.model, experts.looped(self.group.machine)
        counts = [sorted(slots, reverse=True) for slots in load.slots]
        held = self.layer.question.experts_format
        cases = [experts.case(model.hidden, model.intermediate, each, model.name, loop, held) for each in counts]
        return {"expert_ffn_s": [self._once(case) for case in cases]}

    def shared_out(self, load: Load, arm: str, sample: int) -> dict[str, list[Case]]:
        """The experts and exchanges of this process; the table holds the slowest of all."""
        layer, rank = self.layer, self.group.rank
        shape = {"arm": arm, "sample": sample, "busiest": "/".join(map(str, max(load.slots, key=sum)))}
        if layer.question.experts_format not in SIXTEEN:
            shape["format"] = layer.question.experts_format
        mine = load.slots[rank]
        terms = {"expert_ffn_s": [self._add("layer_experts", shape, lambda machine: layer.experts(machine, mine))]}
        moved = {"arm": arm, "sample": sample, "received": max(map(sum, zip(*load.sent, strict=True)))}
        # Where everyone gets everything, the time does not depend on the routes.
        shape = self.tokens if layer.pattern in (REPLICATED, GATHERED) else moved
        if layer.pattern != REPLICATED:
            terms["dispatch_s"] = [self._add("layer_dispatch", shape, lambda machine: layer.exchange(machine, rank, load, False))]
        terms["combine_s"] = [self._add("layer_combine", shape, lambda machine: layer.exchange(machine, rank, load, True))]
        return terms


def run(asked: argparse.Namespace, group: Group, rows: Table, budget: Budget) -> list[str]:
    """Measures every term under every arm and reports; answers with what could not be measured."""
    answer, plan = json.loads(asked.answer.read_text()), json.loads(asked.placement.read_text())
    question = read(asked.question)
    if group.size not in (1, plan["devices"]):
        raise SystemExit(f"the plan is for {plan['devices']} devices: start {plan['devices']} processes, or one that emulates them")
    for held in (question.experts_format, question.rest_format):
        if held not in (*SIXTEEN, BLOCKED):
            raise SystemExit(f"/workload: weights in {held} are not built here; {', '.join(SIXTEEN)} and {BLOCKED} are")
    model, many = question.model, group.size > 1
    source = trace.source(asked.trace, answer, question.routing, question.tokens, model.top_k, question.prefill)
    arms = loads(asked, question, plan, source)
    pattern = answer["provenance"]["assumptions"]["communication"]
    terms = Terms(Layer(tiny(question) if asked.tiny else question, plan["devices"], pattern), group, rows)
    fixed = terms.fixed()
    names = {"none": "none", "advised": plan["strategy"], "balanced": "balanced"}
    moving = {
        arm: [terms.shared_out(load, names[arm], at) if many else terms.emulated(load) for at, load in enumerate(found)]
        for arm, found in arms.items()
    }
    missed = measure("layer", list(terms.cases.values()), group.machine, rows, budget, group.chief)
    if missed or not group.chief:
        return missed
    measured = {}
    for arm, samples in moving.items():
        times = {name: terms.seconds(case) for name, case in fixed.items()}
        for name in samples[0]:
            times[name] = sum(max(map(terms.seconds, sample[name])) for sample in samples) / len(samples)
        # The answer counts the expert of every token among the experts.
        times["expert_ffn_s"] += times.pop("shared_s", 0.0)
        measured[arm] = times
    report(asked, question, answer, plan, measured, many, source.said)
    return []


def report(
    asked: argparse.Namespace, question: Question, answer: dict, plan: dict,
    measured: dict[str, dict[str, float]], many: bool, routes: str,
) -> None:  # fmt: skip
    """Predicted against measured, term by term, and whether the advice was right here."""
    print(f"routes: {routes}")
    strategy = plan["strategy"]
    forecast = {"none": predicted(answer, "none", many), "advised": predicted(answer, strategy, many)}
    print(f"{'microseconds':<16}{'none':>20}{strategy:>22}{'forced balance':>18}")
    print(f"{'':<16}{'predicted measured':>20}{'predicted measured':>22}{'measured':>18}")
    for name in measured["none"]:
        cells = [f"{forecast[arm].get(name, 0) * 1e6:.1f} {measured[arm][name] * 1e6:9.1f}" for arm in ("none", "advised")]
        print(f"{name[:-2]:<16}{cells[0]:>20}{cells[1]:>22}{measured['balanced'][name] * 1e6:>18.1f}")
    whole = {arm: sum(terms.values()) for arm, terms in measured.items()}
    told = {arm: sum(terms.values()) for arm, terms in forecast.items()}
    cells = [f"{told[arm] * 1e6:.1f} {whole[arm] * 1e6:9.1f}" for arm in ("none", "advised")]
    print(f"{'layer':<16}{cells[0]:>20}{cells[1]:>22}{whole['balanced'] * 1e6:>18.1f}")
    gain, promised = whole["none"] / whole["advised"], told["none"] / told["advised"]
    advised = answer["recommendation"]["strategy"]
    fastest = min(whole["none"], whole["advised"])
    # A plan of a strategy that was not advised says nothing of the advice, unless that was to do nothing.
    chosen = {"none": whole["none"], strategy: whole["advised"]}.get(advised)
    regret = None if chosen is None else chosen / fastest - 1.0
    called = answer["recommendation"].get("verdict", "recommended")
    verdict = {
        "model": question.model.name, "phase": "prefill" if question.prefill else "decode",
        "tokens": question.tokens, "devices": question.devices,
        "advised": advised, "verdict": called, "measured_strategy": strategy, "predicted_gain": promised, "measured_gain": gain,
        "measured_gain_of_balance": whole["none"] / whole["balanced"], "regret": regret,
        "communication": many, "routes": routes, "measured": measured, "predicted": forecast,
    }  # fmt: skip
    (asked.out / f"layer.{strategy}.json").write_text(json.dumps(verdict, indent=1) + "\n")
    left_out = "" if many else " (devices emulated one after another, without communication)"
    balance = whole["none"] / whole["balanced"]
    print(f"{strategy}: predicted {promised:.3f} times as fast as none, measured {gain:.3f}{left_out}; forced balance {balance:.3f}")
    if regret is None:
        print(f"advice {advised} ({called}): not judged, since the plan is that of {strategy}")
    else:
        print(f"advice {advised} ({called}): {'wrong' if regret > 0 else 'right'} here, regret {regret:.1%}")
