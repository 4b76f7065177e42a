"""Operators on quantised tensors."""

import numpy as np

from .draw import EXACT_FINITE, Draw, Node, Unfit, Value
from .operator import Operator

BYTES = ("uint8", "int8")


def scale(draw: Draw, count: int | None = None) -> Value:
    """Powers of two: quotients of exact values stay exact, and ties are real ties."""
    shape = () if count is None else (count,)
    return draw.leaf((2.0 ** draw.generator.integers(-4, 1, shape)).astype(np.float32))


def zero_point(draw: Draw, dtype: str, count: int | None = None) -> Value:
    shape = () if count is None else (count,)
    least = 0 if dtype == "uint8" else -5
    return draw.leaf(np.asarray(draw.generator.integers(least, 10, shape)).astype(dtype))


def quantise(draw: Draw) -> Node:
    x = draw.value(("float32",), need=EXACT_FINITE)
    axis = draw.axis(x.rank) if draw.opset >= 13 and x.rank and draw.chance(0.4) else None
    count = None if axis is None else x.shape[axis]
    inputs = [x.name, scale(draw, count).name]
    if draw.chance(0.8):
        inputs.append(zero_point(draw, draw.pick(BYTES), count).name)
    return Node(inputs, {} if axis is None else {"axis": axis})


def dequantise(draw: Draw) -> Node:
    x = draw.value(BYTES)
    axis = draw.axis(x.rank) if draw.opset >= 13 and x.rank and draw.chance(0.4) else None
    count = None if axis is None else x.shape[axis]
    inputs = [x.name, scale(draw, count).name]
    if draw.chance(0.7):
        inputs.append(zero_point(draw, x.dtype, count).name)
    return Node(inputs, {} if axis is None else {"axis": axis})


def dynamic(draw: Draw) -> Node:
    # A whole number of quanta: no tie is decided by the scale's last bit.
    quanta = draw.generator.integers(0, 256, draw.shape(draw.integer(1, 3), 1))
    quanta.reshape(-1)[0] = 255
    quanta.reshape(-1)[-1] = 0
    if quanta.size < 2:
        raise Unfit
    return Node([draw.leaf(quanta.astype(np.float32) / 8).name], {}, 3)


def matmul_integer(draw: Draw) -> Node:
    a = draw.value(BYTES, rank=range(2, 4), least=1)
    b = draw.value(BYTES, shape=(a.shape[-1], draw.size(1)))
    points = [zero_point(draw, value.dtype).name if draw.chance(0.6) else "" for value in (a, b)]
    while points and not points[-1]:
        points.pop()
    return Node([a.name, b.name, *points])


def conv_integer(draw: Draw) -> Node:
    x = draw.value(("uint8",), rank=4, least=1, suits=lambda shape: 0 not in shape)
    kernel = [draw.integer(1, min(3, size)) for size in x.shape[2:]]
    w = draw.value(("uint8",), shape=(draw.integer(1, 4), x.shape[1], *kernel))
    points = [zero_point(draw, "uint8").name] if draw.chance(0.6) else []
    return Node([x.name, w.name, *points], draw.maybe({"pads": lambda: [draw.integer(0, 1) for _ in range(4)]}))


def matmul_linear(draw: Draw) -> Node:
    a = draw.value(("uint8",), rank=range(2, 4), least=1)
    b = draw.value(("uint8",), shape=(a.shape[-1], draw.size(1)))
    inputs = []
    for value in (a, b):
        inputs += [value.name, scale(draw).name, zero_point(draw, value.dtype).name]
    return Node([*inputs, draw.leaf(np.float32(2.0 ** draw.integer(-2, 3))).name, zero_point(draw, "uint8").name])


def conv_linear(draw: Draw) -> Node:
    x = draw.value(("uint8",), rank=4, least=1, suits=lambda shape: 0 not in shape)
    kernel = [draw.integer(1, min(3, size)) for size in x.shape[2:]]
    filters = draw.integer(1, 4)
    w = draw.value(BYTES, shape=(filters, x.shape[1], *kernel))
    count = filters if draw.chance(0.4) else None
    weight_zero = draw.leaf(np.zeros(() if count is None else (count,), w.array.dtype))
    inputs = [x.name, scale(draw).name, zero_point(draw, "uint8").name, w.name, scale(draw, count).name,
              weight_zero.name, draw.leaf(np.float32(2.0 ** draw.integer(-2, 3))).name, zero_point(draw, "uint8").name]
    if draw.chance(0.5):
        inputs.append(draw.leaf(draw.generator.integers(-20, 21, filters).astype(np.int32)).name)
    return Node(inputs, draw.maybe({"pads": lambda: [draw.integer(0, 1) for _ in range(4)]}))


OPERATORS = [
    Operator("QuantizeLinear", quantise, since=10, weight=2),
    Operator("DequantizeLinear", dequantise, since=10, weight=2),
    Operator("DynamicQuantizeLinear", dynamic, since=11, rounds=True),
    Operator("MatMulInteger", matmul_integer, since=10),
    Operator("ConvInteger", conv_integer, since=10),
    Operator("QLinearMatMul", matmul_linear, since=10),
    Operator("QLinearConv", conv_linear, since=10),
]
