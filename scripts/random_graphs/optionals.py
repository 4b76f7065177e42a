"""Optionals of tensors and of lists."""

import numpy as np
from onnx import TypeProto, helper

from .draw import Draw
from .operator import Operator
from .piece import Piece, tensor
from .sequences import items_of, read


def element(dtype: str, listed: bool) -> TypeProto:
    """The type of what may be there."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inner = helper.make_tensor_type_proto(kind, None)
    return helper.make_sequence_type_proto(inner) if listed else inner


def optional_info(name: str, kind: TypeProto):
    return helper.make_value_info(name, helper.make_optional_type_proto(kind))


def some(draw: Draw) -> Piece:
    """A value that is there: asked for, and taken out again."""
    piece = Piece(draw)
    listed = draw.chance(0.5)
    if listed:
        items = items_of(draw, piece, 2)
        name = items.name
    else:
        value = draw.value(("float32", "int64", "int32", "float64", "bool"))
        name = value.name
    wrapped = piece.add("Optional", [name]) if draw.opset < 18 or draw.chance(0.8) else name
    if draw.chance(0.5):
        piece.tensors.append(piece.add("OptionalHasElement", [wrapped]))
    taken = piece.add("OptionalGetElement", [wrapped])
    if listed:
        items.name = taken
        piece.tensors += read(draw, piece, items)
    else:
        # A node after it, so that the optional's own tensor is not all there is.
        piece.tensors += [taken, piece.add("Shape", [taken])]
    return piece


def none(draw: Draw) -> Piece:
    """Nothing that is asked for."""
    piece = Piece(draw)
    kind = element(draw.pick(["float32", "int64"]), draw.chance(0.5))
    piece.tensors = [piece.add("OptionalHasElement", [piece.add("Optional", [], type=kind)])]
    if draw.opset >= 18 and draw.chance(0.4):
        piece.tensors.append(piece.add("OptionalHasElement", []))
    return piece


def perhaps(draw: Draw) -> Piece:
    """Something by one branch, nothing by the other; taken out where it is there."""
    piece = Piece(draw)
    value = draw.value(("float32", "int64"), rank=range(1, 4))
    kind = element(value.dtype, False)
    graphs = []
    for there in draw.generator.permutation(2):
        inside = Piece(draw)
        result = inside.add("Optional", [value.name]) if there else inside.add("Optional", [], type=kind)
        graphs.append(inside.graph([], [optional_info(result, kind)]))
    found = piece.add("If", [draw.leaf(np.array(draw.chance(0.5))).name], then_branch=graphs[0], else_branch=graphs[1])
    asked = piece.add("OptionalHasElement", [found])
    taken, given = Piece(draw), Piece(draw)
    inner = taken.add("OptionalGetElement", [found])
    other = given.add("Neg", [value.name])
    result = piece.add("If", [asked],
                       then_branch=taken.graph([], [tensor(inner, value.dtype, value.rank)]),
                       else_branch=given.graph([], [tensor(other, value.dtype, value.rank)]))
    piece.tensors = [asked, result]
    return piece


OPERATORS = [
    Operator("optional", some, since=15, weight=3),
    Operator("optional of nothing", none, since=15),
    Operator("optional by branch", perhaps, since=16, weight=1),
]
