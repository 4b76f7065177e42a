#!/usr/bin/env python3
"""How far ONNX Runtime itself is from exact: the cases computed in float64 by ONNX's reference.

A tool for deciding who is right when two implementations differ; the tests do not need it. Models
are converted as a whole: weights, constants and casts to 16 and 32-bit floats become float64.
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import cases

NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16)


class GlobalMaxPool(OpRun):
    """ONNX's own is right for two spatial axes only."""

    op_domain = ""

    def _run(self, x):
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class BatchNormalization(OpRun):
    """ONNX's own takes every model before opset 14 for one in training."""

    op_domain = ""

    def _run(self, x, scale, bias, mean, variance, epsilon=None, momentum=None, **_):
        def column(vector):
            return vector.reshape(-1, *(1,) * (x.ndim - 2))

        normal = (x - column(mean)) / np.sqrt(column(variance) + epsilon)
        return (normal * column(scale) + column(bias),)


class LRN(OpRun):
    """ONNX's own fills as many channels as the batch is long."""

    op_domain = ""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        before, after = (size - 1) // 2, size // 2
        square = np.pad(x * x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))
        total = sum(square[:, at : at + x.shape[1]] for at in range(size))
        return (x / (bias + alpha / size * total) ** beta,)


def widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in NARROW:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def widen(graph: onnx.GraphProto) -> None:
    """Makes every float of the graph and of its subgraphs a float64."""
    for tensor in graph.initializer:
        widen_tensor(tensor)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                widen_tensor(attribute.t)
            if attribute.HasField("g"):
                widen(attribute.g)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in NARROW:
                attribute.i = TensorProto.DOUBLE


def tensors(folder: Path, kind: str) -> list[np.ndarray]:
    count = len(list(folder.glob(f"{kind}_*.pb")))
    return [numpy_helper.to_array(onnx.load_tensor(folder / f"{kind}_{i}.pb")) for i in range(count)]


def main(only: list[str]) -> None:
    for folder in sorted((cases.MODELS / "cases").iterdir()):
        if only and folder.name not in only:
            continue
        model = onnx.load(folder / "model.onnx")
        widen(model.graph)
        evaluator = ReferenceEvaluator(model, new_ops=[BatchNormalization, GlobalMaxPool, LRN])
        weights = {tensor.name for tensor in model.graph.initializer}
        names = [value.name for value in model.graph.input if value.name not in weights]
        for data_set in sorted(folder.glob("test_data_set_*")):
            start = time.monotonic()
            feeds = {
                name: array.astype(np.float64) if array.dtype == np.float32 else array
                for name, array in zip(names, tensors(data_set, "input"))
            }
            exact = evaluator.run(None, feeds)
            for index, (ours, theirs) in enumerate(zip(exact, tensors(data_set, "output"))):
                error, size = np.abs(ours - theirs).max(), np.abs(ours).max()
                seconds = time.monotonic() - start
                print(f"{folder.name} {data_set.name} output_{index}: off by {error:.1e} of "
                      f"{size:.1e}, {error / size / 2**-24:.1f} roundings ({seconds:.1f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
