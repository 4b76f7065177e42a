"""Operators that move elements, or make tensors of given shapes."""

import numpy as np

from .draw import ALL, FINITE, NUMBERS, REAL, Draw, Node, Unfit, tensor_type
from .operator import Operator

MOVED = ("float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool")


def transpose(draw: Draw) -> Node:
    value = draw.value(MOVED, rank=range(0, 6))
    order = {"perm": draw.generator.permutation(value.rank).tolist()} if draw.chance(0.8) and value.rank else {}
    return Node([value.name], order)


def factors(draw: Draw, count: int) -> list[int]:
    """Sizes with this product."""
    if count == 0:
        shape = [draw.integer(0, 4) for _ in range(draw.integer(0, 2))] + [0]
        return draw.generator.permutation(shape).tolist()
    sizes = [1] * draw.integer(0, 2)
    while count > 1 and draw.chance(0.7):
        divisors = [size for size in range(2, count + 1) if count % size == 0]
        sizes.append(draw.pick(divisors))
        count //= sizes[-1]
    sizes += [count] if count > 1 else []
    return draw.generator.permutation(sizes).astype(int).tolist()


def reshape(draw: Draw) -> Node:
    value = draw.value(MOVED)
    shape = factors(draw, value.array.size)
    if len(shape) > 6:
        raise Unfit
    attributes = {}
    if 0 in shape and draw.opset >= 14:
        attributes["allowzero"] = 1
    elif 0 in shape:
        raise Unfit
    else:
        for axis, size in enumerate(shape[: value.rank]):
            if size == value.shape[axis] and draw.chance(0.3):
                shape[axis] = 0
        if shape and draw.chance(0.4):
            shape[draw.integer(0, len(shape) - 1)] = -1
    return Node([value.name, draw.constant(shape)], attributes)


def flatten(draw: Draw) -> Node:
    value = draw.value(MOVED)
    least = -value.rank if draw.opset >= 11 else 0
    axis = draw.integer(least, value.rank)
    return Node([value.name], {"axis": axis} if draw.chance(0.8) and value.rank else {"axis": axis} if not value.rank else {})


def squeeze(draw: Draw) -> Node:
    value = draw.value(MOVED, rank=range(1, 6), suits=lambda shape: 1 in shape)
    ones = [axis for axis, size in enumerate(value.shape) if size == 1]
    # Sizes that are computed may be 1 by chance, and then decide the rank.
    if value.nodes == 0 and draw.chance(0.5):
        return Node([value.name])
    axes = [ones[i] for i in draw.generator.permutation(len(ones))[: draw.integer(1, len(ones))]]
    if draw.opset >= 11 and draw.chance(0.5):
        axes = [axis - value.rank for axis in axes]
    if draw.opset < 13:
        return Node([value.name], {"axes": axes})
    return Node([value.name, draw.constant(axes)])


def unsqueeze(draw: Draw) -> Node:
    value = draw.value(MOVED, rank=range(0, 4))
    rank = value.rank + draw.integer(1, 2)
    axes = draw.generator.permutation(rank)[: rank - value.rank].tolist()
    if draw.opset >= 11 and draw.chance(0.5):
        axes = [axis - rank for axis in axes]
    if draw.opset < 13:
        return Node([value.name], {"axes": axes})
    return Node([value.name, draw.constant(axes)])


def concat(draw: Draw) -> Node:
    value = draw.value(MOVED, rank=range(1, 6))
    axis = draw.axis(value.rank)
    values = [value]
    while len(values) < 4 and draw.chance(0.6):
        shape = list(value.shape)
        shape[axis] = draw.size()
        values.append(draw.like(value, tuple(shape)))
    return Node([values[i].name for i in draw.generator.permutation(len(values))], {"axis": axis})


def split(draw: Draw) -> Node:
    value = draw.value(MOVED, rank=range(1, 5), least=2)
    axis = draw.axis(value.rank)
    size = value.shape[axis]
    if draw.opset >= 18 and draw.chance(0.4) and size:
        count = draw.integer(1, size)
        piece = -(-size // count)
        if piece * (count - 1) >= size:
            raise Unfit
        return Node([value.name], {"axis": axis, "num_outputs": count}, count)
    count = draw.integer(1, 3)
    if draw.opset < 18 and draw.chance(0.3) and size and size % count == 0:
        return Node([value.name], {"axis": axis}, count)
    cuts = sorted(draw.integer(0, size) for _ in range(count - 1))
    sizes = np.diff([0, *cuts, size]).tolist()
    if draw.opset < 13:
        return Node([value.name], {"axis": axis, "split": sizes}, count)
    return Node([value.name, draw.constant(sizes)], {"axis": axis}, count)


def cut(draw: Draw) -> Node:
    value = draw.value(MOVED, rank=range(1, 6))
    axes = draw.axes(value.rank)
    starts, ends, steps = [], [], []
    for axis in axes:
        size = value.shape[axis]
        step = draw.pick([1, 1, 1, 2, 3, -1, -1, -2]) if draw.opset >= 10 else 1
        low, high = sorted([draw.integer(0, size), draw.integer(0, size)])
        if step < 0:
            low, high = draw.pick([high, size + 3]), draw.pick([low - size - 1, -(2**31), low - size - 2])
        else:
            high = draw.pick([high, high, size + 5, 2**31 - 1, high - size if high < size else high])
            low = draw.pick([low, low, low - size, -size - 4 if low == 0 else low])
        starts.append(low), ends.append(high), steps.append(step)
    if draw.opset < 10:
        return Node([value.name], {"starts": starts, "ends": ends, "axes": axes})
    dtype = draw.pick(["int64", "int64", "int32"])
    inputs = [draw.constant(values, dtype) for values in (starts, ends)]
    if len(axes) == value.rank and draw.chance(0.3) and all(step == 1 for step in steps):
        order = [axis % value.rank for axis in axes]
        inputs = [draw.constant([of[order.index(axis)] for axis in range(value.rank)], dtype) for of in (starts, ends)]
        return Node([value.name, *inputs])
    inputs.append(draw.constant(axes, dtype))
    if any(step != 1 for step in steps) or draw.chance(0.3):
        inputs.append(draw.constant(steps, dtype))
    return Node([value.name, *inputs])


def pad(draw: Draw) -> Node:
    value = draw.value(("float32", "float64", "int32", "int64") if draw.opset >= 13 else REAL, rank=range(1, 5))
    modes = ["constant", "constant", "reflect", "edge"] + (["wrap"] if draw.opset >= 19 else [])
    mode = draw.pick(modes)
    axes = draw.axes(value.rank) if draw.opset >= 18 and draw.chance(0.4) else list(range(value.rank))
    before, after = [], []
    for axis in axes:
        size = value.shape[axis]
        most = {"reflect": size - 1, "wrap": size}.get(mode, 3)
        if mode != "constant" and size == 0:
            raise Unfit
        least = -1 if mode == "constant" and size > 2 else 0
        before.append(draw.integer(least, max(least, min(most, 3))))
        after.append(draw.integer(least, max(least, min(most, 3))))
    attributes = {"mode": mode} if mode != "constant" or draw.chance(0.3) else {}
    filling = draw.integer(-2, 2)
    if draw.opset < 11:
        return Node([value.name], attributes | {"pads": before + after, "value": float(filling)})
    inputs = [draw.constant(before + after)]
    if mode == "constant" and draw.chance(0.6):
        inputs.append(draw.leaf(np.array(filling, value.array.dtype)).name)
    if len(axes) != value.rank or axes != list(range(value.rank)):
        inputs += [""] * (2 - len(inputs)) + [draw.constant(axes)]
    return Node([value.name, *inputs], attributes)


def tile(draw: Draw) -> Node:
    value = draw.value(MOVED, rank=range(1, 5))
    return Node([value.name, draw.constant([draw.pick([0, 1, 1, 1, 2, 3]) for _ in value.shape])])


def expand(draw: Draw) -> Node:
    value = draw.value(MOVED)
    shape = [draw.size() if size == 1 else draw.pick([1, size]) for size in value.shape]
    if len(shape) < 4 and draw.chance(0.4):
        shape = [draw.size()] + shape
    shape = shape[1:] if shape and shape[0] == 1 and draw.chance(0.3) else shape
    return Node([value.name, draw.constant(shape)])


def depth_to_space(draw: Draw) -> Node:
    block = draw.integer(1, 3)
    value = draw.value(REAL, rank=4, suits=lambda shape: shape[1] % block**2 == 0, least=1)
    mode = {"mode": draw.pick(["DCR", "CRD"])} if draw.opset >= 11 and draw.chance(0.6) else {}
    return Node([value.name], {"blocksize": block} | mode)


def space_to_depth(draw: Draw) -> Node:
    block = draw.integer(1, 3)
    value = draw.value(REAL, rank=4, suits=lambda shape: shape[2] % block == shape[3] % block == 0)
    return Node([value.name], {"blocksize": block})


def shape_of(draw: Draw) -> Node:
    value = draw.value(ALL)
    if draw.opset < 15:
        return Node([value.name])
    ends = {name: lambda: draw.integer(-value.rank - 1, value.rank + 1) for name in ("start", "end")}
    return Node([value.name], draw.maybe(ends, 0.4))


def constant_of_shape(draw: Draw) -> Node:
    dtype = draw.pick(["float32", "int64", "bool", "int32", "uint8"])
    filled = {"value": np.array([draw.integer(0, 1)], dtype)} if draw.chance(0.7) else {}
    return Node([draw.constant(draw.shape())], filled)


def range_of(draw: Draw) -> Node:
    dtype = draw.pick(["float32", "int32", "int64", "float64"])
    step = draw.pick([1, 2, 3, -1, -2])
    start = draw.integer(-5, 5)
    stop = start + step * draw.integer(-1, 9) + draw.integer(0, 1)
    return Node([draw.constant(number, dtype) for number in (start, stop, step)])


def eye_like(draw: Draw) -> Node:
    value = draw.value(("float32", "float64", "int32", "int64"), rank=2)
    drawn = {"k": lambda: draw.integer(-2, 2), "dtype": lambda: tensor_type(np.empty(0, draw.pick(["float32", "int64", "float64"])))}
    return Node([value.name], draw.maybe(drawn))


def triangle(draw: Draw) -> Node:
    value = draw.value(("float32", "float64", "int64", "bool"), rank=range(2, 5))
    diagonal = [draw.constant(draw.integer(-3, 3))] if draw.chance(0.6) else []
    return Node([value.name, *diagonal], draw.maybe({"upper": lambda: draw.integer(0, 1)}, 0.7))


def reverse(draw: Draw) -> Node:
    value = draw.value(("float32", "int64", "float64", "bool"), rank=range(2, 5), least=1)
    batch = draw.integer(0, 1)
    lengths = [draw.integer(1, max(1, value.shape[1 - batch])) for _ in range(value.shape[batch])]
    if value.shape[1 - batch] == 0:
        raise Unfit
    return Node([value.name, draw.leaf(np.array(lengths, np.int64)).name], {"batch_axis": batch, "time_axis": 1 - batch})


def crop(draw: Draw) -> Node:
    value = draw.value(("float32", "float64", "int64"), rank=range(1, 5))
    axes = draw.axes(value.rank)
    sizes = [draw.integer(1, 9) for _ in axes]
    return Node([value.name, draw.constant(sizes)], {"axes": axes})


OPERATORS = [
    Operator("Transpose", transpose, weight=3),
    Operator("Reshape", reshape, weight=3),
    Operator("Flatten", flatten),
    Operator("Squeeze", squeeze),
    Operator("Unsqueeze", unsqueeze),
    Operator("Concat", concat, weight=2),
    Operator("Split", split, weight=2),
    Operator("Slice", cut, weight=3),
    Operator("Pad", pad, weight=2),
    Operator("Tile", tile),
    Operator("Expand", expand, since=8),
    Operator("DepthToSpace", depth_to_space),
    Operator("SpaceToDepth", space_to_depth),
    Operator("Shape", shape_of),
    Operator("Size", lambda draw: Node([draw.value(ALL).name])),
    Operator("ConstantOfShape", constant_of_shape, since=9),
    Operator("Range", range_of, since=11),
    Operator("EyeLike", eye_like, since=9),
    Operator("Trilu", triangle, since=14),
    Operator("ReverseSequence", reverse, since=10),
    Operator("CenterCropPad", crop, since=18),
]
