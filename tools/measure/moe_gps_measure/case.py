"""One row to be measured, and the run that measures many: progress, time budget, resumption."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from moe_gps_measure.table import Software, Table
from moe_gps_measure.timing import Call, Machine


def pytorch() -> Software:
    """PyTorch by its version's first two numbers, as the shipped tables name it."""
    return Software("PyTorch", ".".join(torch.__version__.split(".")[:2]))


@dataclass(frozen=True)
class Case:
    """One row: what it is called, and the calls to time, one for every set of buffers."""

    op: str
    shape: dict[str, object]
    kernel: str
    calls: Callable[[Machine], Sequence[Call]]
    # Where a time is not that of replayed calls: how it is taken.
    seconds: Callable[[Machine], float] | None = None
    software: Software = field(default_factory=pytorch)


@dataclass
class Budget:
    """When to stop."""

    minutes: float
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        return self.minutes * 60 - (time.monotonic() - self.began)


def progress(text: str, chief: bool) -> None:
    """One line that is written over where it can be."""
    if chief:
        end = "\r" if sys.stderr.isatty() else "\n"
        print(text.ljust(100), end=end, file=sys.stderr, flush=True)


def measure(block: str, cases: Sequence[Case], machine: Machine, table: Table, budget: Budget, chief: bool = True) -> list[str]:
    """Measures what the table lacks; answers with what could not be measured, and why."""
    missed = []
    keys = {table.key(case.software, case.kernel, case.op, case.shape): case for case in cases}
    wanted = [(key, case) for key, case in keys.items() if key not in table.rows]
    for done, (key, case) in enumerate(wanted):
        if machine.agree(-budget.left()) > 0:
            missed.append(f"{block}: {len(wanted) - done} rows left out, the time is over; the same command goes on from here")
            break
        try:
            seconds = case.seconds(machine) if case.seconds else machine.seconds(case.calls(machine))
        # What a library lacks, or takes otherwise in this version, is said; the rest is measured.
        except (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, ImportError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            missed.append(f"{case.op} of {case.kernel} at {key[-1]}: {reason}")
            continue
        if chief:
            table.add(key, seconds)
        else:
            table.rows[key] = seconds
        progress(f"{block} {done + 1}/{len(wanted)}, {budget.left() / 60:.1f} minutes left", chief and done % 25 == 24)
    progress(f"{block}: {len(keys)} rows, {len(keys) - len(wanted)} of them there before", chief)
    return missed
