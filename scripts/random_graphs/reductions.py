"""Operators that look along axes: sums, extrema, places, running sums, softmax."""

import numpy as np

from .draw import (
    ANY, EXACT_FINITE, FINITE, FLOATS, NUMBERS, POSITIVE, REAL, SMALL, Draw, Need, Node, Unfit, exactly, finite,
)
from .operator import Operator

WIDE = ("float32", "float64", "int32", "int64")
# A norm of nearly nothing loses all digits, or is divided by.
SPREAD = exactly(Need(lambda x: bool(np.isfinite(x).all() and (x != 0).all()), lambda x: np.where(finite(x) == 0, 1, finite(x))))


def reduction(name: str, axes_are_input_since: int = 18, need: Need = ANY, rounds: bool = False, types=WIDE,
              weight: float = 1.0) -> Operator:
    def build(draw: Draw) -> Node:
        # The mean of nothing is not defined, and the product of many overflows in one order only.
        most, least = (20, 0) if name == "ReduceProd" else (10**6, 1 if name == "ReduceMean" else 0)
        value = draw.value(types, need=need, suits=lambda shape: least <= np.prod(shape) <= most)
        if name == "ReduceProd" and value.dtype.startswith("int") and np.prod(np.maximum(np.abs(value.array.astype(float)), 1)) >= 2**31:
            # Products that do not fit are nobody's.
            raise Unfit
        attributes = draw.maybe({"keepdims": lambda: draw.integer(0, 1)}, 0.7)
        axes = draw.axes(value.rank) if draw.chance(0.8) and value.rank else None
        if draw.opset < axes_are_input_since:
            return Node([value.name], attributes | ({"axes": axes} if axes else {}))
        if draw.chance(0.2):
            attributes["noop_with_empty_axes"] = draw.integer(0, 1)
        if axes is None:
            return Node([value.name] + ([draw.constant([])] if draw.chance(0.3) else []), attributes)
        return Node([value.name, draw.constant(axes)], attributes)

    return Operator(name, build, rounds=rounds, weight=weight)


def place(name: str) -> Operator:
    def build(draw: Draw) -> Node:
        # There is no place of a maximum in nothing, although ONNX Runtime says 0.
        value = draw.value(WIDE + ("uint8", "int8"), rank=range(1, 6), need=EXACT_FINITE, suits=lambda shape: 0 not in shape, least=1)
        attributes = draw.maybe({"axis": lambda: draw.axis(value.rank), "keepdims": lambda: draw.integer(0, 1)}, 0.7)
        if draw.opset >= 12 and draw.chance(0.4):
            attributes["select_last_index"] = 1
        return Node([value.name], attributes)

    return Operator(name, build)


def along(name: str, need: Need = SMALL, types=FLOATS, rounds: bool = True, weight: float = 1.0) -> Operator:
    def build(draw: Draw) -> Node:
        value = draw.value(types, rank=range(1, 6), need=need)
        return Node([value.name], draw.maybe({"axis": lambda: draw.axis(value.rank)}, 0.7))

    return Operator(name, build, rounds=rounds, weight=weight)


def running(draw: Draw) -> Node:
    value = draw.value(WIDE, rank=range(1, 6), need=FINITE)
    axis = draw.axis(value.rank)
    attributes = draw.maybe({name: lambda: draw.integer(0, 1) for name in ("exclusive", "reverse")})
    return Node([value.name, draw.constant(axis, draw.pick(["int32", "int64"]))], attributes)


def top(draw: Draw) -> Node:
    value = draw.value(WIDE, rank=range(1, 5), need=EXACT_FINITE, least=1)
    axis = draw.axis(value.rank)
    count = draw.integer(1, max(1, value.shape[axis]))
    attributes = {"axis": axis}
    if draw.opset >= 11:
        attributes |= draw.maybe({"largest": lambda: draw.integer(0, 1)})
    if draw.opset < 10:
        return Node([value.name], attributes | {"k": count}, 2)
    return Node([value.name, draw.constant([count])], attributes, 2)


def norm(draw: Draw) -> Node:
    value = draw.value(REAL, rank=range(1, 5), need=SPREAD)
    return Node([value.name], draw.maybe({"axis": lambda: draw.axis(value.rank), "p": lambda: draw.integer(1, 2)}))


OPERATORS = [
    reduction("ReduceSum", 13, weight=2),
    reduction("ReduceMean", rounds=True, types=WIDE, weight=2),
    reduction("ReduceMax", need=FINITE, types=WIDE + ("int8", "uint8"), weight=2),
    reduction("ReduceMin", need=FINITE, types=WIDE + ("int8", "uint8")),
    reduction("ReduceProd", need=SMALL),
    reduction("ReduceL1"), reduction("ReduceL2", need=FINITE, rounds=True),
    # Squares of integers that do not fit are nobody's: ONNX Runtime takes the greatest number.
    reduction("ReduceSumSquare", need=SMALL),
    reduction("ReduceLogSum", need=POSITIVE, rounds=True, types=REAL),
    reduction("ReduceLogSumExp", need=SMALL, rounds=True, types=REAL),
    place("ArgMax"), place("ArgMin"),
    along("Softmax", weight=3), along("LogSoftmax"), along("Hardmax", EXACT_FINITE, REAL, rounds=False),
    Operator("CumSum", running, since=11),
    Operator("TopK", top),
    Operator("LpNormalization", norm, rounds=True),
]
