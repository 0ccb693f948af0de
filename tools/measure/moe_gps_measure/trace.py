"""Recorded routes from an .npz file, read without NumPy."""

import ast
import zipfile
from pathlib import Path

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
