"""Reads safetensors files: eight bytes of header length, a JSON header, then the tensors.

Arrays are views of the mapped file; `places` says where in the file each tensor's bytes are.
"""

import json
from pathlib import Path

import numpy as np

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def places(path: Path) -> dict[str, tuple[str, list[int], int, int]]:
    """Type, shape, offset in the file and length of every tensor."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        found[name] = (TYPES[entry["dtype"]], entry["shape"], 8 + length + begin, end - begin)
    return found


def read(path: Path) -> dict[str, np.ndarray]:
    data = np.memmap(path, mode="r")
    return {
        name: data[offset : offset + length].view(dtype).reshape(shape)
        for name, (dtype, shape, offset, length) in places(path).items()
    }
