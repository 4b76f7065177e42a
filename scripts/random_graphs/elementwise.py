"""Operators that work element by element."""

from collections.abc import Callable, Sequence

import numpy as np

from .draw import (
    ALL, ANY, AT_LEAST_ONE, BYTE, EXACT, EXACT_FINITE, FINITE, FLOATS, INSIDE_ONE, INTEGERS, NONZERO, NOT_NEGATIVE,
    NUMBERS, POSITIVE, REAL, SIGNED, SMALL, UNSIGNED, Draw, Need, Node, Unfit, exactly, finite, is_float, tensor_type,
)
from .operator import Operator

Attributes = dict[str, Callable[[Draw], object]]

ANGLE = exactly(Need(lambda x: bool((np.abs(x) < 1.4).all()), lambda x: np.clip(finite(x), -1.25, 1.25)))
SHIFT = Need(lambda x: bool(((x >= 0) & (x < 8)).all()), lambda x: np.abs(x) % 8)
EXPONENT = exactly(Need(lambda x: bool(np.isin(x, (0, 1, 2, 3)).all()), lambda x: np.abs(np.trunc(finite(x))) % 4))

ABOVE_LEAST = Need(lambda x: bool((x > -(2.0**31)).all() or np.isnan(x).any()), lambda x: x)


def unary(name: str, types: Sequence[str] = FLOATS, need: Need = ANY, since: int = 7, rounds: bool = True,
          attributes: Attributes | None = None, weight: float = 1.0) -> Operator:
    def build(draw: Draw) -> Node:
        drawn = {key: (lambda make=make: make(draw)) for key, make in (attributes or {}).items()}
        return Node([draw.value(types, need=need).name], draw.maybe(drawn))

    return Operator(name, build, since, rounds=rounds, weight=weight)


def binary(name: str, types: Sequence[str] = NUMBERS, first: Need = ANY, second: Need = ANY, since: int = 7,
           rounds: bool = False, weight: float = 1.0) -> Operator:
    def build(draw: Draw) -> Node:
        a = draw.value(types, need=first)
        b = draw.broadcast(a, second)
        # Either may be the larger one, where both take the same numbers.
        pair = [b, a] if first is second and draw.chance(0.5) else [a, b]
        return Node([value.name for value in pair])

    return Operator(name, build, since, rounds=rounds, weight=weight)


def variadic(name: str, types: Sequence[str], need: Need = ANY, since: int = 8, rounds: bool = False) -> Operator:
    def build(draw: Draw) -> Node:
        values = [draw.value(types, need=need)]
        while len(values) < 4 and draw.chance(0.6):
            values.append(draw.broadcast(values[0], need))
        return Node([value.name for value in values])

    return Operator(name, build, since, rounds=rounds)


def power(draw: Draw) -> Node:
    base = draw.value(REAL, need=EXACT_FINITE)
    types = (base.dtype,) if draw.opset < 12 else (base.dtype, "int32", "int64")
    return Node([base.name, draw.broadcast(base, EXPONENT, types).name])


def modulo(draw: Draw) -> Node:
    fmod = draw.chance(0.4)
    value = draw.value(REAL if fmod else INTEGERS, need=EXACT_FINITE)
    return Node([value.name, draw.broadcast(value, exactly(NONZERO)).name], {"fmod": int(fmod)} if fmod else {})


def shift(draw: Draw) -> Node:
    value = draw.value(UNSIGNED)
    return Node([value.name, draw.broadcast(value, SHIFT).name], {"direction": draw.pick(["LEFT", "RIGHT"])})


def slope(draw: Draw) -> Node:
    value = draw.value(FLOATS)
    shape = tuple(draw.pick([1, size]) for size in value.shape)
    shape = shape[draw.integer(0, len(shape)) :]
    # An infinite slope makes the sign of nearly nothing all that counts.
    return Node([value.name, draw.like(value, shape, FINITE).name])


def where(draw: Draw) -> Node:
    value = draw.value(ALL)
    other = draw.broadcast(value)
    return Node([draw.broadcast(value, types=("bool",)).name, value.name, other.name])


def clip(draw: Draw) -> Node:
    value = draw.value(REAL if draw.opset < 12 else NUMBERS, need=FINITE)
    bounds = sorted([draw.integer(-4 if value.dtype not in UNSIGNED else 0, 4), draw.integer(0, 9)])
    if draw.opset < 11:
        return Node([value.name], draw.maybe({"min": lambda: float(bounds[0]), "max": lambda: float(bounds[1])}))
    chosen = [draw.leaf(np.array(bound, value.array.dtype)).name if draw.chance(0.6) else "" for bound in bounds]
    while chosen and not chosen[-1]:
        chosen.pop()
    return Node([value.name, *chosen])


def cast(draw: Draw) -> Node:
    value = draw.value(NUMBERS + ("bool",))
    to = draw.dtype([dtype for dtype in NUMBERS + ("bool",)])
    if is_float(value.dtype) and not is_float(to):
        # What does not fit has no defined result; zero or not is a jump.
        value = draw.value(FLOATS, need=BYTE if to != "bool" else EXACT_FINITE)
        if to in UNSIGNED and (value.array < 0).any():
            raise Unfit
    return Node([value.name], {"to": tensor_type(np.empty(0, to))})


def cast_like(draw: Draw) -> Node:
    value = draw.value(INTEGERS + ("bool",))
    return Node([value.name, draw.value(NUMBERS).name])


def is_infinite(draw: Draw) -> Node:
    flags = draw.maybe({name: lambda: draw.integer(0, 1) for name in ("detect_negative", "detect_positive")})
    return Node([draw.value(REAL, need=EXACT).name], flags)


def dropout(draw: Draw) -> Node:
    value = draw.value(FLOATS)
    if draw.opset < 12:
        # What the mask is when nothing is dropped was not said yet.
        return Node([value.name], draw.maybe({"ratio": lambda: draw.integer(0, 3) / 4}))
    outputs = draw.pick([1, 1, 2])
    ratio = [draw.leaf(np.float32(draw.integer(0, 3) / 4)).name] if draw.chance(0.5) else []
    return Node([value.name, *ratio], {}, outputs)


def number(least: float, most: float) -> Callable[[Draw], float]:
    return lambda draw: draw.number(least, most)


OPERATORS = [
    unary("Abs", NUMBERS, rounds=False),
    unary("Neg", FLOATS + SIGNED, rounds=False),
    unary("Relu", FLOATS + SIGNED, need=FINITE, rounds=False, weight=2),
    unary("LeakyRelu", attributes={"alpha": number(-1, 2)}),
    unary("Elu", attributes={"alpha": number(0.5, 2)}),
    unary("Selu", attributes={"alpha": number(1, 2), "gamma": number(1, 2)}),
    unary("Celu", ("float32",), since=12, attributes={"alpha": number(0.5, 2)}),
    unary("HardSigmoid", attributes={"alpha": number(0.125, 1), "beta": number(0, 1)}),
    # ONNX Runtime has the constants of this one and of Gelu in single precision, whatever the operand is in.
    unary("HardSwish", ("float32",), since=14),
    unary("Sigmoid", weight=2),
    unary("Tanh", weight=2),
    unary("Softplus", need=SMALL),
    unary("Softsign", need=FINITE),
    unary("ThresholdedRelu", need=EXACT, since=10, attributes={"alpha": number(-1, 2)}),
    unary("Exp", need=SMALL),
    unary("Log", need=POSITIVE),
    unary("Sqrt", need=NOT_NEGATIVE),
    unary("Reciprocal", need=NONZERO),
    unary("Sin", need=SMALL), unary("Cos", need=SMALL), unary("Tan", need=ANGLE),
    unary("Asin", need=INSIDE_ONE), unary("Acos", need=INSIDE_ONE), unary("Atan"),
    unary("Sinh", need=SMALL, since=9), unary("Cosh", need=SMALL, since=9),
    unary("Asinh", need=FINITE, since=9), unary("Acosh", need=AT_LEAST_ONE, since=9),
    unary("Atanh", need=INSIDE_ONE, since=9),
    unary("Erf", since=9),
    unary("Gelu", ("float32",), since=20, attributes={"approximate": lambda draw: draw.pick(["none", "tanh"])}),
    unary("Mish", since=18, need=SMALL),
    unary("Swish", since=24, attributes={"alpha": number(-1, 2)}),
    unary("Floor", need=EXACT, rounds=False), unary("Ceil", need=EXACT, rounds=False),
    unary("Round", need=EXACT, since=11, rounds=False),
    unary("Sign", NUMBERS, need=EXACT_FINITE, since=9, rounds=False),
    # With a bias in floats the greatest integers leave their type, each processor in its own way.
    unary("Shrink", NUMBERS, need=BYTE, since=9, rounds=False,
          attributes={"bias": number(-1, 1), "lambd": number(0, 2)}),
    unary("Identity", ALL, rounds=False),
    unary("Not", ("bool",), rounds=False),
    unary("BitwiseNot", INTEGERS, since=18, rounds=False),
    unary("IsNaN", REAL, need=EXACT, since=9, rounds=False),
    Operator("IsInf", is_infinite, since=10),
    Operator("Cast", cast, weight=3),
    Operator("CastLike", cast_like, since=15),
    Operator("Clip", clip, weight=2),
    Operator("Dropout", dropout),
    binary("Add", weight=4), binary("Sub", weight=3), binary("Mul", weight=4),
    # The least integer by -1 ends ONNX Runtime's process.
    binary("Div", first=ABOVE_LEAST, second=NONZERO, rounds=True, weight=2),
    binary("Equal", REAL + INTEGERS + ("bool",), EXACT, EXACT),
    binary("Greater", REAL + INTEGERS, EXACT, EXACT), binary("Less", REAL + INTEGERS, EXACT, EXACT),
    binary("GreaterOrEqual", REAL + INTEGERS, EXACT, EXACT, since=12),
    binary("LessOrEqual", REAL + INTEGERS, EXACT, EXACT, since=12),
    binary("And", ("bool",)), binary("Or", ("bool",)), binary("Xor", ("bool",)),
    binary("BitwiseAnd", INTEGERS, since=18), binary("BitwiseOr", INTEGERS, since=18),
    binary("BitwiseXor", INTEGERS, since=18),
    Operator("PRelu", slope),
    Operator("Pow", power, rounds=True),
    Operator("Mod", modulo, since=10),
    Operator("BitShift", shift, since=11),
    Operator("Where", where, since=9, weight=2),
    variadic("Max", NUMBERS, FINITE), variadic("Min", NUMBERS, FINITE),
    variadic("Sum", FLOATS), variadic("Mean", FLOATS, rounds=True),
]
