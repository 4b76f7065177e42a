#!/usr/bin/env python3
"""Writes the models that are compared, each into a folder of its own: `model.onnx` with fixed sizes, `input_0.npy` …
in the model's order, `expected_0.npy` … of ONNX Runtime without optimisations, and `about.json`.

Every system gets the same file, in which the sizes of inputs and outputs are numbers. Sizes are those of
scripts/listed.py; what it does not have are large classifiers and transformers with random weights.
"""

import argparse
import json
import shutil
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "scripts"))

import cases
import inputs
import light
import listed
import network
import reference
import seeded
import transformers

Generator = np.random.Generator


@dataclass
class Subject:
    """A model, and inputs of the sizes and the content that it is used with."""

    model: Callable[[], Path | bytes | onnx.ModelProto]
    feeds: Callable[[Generator], list[np.ndarray]]
    # Names of inputs, where the feeds are fewer than the graph's or in another order.
    names: list[str] | None = None
    # The key of scripts/listed.py, whose sizes the feeds must have.
    listed: str | None = None
    sources: tuple[Path, ...] = ()


def file(name: str, feeds: Callable[[Generator], list[np.ndarray]], names: list[str] | None = None) -> Subject:
    path = cases.MODELS / f"{name}.onnx"
    return Subject(lambda: path, feeds, names, name, (path,))


def frame(generator: Generator) -> list[np.ndarray]:
    return [inputs.frames(generator, 1, 16000)[0], np.zeros((2, 1, 128), np.float32)]


def frame_and_rate(generator: Generator) -> list[np.ndarray]:
    return [*frame(generator), np.array(16000, np.int64)]


def photograph(generator: Generator) -> list[np.ndarray]:
    return [reference.standardised(inputs.picture(generator, 1, 3, 224, 224))]


def tokens(batch: int) -> Callable[[Generator], list[np.ndarray]]:
    """Whole sentences of 128 tokens."""
    return lambda generator: list(inputs.sentences(generator, [128] * batch, 128).values())


def classifier(name: str) -> Subject:
    """One whose weights do not fit among the tests' own."""
    return Subject(lambda: seeded.model(name), photograph, sources=(light.model_path(name), Path(seeded.__file__)))


def transformer(make: Callable[[], onnx.ModelProto], feeds: Callable[[Generator], list[np.ndarray]]) -> Subject:
    return Subject(make, feeds, sources=(Path(transformers.__file__), Path(network.__file__)))


SPEECH = ["input", "state"]
SUBJECTS = {
    "nudenet": file("files/nudenet/320n", lambda g: [inputs.picture(g, 1, 3, 320, 320)]),
    "ppocr-cls": file("files/rapidocr/ch_ppocr_mobile_v2.0_cls_infer",
                      lambda g: [reference.scaled(inputs.text_line(g, 1, 3, 48, 192))]),
    "ppocr-det": file("files/rapidocr/ch_PP-OCRv4_det_infer",
                      lambda g: [reference.standardised(inputs.page(g, 640, 640))]),
    "ppocr-rec": file("files/rapidocr/ch_PP-OCRv4_rec_infer",
                      lambda g: [reference.scaled(inputs.text_line(g, 6, 3, 48, 320))]),
    "magika": file("files/magika/model", lambda g: [inputs.file_bytes(g, 1)]),
    "silero-vad": file("files/silero-vad/silero_vad_16k_op15", frame_and_rate, [*SPEECH, "sr"]),
    "silero-vad-ifless": file("files/silero-vad/silero_vad_op18_ifless", frame_and_rate, [*SPEECH, "sr"]),
    "silero-vad-half": file("files/silero-vad/silero_vad_half", frame, SPEECH),
    "ddddocr": file("files/ddddocr/common", lambda g: [inputs.text_line(g, 1, 1, 64, 160)]),
    "ddddocr-det": file("files/ddddocr/common_det", lambda g: [255 * inputs.picture(g, 1, 3, 416, 416)]),
    **{name: file(f"cases/{name}-seeded/model", photograph)
       for name in ("resnet50", "densenet121", "inception_v1", "inception_v2", "shufflenet", "squeezenet")},
    "alexnet": classifier("bvlc_alexnet"),
    "zfnet512": classifier("zfnet512"),
    "vgg19": classifier("vgg19"),
    "minilm": file("cases/minilm/model", tokens(1)),
    "minilm-1": transformer(lambda: transformers.minilm(1), tokens(1)),
    "minilm-32": transformer(lambda: transformers.minilm(32), tokens(32)),
    "bert-base": transformer(transformers.bert_base, tokens(1)),
    "gpt2": transformer(transformers.gpt2, lambda g: [g.integers(0, 50257, (1, 128))]),
    "vit-b16": transformer(transformers.vit, photograph),
}


def load(model: Path | bytes | onnx.ModelProto) -> onnx.ModelProto:
    if isinstance(model, Path):
        return onnx.load(model)
    return onnx.load_model_from_string(model) if isinstance(model, bytes) else model


def named(name: str, dims: dict[str, int], values: list[onnx.ValueInfoProto],
          feeds: dict[str, np.ndarray]) -> dict[str, int]:
    """The sizes that the inputs' names have; an error where one is not that of scripts/listed.py."""
    sizes = {}
    for value in values:
        for dimension, size in zip(value.type.tensor_type.shape.dim, feeds[value.name].shape):
            if dimension.dim_param:
                sizes[dimension.dim_param] = size
            if dims.get(dimension.dim_param, size) != size:
                raise SystemExit(f"error: {name}: {dimension.dim_param} is {size}, listed as {dims[dimension.dim_param]}")
    return sizes


def name_none(graph: onnx.GraphProto, sizes: dict[str, int]) -> None:
    """Forgets what is said of values in between, here and in bodies, where sizes have names; every system infers them
    itself. Results of bodies keep theirs, with sizes that inputs tell as numbers.
    """
    del graph.value_info[:]
    for value in graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in sizes:
                dimension.dim_value = sizes[dimension.dim_param]
    for node in graph.node:
        for attribute in node.attribute:
            # What is not there would be made by looking into it.
            for body in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                name_none(body, sizes)


def fix(values: list[onnx.ValueInfoProto], arrays: list[np.ndarray]) -> None:
    """Gives inputs or outputs the sizes of these arrays."""
    for value, array in zip(values, arrays):
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=size) for size in array.shape)


def write(name: str, subject: Subject, folder: Path) -> None:
    proto = load(subject.model())
    arrays = subject.feeds(np.random.default_rng(zlib.crc32(name.encode())))
    values = light.data_inputs(proto)
    feeds = dict(zip(subject.names or [value.name for value in values], arrays))
    name_none(proto.graph, named(name, listed.MODELS.get(subject.listed, {}), values, feeds))
    arrays = [feeds[value.name] for value in values]
    fix(values, arrays)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, feeds)
    start = time.perf_counter()
    session.run(None, feeds)
    seconds = time.perf_counter() - start
    fix(proto.graph.output, outputs)
    onnx.save(proto, folder / "model.onnx")
    for kind, tensors in (("input", arrays), ("expected", outputs)):
        for number, tensor in enumerate(tensors):
            np.save(folder / f"{kind}_{number}.npy", tensor)
    about = {"inputs": [value.name for value in values], "outputs": [value.name for value in proto.graph.output],
             "seconds": seconds}
    (folder / "about.json").write_text(json.dumps(about))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="*", help="parts of names; all of them without")
    arguments = parser.parse_args()
    for name, subject in SUBJECTS.items():
        if arguments.models and not any(part in name for part in arguments.models):
            continue
        if missing := [source for source in subject.sources if not source.is_file()]:
            raise SystemExit(f"error: {missing[0].relative_to(ROOT)} is missing; run `make models`")
        folder = arguments.folder / name
        stamp = cases.stamp_of(name, Path(__file__), Path(inputs.__file__), Path(listed.__file__), *subject.sources)
        if not cases.is_current(folder, stamp):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write(name, subject, folder)
            (folder / "stamp").write_text(stamp)
        print(name, flush=True)


if __name__ == "__main__":
    main()
