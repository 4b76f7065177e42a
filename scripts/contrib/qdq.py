"""Models of DequantizeLinear, an operator and QuantizeLinear, as quantisation tools write them.

ONNX Runtime computes them as they stand, in f32; so an integer kernel is right if it is within one
quantum of that.
"""

import numpy as np
from onnx import helper

from .draw import OPERATORS, QUANTUM, Drawn, Random, draws, graph_of
from .products import convolution


class Chain:
    """Nodes one after the other."""

    def __init__(self, g: Random, dtype) -> None:
        self.g, self.dtype = g, dtype
        self.nodes, self.feeds, self.constants = [], {}, {}

    def constant(self, array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def add(self, op: str, *inputs: str, **attributes) -> str:
        output = f"v{len(self.nodes)}"
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=f"n{len(self.nodes)}", **given))
        return output

    def operand(self, *shape: int, scale: float | None = None) -> str:
        """An input of integers, as numbers."""
        name = f"x{len(self.feeds)}"
        self.feeds[name] = self.g.integers(self.dtype, *shape)
        return self.dequantized(name, *self.parameters(scale))

    def parameters(self, scale: float | None = None):
        middle = 128 if self.dtype == np.uint8 else 0
        scale = scale or self.g.number(0.01, 0.1)
        return np.float32(scale), np.array(self.g.size(middle - 40, middle + 40), self.dtype)

    def dequantized(self, v: str, scale, zero, axis: int | None = None) -> str:
        return self.add("DequantizeLinear", v, self.constant(scale), self.constant(zero), axis=axis)

    def weights(self, shape, channel: int, rows: int) -> tuple[str, np.ndarray]:
        """Symmetric weights with a scale for all or for each channel, and those scales."""
        each = self.g.maybe()
        scale = self.g.positive(*([rows] if each else []), least=0.002, most=0.02)
        zero = np.zeros(scale.shape, np.int8)
        w = self.constant(self.g.integers(np.int8, *shape, least=-127))
        return self.dequantized(w, scale, zero, channel if each else None), scale

    def bias(self, rows: int, scale: float, by_weight: np.ndarray) -> str:
        """A bias in 32 bits at the scale of the sums, as tools write it."""
        factor = np.float32(scale) * by_weight.astype(np.float32)
        factor = np.broadcast_to(factor, [rows]) if factor.ndim else factor
        values = self.constant(self.g.integers(np.int32, rows, least=-3000, most=3000))
        return self.dequantized(values, factor, np.zeros(factor.shape, np.int32), 0 if factor.ndim else None)

    def finish(self, v: str, scale: float) -> Drawn:
        result = self.add("QuantizeLinear", v, *map(self.constant, self.parameters(scale)))
        return Drawn(graph_of(self.nodes, self.feeds, self.constants, [result]), self.feeds)


NAMES: set[str] = set()


def quantised(name: str, count: int = 6):
    """Puts a drawing function into the table, under a name of its own."""

    def register(draw):
        def drawn(g: Random) -> Drawn:
            return draw(g, Chain(g, g.pick(np.uint8, np.int8)))

        NAMES.add(f"QDQ{name}")
        draws(f"QDQ{name}", count, QUANTUM)(drawn)
        return draw

    return register


def activated(g: Random, chain: Chain, v: str) -> str:
    kind = g.pick("none", "none", "Relu", "Clip")
    if kind == "Relu":
        return chain.add("Relu", v)
    if kind == "Clip":
        return chain.add("Clip", v, chain.constant(np.float32(0)), chain.constant(np.float32(6)))
    return v


@quantised("Conv", count=14)
def conv(g: Random, chain: Chain) -> Drawn:
    x, w, bias, attributes = convolution(g)
    scale = g.number(0.01, 0.1)
    operand = chain.operand(*x.shape, scale=scale)
    weights, by_weight = chain.weights(w.shape, 0, w.shape[0])
    inputs = [operand, weights] + ([chain.bias(w.shape[0], scale, by_weight)] if bias is not None else [])
    depth = float(np.prod(w.shape[1:]))
    return chain.finish(activated(g, chain, chain.add("Conv", *inputs, **attributes)), 0.01 * depth**0.5 + 0.005)


@quantised("MatMul", count=10)
def matmul(g: Random, chain: Chain) -> Drawn:
    rows, depth, columns = g.sizes(3, 1, 40)
    batch = g.sizes(g.size(0, 2), 1, 3)
    a = chain.operand(*batch, rows, depth)
    if g.maybe(0.3):
        b = chain.operand(*batch, depth, columns)
        return chain.finish(chain.add("MatMul", a, b), 0.3 * depth**0.5)
    b, _ = chain.weights([depth, columns], 1, columns)
    v = chain.add("MatMul", a, b)
    if g.maybe():
        v = chain.add("Add", v, chain.constant(g.floats(columns)))
    return chain.finish(activated(g, chain, v), 0.02 * depth**0.5)


@quantised("Gemm", count=8)
def gemm(g: Random, chain: Chain) -> Drawn:
    rows, depth, columns = g.sizes(3, 1, 40)
    transposed, scale = g.pick(0, 1), g.number(0.01, 0.1)
    a = chain.operand(rows, depth, scale=scale)
    shape = [columns, depth] if transposed else [depth, columns]
    b, by_weight = chain.weights(shape, 1 - transposed, columns)
    inputs = [a, b] + ([chain.bias(columns, scale, by_weight)] if g.maybe(0.7) else [])
    return chain.finish(activated(g, chain, chain.add("Gemm", *inputs, transB=transposed)), 0.02 * depth**0.5)


def binary(op: str, scale: float):
    def draw(g: Random, chain: Chain) -> Drawn:
        shape = g.sizes(g.size(1, 4), 1, 7)
        a, b = chain.operand(*shape), chain.operand(*(g.broadcast(shape) if g.maybe(0.3) else shape))
        return chain.finish(activated(g, chain, chain.add(op, a, b)), scale)

    return draw


quantised("Add")(binary("Add", 0.1))
quantised("Mul")(binary("Mul", 0.2))


def unary(op: str, scale: float, **attributes):
    def draw(g: Random, chain: Chain) -> Drawn:
        x = chain.operand(*g.sizes(g.size(1, 4), 1, 9))
        return chain.finish(chain.add(op, x, **{key: g.pick(*values) for key, values in attributes.items()}), scale)

    return draw


quantised("Sigmoid", count=4)(unary("Sigmoid", 1 / 256))
quantised("Relu", count=4)(unary("Relu", 0.05))
quantised("LeakyRelu", count=4)(unary("LeakyRelu", 0.05, alpha=(None, 0.2)))
quantised("Softmax", count=6)(unary("Softmax", 1 / 256, axis=(-1, 0)))


@quantised("Clip", count=4)
def clip(g: Random, chain: Chain) -> Drawn:
    x = chain.operand(*g.sizes(g.size(1, 4), 1, 9))
    return chain.finish(chain.add("Clip", x, chain.constant(np.float32(-1)), chain.constant(np.float32(2))), 0.02)


@quantised("AveragePool")
def average_pool(g: Random, chain: Chain) -> Drawn:
    x = chain.operand(g.size(1, 2), g.size(1, 5), *g.sizes(2, 4, 9))
    v = chain.add("AveragePool", x, kernel_shape=g.sizes(2, 2, 3), strides=g.sizes(2, 1, 2),
                  pads=g.sizes(4, 0, 1) if g.maybe() else None, count_include_pad=g.pick(0, 1))
    return chain.finish(v, 0.05)


@quantised("MaxPool", count=4)
def max_pool(g: Random, chain: Chain) -> Drawn:
    x = chain.operand(g.size(1, 2), g.size(1, 5), *g.sizes(2, 4, 9))
    v = chain.add("MaxPool", x, kernel_shape=[2, 3], strides=g.sizes(2, 1, 2), ceil_mode=g.pick(0, 1),
                  pads=g.sizes(4, 0, 1) if g.maybe() else None, dilations=[1, g.size(1, 2)])
    return chain.finish(v, 0.05)


@quantised("ConvTranspose")
def conv_transpose(g: Random, chain: Chain) -> Drawn:
    channels, filters, kernel = g.size(1, 4), g.size(1, 5), g.sizes(2, 1, 3)
    scale = g.number(0.01, 0.1)
    x = chain.operand(1, channels, *g.sizes(2, 2, 6), scale=scale)
    w, by_weight = chain.weights([channels, filters, *kernel], 1, filters)
    bias = [chain.bias(filters, scale, by_weight)] if g.maybe() else []
    v = chain.add("ConvTranspose", x, w, *bias, kernel_shape=kernel, strides=g.sizes(2, 1, 2))
    return chain.finish(v, 0.01 * (channels * float(np.prod(kernel))) ** 0.5)


@quantised("GlobalAveragePool", count=4)
def global_average_pool(g: Random, chain: Chain) -> Drawn:
    return chain.finish(chain.add("GlobalAveragePool", chain.operand(g.size(1, 2), g.size(1, 9), *g.sizes(2, 1, 9))), 0.02)


@quantised("Concat", count=4)
def concat(g: Random, chain: Chain) -> Drawn:
    shape = g.sizes(3, 1, 5)
    axis = g.size(0, 2)
    parts = []
    for _ in range(g.size(2, 4)):
        shape[axis] = g.size(1, 4)
        parts.append(chain.operand(*shape))
    return chain.finish(chain.add("Concat", *parts, axis=axis), 0.05)


@quantised("Resize", count=4)
def resize(g: Random, chain: Chain) -> Drawn:
    x = chain.operand(1, g.size(1, 3), *g.sizes(2, 2, 6))
    scales = chain.constant(np.array([1, 1, 2, g.pick(1, 2)], np.float32))
    return chain.finish(chain.add("Resize", x, "", scales, mode=g.pick("nearest", "linear")), 0.05)


@quantised("Moved", count=8)
def moved(g: Random, chain: Chain) -> Drawn:
    """What only moves numbers, between two layers."""
    channels, size = g.size(1, 4), g.pick(4, 6)
    scale = g.number(0.01, 0.1)
    x = chain.operand(1, channels, size, size, scale=scale)
    v = chain.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]) if g.maybe() else x
    between = chain.parameters(scale)
    if g.maybe():
        inner = chain.add("QuantizeLinear", v, *map(chain.constant, between))
        v = chain.dequantized(inner, *between)
    half = size // 2 if v != x and chain.nodes[1].op_type == "MaxPool" else size
    v = chain.add("Transpose", v, perm=[0, 2, 3, 1])
    depth = half * half * channels
    v = chain.add("Reshape", v, chain.constant(np.array([1, depth], np.int64)))
    columns = g.size(1, 20)
    w, _ = chain.weights([depth, columns], 1, columns)
    return chain.finish(chain.add("MatMul", v, w), 0.02 * depth**0.5)


@quantised("Network", count=6)
def network(g: Random, chain: Chain) -> Drawn:
    """A residual block: two convolutions, a sum, a mean of planes and a classifier."""
    channels = g.size(2, 6)
    scale = g.number(0.01, 0.05)
    x = chain.operand(1, channels, 8, 8, scale=scale)

    def rounded(v: str, to: float) -> str:
        parameters = chain.parameters(to)
        return chain.dequantized(chain.add("QuantizeLinear", v, *map(chain.constant, parameters)), *parameters)

    v, step = x, scale
    for number in range(2):
        w, by_weight = chain.weights([channels, channels, 3, 3], 0, channels)
        v = chain.add("Conv", v, w, chain.bias(channels, step, by_weight), kernel_shape=[3, 3], pads=[1] * 4)
        v = chain.add("Relu", v) if number == 0 else v
        step = 0.02 * channels**0.5
        v = rounded(v, step)
    v = rounded(chain.add("Relu", chain.add("Add", v, x)), 1.5 * step)
    v = rounded(chain.add("GlobalAveragePool", v), step)
    v = chain.add("Flatten", v)
    w, _ = chain.weights([5, channels], 0, 5)
    return chain.finish(chain.add("Gemm", v, w, transB=1), 0.1)


assert NAMES <= set(OPERATORS)
