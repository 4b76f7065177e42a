"""Drawing one node: values to choose from, new ones where none fits.

Every value carries its numbers, so that an operator gets operands that it is defined for. A value
also says how exactly it is known: leaves are multiples of 1/8, and what is made of them without
rounding stays exact. Only of exact values may something be asked that jumps (a comparison, a
rounding, the place of a maximum): of others two right implementations may answer differently.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx

FLOATS = ("float32", "float64", "float16")
REAL = ("float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
NUMBERS = FLOATS + INTEGERS
ALL = NUMBERS + ("bool", "bfloat16")

# What a graph is mostly made of.
USUAL = {"float32": 12, "int64": 4, "int32": 3, "float16": 1, "float64": 2, "bool": 2, "uint8": 1, "int8": 1}

SIZES = (0, 1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 9, 16, 17)
SIZE_WEIGHTS = (1, 4, 4, 6, 6, 6, 6, 6, 5, 4, 3, 2, 1, 1)


class Unfit(Exception):
    """This operator cannot be drawn here; nothing is wrong."""


@dataclass(frozen=True)
class Value:
    name: str
    array: np.ndarray
    # The coarsest unit roundoff among the rounded values behind it; 0 if it is exact.
    unit: float = 0.0
    # The largest finite number of it and of everything behind it.
    magnitude: float = 0.0
    # How many nodes are behind it in a row.
    nodes: int = 0

    @property
    def dtype(self) -> str:
        return self.array.dtype.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def rank(self) -> int:
        return self.array.ndim


@dataclass
class Leaf:
    """A value without a node: an input of the graph, an initialiser or a constant."""

    value: Value
    kind: str
    # Whether its sizes decide ranks, or attributes that are lists.
    fixed: bool = False


@dataclass
class Node:
    """A drawn node: names of its operands ("" for one that is left out) and its attributes."""

    inputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    # Outputs that are left out.
    absent: tuple[int, ...] = ()
    # What graphs inside take from outside.
    captured: list[str] = field(default_factory=list)


def is_float(dtype: str) -> bool:
    return dtype in (*FLOATS, "bfloat16")


def unit_roundoff(dtype: str) -> float:
    return {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}.get(dtype, 0.0)


def floats(value: Value) -> np.ndarray:
    return value.array.astype(np.float64)


@dataclass(frozen=True)
class Need:
    """What an operand's numbers have to be, and how to make a leaf's so."""

    holds: Callable[[np.ndarray], bool]
    repair: Callable[[np.ndarray], np.ndarray]
    exact: bool = False


def exactly(need: Need) -> Need:
    return Need(need.holds, need.repair, exact=True)


def finite(array: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(array), array, 1.0)


ANY = Need(lambda x: True, lambda x: x)
FINITE = Need(lambda x: bool(np.isfinite(x).all()), finite)
EXACT = exactly(ANY)
EXACT_FINITE = exactly(FINITE)
NONZERO = Need(
    lambda x: bool(np.isfinite(x).all() and (np.abs(x) >= 0.125).all()),
    lambda x: np.where(finite(x) == 0, 1, finite(x)),
)
POSITIVE = exactly(Need(lambda x: bool(np.isfinite(x).all() and (x > 0).all()), lambda x: np.abs(finite(x)) + 0.125))
NOT_NEGATIVE = exactly(Need(lambda x: bool(np.isfinite(x).all() and (x >= 0).all()), lambda x: np.abs(finite(x))))
AT_LEAST_ONE = exactly(Need(lambda x: bool(np.isfinite(x).all() and (x >= 1).all()), lambda x: np.abs(finite(x)) + 1))
INSIDE_ONE = exactly(Need(lambda x: bool((np.abs(x) < 0.95).all()), lambda x: np.clip(finite(x), -7, 7) / 8))
SMALL = Need(lambda x: bool((np.abs(x) <= 6).all()), lambda x: np.clip(finite(x), -6, 6))
BYTE = exactly(Need(lambda x: bool((np.abs(x) <= 100).all()), lambda x: np.clip(finite(x), -100, 100)))


class Draw:
    """The state of one graph's drawing."""

    def __init__(self, generator: np.random.Generator, opset: int) -> None:
        self.generator = generator
        self.opset = opset
        self.values: list[Value] = []
        self.leaves: list[Leaf] = []
        # NaN, infinities and negative zero among the leaves.
        self.special = self.chance(0.15)
        self.count = 0

    # Choices.
    def chance(self, probability: float) -> bool:
        return bool(self.generator.random() < probability)

    def integer(self, least: int, most: int) -> int:
        """Both included."""
        return int(self.generator.integers(least, most + 1))

    def pick(self, options: Sequence[Any]) -> Any:
        if not options:
            raise Unfit
        return options[self.integer(0, len(options) - 1)]

    def maybe(self, attributes: dict[str, Callable[[], Any]], probability: float = 0.5) -> dict[str, Any]:
        """Some of the attributes; the others keep their defaults."""
        return {name: make() for name, make in attributes.items() if self.chance(probability)}

    def number(self, least: float, most: float) -> float:
        """A multiple of 1/8."""
        return self.integer(round(least * 8), round(most * 8)) / 8

    def size(self, least: int = 0) -> int:
        weights = np.array([weight if size >= least else 0 for size, weight in zip(SIZES, SIZE_WEIGHTS)], float)
        return int(self.generator.choice(SIZES, p=weights / weights.sum()))

    def shape(self, rank: int | None = None, least: int = 0) -> tuple[int, ...]:
        if rank is None:
            rank = int(self.generator.choice(6, p=[0.08, 0.2, 0.3, 0.22, 0.15, 0.05]))
        while True:
            shape = tuple(self.size(least) for _ in range(rank))
            if np.prod(shape) <= 3000:
                return shape

    def axis(self, rank: int) -> int:
        """Of a tensor of this rank, counted from either end."""
        if rank == 0:
            raise Unfit
        axis = self.integer(0, rank - 1)
        return axis - rank if self.opset >= 11 and self.chance(0.4) else axis

    def axes(self, rank: int, most: int | None = None) -> list[int]:
        """Some axes, each once, in any order."""
        count = self.integer(min(1, rank), rank if most is None else min(most, rank))
        chosen = self.generator.permutation(rank)[:count].tolist()
        negative = self.opset >= 11 and self.chance(0.4)
        return [axis - rank if negative else axis for axis in chosen]

    # Values.
    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def numbers(self, dtype: str, shape: tuple[int, ...], need: Need = ANY) -> np.ndarray:
        if dtype == "bool":
            return self.generator.integers(0, 2, shape).astype(bool)
        if dtype in UNSIGNED:
            array = self.generator.integers(0, 12, shape)
        elif dtype in SIGNED:
            array = self.generator.integers(-10, 11, shape)
        else:
            array = self.generator.integers(-32, 33, shape) / 8
            if self.special and array.size and self.chance(0.5):
                flat = array.reshape(-1)
                for special in (np.nan, np.inf, -np.inf, -0.0):
                    flat[self.integer(0, flat.size - 1)] = special
        array = np.asarray(need.repair(array))
        if not is_float(dtype):
            array = np.trunc(array)
        return array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)

    def leaf(self, array: np.ndarray, kind: str | None = None, fixed: bool = False) -> Value:
        """A new value with these numbers."""
        array = np.asarray(array)
        if kind is None:
            kind = "input" if self.chance(0.6) else self.pick(["initializer", "initializer", "constant"])
        value = Value(self.name(), array, magnitude=largest(array))
        self.leaves.append(Leaf(value, kind, fixed))
        return value

    def constant(self, values: Any, dtype: str = "int64") -> str:
        """A value that is known when the model is compiled."""
        return self.leaf(np.array(values, dtype), self.pick(["initializer", "constant"])).name

    def dtype(self, types: Sequence[str]) -> str:
        weights = np.array([USUAL.get(dtype, 0.5) for dtype in types], float)
        return str(self.generator.choice(np.array(types), p=weights / weights.sum()))

    def fits(self, value: Value, types: Sequence[str], need: Need) -> bool:
        if value.dtype not in types or (need.exact and value.unit):
            return False
        return need is ANY or need is EXACT or need.holds(floats(value))

    def value(
        self,
        types: Sequence[str] = REAL,
        rank: Sequence[int] | int | None = None,
        need: Need = ANY,
        shape: tuple[int, ...] | None = None,
        suits: Callable[[tuple[int, ...]], bool] | None = None,
        least: int = 0,
    ) -> Value:
        """A value that there is, if one fits, or a new leaf. `least` is of a new leaf's sizes, as
        `suits` is of any shape."""
        ranks = None if rank is None else (rank,) if isinstance(rank, int) else tuple(rank)
        found = [
            value
            for value in self.values
            if (ranks is None or value.rank in ranks)
            and (shape is None or value.shape == shape)
            and (suits is None or suits(value.shape))
            and self.fits(value, types, need)
        ]
        if found and self.chance(0.85):
            # The youngest are preferred: graphs should be deep.
            return found[max(self.integer(0, len(found) - 1), self.integer(0, len(found) - 1))]
        if shape is None:
            for _ in range(20):
                shape = self.shape(None if ranks is None else self.pick(ranks), least)
                if suits is None or suits(shape):
                    break
            else:
                raise Unfit
        return self.leaf(self.numbers(self.dtype(types), shape, need))

    def like(self, other: Value, shape: tuple[int, ...], need: Need = ANY) -> Value:
        """A value of the same type."""
        return self.value((other.dtype,), shape=shape, need=need)

    def broadcast(self, other: Value, need: Need = ANY, types: Sequence[str] | None = None) -> Value:
        """A value that broadcasts with the other one."""
        types = types or (other.dtype,)

        def suits(shape: tuple[int, ...]) -> bool:
            return all(a == b or 1 in (a, b) for a, b in zip(shape[::-1], other.shape[::-1]))

        if self.chance(0.4):
            found = [value for value in self.values if suits(value.shape) and self.fits(value, types, need)]
            sizes = [np.prod(np.broadcast_shapes(value.shape, other.shape)) for value in found]
            found = [value for value, size in zip(found, sizes) if size <= 20000]
            if found:
                return self.pick(found)
        shape = [1 if self.chance(0.25) else size for size in other.shape]
        shape = shape[self.integer(0, len(shape)) :] if self.chance(0.4) else shape
        if len(shape) < 4 and np.prod(other.shape) < 500 and self.chance(0.1):
            shape = [self.size(1)] + [1] * (len(other.shape) - len(shape)) + shape
        return self.value(types, shape=tuple(shape), need=need)


def largest(array: np.ndarray) -> float:
    numbers = np.abs(array.astype(np.float64))
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers.max()) if numbers.size else 0.0


def tensor_type(array: np.ndarray) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
