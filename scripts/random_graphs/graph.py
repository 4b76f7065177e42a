"""Drawing a graph: nodes one after the other, each run by ONNX Runtime as it is drawn.

A node that ONNX Runtime refuses is forgotten, with the leaves that were made for it, so the graph
that is left is valid and all its numbers are known.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from . import control, elementwise, indexing, layers, loops, movement, optionals, quantised, reductions, sequences, sizes
from .draw import Draw, Leaf, Node, Unfit, Value, is_float, largest, tensor_type, unit_roundoff
from .operator import Operator
from .piece import Piece, free

OPERATORS: list[Operator] = [
    operator
    for family in (elementwise, reductions, movement, indexing, layers, quantised, control, loops, sequences, optionals, sizes)
    for operator in family.OPERATORS
]
OPSETS = (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
# More would make a test slow.
MOST_ELEMENTS = 20000


@dataclass(frozen=True)
class Step:
    """A node, or several that hold together, with what it computes; absent outputs are left out."""

    protos: list[onnx.NodeProto]
    reads: list[str]
    values: list[Value]


@dataclass
class Drawn:
    opset: int
    leaves: list[Leaf]
    steps: list[Step]
    outputs: list[str]
    # Names of dimensions that are symbolic, by input and axis.
    symbols: dict[tuple[str, int], str]


def options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), options(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def make_model(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", opset)]
    version = max(helper.find_min_ir_version_for(imports), 4)
    return helper.make_model(graph, opset_imports=imports, ir_version=version, producer_name="kiln-differential")


def alone(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], reads: Sequence[Value], opset: int,
          constants: set[str]) -> list[np.ndarray]:
    """What nodes compute by themselves; what is constant in the graph is constant here."""
    infos = [helper.make_tensor_value_info(value.name, tensor_type(value.array), value.shape)
             for value in reads if value.name not in constants]
    stored = [numpy_helper.from_array(value.array, value.name) for value in reads if value.name in constants]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "alone", infos, results, stored)
    return run(make_model(graph, opset), {value.name: value.array for value in reads if value.name not in constants})


def attribute(value):
    return numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value


def known(array: np.ndarray) -> bool:
    """Whether numbers are so small multiples of a small fraction that no rounding can be in them."""
    numbers = array.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    fraction, limit = (2.0**3, 2.0**7) if array.dtype.name in ("float16", "bfloat16") else (2.0**10, 2.0**12)
    return not numbers.size or bool(np.abs(numbers).max() < limit and (numbers * fraction % 1 == 0).all())


def result(name: str, array: np.ndarray, reads: Sequence[Value], operator: Operator) -> Value:
    dtype = array.dtype.name
    unit = max([value.unit for value in reads], default=0.0)
    if not is_float(dtype):
        unit = 0.0
    elif operator.rounds or not known(array):
        unit = max(unit, unit_roundoff(dtype))
    magnitude = max([largest(array), *(value.magnitude for value in reads)])
    return Value(name, array, unit, magnitude, 1 + max([value.nodes for value in reads], default=0))


def plausible(value: Value) -> bool:
    """Whether errors can be told from what overflows or is out of proportion."""
    if value.array.size > MOST_ELEMENTS or value.rank > 8:
        return False
    if not is_float(value.dtype):
        return True
    return value.magnitude < (2.0**12 if value.dtype in ("float16", "bfloat16") else 2.0**40)


def as_piece(draw: Draw, operator: Operator, node: Node) -> Piece:
    outputs = ["" if index in node.absent else draw.name() for index in range(node.outputs)]
    while outputs and not outputs[-1]:
        outputs.pop()
    proto = helper.make_node(operator.name, node.inputs, outputs, name=f"n{draw.count}",
                             **{key: attribute(value) for key, value in node.attributes.items()})
    return Piece(draw, [proto], [name for name in outputs if name])


def attempt(draw: Draw, operator: Operator, refusals: Counter) -> list[Step]:
    """What this operator draws, if it can be had."""
    leaves = len(draw.leaves)
    try:
        drawn = operator.build(draw)
    except Unfit:
        del draw.leaves[leaves:]
        return []
    piece = drawn if isinstance(drawn, Piece) else as_piece(draw, operator, drawn)
    parts = [[node] for node in piece.nodes] if piece.loose else [piece.nodes]
    tensors = [name for node in piece.nodes for name in node.output] if piece.loose else piece.tensors
    found = {value.name: value for value in [*draw.values, *(leaf.value for leaf in draw.leaves)]}
    reads = [found[name] for name in free(piece.nodes)]
    constants = {leaf.value.name for leaf in draw.leaves if leaf.kind != "input"}
    try:
        arrays = dict(zip(tensors, alone(piece.nodes, tensors, reads, draw.opset, constants)))
    except Exception as error:  # ONNX Runtime has many kinds, without a common base.
        refusals[operator.name, str(error).split(":")[-1].strip()[:80]] += 1
        del draw.leaves[leaves:]
        return []
    steps = []
    for nodes in parts:
        names = free(nodes)
        made = [result(name, np.asarray(arrays[name]), [found[name] for name in names], operator)
                for node in nodes for name in node.output if name in arrays]
        found |= {value.name: value for value in made}
        steps.append(Step(nodes, names, made))
    made = [value for step in steps for value in step.values]
    if not all(plausible(value) for value in made):
        del draw.leaves[leaves:]
        return []
    draw.values += [leaf.value for leaf in draw.leaves[leaves:]] + made
    return steps


def graph(seed: int, nodes: tuple[int, int] = (3, 12), only: set[str] | None = None,
          refusals: Counter | None = None) -> Drawn:
    """The graph of a seed; the same on every machine."""
    generator = np.random.default_rng(seed)
    draw = Draw(generator, int(generator.choice(OPSETS)))
    operators = [operator for operator in OPERATORS
                 if operator.since <= draw.opset <= operator.until and (only is None or operator.name in only)]
    weights = np.array([operator.weight for operator in operators])
    wanted = draw.integer(*nodes)
    steps: list[Step] = []
    # Of some versions there may be none of the operators that are asked for.
    for _ in range(20 * wanted if operators else 0):
        if len(steps) >= wanted:
            break
        operator = operators[int(generator.choice(len(operators), p=weights / weights.sum()))]
        steps += attempt(draw, operator, Counter() if refusals is None else refusals)
    read = {name for step in steps for name in step.reads}
    made = [value.name for step in steps for value in step.values]
    outputs = [name for name in made if name not in read or draw.chance(0.15)]
    # How far a slice of an input goes is told for sizes of at least 1; Kiln refuses others, and says so.
    least = 1 if any(b"Slice" in proto.SerializeToString() for step in steps for proto in step.protos) else 0
    open_sizes = draw.pick([0.35, 0.35, 0.35, 1.0])
    symbols = {
        (leaf.value.name, axis): f"{leaf.value.name}_{axis}"
        for leaf in draw.leaves if leaf.kind == "input" and not leaf.fixed
        for axis, size in enumerate(leaf.value.shape)
        if size != 1 and size >= least and draw.chance(open_sizes)
    }
    return Drawn(draw.opset, list(draw.leaves), steps, outputs, symbols)


def to_model(drawn: Drawn) -> onnx.ModelProto:
    inputs = [leaf for leaf in drawn.leaves if leaf.kind == "input"]
    infos = [
        helper.make_tensor_value_info(
            leaf.value.name, tensor_type(leaf.value.array),
            [drawn.symbols.get((leaf.value.name, axis), size) for axis, size in enumerate(leaf.value.shape)],
        )
        for leaf in inputs
    ]
    stored = [numpy_helper.from_array(leaf.value.array, leaf.value.name)
              for leaf in drawn.leaves if leaf.kind == "initializer"]
    nodes = [
        helper.make_node("Constant", [], [leaf.value.name], value=numpy_helper.from_array(leaf.value.array))
        for leaf in drawn.leaves if leaf.kind == "constant"
    ] + [proto for step in drawn.steps for proto in step.protos]
    values = {value.name: value for step in drawn.steps for value in step.values}
    outputs = [helper.make_tensor_value_info(name, tensor_type(values[name].array), [None] * values[name].rank)
               for name in drawn.outputs]
    return make_model(helper.make_graph(nodes, "random", infos, outputs, stored), drawn.opset)


def without(drawn: Drawn, dropped: Step) -> Drawn:
    """The graph without a node: what it computed becomes an input, where it is still read."""
    steps = [step for step in drawn.steps if step is not dropped]
    read = {name for step in steps for name in step.reads}
    leaves = drawn.leaves + [Leaf(replace(value, unit=0.0, nodes=0), "input") for value in dropped.values if value.name in read]
    return pruned(replace(drawn, leaves=leaves, steps=steps,
                          outputs=[name for name in drawn.outputs if name not in {v.name for v in dropped.values}]))


def pruned(drawn: Drawn) -> Drawn:
    """Without what no output needs."""
    needed = set(drawn.outputs)
    kept = []
    for step in reversed(drawn.steps):
        if any(value.name in needed for value in step.values):
            needed |= set(step.reads)
            kept.append(step)
    return replace(drawn, steps=kept[::-1], leaves=[leaf for leaf in drawn.leaves if leaf.value.name in needed])
