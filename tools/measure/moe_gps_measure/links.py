"""Collectives among the processes of torchrun, and exchanges with equal and with skewed parts."""

from collections.abc import Callable

import torch
import torch.distributed as dist

from moe_gps_measure.blocks.experts import zipf_counts
from moe_gps_measure.case import Case
from moe_gps_measure.group import Group
from moe_gps_measure.table import Software
from moe_gps_measure.timing import Call, Machine

SIZES = tuple(4**power << 12 for power in range(9))
TINY_SIZES = (1 << 11, 1 << 12, 1 << 14)
# Exponents of the parts of an exchange with stated parts: equal, moderately and strongly skewed ones.
SKEWS = (0.0, 0.5, 1.0)
# Parts are whole numbers of so many elements, as rows of a model are: NCCL is slow on addresses that are not aligned.
ROW = 64


def software(machine: Machine) -> Software:
    """The library that communicates, with its version."""
    if machine.on_gpu:
        return Software("NCCL", ".".join(map(str, torch.cuda.nccl.version())))
    return Software("gloo", ".".join(torch.__version__.split(".")[:2]))


def _timed(sent: int, received: int, operation: Callable[[torch.Tensor, torch.Tensor], object]) -> Callable[[Machine], float]:
    """The slowest process' time of an operation on two buffers; nothing rotates, since links do not cache."""

    def seconds(machine: Machine) -> float:
        source, target = machine.random(sent), machine.random(received)

        def call() -> None:
            operation(source, target)

        calls: list[Call] = [call]
        return machine.agree(machine.seconds(calls))

    return seconds


def cases(group: Group) -> list[Case]:
    machine, devices = group.machine, group.size
    made, library = software(machine), "nccl" if machine.on_gpu else "gloo"
    found = []

    def add(op: str, size: int, operation: Callable[[torch.Tensor, torch.Tensor], object], received: int, **more: object) -> None:
        shape = {"devices": devices, "bytes": size, "library": library, **more}
        found.append(Case(op, shape, "", lambda machine: [], _timed(elements, received, operation), made))

    for size in TINY_SIZES if machine.tiny else SIZES:
        elements = size // machine.element_bytes() // (devices * ROW) * devices * ROW
        own = slice(group.rank * elements // devices, (group.rank + 1) * elements // devices)
        add("all_reduce", size, lambda source, _: dist.all_reduce(source), elements)
        add("all_gather", size, lambda source, target, own=own: dist.all_gather_into_tensor(target, source[own]), elements)
        add("reduce_scatter", size, lambda source, target, own=own: dist.reduce_scatter_tensor(target[own], source), elements)
        add("alltoall", size, lambda source, target: dist.all_to_all_single(target, source), elements)
        for exponent in SKEWS:
            # Everyone sends most to device 0: it receives a part of everyone that is larger than its own.
            sent = [ROW * count for count in zipf_counts(devices, elements // ROW, exponent)]
            received = [sent[group.rank]] * devices
            share = round(sent[0] * devices / elements, 3)
            add(
                "alltoall_split", size,
                lambda source, target, sent=sent, received=received: dist.all_to_all_single(target, source, received, sent),
                sum(received), zipf=exponent, max_over_mean=share,
            )  # fmt: skip
    return found
