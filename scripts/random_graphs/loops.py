"""Loops and branches whose values change their sizes."""

import numpy as np

from .draw import SMALL, Draw
from .growth import Scope, branch, cut, length, scope_of, start_of, steps
from .operator import Operator
from .piece import Piece, sequence, tensor


def trips(draw: Draw, piece: Piece, least: int = 0) -> str:
    """A count of iterations, known or computed."""
    count = draw.integer(least, 4)
    kind = draw.integer(0, 3)
    if kind == 0:
        return draw.leaf(np.array(count, np.int64)).name
    if kind == 1:
        shaped = draw.value(rank=range(1, 4), suits=lambda shape: least <= shape[-1] <= 5, least=1)
        return piece.add("Gather", [piece.add("Shape", [shaped.name]), piece.constant(-1)])
    if kind == 2:
        numbers = draw.leaf(np.array([count, *(draw.integer(0, count) for _ in range(draw.integer(0, 3)))], np.int64))
        return piece.add("ReduceMax", [numbers.name], keepdims=0)
    flags = draw.leaf(draw.generator.permutation([1] * count + [0] * draw.integer(0, 3)).astype(np.float32))
    return piece.add("Gather", [piece.add("Shape", [piece.add("NonZero", [flags.name])]), piece.constant(1)])


def condition(draw: Draw, piece: Piece, scope: Scope, value: str) -> str:
    """A scalar: given, or of a size."""
    if draw.chance(0.4):
        return draw.leaf(np.array(draw.chance(0.5))).name
    return piece.add(draw.pick(["Less", "Greater"]), [length(piece, scope, value), piece.constant(draw.integer(0, 6))])


def total(piece: Piece, value: str, keep: int = 0) -> str:
    return piece.add("ReduceSum", [value], keepdims=keep)


def grow(draw: Draw) -> Piece:
    """A loop that carries a value of changing size, and perhaps others beside it."""
    piece, inside = Piece(draw), Piece(draw)
    start = start_of(draw)
    scope = scope_of(draw, start)
    number, going, state = (draw.name() for _ in range(3))
    scope.number = number
    result = steps(inside, scope, state, draw.integer(1, 3))
    carried, given, made = [start.name], [scope.info(state)], [scope.info(result)]
    if draw.chance(0.4):
        # The sum so far, whose shape stays.
        sum_of = draw.name()
        sums = inside.add("Add", [sum_of, total(inside, result)])
        carried.append(draw.value((start.dtype,), shape=(), need=SMALL).name)
        given.append(tensor(sum_of, start.dtype, 0))
        made.append(tensor(sums, start.dtype, 0))
    if draw.chance(0.3):
        # The value of the iteration before.
        before = draw.name()
        carried.append(draw.pick(scope.rows))
        given.append(scope.info(before))
        made.append(scope.info(inside.add("Identity", [state])))
        if draw.chance(0.5):
            joined = inside.add("Concat", [before, result], axis=scope.axis)
            made[0] = scope.info(joined)
            result = joined
    if draw.chance(0.3):
        goes_on = inside.add("Less", [length(inside, scope, result), inside.constant(draw.integer(2, 12))])
    else:
        goes_on = inside.add("Identity", [going])
    collects = draw.integer(0, 2)
    if collects:
        collected = inside.add("Shape", [result]) if collects == 1 else total(inside, result)
        made.append(tensor(collected, "int64" if collects == 1 else start.dtype, 1 if collects == 1 else 0))
    body = inside.graph([tensor(number, "int64", 0), tensor(going, "bool", 0), *given], [tensor(goes_on, "bool", 0), *made])
    # Of no iterations, ONNX Runtime says that what they collect has sizes of 0.
    count = trips(draw, piece, 1 if collects else 0)
    begins = draw.leaf(np.array(bool(collects) or draw.chance(0.9))).name if draw.chance(0.4) else ""
    results = piece.add("Loop", [count, begins, *carried], len(made), body=body)
    piece.tensors = results if isinstance(results, list) else [results]
    return piece


def collect(draw: Draw) -> Piece:
    """A loop that puts what it makes into a list, or takes from one."""
    piece, inside = Piece(draw), Piece(draw)
    start = start_of(draw)
    scope = scope_of(draw, start)
    number, going, state, items = (draw.name() for _ in range(4))
    scope.number = number
    empty = draw.chance(0.5)
    filled = [draw.pick(scope.rows) for _ in range(draw.integer(1, 3))]
    kind = tensor(start.name, start.dtype).type.tensor_type.elem_type
    given = piece.add("SequenceEmpty", [], dtype=kind) if empty else piece.add("SequenceConstruct", filled)
    taken = draw.chance(0.4) and not empty
    value = state
    if taken:
        value = inside.add("Concat", [state, inside.add("SequenceAt", [items, inside.constant(draw.pick([0, -1]))])], axis=scope.axis)
    if empty and draw.chance(0.4):
        # Once there is something in the list, the last of it is put before.
        later = inside.add("Greater", [number, inside.constant(0)])
        first, other = inside.inside(), inside.inside()
        last = other.add("SequenceAt", [items, other.constant(-1)])
        joined = other.add("Concat", [cut(other, scope, last, 0, 2), state], axis=scope.axis)
        value = inside.add("If", [later], then_branch=other.graph([], [scope.info(joined)]),
                           else_branch=first.graph([], [scope.info(first.add("Identity", [state]))]))
    result = steps(inside, scope, value, draw.integer(1, 2))
    position = [inside.constant(draw.pick([0, -1]))] if draw.chance(0.4) and not empty else []
    longer = inside.add("SequenceInsert", [items, result, *position])
    if taken and draw.chance(0.4):
        longer = inside.add("SequenceErase", [longer, inside.constant(0)])
    goes_on = inside.add("Identity", [going])
    body = inside.graph([tensor(number, "int64", 0), tensor(going, "bool", 0), scope.info(state), sequence(items, start.dtype)],
                        [tensor(goes_on, "bool", 0), scope.info(result), sequence(longer, start.dtype)])
    last, found = piece.add("Loop", [trips(draw, piece, 1), "", start.name, given], 2, body=body)
    piece.tensors = [last, piece.add("SequenceLength", [found]), piece.add("ConcatFromSequence", [found], axis=scope.axis)]
    if draw.chance(0.5):
        piece.tensors.append(piece.add("SequenceAt", [found, draw.constant(draw.pick([0, -1]))]))
    return piece


def choose(draw: Draw) -> Piece:
    """A branch whose two results differ in size."""
    piece = Piece(draw)
    value = start_of(draw)
    scope = scope_of(draw, value)
    scope.depth = 2
    piece.tensors = [branch(piece, scope, condition(draw, piece, scope, value.name), value.name)]
    return piece


def scan(draw: Draw) -> Piece:
    """A scan of several values with several states, which reads from outside."""
    piece, inside = Piece(draw), Piece(draw)
    rows = draw.value(("float32", "float64"), rank=range(1, 4), need=SMALL, suits=lambda shape: 0 < np.prod(shape) <= 300, least=1)
    axes = [draw.integer(0, rows.rank - 1)]
    inner = rows.shape[: axes[0]] + rows.shape[axes[0] + 1 :]
    scanned = [rows]
    for _ in range(draw.integer(0, 2)):
        axes.append(draw.integer(0, rows.rank - 1))
        shape = list(inner)
        shape.insert(axes[-1], rows.shape[axes[0]])
        scanned.append(draw.like(rows, tuple(shape), SMALL))
    states = [draw.like(rows, inner, SMALL) for _ in range(draw.integer(1, 3))]
    outside = draw.like(rows, inner, SMALL)
    befores, items = [draw.name() for _ in states], [draw.name() for _ in scanned]
    known = [*befores, *items, outside.name]

    def mixed() -> str:
        value = draw.pick(known)
        for _ in range(draw.integer(1, 2)):
            value = inside.add(draw.pick(["Add", "Sub", "Max", "Min"]), [value, draw.pick(known)])
        return value

    def info(name: str):
        return tensor(name, rows.dtype, len(inner))

    afters = [mixed() for _ in states]
    known += afters
    collected = [mixed() for _ in range(draw.integer(0, 2))]
    if draw.chance(0.3):
        # What is collected may have a shape of its own.
        collected.append(inside.add("Unsqueeze", [mixed(), inside.constant([0])]))
    body = inside.graph([info(name) for name in befores + items],
                        [info(name) for name in afters] + [tensor(name, rows.dtype) for name in collected])
    attributes = {"body": body, "num_scan_inputs": len(scanned), "scan_input_axes": axes}
    if draw.chance(0.4):
        attributes["scan_input_directions"] = [draw.integer(0, 1) for _ in scanned]
    if draw.chance(0.4) and collected:
        attributes["scan_output_directions"] = [draw.integer(0, 1) for _ in collected]
    if draw.chance(0.4) and collected:
        attributes["scan_output_axes"] = [draw.integer(0, len(inner)) for _ in collected]
    results = piece.add("Scan", [value.name for value in states + scanned], len(afters) + len(collected), **attributes)
    piece.tensors = results if isinstance(results, list) else [results]
    return piece


OPERATORS = [
    Operator("growing loop", grow, since=13, weight=3),
    Operator("collecting loop", collect, since=13, weight=2),
    Operator("sizes by branch", choose, since=13, weight=2),
    Operator("scan of several", scan, since=13, weight=2),
]
