#!/usr/bin/env python3
"""The nine ImageNet classifiers of the onnx package, as test cases in target/models/light.

The package has models, whose weights are all one constant, and their expected outputs. The input is
the ramp from 0 to 1 that its own test runner makes for them.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import cases

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def names() -> list[str]:
    return sorted(path.stem.removeprefix("light_") for path in DATA.glob("light_*.onnx"))


def model_path(name: str) -> Path:
    return DATA / f"light_{name}.onnx"


def data_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs that have no initialiser."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)


def ramp(sizes: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(sizes))
    return (np.arange(count).reshape(sizes) / count).astype(np.float32)


def main() -> None:
    for name in names():
        folder = cases.MODELS / "light" / name
        stamp = cases.stamp_of(model_path(name), Path(__file__), Path(cases.__file__))
        if cases.is_current(folder, stamp):
            continue
        model = onnx.load(model_path(name))
        inputs = [ramp(shape(value)) for value in data_inputs(model)]
        files = [DATA / f"light_{name}_output_{i}.pb" for i in range(len(model.graph.output))]
        outputs = [numpy_helper.to_array(onnx.load_tensor(file)) for file in files]
        cases.write(folder, stamp, model_path(name).read_bytes(), [(inputs, outputs)])
        print(f"  {folder.relative_to(cases.ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
