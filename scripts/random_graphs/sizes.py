"""Arithmetic on sizes, in integers and in floats, and what is made of the results.

The nodes stand for themselves, so the rest of a graph reads sizes as it reads any tensor. How many
there are of something may be known only when the model runs.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx

from .draw import EXACT_FINITE, SMALL, Draw, Unfit, Value
from .operator import Operator
from .piece import Piece

TYPES = ("float32", "int64", "float64", "int32")
MOST = 40
FRACTIONS = (0.5, 0.25, 2.0, 1.5, 0.3, 1 / 3, 0.75, 1.25, 0.1)


@dataclass
class Size:
    """A scalar or a vector of one, with the number that it has here."""

    name: str
    number: int
    vector: bool


def shaped(draw: Draw, least_rank: int = 1) -> Value:
    return draw.value(TYPES, rank=range(least_rank, 5), suits=lambda shape: 0 not in shape and prod(shape) <= 500, least=1)


def one_of(draw: Draw, piece: Piece, value: Value) -> Size:
    """One size of a value, in one of the ways in which exporters ask for it."""
    axis = draw.integer(0, value.rank - 1)
    size = value.shape[axis]
    if draw.opset >= 15 and draw.chance(0.4):
        attributes = {"start": draw.pick([axis, axis - value.rank])}
        if axis + 1 < value.rank or draw.chance(0.5):
            attributes["end"] = axis + 1
        return Size(piece.add("Shape", [value.name], **attributes), size, True)
    shape = piece.add("Shape", [value.name])
    kind = draw.integer(0, 3)
    if kind == 0:
        return Size(piece.add("Gather", [shape, draw.constant(draw.pick([axis, axis - value.rank]))], axis=0), size, False)
    if kind == 1:
        return Size(piece.add("Gather", [shape, draw.constant([axis])]), size, True)
    if kind == 2:
        end = draw.constant([axis + 1])
        return Size(piece.add("Slice", [shape, draw.constant([axis]), end, draw.constant([0])]), size, True)
    parts = piece.add("Split", [shape, draw.constant([1] * value.rank)], value.rank, axis=0)
    return Size(parts if value.rank == 1 else parts[axis], size, True)


def found(draw: Draw, piece: Piece) -> Size:
    """How many of something there are, which only the run tells."""
    value = draw.value(("float32", "int64"), rank=range(1, 3), need=EXACT_FINITE, suits=lambda shape: 0 < prod(shape) <= 60, least=1)
    kind = draw.integer(0, 2)
    if kind == 0:
        many = piece.add("NonZero", [value.name])
        return Size(piece.add("Gather", [piece.add("Shape", [many]), draw.constant([1])]), int(np.count_nonzero(value.array)), True)
    if kind == 1:
        many = piece.add("Unique", [value.name])
        return Size(piece.add("Shape", [many]), len(np.unique(value.array)), True)
    zero = draw.constant(0, value.dtype)
    flags = piece.add("Greater", [value.name, zero])
    total = piece.add("ReduceSum", [piece.add("Cast", [flags], to=7)], keepdims=0)
    return Size(total, int((value.array > 0).sum()), False)


def given(draw: Draw, piece: Piece) -> Size:
    number = draw.integer(0, 6)
    vector = draw.chance(0.5)
    return Size(draw.leaf(np.array([number] if vector else number, np.int64)).name, number, vector)


def in_floats(draw: Draw, piece: Piece, size: Size) -> Size:
    double = draw.chance(0.25)
    real = np.float64 if double else np.float32
    value = piece.add("Cast", [size.name], to=11 if double else 1)
    number = real(size.number)
    for _ in range(draw.integer(1, 2)):
        by = real(draw.pick(FRACTIONS))
        operator = draw.pick(["Mul", "Mul", "Div", "Add"])
        constant = draw.leaf(np.array(by, real), draw.pick(["initializer", "constant"])).name
        value = piece.add(operator, [value, constant])
        number = {"Mul": number * by, "Div": number / by, "Add": number + by}[operator]
    rounding = draw.pick(["Floor", "Ceil", "Round", None])
    if rounding:
        value = piece.add(rounding, [value])
        number = {"Floor": np.floor, "Ceil": np.ceil, "Round": np.round}[rounding](number)
    return Size(piece.add("Cast", [value], to=7), int(number), size.vector)


def in_integers(draw: Draw, piece: Piece, size: Size) -> Size:
    by = draw.integer(1, 4)
    operator = draw.pick(["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min"])
    number = {"Add": size.number + by, "Sub": size.number - by, "Mul": size.number * by, "Div": size.number // by,
              "Mod": size.number % by, "Max": max(size.number, by), "Min": min(size.number, by)}[operator]
    constant = draw.constant([by] if size.vector and draw.chance(0.5) else by)
    # Quotients of negative numbers are cut by some and floored by others.
    if size.number < 0 and operator in ("Div", "Mod"):
        raise Unfit
    return Size(piece.add(operator, [size.name, constant]), number, size.vector)


def of_two(draw: Draw, piece: Piece, size: Size, other: Size) -> Size:
    operator = draw.pick(["Add", "Sub", "Mul", "Max", "Min", "Div"])
    if operator == "Div" and (other.number <= 0 or size.number < 0):
        raise Unfit
    a, b = size.number, other.number
    number = {"Add": a + b, "Sub": a - b, "Mul": a * b, "Max": max(a, b), "Min": min(a, b), "Div": a // max(b, 1)}[operator]
    return Size(piece.add(operator, [size.name, other.name]), number, size.vector or other.vector)


def either(draw: Draw, piece: Piece, size: Size, other: Size) -> Size:
    """Chosen by a comparison, as exporters write a maximum."""
    operator = draw.pick(["Less", "Greater", "Equal"])
    a, b = size.number, other.number
    holds = {"Less": a < b, "Greater": a > b, "Equal": a == b}[operator]
    condition = piece.add(operator, [size.name, other.name])
    return Size(piece.add("Where", [condition, size.name, other.name]), a if holds else b, size.vector or other.vector)


def computed(draw: Draw, piece: Piece, least: int, most: int, value: Value | None = None) -> Size:
    """A size that comes out of some arithmetic and is in bounds."""
    source = draw.pick([one_of, one_of, one_of, one_of, found, given])
    size = one_of(draw, piece, value or shaped(draw)) if source is one_of else source(draw, piece)
    for _ in range(draw.integer(0, 3)):
        kind = draw.integer(0, 5)
        if kind <= 1:
            size = in_floats(draw, piece, size)
        elif kind <= 3:
            size = in_integers(draw, piece, size)
        else:
            other = one_of(draw, piece, shaped(draw))
            size = draw.pick([of_two, either])(draw, piece, size, other)
        if not -MOST <= size.number <= MOST:
            raise Unfit
    if not least <= size.number <= most:
        raise Unfit
    return size


def vector(draw: Draw, piece: Piece, size: Size) -> str:
    if size.vector:
        return size.name
    if draw.chance(0.5):
        return piece.add("Unsqueeze", [size.name, draw.constant([0])])
    return piece.add("Reshape", [size.name, draw.constant([-1])])


def scalar(draw: Draw, piece: Piece, size: Size) -> str:
    return piece.add("Squeeze", [size.name, draw.constant([0])]) if size.vector else size.name


def join(piece: Piece, parts: list[str]) -> str:
    return piece.add("Concat", parts, axis=0) if len(parts) > 1 else parts[0]


def reshape(draw: Draw, piece: Piece) -> None:
    value = shaped(draw)
    total = prod(value.shape)
    size = computed(draw, piece, 1, total, value)
    if total % size.number:
        raise Unfit
    rest = total // size.number
    fixed = [draw.constant([-1])]
    if draw.chance(0.3):
        small = draw.pick([by for by in (1, 2, 3, 4) if rest % by == 0])
        fixed.append(draw.constant([small]))
    parts = [vector(draw, piece, size), *fixed]
    piece.add("Reshape", [value.name, join(piece, [parts[at] for at in draw.generator.permutation(len(parts))])])


def merge(draw: Draw, piece: Piece) -> None:
    """Two neighbouring sizes become one, or one becomes two, with all sizes computed."""
    value = shaped(draw, 2)
    sizes = []
    for axis, number in enumerate(value.shape):
        shape = piece.add("Shape", [value.name])
        sizes.append(Size(piece.add("Gather", [shape, draw.constant([axis])]), number, True))
    at = draw.integer(0, value.rank - 2)
    if draw.chance(0.5):
        sizes[at : at + 2] = [Size(piece.add("Mul", [sizes[at].name, sizes[at + 1].name]), 0, True)]
    else:
        by = draw.pick([by for by in (1, 2, 3, 4) if sizes[at].number % by == 0])
        part = draw.constant([by])
        if draw.chance(0.5):
            real = piece.add("Mul", [piece.add("Cast", [sizes[at].name], to=1), draw.constant([1 / by], "float32")])
            if int(np.float32(sizes[at].number) * np.float32(1 / by)) * by != sizes[at].number:
                raise Unfit
            rest = piece.add("Cast", [piece.add(draw.pick(["Floor", "Round"]), [real])], to=7)
        else:
            rest = piece.add("Div", [sizes[at].name, part])
        sizes[at : at + 1] = [Size(name, 0, True) for name in [[rest, part], [part, rest]][draw.integer(0, 1)]]
    names = [size.name for size in sizes]
    if draw.chance(0.4):
        names[draw.integer(0, len(names) - 1)] = draw.constant([-1])
    piece.add("Reshape", [value.name, join(piece, names)])


def expand(draw: Draw, piece: Piece) -> None:
    value = draw.value(TYPES, rank=range(1, 4), suits=lambda shape: 1 in shape and 0 not in shape and prod(shape) < 200, least=1)
    ones = [axis for axis, size in enumerate(value.shape) if size == 1]
    wanted = draw.pick(ones)
    size = computed(draw, piece, 0, 20)
    parts = [draw.constant([1])] * value.rank
    parts[wanted] = vector(draw, piece, size)
    if draw.chance(0.3):
        parts.insert(0, draw.constant([draw.integer(1, 3)]))
    piece.add("Expand", [value.name, join(piece, parts)])


def cut(draw: Draw, piece: Piece) -> None:
    value = shaped(draw)
    axis = draw.integer(0, value.rank - 1)
    size = computed(draw, piece, -10, MOST, value)
    bound = vector(draw, piece, size)
    bounds = [draw.constant([draw.integer(0, 2)]), bound] if draw.chance(0.6) else [bound, draw.constant([2**31])]
    steps = [draw.constant([draw.pick([1, 2])])] if draw.chance(0.3) else []
    piece.add("Slice", [value.name, *bounds, draw.constant([draw.pick([axis, axis - value.rank])]), *steps])


def pad(draw: Draw, piece: Piece) -> None:
    value = shaped(draw)
    size = computed(draw, piece, 0, 12, value)
    parts = [draw.constant([0])] * (2 * value.rank)
    parts[draw.integer(0, 2 * value.rank - 1)] = vector(draw, piece, size)
    piece.add("Pad", [value.name, join(piece, parts)])


def tile(draw: Draw, piece: Piece) -> None:
    value = shaped(draw)
    size = computed(draw, piece, 0, 6, value)
    parts = [draw.constant([1])] * value.rank
    parts[draw.integer(0, value.rank - 1)] = vector(draw, piece, size)
    piece.add("Tile", [value.name, join(piece, parts)])


def fill(draw: Draw, piece: Piece) -> None:
    sizes = [computed(draw, piece, 0, 12) for _ in range(draw.integer(1, 2))]
    attributes = {"value": filling(draw)} if draw.chance(0.7) else {}
    made = piece.add("ConstantOfShape", [join(piece, [vector(draw, piece, size) for size in sizes])], **attributes)
    if len(sizes) == 2 and draw.chance(0.5) and attributes:
        piece.add("Trilu", [made], upper=draw.integer(0, 1)) if draw.opset >= 14 else None


def filling(draw: Draw) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array([draw.integer(0, 2)], draw.pick(["int64", "float32"])))


def count(draw: Draw, piece: Piece) -> None:
    size = computed(draw, piece, -5, MOST)
    start, step = draw.pick([(0, 1), (0, 1), (1, 2), (-2, 1), (3, -1)])
    numbers = piece.add("Range", [draw.constant(start), scalar(draw, piece, size), draw.constant(step)])
    if draw.chance(0.6):
        real = piece.add("Cast", [numbers], to=1)
        piece.add("Mul", [piece.add("Unsqueeze", [real, draw.constant([draw.integer(0, 1)])]), draw.constant(0.5, "float32")])


def top(draw: Draw, piece: Piece) -> None:
    value = draw.value(("float32", "int64"), rank=range(1, 4), need=EXACT_FINITE, suits=lambda shape: 0 not in shape, least=1)
    axis = draw.integer(0, value.rank - 1)
    size = computed(draw, piece, 0, value.shape[axis], value)
    piece.add("TopK", [value.name, vector(draw, piece, size)], 2, axis=axis)


def resize(draw: Draw, piece: Piece) -> None:
    value = draw.value(("float32",), rank=range(2, 5), suits=lambda shape: 0 not in shape and prod(shape) <= 500, least=1)
    size = computed(draw, piece, 1, 12, value)
    # ONNX Runtime rounds the scale to f32, which moves a place that is whole to the one before.
    last = value.shape[-1]
    scale = np.float32(size.number) / np.float32(last)
    if any(int(np.float32(place) / scale) != place * last // size.number for place in range(size.number)):
        raise Unfit
    shape = piece.add("Shape", [value.name])
    kept = piece.add("Slice", [shape, draw.constant([0]), draw.constant([-1]), draw.constant([0])])
    sizes = join(piece, [kept, vector(draw, piece, size)])
    piece.add("Resize", [value.name, "", "", sizes], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")


def split(draw: Draw, piece: Piece) -> None:
    value = shaped(draw)
    axis = draw.integer(0, value.rank - 1)
    size = computed(draw, piece, 0, value.shape[axis], value)
    whole = piece.add("Gather", [piece.add("Shape", [value.name]), draw.constant([axis])])
    first = vector(draw, piece, size)
    rest = piece.add("Sub", [whole, first])
    piece.add("Split", [value.name, join(piece, [first, rest])], 2, axis=axis)


def many(draw: Draw, piece: Piece) -> None:
    """Operators on what a run finds: rows that are chosen, places that are not zero, numbers once each."""
    value = draw.value(("float32", "float64"), rank=range(1, 4), need=EXACT_FINITE, suits=lambda shape: 0 < prod(shape) <= 200, least=1)
    kind = draw.integer(0, 2)
    if kind == 0:
        axis = draw.integer(0, value.rank - 1)
        keep = draw.leaf(draw.generator.integers(0, 2, value.shape[axis]).astype(bool)).name
        rows = piece.add("Compress", [value.name, keep], axis=axis)
    elif kind == 1:
        places = piece.add("Transpose", [piece.add("NonZero", [value.name])], perm=[1, 0])
        if draw.chance(0.5):
            rows, axis = piece.add("GatherND", [value.name, places]), 0
        else:
            rows, axis = piece.add("Cast", [places], to=1 if value.dtype == "float32" else 11), 0
    else:
        rows, axis = piece.add("Unique", [value.name], sorted=1), 0
    rank = 2 if kind == 1 and piece.nodes[-1].op_type == "Cast" else 1 if kind else value.rank
    dtype = value.dtype
    for _ in range(draw.integer(1, 3)):
        then = draw.integer(0, 6)
        if then == 0:
            keep = draw.integer(0, 1)
            # A mean of nothing is not defined, and so is a maximum.
            rows = piece.add("ReduceSum", [rows, draw.constant([axis])], keepdims=keep)
            if not keep:
                break
        elif then == 1:
            rows = piece.add("Concat", [rows, rows], axis=axis)
        elif then == 2 and rank == 2:
            other = piece.add("Transpose", [rows], perm=[1, 0])
            rows = piece.add("MatMul", [rows, other] if draw.chance(0.5) else [other, rows])
            break
        elif then == 3:
            rows = piece.add("Add", [rows, draw.leaf(draw.numbers(dtype, (1,) * draw.integer(0, rank), SMALL)).name])
        elif then == 4:
            # A column and a row of as many.
            flat = piece.add("Reshape", [rows, draw.constant([-1])])
            column = piece.add("Unsqueeze", [flat, draw.constant([1])])
            piece.add("Sub", [column, flat])
            break
        elif then == 5:
            rows = piece.add("Mul", [rows, piece.add("ReduceSum", [rows, draw.constant([axis])], keepdims=1)])
        else:
            sizes = piece.add("Shape", [rows])
            rows = piece.add("Add", [rows, piece.add("Expand", [draw.leaf(draw.numbers(dtype, (), SMALL)).name, sizes])])


def family(name: str, build, since: int = 13, weight: float = 1.0) -> Operator:
    def whole(draw: Draw) -> Piece:
        piece = Piece(draw, loose=True)
        build(draw, piece)
        return piece

    return Operator(name, whole, since=since, weight=weight)


OPERATORS = [
    family("sizes for Reshape", reshape, weight=2), family("sizes merged", merge, weight=1.5),
    family("sizes for Expand", expand), family("sizes for Slice", cut), family("sizes for Pad", pad),
    family("sizes for Tile", tile), family("sizes for ConstantOfShape", fill), family("sizes for Range", count),
    family("sizes for TopK", top), family("sizes for Resize", resize), family("sizes for Split", split),
    family("sizes found", many, weight=2),
]
