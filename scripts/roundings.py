"""Models that round to 8 bits as they run, split where they do.

One number that falls to the other side of a half changes all that comes after (docs/kokoro.md has how
far). So each rounded tensor is an input of the split model, filled with what ONNX Runtime rounded to,
and what the model itself rounds to there is an output. Between two roundings nothing is left out;
errors do not add up from one to the next.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import inputs

VOICE = "jf_alpha"
ROUNDS = "DynamicQuantizeLinear"
# Of the results of that operator, in order.
TYPES = [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8]


def say(files: Path, sounds: str) -> inputs.Feeds:
    """What Kokoro takes to say this; styles are by the number of sounds."""
    numbers = json.loads((files / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    tokens = [numbers[sound] for sound in sounds]
    style = np.load(files / "voices_ja.npz")[VOICE][len(tokens) - 1]
    return {
        "tokens": np.array([[0, *tokens, 0]], np.int64),
        "style": style.astype(np.float32),
        "speed": np.ones(1, np.float32),
    }


def rounded(model: onnx.ModelProto) -> list[tuple[str, int]]:
    """What is rounded, its scales and zero points, with their types."""
    return [pair for node in model.graph.node if node.op_type == ROUNDS
            for pair in zip(node.output, TYPES)]


def with_outputs(model: onnx.ModelProto, names: list[tuple[str, int]]) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    values = [onnx.helper.make_tensor_value_info(name, dtype, None) for name, dtype in names]
    result.graph.output.extend(values)
    return result


def split(model: onnx.ModelProto, found: inputs.Feeds) -> onnx.ModelProto:
    """Every result of a rounding as an output under a name of its own, and as an input where it is
    used."""
    result = with_outputs(model, [(f"{name}_own", dtype) for name, dtype in rounded(model)])
    for node in result.graph.node:
        if node.op_type == ROUNDS:
            node.output[:] = [f"{name}_own" for name in node.output]
    for name, dtype in rounded(model):
        shape = list(found[name].shape)
        value = onnx.helper.make_tensor_value_info(name, dtype, shape)
        result.graph.input.append(value)
    return result


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    data = model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def case(path: Path, feeds: inputs.Feeds) -> tuple[bytes, list[np.ndarray], list[np.ndarray]]:
    """The split model, its inputs and the expected outputs: the model's one, then the roundings."""
    model = onnx.load(path)
    names = [name for name, _ in rounded(model)]
    result = model.graph.output[0].name
    values = session(with_outputs(model, rounded(model))).run([result, *names], feeds)
    found = dict(zip(names, values[1:]))
    data = split(model, found).SerializeToString(deterministic=True)
    return data, [*feeds.values(), *found.values()], values
