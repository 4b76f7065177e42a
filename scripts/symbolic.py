"""Makes the dimensions of a model's inputs symbolic.

Every dimension gets a name of its own, so nothing is said of any two being equal. What remains fixed
is what ONNX needs to know the ranks of results, and the number of outputs: the lengths of inputs that
hold axes, shapes and the like.
"""

from collections.abc import Iterator

import onnx
from onnx import defs

# Names that the schemas give to inputs whose values are axes, sizes, or one for each dimension, and
# to vectors of exactly one or two elements.
LENGTH_COUNTS = {
    "axes", "shape", "size", "sizes", "scales", "roi", "pads", "split", "starts", "ends", "steps",
    "repeats", "image_shape", "block_shape", "output_shape", "shape_of_input",
    "K", "M", "cond", "axis", "depth", "k", "values_of_one_hot", "max_output_boxes_per_class",
    "iou_threshold", "score_threshold", "constant_value", "position", "dft_length", "frame_step",
    "frame_length",
}
# Inputs that schemas call by a name which means something else elsewhere.
CALLED = {("ConstantOfShape", 0): "shape_of_input", ("OneHot", 2): "values_of_one_hot"}


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes(inner)


def parameter(node: onnx.NodeProto, index: int, versions: dict[str, int]) -> str | None:
    """What the node's schema calls an input."""
    if called := CALLED.get((node.op_type, index)):
        return called
    try:
        schema = defs.get_schema(node.op_type, versions[node.domain], node.domain)
    except (KeyError, defs.SchemaError):
        return None
    return schema.inputs[index].name if index < len(schema.inputs) else None


def kept_lengths(model: onnx.ModelProto) -> set[str]:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    return {
        name
        for node in nodes(model.graph)
        for index, name in enumerate(node.input)
        if parameter(node, index, versions) in LENGTH_COUNTS
    }


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
    kept = kept_lengths(source) | kept_lengths(model)
    ones_stay = squeezes_ones(source)
    for info in result.graph.input:
        if info.name in initialised:
            continue
        for tensor in tensor_types(info.type):
            if info.name in kept and len(tensor.shape.dim) == 1:
                continue
            for index, dimension in enumerate(tensor.shape.dim):
                if not (ones_stay and dimension.dim_value == 1):
                    dimension.dim_param = f"{info.name}_{index}"
    return result
