"""Copies within the device."""

import torch

from moe_gps_measure.case import Case
from moe_gps_measure.question import Question
from moe_gps_measure.timing import Call, Machine

MIB = 1 << 20
SIZES = (MIB, 8 * MIB, 32 * MIB, 96 * MIB, 352 * MIB, 1024 * MIB, 4096 * MIB)
TINY_SIZES = (1 << 12, 1 << 14, 1 << 16)


def calls(machine: Machine, size: int) -> list[Call]:
    def one() -> Call:
        source, target = (torch.empty(size, dtype=torch.uint8, device=machine.device) for _ in range(2))
        source.random_()
        return lambda: target.copy_(source)

    return [one() for _ in range(machine.sets(2 * size))]


def cases(question: Question) -> list[Case]:
    sizes = TINY_SIZES if question.model.name.startswith("tiny-") else SIZES
    return [Case("copy", {"bytes": size}, "copy", lambda machine, size=size: calls(machine, size)) for size in sizes]
