"""Classifiers of the onnx package with random weights in the place of their constant ones.

The package's weights are all 0.02, and any network with those says 0.001 of every class; with
random ones a result depends on every weight. The Softmax at the end is left out: it would hide
all but the largest of the results. The same name gives the same weights.
"""

import zlib

import numpy as np
import onnx
from onnx import numpy_helper

import light

# What BatchNormalization's inputs 1 to 4 are drawn from: scale, bias, mean, variance.
NORMALISATION = [(0.6, 1.2), (-0.2, 0.2), (-0.2, 0.2), (0.5, 1.5)]


def draw(generator, node: onnx.NodeProto, place: int, sizes: list[int]) -> np.ndarray:
    """Weights as training would start from, so that activations keep their size."""
    if node.op_type == "BatchNormalization":
        array = generator.uniform(*NORMALISATION[place - 1], sizes)
    elif node.op_type in ("Conv", "Gemm") and place == 1:
        # He et al., Delving deep into rectifiers, 2015; Gemm's B is transposed in these models.
        array = generator.standard_normal(sizes) * np.sqrt(2 / np.prod(sizes[1:]))
    elif node.op_type == "Mul":
        array = generator.uniform(0.5, 1.5, sizes)
    else:
        array = generator.uniform(-0.2, 0.2, sizes)
    return array.astype(np.float32)


def model(name: str) -> bytes:
    """The model of that name with weights drawn at random."""
    proto = onnx.load(light.model_path(name))
    graph = proto.graph
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    sizes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    constants = {node.output[0]: node for node in graph.node if node.op_type == "ConstantOfShape"}
    # Through Unsqueeze, a scale or bias reaches its Mul or Add.
    users = {}
    for node in graph.node:
        for place, value in enumerate(node.input):
            users.setdefault(value, (node, place))
    for output, node in constants.items():
        user, place = users[output]
        while user.op_type in ("Unsqueeze", "Reshape"):
            user, place = users[user.output[0]]
        array = draw(generator, user, place, [int(size) for size in sizes[node.input[0]]])
        graph.node.remove(node)
        graph.initializer.append(numpy_helper.from_array(array, output))
    if graph.node[-1].op_type == "Softmax":
        output = graph.node.pop().output[0]
        graph.node[-1].output[0] = output
    used = {value for node in graph.node for value in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    inputs = [value for value in graph.input if value.name in used]
    del graph.initializer[:], graph.input[:]
    graph.initializer.extend(kept)
    graph.input.extend(inputs)
    # Before IR 4 every initialiser is an input too.
    inputs = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if proto.ir_version < 4 and tensor.name not in inputs:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(value)
    return proto.SerializeToString(deterministic=True)
