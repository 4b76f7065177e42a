"""Makes the dimensions of a model's inputs symbolic.

Every dimension gets a name of its own, so nothing is said of any two being equal. What remains fixed
is what ONNX needs to know the ranks of results, the number of outputs and the meaning of an operand:
the lengths of inputs that hold axes, shapes and the like.
"""

from collections.abc import Iterator

import onnx
from onnx import defs

# Names that the schemas give to inputs whose values are axes, sizes, or one for each dimension, and
# to vectors of exactly one or two elements.
LENGTH_COUNTS = {
    "axes", "shape", "size", "sizes", "scales", "roi", "pads", "split", "starts", "ends", "steps",
    "repeats", "image_shape", "block_shape", "output_shape",
    "K", "M", "cond", "axis", "depth", "k", "max_output_boxes_per_class",
    "iou_threshold", "score_threshold", "constant_value", "position", "dft_length", "frame_step",
    "frame_length",
}
# Such inputs whose names mean something else elsewhere.
ALSO_COUNTED = {("ConstantOfShape", 0), ("OneHot", 2)}
# Inputs whose last dimension is the length of index tuples, which decides the rank of the result, or
# tells real numbers from complex ones.
LAST_DECIDES = {("GatherND", 1), ("ScatterND", 1), ("DFT", 0), ("STFT", 0)}
# With a size of 1 these are of the whole tensor, with any other of its slices.
OF_WHOLE = {"scale", "zero_point"}


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes(inner)


def parameter(node: onnx.NodeProto, index: int, versions: dict[str, int]) -> str:
    """What the node's schema calls an input."""
    try:
        schema = defs.get_schema(node.op_type, versions[node.domain], node.domain)
    except (KeyError, defs.SchemaError):
        return ""
    return schema.inputs[index].name if index < len(schema.inputs) else ""


def kept(model: onnx.ModelProto, name: str, sizes: list[int]) -> set[int]:
    """The axes of an input that stay as they are."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    axes = set()
    for node in nodes(model.graph):
        for index in (index for index, read in enumerate(node.input) if read == name):
            called = parameter(node, index, versions)
            if len(sizes) == 1 and (called in LENGTH_COUNTS or (node.op_type, index) in ALSO_COUNTED):
                axes.add(0)
            if sizes == [1] and any(called.endswith(end) for end in OF_WHOLE):
                axes.add(0)
            if sizes and (node.op_type, index) in LAST_DECIDES:
                axes.add(len(sizes) - 1)
    if squeezes_ones(model):
        axes |= {axis for axis, size in enumerate(sizes) if size == 1}
    return axes


def squeezes_ones(model: onnx.ModelProto) -> bool:
    """Whether the rank of a result depends on which dimensions are 1."""
    return any(
        node.op_type == "Squeeze"
        and len(node.input) < 2
        and all(attribute.name != "axes" for attribute in node.attribute)
        for node in nodes(model.graph)
    )


def tensor_types(kind: onnx.TypeProto) -> Iterator[onnx.TypeProto.Tensor]:
    match kind.WhichOneof("value"):
        case "tensor_type":
            yield kind.tensor_type
        case "sequence_type":
            yield from tensor_types(kind.sequence_type.elem_type)
        case "optional_type":
            yield from tensor_types(kind.optional_type.elem_type)
        case "map_type":
            yield from tensor_types(kind.map_type.value_type)


def forget(graph: onnx.GraphProto, inputs: bool) -> None:
    """Leaves of inner and output shapes the ranks only."""
    del graph.value_info[:]
    for info in [*graph.output, *(graph.input if inputs else [])]:
        for tensor in tensor_types(info.type):
            for dimension in tensor.shape.dim:
                dimension.Clear()
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                forget(inner, inputs=True)


def variant(model: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """The model with symbolic inputs; `source` is where the meaning of the inputs is looked up."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    forget(result.graph, inputs=False)
    initialised = {tensor.name for tensor in result.graph.initializer}
    for info in result.graph.input:
        if info.name in initialised:
            continue
        for tensor in tensor_types(info.type):
            sizes = [dimension.dim_value for dimension in tensor.shape.dim]
            fixed = kept(source, info.name, sizes) | kept(model, info.name, sizes)
            for axis, dimension in enumerate(tensor.shape.dim):
                if axis not in fixed:
                    dimension.dim_param = f"{info.name}_{axis}"
    return result
