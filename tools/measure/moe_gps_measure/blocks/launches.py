"""What starting a kernel costs: on the host, on the device inside a graph, and the replay of a graph."""

import statistics
import time

import torch

from moe_gps_measure.case import Case
from moe_gps_measure.question import Question
from moe_gps_measure.timing import Call, Machine

# Kernels enqueued between two looks at the clock: few enough that the queue never fills.
BATCH = 200


def _small(machine: Machine) -> Call:
    cell = torch.zeros(32, device=machine.device)
    return lambda: cell.add_(1)


def _host(machine: Machine, call: Call, batch: int) -> float:
    """The median time the host needs to enqueue a call."""
    call()
    times = []
    for _ in range(machine.effort.least * 4):
        if machine.on_gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(batch):
            call()
        times.append((time.perf_counter() - began) / batch)
    return statistics.median(times)


def host(machine: Machine) -> float:
    return _host(machine, _small(machine), BATCH)


def replay(machine: Machine) -> float:
    """The host's time for one replay of a graph of `BATCH` kernels."""
    call, graph = _small(machine), torch.cuda.CUDAGraph()
    call()
    with torch.cuda.graph(graph):
        for _ in range(BATCH):
            call()
    return _host(machine, graph.replay, 1)


def cases(_: Question) -> list[Case]:
    found = [
        Case("launch_host", {"kernels": 1}, "eager", lambda machine: [], host),
        Case("launch_device", {"kernels": 1}, "graph", lambda machine: [_small(machine)]),
    ]
    if torch.cuda.is_available():
        found.append(Case("launch_host", {"kernels": BATCH}, "graph", lambda machine: [], replay))
    return found
