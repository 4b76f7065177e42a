"""The record of an operator that can be drawn."""

from collections.abc import Callable
from dataclasses import dataclass

from .draw import Draw, Node


@dataclass(frozen=True)
class Operator:
    """An operator with the versions of ONNX in which `build` draws valid uses of it."""

    name: str
    build: Callable[[Draw], Node]
    since: int = 7
    until: int = 10**6
    # Whether results of exact operands are rounded; otherwise the numbers say.
    rounds: bool = False
    weight: float = 1.0
