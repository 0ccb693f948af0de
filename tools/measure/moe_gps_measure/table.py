"""The table of measured operators, in the schema of docs/calibrating.md; what it holds is not measured again."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("device", "framework", "version", "kernel", "op", "shape", "seconds")


@dataclass(frozen=True)
class Software:
    """What computes: framework and version; every row adds its kernel."""

    framework: str
    version: str


def shape_text(shape: dict[str, object]) -> str:
    """`key=value;key=value`, as the table states a shape."""
    return ";".join(f"{key}={value}" for key, value in shape.items())


class Table:
    """A file that grows row by row, so that nothing is lost where a run is broken off."""

    def __init__(self, path: Path, device: str, note: str) -> None:
        self.path, self.device = path, device
        self.rows: dict[tuple[str, ...], float] = {}
        if path.exists():
            with path.open(newline="") as file:
                lines = (line for line in file if not line.startswith("#"))
                for row in csv.DictReader(lines):
                    self.rows[tuple(row[name] for name in COLUMNS[:-1])] = float(row["seconds"])
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {note}\n{','.join(COLUMNS)}\n")

    def key(self, software: Software, kernel: str, op: str, shape: dict[str, object]) -> tuple[str, ...]:
        return (self.device, software.framework, software.version, kernel, op, shape_text(shape))

    def add(self, keys: Iterable[str], seconds: float) -> None:
        key = tuple(keys)
        self.rows[key] = seconds
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([*key, f"{seconds:.4e}"])
