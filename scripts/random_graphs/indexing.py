"""Operators whose operands are places."""

import numpy as np

from .draw import EXACT_FINITE, FINITE, REAL, Draw, Node, Unfit, Value
from .operator import Operator

TAKEN = ("float32", "float64", "int64", "int32", "bool", "uint8")


def places(draw: Draw, shape: tuple[int, ...], size: int, types=("int64", "int32")) -> Value:
    """Indices into so many, from either end."""
    if size == 0 and np.prod(shape) > 0:
        raise Unfit
    least = -size if draw.opset >= 11 else 0
    return draw.leaf(draw.generator.integers(least, max(size, least + 1), shape).astype(draw.pick(types)))


def gather(draw: Draw) -> Node:
    value = draw.value(TAKEN, rank=range(1, 5), least=1)
    axis = draw.axis(value.rank)
    indices = places(draw, draw.shape(draw.integer(0, 2)), value.shape[axis])
    return Node([value.name, indices.name], {"axis": axis} if draw.chance(0.8) or axis not in (0, -value.rank) else {})


def gather_elements(draw: Draw) -> Node:
    value = draw.value(TAKEN, rank=range(1, 5), least=1)
    axis = draw.axis(value.rank)
    shape = [draw.integer(0, size) for size in value.shape]
    shape[axis] = draw.size()
    return Node([value.name, places(draw, tuple(shape), value.shape[axis]).name], {"axis": axis})


def tuples(draw: Draw, outer: tuple[int, ...], sizes: tuple[int, ...], distinct: bool) -> np.ndarray:
    count = int(np.prod(outer))
    if 0 in sizes and count:
        raise Unfit
    total = int(np.prod(sizes))
    if distinct and count > total:
        raise Unfit
    flat = draw.generator.permutation(total)[:count] if distinct else draw.generator.integers(0, max(total, 1), count)
    if not count:
        return np.zeros((*outer, len(sizes)), np.int64)
    array = np.stack(np.unravel_index(flat, sizes), -1) if sizes else np.zeros((count, 0))
    return array.reshape(*outer, len(sizes)).astype(np.int64)


def gather_nd(draw: Draw) -> Node:
    value = draw.value(TAKEN, rank=range(1, 5), least=1)
    batch = draw.integer(0, value.rank - 1) if draw.opset >= 12 and draw.chance(0.4) else 0
    depth = draw.integer(1, value.rank - batch)
    outer = value.shape[:batch] + draw.shape(draw.integer(0 if batch else 1, 2))
    indices = tuples(draw, outer, value.shape[batch : batch + depth], distinct=False)
    return Node([value.name, draw.leaf(indices, fixed=True).name], {"batch_dims": batch} if batch else {})


def combine(draw: Draw) -> dict[str, str]:
    """Of several updates to one place, an operation that can be done in any order."""
    options = ["none"] + (["add", "mul"] if draw.opset >= 16 else []) + (["max", "min"] if draw.opset >= 18 else [])
    option = draw.pick(options)
    return {} if option == "none" else {"reduction": option}


def scatter_elements(draw: Draw) -> Node:
    value = draw.value(("float32", "float64", "int64", "int32"), rank=range(1, 4), need=FINITE, least=1)
    axis = draw.axis(value.rank)
    attributes = combine(draw)
    shape = [draw.integer(0, size) for size in value.shape]
    size = value.shape[axis]
    if "reduction" not in attributes:
        # Each line has its places once.
        order = draw.generator.random(value.shape).argsort(axis)
        array = order[tuple(slice(0, length) for length in shape)]
        indices = draw.leaf(array.astype(np.int64))
    else:
        indices = places(draw, tuple(shape), size)
    return Node([value.name, indices.name, draw.like(value, tuple(shape), FINITE).name], attributes | {"axis": axis})


def scatter_nd(draw: Draw) -> Node:
    value = draw.value(("float32", "float64", "int64", "int32"), rank=range(1, 4), need=FINITE, least=1)
    depth = draw.integer(1, value.rank)
    attributes = combine(draw)
    outer = draw.shape(draw.integer(1, 2))
    indices = tuples(draw, outer, value.shape[:depth], distinct="reduction" not in attributes)
    updates = draw.like(value, outer + value.shape[depth:], FINITE)
    return Node([value.name, draw.leaf(indices, fixed=True).name, updates.name], attributes)


def one_hot(draw: Draw) -> Node:
    depth = draw.integer(1, 7)
    shape = draw.shape(draw.integer(0, 3))
    indices = draw.leaf(draw.generator.integers(-depth - 1, depth + 1, shape).astype(draw.pick(["int64", "int32", "float32"])))
    values = draw.leaf(np.array([draw.integer(-2, 0), draw.integer(1, 4)], draw.pick(["float32", "int64", "int32"])))
    depths = draw.constant(depth, draw.pick(["int64", "int32", "float32"]))
    return Node([indices.name, depths, values.name], draw.maybe({"axis": lambda: draw.integer(-len(shape) - 1, len(shape))}))


def compress(draw: Draw) -> Node:
    value = draw.value(("float32", "int64", "float64"), rank=range(1, 4), least=1)
    axis = draw.axis(value.rank) if draw.chance(0.7) else None
    length = value.array.size if axis is None else value.shape[axis]
    keep = draw.leaf(draw.generator.integers(0, 2, draw.integer(0, length)).astype(bool))
    return Node([value.name, keep.name], {} if axis is None else {"axis": axis})


def nonzero(draw: Draw) -> Node:
    return Node([draw.value(("float32", "int64", "int32", "bool", "uint8"), rank=range(1, 5), need=EXACT_FINITE).name])


def unique(draw: Draw) -> Node:
    # ONNX Runtime ends the process on empty ones.
    types = ("float32", "int64", "float64")
    value = draw.value(types, rank=range(1, 4), need=EXACT_FINITE, least=1, suits=lambda shape: 0 not in shape)
    attributes = draw.maybe({"sorted": lambda: draw.integer(0, 1), "axis": lambda: draw.axis(value.rank)})
    return Node([value.name], attributes, draw.integer(1, 4))


def suppress(draw: Draw) -> Node:
    batch, boxes, classes = draw.integer(1, 2), draw.integer(1, 8), draw.integer(1, 3)
    corners = np.sort(draw.generator.integers(0, 17, (batch, boxes, 2, 2)) / 8, 2).reshape(batch, boxes, 4)
    scores = draw.generator.permutation(batch * classes * boxes).reshape(batch, classes, boxes) / 64
    inputs = [draw.leaf(corners.astype(np.float32)).name, draw.leaf(scores.astype(np.float32)).name,
              draw.constant([draw.integer(0, 4)])]
    inputs += [draw.constant([draw.pick([0.3, 0.6])], "float32")] + ([draw.constant([draw.number(0, 1)], "float32")] if draw.chance(0.5) else [])
    return Node(inputs, draw.maybe({"center_point_box": lambda: draw.integer(0, 1)}))


OPERATORS = [
    Operator("Gather", gather, weight=3),
    Operator("GatherElements", gather_elements, since=11),
    Operator("GatherND", gather_nd, since=11),
    Operator("ScatterElements", scatter_elements, since=11, weight=1.5),
    Operator("ScatterND", scatter_nd, since=11, weight=1.5),
    Operator("OneHot", one_hot, since=9),
    Operator("Compress", compress, since=9),
    Operator("NonZero", nonzero, since=9),
    Operator("Unique", unique, since=11),
    Operator("NonMaxSuppression", suppress, since=10),
]
