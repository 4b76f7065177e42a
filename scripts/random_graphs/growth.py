"""What a graph inside does to a value's size along one axis: valid whatever the size is, 0 too.

All other sizes stay, so that rows from outside keep fitting.
"""

from dataclasses import dataclass

import numpy as np
from onnx import helper

from .draw import SMALL, Draw, Unfit, Value
from .piece import Piece, tensor

TYPES = ("float32", "int64", "float64", "int32")


@dataclass
class Scope:
    """A value's kind, and what a body may read from outside."""

    draw: Draw
    dtype: str
    rank: int
    axis: int
    # Values with the other sizes of the value, and any along the axis.
    rows: list[str]
    # Those of them that have 1 along the axis.
    single: list[str]
    # The iteration's number, inside of a loop.
    number: str = ""
    # How deep a graph inside may have others inside.
    depth: int = 1

    def info(self, name: str):
        return tensor(name, self.dtype, self.rank)


def scope_of(draw: Draw, value: Value) -> Scope:
    axis = draw.integer(0, value.rank - 1)

    def row(size: int) -> str:
        return draw.like(value, value.shape[:axis] + (size,) + value.shape[axis + 1 :], SMALL).name

    single = [row(1)]
    return Scope(draw, value.dtype, value.rank, axis, [*single, row(draw.integer(0, 3)), value.name], single)


def start_of(draw: Draw) -> Value:
    """A value to begin with: few rows, often one or none."""
    return draw.value(TYPES, rank=range(1, 4), need=SMALL, suits=lambda shape: np.prod(shape) <= 200)


def cut(piece: Piece, scope: Scope, value: str, start: int, end: int, step: int = 1) -> str:
    steps = [piece.constant([step])] if step != 1 else []
    return piece.add("Slice", [value, piece.constant([start]), piece.constant([end]), piece.constant([scope.axis]), *steps])


def join(piece: Piece, scope: Scope, values: list[str]) -> str:
    return piece.add("Concat", values, axis=scope.draw.pick([scope.axis, scope.axis - scope.rank]))


def length(piece: Piece, scope: Scope, value: str) -> str:
    """Its size along the axis, a scalar."""
    return piece.add("Gather", [piece.add("Shape", [value]), piece.constant(scope.axis)], axis=0)


def grow(piece: Piece, scope: Scope, value: str) -> str:
    values = [value, scope.draw.pick(scope.rows)]
    return join(piece, scope, values[:: scope.draw.pick([1, -1])])


def double(piece: Piece, scope: Scope, value: str) -> str:
    if scope.draw.chance(0.5):
        return join(piece, scope, [value, value])
    counts = [2 if axis == scope.axis else 1 for axis in range(scope.rank)]
    return piece.add("Tile", [value, piece.constant(counts)])


def repeat_first(piece: Piece, scope: Scope, value: str) -> str:
    return join(piece, scope, [value, cut(piece, scope, value, 0, 1)])


def shrink(piece: Piece, scope: Scope, value: str) -> str:
    return cut(piece, scope, value, *scope.draw.pick([(1, 2**40), (0, -1), (1, -1), (-2, 2**40), (0, 2**40, 2)]))


def turn(piece: Piece, scope: Scope, value: str) -> str:
    return cut(piece, scope, value, -1, -(2**40), -1)


def surround(piece: Piece, scope: Scope, value: str) -> str:
    pads = np.zeros((2, scope.rank), int)
    pads[:, scope.axis] = [scope.draw.integer(0, 2), scope.draw.integer(0, 1)]
    return piece.add("Pad", [value, piece.constant(pads.reshape(-1))])


def change(piece: Piece, scope: Scope, value: str) -> str:
    """Only the numbers: a row that is stretched."""
    return piece.add(scope.draw.pick(["Add", "Sub", "Max"] if scope.draw.opset >= 12 else ["Add", "Sub"]),
                     [value, scope.draw.pick(scope.single)])


def select(piece: Piece, scope: Scope, value: str) -> str:
    """The rows whose sums are large."""
    others = [axis for axis in range(scope.rank) if axis != scope.axis]
    sums = piece.add("ReduceSum", [value, piece.constant(others)], keepdims=0) if others else value
    condition = piece.add("Greater", [sums, piece.constant(scope.draw.integer(-6, 0), scope.dtype)])
    return piece.add("Compress", [value, condition], axis=scope.axis)


def through_list(piece: Piece, scope: Scope, value: str) -> str:
    """Put together again from a list of pieces."""
    first = piece.add("SequenceConstruct", [value])
    positions = [piece.constant(scope.draw.integer(-1, 1))] if scope.draw.chance(0.6) else []
    longer = piece.add("SequenceInsert", [first, scope.draw.pick(scope.rows), *positions])
    return piece.add("ConcatFromSequence", [longer], axis=scope.axis)


def prefix(piece: Piece, scope: Scope, value: str) -> str:
    """As many rows from outside as iterations are done."""
    if not scope.number:
        raise Unfit
    end = piece.add("Unsqueeze", [scope.number, piece.constant([0])])
    some = piece.add("Slice", [scope.draw.pick(scope.rows), piece.constant([0]), end, piece.constant([scope.axis])])
    return join(piece, scope, [value, some])


def filled(piece: Piece, scope: Scope, value: str) -> str:
    """Ones, as many as there are rows already, after them."""
    one = np.array([1], scope.dtype)
    ones = piece.add("ConstantOfShape", [piece.add("Shape", [value])], value=helper.make_tensor(
        "one", helper.np_dtype_to_tensor_dtype(one.dtype), [1], one))
    return join(piece, scope, [value, ones])


def counted(piece: Piece, scope: Scope, value: str) -> str:
    """As many numbers after it as it has rows, or as iterations are done: counted, or one over and over."""
    if scope.rank != 1:
        raise Unfit
    end = scope.number if scope.number and scope.draw.chance(0.5) else length(piece, scope, value)
    if scope.draw.chance(0.5):
        numbers = piece.add("Range", [piece.constant(0), end, piece.constant(scope.draw.integer(1, 2))])
        numbers = piece.add("CastLike", [numbers, value]) if scope.draw.opset >= 15 else piece.add("Cast", [numbers], to=code(scope))
    else:
        size = piece.add("Unsqueeze", [end, piece.constant([0])])
        numbers = piece.add("Expand", [piece.constant([scope.draw.integer(0, 3)], scope.dtype), size])
    return join(piece, scope, [value, numbers])


def code(scope: Scope) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(scope.dtype))


def largest(piece: Piece, scope: Scope, value: str) -> str:
    """The greatest numbers, as many as iterations are done, where there are so many."""
    size = piece.add("Unsqueeze", [length(piece, scope, value), piece.constant([0])])
    most = piece.add("Unsqueeze", [scope.number, piece.constant([0])]) if scope.number else piece.constant([scope.draw.integer(0, 3)])
    return piece.add("TopK", [value, piece.add("Min", [size, most])], 2, axis=scope.axis)[0]


def flattened(piece: Piece, scope: Scope, value: str) -> str:
    """Through a row of all its numbers, and back by sizes that are asked for."""
    if scope.draw.opset < 14:
        raise Unfit
    shape = piece.add("Shape", [value])
    flat = piece.add("Reshape", [value, piece.constant([-1])])
    flat = piece.add(scope.draw.pick(["Neg", "Abs"]), [flat])
    return piece.add("Reshape", [flat, shape], allowzero=1)


def halved(piece: Piece, scope: Scope, value: str) -> str:
    """Half of the rows, by arithmetic in floats or integers."""
    size = length(piece, scope, value)
    if scope.draw.chance(0.5):
        real = piece.add("Mul", [piece.add("Cast", [size], to=1), piece.constant(0.5, "float32")])
        end = piece.add("Cast", [piece.add(scope.draw.pick(["Ceil", "Floor"]), [real])], to=7)
    else:
        end = piece.add("Div", [size, piece.constant(2)])
    end = piece.add("Unsqueeze", [end, piece.constant([0])])
    if scope.draw.chance(0.5):
        return piece.add("Slice", [value, piece.constant([0]), end, piece.constant([scope.axis])])
    rest = piece.add("Sub", [piece.add("Unsqueeze", [size, piece.constant([0])]), end])
    parts = piece.add("Split", [value, piece.add("Concat", [end, rest], axis=0)], 2, axis=scope.axis)
    return scope.draw.pick([parts[0], join(piece, scope, parts[::-1])])


def taken(piece: Piece, scope: Scope, value: str) -> str:
    """Rows by places that are not zero."""
    others = [axis for axis in range(scope.rank) if axis != scope.axis]
    sums = piece.add("ReduceSum", [value, piece.constant(others)], keepdims=0) if others else value
    places = piece.add("Squeeze", [piece.add("NonZero", [sums]), piece.constant([0])])
    return piece.add("Gather", [value, places], axis=scope.axis)


def product(piece: Piece, scope: Scope, value: str) -> str:
    """A square of its rows' products, which makes all rows again."""
    if scope.rank != 2 or scope.dtype not in ("float32", "float64"):
        raise Unfit
    # The square of [n, m] or of its transpose is [n, n]; its sums along one axis are a row's numbers.
    turned = piece.add("Transpose", [value], perm=[1, 0])
    square = piece.add("MatMul", [value, turned] if scope.axis == 0 else [turned, value])
    sums = piece.add("ReduceMax", [square] + ([piece.constant([1 - scope.axis])] if scope.draw.opset >= 18 else []), keepdims=1,
                     **({} if scope.draw.opset >= 18 else {"axes": [1 - scope.axis]}))
    smaller = piece.add("Clip", [sums, piece.constant(-4, scope.dtype), piece.constant(4, scope.dtype)])
    return piece.add("Sub", [value, smaller])


def decide(piece: Piece, scope: Scope, value: str) -> str:
    """One of two things, by the iteration's number or by the size."""
    if scope.depth == 0:
        raise Unfit
    by = scope.number if scope.number and scope.draw.chance(0.5) else length(piece, scope, value)
    condition = piece.add(scope.draw.pick(["Less", "Greater"]), [by, piece.constant(scope.draw.integer(0, 5))])
    return branch(piece, scope, condition, value)


def branch(piece: Piece, scope: Scope, condition: str, value: str) -> str:
    graphs = []
    for _ in range(2):
        inside = piece.inside()
        deeper = Scope(**{**vars(scope), "depth": scope.depth - 1})
        result = value if scope.draw.chance(0.15) else steps(inside, deeper, value, scope.draw.integer(1, 2))
        if not inside.nodes:
            result = inside.add("Identity", [value])
        graphs.append(inside.graph([], [tensor(result, scope.dtype, scope.rank if scope.draw.chance(0.5) else None)]))
    return piece.add("If", [condition], then_branch=graphs[0], else_branch=graphs[1])


def again(piece: Piece, scope: Scope, value: str) -> str:
    """A loop inside, which also reads what is two graphs further out."""
    if scope.depth == 0:
        raise Unfit
    inside = piece.inside()
    number, going, state = (scope.draw.name() for _ in range(3))
    deeper = Scope(**{**vars(scope), "depth": scope.depth - 1, "number": number})
    goes_on = inside.add("Identity", [going])
    result = steps(inside, deeper, state, 1)
    body = inside.graph([tensor(number, "int64", 0), tensor(going, "bool", 0), scope.info(state)],
                        [tensor(goes_on, "bool", 0), scope.info(result)])
    count = scope.number if scope.number and scope.draw.chance(0.4) else piece.constant(scope.draw.integer(0, 2))
    return piece.add("Loop", [count, "", value], body=body)


CHANGES = [grow, grow, grow, double, repeat_first, shrink, shrink, turn, surround, change, change, select, through_list,
           prefix, filled, decide, decide, again, counted, counted, largest, flattened, halved, halved, taken, product]


def steps(piece: Piece, scope: Scope, value: str, count: int) -> str:
    """Some of the changes, one after the other."""
    for _ in range(count):
        kept = len(piece.nodes)
        for _ in range(20):
            try:
                value = scope.draw.pick(CHANGES)(piece, scope, value)
                break
            except Unfit:
                del piece.nodes[kept:]
    return value
