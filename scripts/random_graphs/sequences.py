"""Lists of tensors: made, changed, and read again.

What is in a list is followed while it is drawn, so that every position is inside.
"""

from dataclasses import dataclass

import numpy as np

from .draw import SMALL, Draw, Unfit, Value
from .operator import Operator
from .piece import Piece, sequence, tensor

TYPES = ("float32", "int64", "float64", "int32", "bool", "uint8")


@dataclass
class Items:
    """A list by its name and the shapes of what is in it."""

    name: str
    dtype: str
    rank: int
    shapes: list[tuple[int, ...]]


def position(draw: Draw, least: int, most: int) -> str:
    """From either end; known, or given when the model runs."""
    return draw.leaf(np.array(draw.integer(least, most), draw.pick(["int64", "int64", "int32"]))).name


def constructed(draw: Draw, piece: Piece) -> Items:
    first = draw.value(TYPES, rank=range(0, 4))
    values = [first] + [draw.value((first.dtype,), rank=first.rank) for _ in range(draw.integer(0, 3))]
    if draw.chance(0.5):
        axis = draw.integer(0, first.rank - 1) if first.rank else 0
        values = [first] + [along(draw, first, axis) for _ in range(draw.integer(0, 3))]
    return Items(piece.add("SequenceConstruct", [value.name for value in values]), first.dtype, first.rank,
                 [value.shape for value in values])


def along(draw: Draw, value: Value, axis: int) -> Value:
    """One that differs in this size only."""
    if not value.rank:
        return draw.like(value, ())
    return draw.like(value, value.shape[:axis] + (draw.size(),) + value.shape[axis + 1 :])


def split(draw: Draw, piece: Piece) -> Items:
    value = draw.value(("float32", "float64", "int32", "int64"), rank=range(1, 4), suits=lambda shape: 0 not in shape, least=1)
    axis = draw.integer(0, value.rank - 1)
    size = value.shape[axis]
    attributes = {"axis": draw.pick([axis, axis - value.rank])} if axis or draw.chance(0.5) else {}
    rank = value.rank
    kind = draw.integer(0, 2)
    if kind == 0:
        sizes, inputs = [1] * size, []
        if draw.chance(0.7):
            attributes["keepdims"] = draw.integer(0, 1)
            rank -= attributes["keepdims"] == 0
    elif kind == 1:
        step = draw.integer(1, size)
        sizes = [min(step, size - start) for start in range(0, size, step)]
        inputs = [draw.leaf(np.array(step, draw.pick(["int64", "int32"]))).name]
    else:
        cuts = sorted(draw.integer(0, size) for _ in range(draw.integer(0, 3)))
        sizes = np.diff([0, *cuts, size]).tolist()
        inputs = [draw.leaf(np.array(sizes, np.int64), fixed=draw.chance(0.5)).name]
    shapes = [value.shape[:axis] + ((part,) if rank == value.rank else ()) + value.shape[axis + 1 :] for part in sizes]
    return Items(piece.add("SplitToSequence", [value.name, *inputs], **attributes), value.dtype, rank, shapes)


def begun(draw: Draw, piece: Piece) -> Items:
    value = draw.value(TYPES, rank=range(0, 4))
    kind = tensor("", value.dtype).type.tensor_type.elem_type
    empty = piece.add("SequenceEmpty", [], **({} if value.dtype == "float32" and draw.chance(0.5) else {"dtype": kind}))
    items = Items(empty, value.dtype, value.rank, [])
    return insert(draw, piece, items, value)


def insert(draw: Draw, piece: Piece, items: Items, value: Value | None = None) -> Items:
    if value is None:
        same = items.shapes and draw.chance(0.7)
        value = (draw.value((items.dtype,), shape=draw.pick(items.shapes)) if same
                 else draw.value((items.dtype,), rank=items.rank))
    count, shapes = len(items.shapes), list(items.shapes)
    if draw.chance(0.4):
        shapes.append(value.shape)
        return Items(piece.add("SequenceInsert", [items.name, value.name]), items.dtype, items.rank, shapes)
    place = draw.integer(-count, count)
    shapes.insert(place, value.shape)
    at = draw.leaf(np.array(place, draw.pick(["int64", "int32"]))).name
    return Items(piece.add("SequenceInsert", [items.name, value.name, at]), items.dtype, items.rank, shapes)


def erase(draw: Draw, piece: Piece, items: Items) -> Items:
    shapes = list(items.shapes)
    if len(shapes) < 2:
        raise Unfit
    if draw.chance(0.4):
        del shapes[-1]
        return Items(piece.add("SequenceErase", [items.name]), items.dtype, items.rank, shapes)
    place = draw.integer(-len(shapes), len(shapes) - 1)
    del shapes[place]
    at = draw.leaf(np.array(place, draw.pick(["int64", "int32"]))).name
    return Items(piece.add("SequenceErase", [items.name, at]), items.dtype, items.rank, shapes)


def mapped(draw: Draw, piece: Piece, items: Items) -> Items:
    """The same done to each: with a tensor beside it, or with the list itself as a second one."""
    if draw.opset < 17 or items.dtype not in ("float32", "float64", "int32", "int64") or draw.special:
        raise Unfit
    inside = Piece(draw)
    item, beside = draw.name(), draw.name()
    inputs, given = [items.name], [tensor(item, items.dtype)]
    kind = draw.integer(0, 3)
    rank, shapes = items.rank, list(items.shapes)
    if kind == 0:
        result = inside.add("Add", [item, item])
    elif kind == 1:
        inputs.append(items.name)
        given.append(tensor(beside, items.dtype))
        result = inside.add("Sub", [item, beside])
    elif kind == 2:
        inputs.append(draw.value((items.dtype,), shape=(), need=SMALL).name)
        given.append(tensor(beside, items.dtype, 0))
        result = inside.add("Add", [item, beside])
    elif rank:
        result = inside.add("Concat", [item, item], axis=0)
        shapes = [(2 * shape[0], *shape[1:]) for shape in shapes]
    else:
        raise Unfit
    body = inside.graph(given, [tensor(result, items.dtype)])
    return Items(piece.add("SequenceMap", inputs, body=body), items.dtype, rank, shapes)


def chosen(draw: Draw, piece: Piece, items: Items) -> Items:
    """A branch between the list and a longer one."""
    if draw.opset < 14:
        raise Unfit
    graphs = []
    other = draw.value((items.dtype,), shape=draw.pick(items.shapes))
    for longer in draw.generator.permutation(2):
        inside = Piece(draw)
        result = inside.add("SequenceInsert", [items.name, other.name]) if longer else inside.add("Identity", [items.name])
        graphs.append(inside.graph([], [sequence(result, items.dtype)]))
    flag = draw.chance(0.5)
    taken = graphs[0] if flag else graphs[1]
    shapes = items.shapes + ([other.shape] if taken.node[0].op_type == "SequenceInsert" else [])
    return Items(piece.add("If", [draw.leaf(np.array(flag)).name], then_branch=graphs[0], else_branch=graphs[1]),
                 items.dtype, items.rank, shapes)


def read(draw: Draw, piece: Piece, items: Items) -> list[str]:
    """Tensors that are made of a list."""
    count, results = len(items.shapes), []
    if draw.chance(0.4):
        results.append(piece.add("SequenceLength", [items.name]))
    if count and draw.chance(0.6):
        results.append(piece.add("SequenceAt", [items.name, position(draw, -count, count - 1)]))
    if count and draw.chance(0.6) or not results:
        if len(set(items.shapes)) == 1 and draw.chance(0.5):
            axis = draw.integer(-items.rank - 1, items.rank)
            results.append(piece.add("ConcatFromSequence", [items.name], axis=axis, new_axis=1))
        else:
            fitting = [axis for axis in range(items.rank) if len({shape[:axis] + shape[axis + 1 :] for shape in items.shapes}) == 1]
            if fitting:
                axis = draw.pick(fitting)
                results.append(piece.add("ConcatFromSequence", [items.name], axis=draw.pick([axis, axis - items.rank])))
    if not results:
        results.append(piece.add("SequenceLength", [items.name]))
    return results


CHANGES = [insert, insert, erase, mapped, chosen]


def items_of(draw: Draw, piece: Piece, most: int = 3) -> Items:
    """A list after a few changes."""
    items = draw.pick([constructed, split, begun])(draw, piece)
    for _ in range(draw.integer(0, most)):
        kept = len(piece.nodes)
        try:
            items = draw.pick(CHANGES)(draw, piece, items)
        except Unfit:
            del piece.nodes[kept:]
    return items


def lists(draw: Draw) -> Piece:
    piece = Piece(draw)
    piece.tensors = read(draw, piece, items_of(draw, piece))
    return piece


OPERATORS = [Operator("lists", lists, since=12, weight=6)]
