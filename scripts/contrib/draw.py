"""Models drawn at random: the generator's vocabulary, and the table of what is drawn.

A draw may be of a combination that ONNX Runtime refuses: whoever runs it leaves that one out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
# Operator sets beside ONNX's, and their versions.
VERSIONS = {MICROSOFT: 1, "ai.onnx.ml": 3}
OPSET = 21


@dataclass(frozen=True)
class Closeness:
    """How far a result may be from ONNX Runtime's: `atol + rtol·|expected|`, and why."""

    rtol: float
    atol: float


# Sums of some hundred products of numbers up to 1 in another order, in f32.
EXACT = Closeness(1e-4, 1e-5)
# Equal within one quantum: ONNX Runtime rounds sums in f32, or tables of them.
QUANTUM = Closeness(0.0, 1.0)
# ONNX Runtime computes with halves in f32 and rounds once at the end, to one of two neighbours.
HALF = Closeness(2**-10, 2**-12)
# Activations rounded to eight bits, a block at a time.
ROUNDED = Closeness(2e-2, 0.15)


@dataclass
class Drawn:
    """A model and the inputs that it runs with."""

    model: onnx.ModelProto
    feeds: dict[str, np.ndarray]
    # Results by definition, where ONNX Runtime has no kernel.
    results: list[np.ndarray] | None = None
    # The model whose results are the expected ones, where ONNX Runtime rounds what it is given
    # before it computes. Its own results must be as close to those as `ROUNDED` says.
    exact: onnx.ModelProto | None = None
    closeness: Closeness | None = None


class Random:
    """Numbers, sizes and choices."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def size(self, least: int, most: int) -> int:
        return int(self.generator.integers(least, most + 1))

    def sizes(self, count: int, least: int, most: int) -> list[int]:
        return [self.size(least, most) for _ in range(count)]

    def pick(self, *choices):
        return choices[self.size(0, len(choices) - 1)]

    def maybe(self, chance: float = 0.5) -> bool:
        return bool(self.generator.random() < chance)

    def number(self, least: float, most: float) -> float:
        return float(np.float32(self.generator.uniform(least, most)))

    def floats(self, *shape: int, dtype=np.float32, span: float = 1.0) -> np.ndarray:
        return self.generator.uniform(-span, span, shape).astype(dtype)

    def positive(self, *shape: int, least: float = 0.01, most: float = 0.1, dtype=np.float32):
        return self.generator.uniform(least, most, shape).astype(dtype)

    def integers(self, dtype, *shape: int, least: int | None = None, most: int | None = None):
        info = np.iinfo(dtype)
        low, high = info.min if least is None else least, info.max if most is None else most
        return self.generator.integers(low, high + 1, shape).astype(dtype)

    def broadcast(self, shape: list[int]) -> list[int]:
        """A shape that stretches to this one."""
        kept = shape[self.size(0, len(shape)) :]
        return [size if self.maybe(0.7) else 1 for size in kept]


def graph_of(nodes, feeds, constants, outputs: list[str], opset: int = OPSET) -> onnx.ModelProto:
    """A model of these nodes; the types of its outputs are left to be filled in."""
    inputs = [helper.make_value_info(name, type_of(value)) for name, value in feeds.items()]
    weights = [tensor_of(name, array) for name, array in constants.items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, "drawn", inputs, results, weights)
    used = {node.domain for node in nodes} - {""}
    domains = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, VERSIONS[name]) for name in sorted(used))]
    return helper.make_model(graph, opset_imports=domains, ir_version=10, producer_name="kiln")


def type_of(value) -> onnx.TypeProto:
    """The type of an array; of a dictionary from strings or integers to numbers; of a list."""
    if isinstance(value, list):
        return helper.make_sequence_type_proto(type_of(value[0]))
    if isinstance(value, dict):
        key, of = next(iter(value.items()))
        number = TensorProto.FLOAT if isinstance(of, float) else TensorProto.INT64
        key_type = TensorProto.STRING if isinstance(key, str) else TensorProto.INT64
        return helper.make_map_type_proto(key_type, helper.make_tensor_type_proto(number, []))
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def tensor_of(name: str, array: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def node(op: str, inputs: list, outputs: int | list[bool] = 1, constant=(), domain: str = MICROSOFT,
         opset: int = OPSET, attributes: dict = {}, **more) -> Drawn:
    """A model of one node; `None` is an input that is left out, `constant` are the numbers of those
    that are part of the model, and an attribute of `None` is not given. `attributes` are those whose
    names mean something else here."""
    wanted = [True] * outputs if isinstance(outputs, int) else outputs
    names = ["" if array is None else f"x{number}" for number, array in enumerate(inputs)]
    while names and not names[-1]:
        names.pop()
    results = [f"y{number}" if want else "" for number, want in enumerate(wanted)]
    given = {key: value for key, value in (attributes | more).items() if value is not None}
    made = helper.make_node(op, names, results, name="drawn", domain=domain, **given)
    feeds, constants = {}, {}
    for number, array in enumerate(inputs):
        if array is not None:
            value = array if isinstance(array, dict) else np.asarray(array)
            (constants if number in constant else feeds)[f"x{number}"] = value
    model = graph_of([made], feeds, constants, [name for name in results if name], opset)
    return Drawn(model, feeds)


@dataclass
class Operator:
    """How models of an operator are drawn."""

    name: str
    count: int
    closeness: Closeness
    draw: Callable[[Random], Drawn]


OPERATORS: dict[str, Operator] = {}


def draws(name: str, count: int = 8, closeness: Closeness = EXACT):
    """Puts a drawing function into the table."""

    def register(draw):
        OPERATORS[name] = Operator(name, count, closeness, draw)
        return draw

    return register


__all__ = ["EXACT", "HALF", "MICROSOFT", "OPERATORS", "OPSET", "QUANTUM", "Closeness", "Drawn",
           "Operator", "Random", "draws", "graph_of", "ml_dtypes", "node", "tensor_of", "type_of", "field"]
