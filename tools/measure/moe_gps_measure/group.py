"""The processes of torchrun, and what they agree on."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from moe_gps_measure.timing import Machine


@dataclass(frozen=True)
class Group:
    """This process among all; one process alone needs no torchrun."""

    machine: Machine
    rank: int
    size: int

    @property
    def chief(self) -> bool:
        return self.rank == 0


def join(tiny: bool) -> Group:
    """Joins the other processes: NCCL on GPUs, gloo on processors; numbers are agreed on over gloo."""
    if "RANK" not in os.environ:
        return Group(Machine.here(tiny), 0, 1)
    machine = Machine.here(tiny, int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group("nccl" if machine.on_gpu else "gloo", device_id=machine.device if machine.on_gpu else None)
    beside = dist.new_group(backend="gloo")

    def most(value: float) -> float:
        number = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(number, dist.ReduceOp.MAX, group=beside)
        return float(number)

    machine.agree = most
    return Group(machine, dist.get_rank(), dist.get_world_size())


def leave() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
