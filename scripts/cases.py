"""Writes test cases as ONNX's backend tests have them: model.onnx and test_data_set_N with
input_0.pb …, output_0.pb …, in the graph's order.

A case folder appears whole or not at all, and carries a stamp of everything it was made from, so
that making it again costs nothing.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
from onnx import MapProto, SequenceProto, TensorProto, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "target" / "models"

Tensors = list[np.ndarray]


def stamp_of(*sources: Path | str) -> str:
    """A hash of files' contents and of other text."""
    digest = hashlib.sha256()
    for source in sources:
        data = source.read_bytes() if isinstance(source, Path) else source.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def is_current(folder: Path, stamp: str) -> bool:
    path = folder / "stamp"
    return path.is_file() and path.read_text() == stamp


def link(source: Path, target: Path) -> None:
    """A hard link, so that the model lies in the case's folder; a copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_settings(folder: Path, settings: dict) -> None:
    """How a case is compared, in the file that ONNX's own data has for it."""
    (folder / "data.json").write_text(json.dumps(settings, sort_keys=True) + "\n")


def message_of(value):
    """The message that holds an array, a dictionary of numbers, or a list of either."""
    if isinstance(value, dict):
        number = np.float32 if isinstance(next(iter(value.values())), float) else np.int64
        message = MapProto(key_type=TensorProto.INT64, values=message_of([np.array(of, number) for of in value.values()]))
        if isinstance(next(iter(value)), str):
            message.key_type = TensorProto.STRING
            message.string_keys.extend(key.encode() for key in value)
        else:
            message.keys.extend(value)
        return message
    if isinstance(value, list):
        kind = SequenceProto.MAP if value and isinstance(value[0], dict) else SequenceProto.TENSOR
        message = SequenceProto(elem_type=kind)
        (message.map_values if kind == SequenceProto.MAP else message.tensor_values).extend(map(message_of, value))
        return message
    return numpy_helper.from_array(value)


def write(folder: Path, stamp: str, model: Path | bytes, data_sets: list[tuple[Tensors, Tensors]],
          beside: list[Path] = []) -> None:
    """Writes a case; `beside` are files that the model refers to. Those are copied, because ONNX
    refuses external data with several hard links."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if isinstance(model, bytes):
        (partial / "model.onnx").write_bytes(model)
    else:
        link(model, partial / "model.onnx")
    for file in beside:
        shutil.copyfile(file, partial / file.name)
    for number, (inputs, outputs) in enumerate(data_sets):
        place = partial / f"test_data_set_{number}"
        place.mkdir()
        for kind, tensors in [("input", inputs), ("output", outputs)]:
            for index, tensor in enumerate(tensors):
                (place / f"{kind}_{index}.pb").write_bytes(message_of(tensor).SerializeToString())
    (partial / "stamp").write_text(stamp)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
