"""The commands: `operators`, `links` and `layer`."""

import argparse
import json
import sys
from datetime import date
from pathlib import Path

import torch

from moe_gps_measure import layer, links
from moe_gps_measure.blocks import BLOCKS
from moe_gps_measure.case import Budget, measure
from moe_gps_measure.group import Group, join, leave
from moe_gps_measure.question import Question, parse, read, tiny
from moe_gps_measure.table import Table
from moe_gps_measure.timing import Machine

# What is measured where no question is given: the question of the README.
USUAL = {"model": "mixtral-8x7b", "cluster": {"devices": 4}, "workload": {"phase": "prefill", "batch_size": 2, "sequence_length": 512}}


def table(machine: Machine, folder: Path, name: str, device: str) -> Table:
    """The table of a command, with a first line that says what was measured with."""
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}" if machine.on_gpu else f"torch {torch.__version__}"
    return Table(folder / f"{name}.operators.csv", device, f"{machine.name()}, {versions}, {date.today()}")


def questions(paths: list[Path], small: bool) -> list[Question]:
    found = [read(path) for path in paths] or [parse(USUAL)]
    return [tiny(question) for question in found] if small else found


def operators(asked: argparse.Namespace) -> list[str]:
    machine = Machine.here(asked.tiny)
    rows, budget, missed = table(machine, asked.out, "measured", asked.device_id), Budget(asked.minutes), []
    for question in questions(asked.question, asked.tiny):
        for name, cases in BLOCKS.items():
            if not asked.block or name in asked.block:
                missed += measure(f"{question.model.name}, {name}", cases(question), machine, rows, budget)
    return missed


def exchanges(asked: argparse.Namespace, group: Group) -> list[str]:
    rows = table(group.machine, asked.out, "links", asked.device_id)
    return measure("links", links.cases(group), group.machine, rows, Budget(asked.minutes), group.chief)


def confirm(asked: argparse.Namespace, group: Group) -> list[str]:
    rows = table(group.machine, asked.out, "layer", asked.device_id)
    return layer.run(asked, group, rows, Budget(asked.minutes))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="moe_gps_measure", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("operators", "operators of one device"),
        ("links", "collectives among the processes of torchrun"),
        ("layer", "a whole layer under none, the advised placement and forced balance, held against an answer"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("--out", type=Path, default=Path("measured"), help="folder of the table (measured)")
        command.add_argument("--minutes", type=float, default=30.0, help="when to stop; the same command goes on from there (30)")
        command.add_argument("--device-id", required=True, help="catalog id of the device, such as h200-sxm, or a name of your own")
        command.add_argument("--tiny", action="store_true", help="tiny shapes, to try the kit where there is no GPU")
        if name == "operators":
            about = "question whose shapes are measured; may be repeated"
            command.add_argument("--question", type=Path, action="append", default=[], help=about)
            command.add_argument("--block", action="append", choices=list(BLOCKS), help="only this kind of operator; may be repeated")
        if name == "layer":
            command.add_argument("--question", type=Path, required=True, help="the question that was asked")
            command.add_argument("--answer", type=Path, required=True, help="its answer (moe-gps advise --json)")
            command.add_argument("--placement", type=Path, required=True, help="the plan of that answer (moe-gps advise --placement)")
            about = "recorded routes (.npz with routes.npy) or counts (.json); without it routes are drawn by the load of the answer"
            command.add_argument("--trace", type=Path, help=about)
            command.add_argument("--steps", type=int, default=4, help="steps of the trace that are replayed (4)")
            command.add_argument("--layers", type=int, default=4, help="layers of the trace that are replayed (4)")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    if asked.command == "operators":
        missed = operators(asked)
    else:
        group = join(asked.tiny)
        if asked.command == "links" and group.size < 2:
            print("links need two processes or more: torchrun --nproc-per-node 2 -m moe_gps_measure links …", file=sys.stderr)
            return 2
        missed = (exchanges if asked.command == "links" else confirm)(asked, group)
        leave()
        if not group.chief:
            return 0
    for line in missed:
        print(f"not measured: {line}", file=sys.stderr)
    print(json.dumps({"out": str(asked.out), "not_measured": len(missed)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
