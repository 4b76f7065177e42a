#!/usr/bin/env python3
"""How many steps a run of each model has: nodes of ONNX Runtime's optimised graph, of OpenVINO's execution
graph on the CPU, and Kiln's launches. Prints a table of docs/egraph.md; takes the `kiln` command. OpenVINO is
not among the requirements of the tests: `target/venv/bin/pip install openvino` adds it.
"""

import collections
import sys
import tempfile
from pathlib import Path

import onnx
import onnxruntime

import listed

try:
    import openvino
except ImportError:
    openvino = None


def of_onnxruntime(model: Path, dims: dict) -> collections.Counter:
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        for name, size in dims.items():
            options.add_free_dimension_override_by_name(name, size)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return nodes(onnx.load(options.optimized_model_filepath).graph)


def nodes(graph: onnx.GraphProto) -> collections.Counter:
    """All nodes; of several bodies of one, of which a run takes one, those of the largest."""
    found = collections.Counter(node.op_type for node in graph.node)
    for node in graph.node:
        bodies = [nodes(attribute.g) for attribute in node.attribute if attribute.HasField("g")]
        found += max(bodies, key=lambda body: body.total(), default=collections.Counter())
    return found


def of_openvino(model: Path, dims: dict) -> collections.Counter | None:
    """Nothing if there is no OpenVINO, or it does not take the model."""
    if openvino is None:
        return None
    try:
        return executed_by_openvino(model, dims)
    except RuntimeError as error:
        print(f"OpenVINO: {model}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return None


def executed_by_openvino(model: Path, dims: dict) -> collections.Counter | None:
    core = openvino.Core()
    read = core.read_model(model)
    shapes = {}
    for value in onnx.load(model, load_external_data=False).graph.input:
        tensor = value.type.tensor_type
        sizes = [dims.get(dim.dim_param) or dim.dim_value or -1 for dim in tensor.shape.dim]
        if any(value.name in port.get_names() for port in read.inputs):
            shapes[value.name] = openvino.PartialShape(sizes)
    read.reshape(shapes)
    compiled = core.compile_model(read, "CPU")
    ops = compiled.get_runtime_model().get_ops()
    kinds = (op.get_rt_info()["layerType"].astype(str) for op in ops)
    nothing = {"Input", "Output", "Const", "Parameter", "Result"}
    found = collections.Counter(kind for kind in kinds if kind not in nothing)
    # What is in the bodies of these is not shown.
    return None if {"If", "Loop", "TensorIterator"} & found.keys() else found


def main() -> None:
    parser = listed.parser(__doc__)
    parser.add_argument("--kinds", action="store_true", help="also how many of each kind of node")
    arguments = parser.parse_args()
    print("| model | ONNX Runtime | OpenVINO | Kiln |")
    print("|---|---|---|---|")
    for name, dims, model in listed.models(arguments.models):
        ort, ov = of_onnxruntime(model, dims), of_openvino(model, dims)
        flags = ("--runs", 1, "--schedules", "none")
        launches = listed.report(arguments.command, "bench", model, dims, *flags)["launches"]
        count = "–" if ov is None else ov.total()
        print(f"| {name} | {ort.total()} | {count} | {launches} |", flush=True)
        if arguments.kinds:
            print("ONNX Runtime:", dict(ort.most_common()))
            print("OpenVINO:", dict(ov.most_common()) if ov else "–")


if __name__ == "__main__":
    main()
