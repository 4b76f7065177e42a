"""Control flow: small graphs inside, which also read values from outside."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .draw import SMALL, Draw, Node, Unfit, Value, tensor_type
from .operator import Operator

BODY = [("Add", 2), ("Mul", 2), ("Sub", 2), ("Neg", 1), ("Abs", 1), ("Relu", 1), ("Max", 2)]


def info(name: str, value: Value, rank: bool = True) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, tensor_type(value.array), [None] * value.rank if rank else None)


def chain(draw: Draw, start: str, others: list[str], result: str, steps: int) -> list[onnx.NodeProto]:
    """Nodes that keep a value's shape and type."""
    nodes = []
    for step in range(steps):
        name, operands = draw.pick(BODY)
        output = result if step == steps - 1 else draw.name()
        nodes.append(helper.make_node(name, [start] + ([draw.pick(others)] if operands == 2 else []), [output]))
        start = output
    return nodes


def branch(draw: Draw, value: Value, other: Value) -> onnx.GraphProto:
    result = draw.name()
    nodes = chain(draw, value.name, [value.name, other.name], result, draw.integer(1, 3))
    return helper.make_graph(nodes, draw.name(), [], [info(result, value)])


def captured(graphs: list[onnx.GraphProto], values: list[Value]) -> list[str]:
    read = {name for graph in graphs for node in graph.node for name in node.input}
    return sorted({value.name for value in values if value.name in read})


def pair(draw: Draw) -> tuple[Value, Value]:
    value = draw.value(("float32", "int32", "int64", "float64") if draw.opset >= 14 else ("float32", "float64"), need=SMALL)
    return value, draw.like(value, value.shape, SMALL)


def decide(draw: Draw) -> Node:
    value, other = pair(draw)
    condition = draw.value(("bool",), shape=())
    graphs = [branch(draw, value, other) for _ in range(2)]
    attributes: dict[str, Any] = dict(zip(("then_branch", "else_branch"), graphs))
    return Node([condition.name], attributes, captured=captured(graphs, [value, other]))


def repeat(draw: Draw) -> Node:
    value, other = pair(draw)
    number, condition, state, next_condition, next_state, scanned = (draw.name() for _ in range(6))
    nodes = [helper.make_node("Identity", [condition], [next_condition])]
    early = draw.chance(0.3)
    if early:
        limit, below = draw.name(), draw.name()
        nodes = [helper.make_node("Constant", [], [limit], value=helper.make_tensor(limit, TensorProto.INT64, [], [draw.integer(0, 3)])),
                 helper.make_node("Less", [number, limit], [next_condition])]
    nodes += chain(draw, state, [other.name, state], next_state, draw.integer(1, 2))
    outputs = [helper.make_tensor_value_info(next_condition, TensorProto.BOOL, []), info(next_state, value)]
    collects = draw.chance(0.5)
    if collects:
        nodes.append(helper.make_node("Identity", [next_state], [scanned]))
        outputs.append(info(scanned, value))
    body = helper.make_graph(nodes, draw.name(), [
        helper.make_tensor_value_info(number, TensorProto.INT64, []),
        helper.make_tensor_value_info(condition, TensorProto.BOOL, []),
        info(state, value),
    ], outputs)
    # Of no iterations, ONNX Runtime says that what they collect has sizes of 0 wherever the body
    # does not say which.
    least = 1 if collects else 0
    count = draw.leaf(np.array(draw.integer(least, 4), np.int64)).name
    start = draw.leaf(np.array(collects or draw.chance(0.9))).name if early or draw.chance(0.5) else ""
    return Node([count, start, value.name], {"body": body}, 2 if collects else 1,
                captured=captured([body], [other]))


def scan(draw: Draw) -> Node:
    rows = draw.value(("float32", "float64"), rank=range(1, 4), need=SMALL, least=1)
    axis = draw.axis(rows.rank)
    if rows.shape[axis] == 0:
        # ONNX Runtime divides by it, which ends the process.
        raise Unfit
    inner = rows.shape[:axis] + rows.shape[axis % rows.rank + 1 :] if axis >= 0 else tuple(np.delete(rows.shape, axis))
    state = draw.like(rows, tuple(int(size) for size in inner), SMALL)
    before, row, after, out = (draw.name() for _ in range(4))
    piece = Value(row, np.empty(state.shape, state.array.dtype))
    nodes = chain(draw, before, [row], after, draw.integer(1, 2)) + [helper.make_node("Add", [after, row], [out])]
    body = helper.make_graph(nodes, draw.name(), [info(before, piece), info(row, piece)], [info(after, piece), info(out, piece)])
    attributes: dict[str, Any] = {"body": body, "num_scan_inputs": 1, "scan_input_axes": [axis]}
    if draw.chance(0.4):
        attributes["scan_input_directions"] = [1]
    if draw.chance(0.4):
        attributes["scan_output_directions"] = [1]
    if draw.chance(0.4):
        attributes["scan_output_axes"] = [draw.integer(0, state.rank)]
    return Node([state.name, rows.name], attributes, 2)


OPERATORS = [
    Operator("If", decide),
    Operator("Loop", repeat),
    Operator("Scan", scan, since=11),
]
