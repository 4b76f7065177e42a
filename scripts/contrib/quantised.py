"""Operators on 8-bit integers: the scale of what comes out is chosen so that it is neither flat nor
saturated everywhere."""

import numpy as np

from .draw import EXACT, QUANTUM, Closeness, Drawn, Random, draws, node
from .products import convolution


def parameters(g: Random, dtype, *shape: int, centre: bool = False):
    """A scale and a zero point, of that shape."""
    middle = 128 if dtype == np.uint8 else 0
    zero = np.full(shape, middle, dtype) if centre else g.integers(dtype, *shape, least=middle - 40, most=middle + 40)
    return g.positive(*shape), zero


def operand(g: Random, dtype, shape):
    return g.integers(dtype, *shape), *parameters(g, dtype)


def elementwise(op: str, wider: float):
    def draw(g: Random) -> Drawn:
        dtype = g.pick(np.uint8, np.int8)
        shape = g.sizes(g.size(1, 4), 1, 7)
        other = g.broadcast(shape) if g.maybe() else shape
        a, b = operand(g, dtype, shape), operand(g, dtype, other)
        scale, zero = np.float32(g.number(wider, 2 * wider)), parameters(g, dtype)[1]
        zeros = [a[2], b[2], zero]
        if g.maybe(0.2):
            zeros = [None if g.maybe() else value for value in zeros]
        return node(op, [a[0], a[1], zeros[0], b[0], b[1], zeros[1], scale, zeros[2]], constant=(1, 2, 4, 5, 6, 7))

    return draw


draws("QLinearAdd", count=10, closeness=QUANTUM)(elementwise("QLinearAdd", 0.1))
draws("QLinearMul", count=10, closeness=QUANTUM)(elementwise("QLinearMul", 0.2))


def activation(op: str, scale: float, **attributes):
    def draw(g: Random) -> Drawn:
        dtype = g.pick(np.uint8, np.int8)
        x, x_scale, x_zero = operand(g, dtype, g.sizes(g.size(1, 4), 1, 9))
        y_zero = parameters(g, dtype)[1]
        if g.maybe(0.2):
            x_zero = None
        return node(op, [x, x_scale, x_zero, np.float32(g.number(scale, 2 * scale)), y_zero], constant=(1, 2, 3, 4),
                    **{key: g.pick(*values) for key, values in attributes.items()})

    return draw


draws("QLinearSigmoid", count=6, closeness=QUANTUM)(activation("QLinearSigmoid", 0.005))
draws("QLinearLeakyRelu", count=6, closeness=QUANTUM)(activation("QLinearLeakyRelu", 0.05, alpha=(None, 0.3, 1.5)))


@draws("QLinearSoftmax", count=10, closeness=QUANTUM)
def softmax(g: Random) -> Drawn:
    dtype, opset = g.pick(np.uint8, np.int8), g.pick(11, 13)
    shape = g.sizes(g.size(1, 4), 1, 9)
    x, scale, zero = operand(g, dtype, shape)
    least = np.array(0 if dtype == np.uint8 else -128, dtype)
    axis = g.size(-len(shape), len(shape) - 1)
    return node("QLinearSoftmax", [x, scale, zero, np.float32(1 / 256), least], constant=(1, 2, 3, 4), axis=axis, attributes={"opset": opset})


@draws("QLinearConcat", count=8, closeness=QUANTUM)
def concat(g: Random) -> Drawn:
    dtype = g.pick(np.uint8, np.int8)
    shape = g.sizes(g.size(1, 4), 1, 6)
    axis = g.size(0, len(shape) - 1)
    inputs = list(parameters(g, dtype))
    for _ in range(g.size(1, 4)):
        own = list(shape)
        own[axis] = g.size(1, 5)
        inputs += operand(g, dtype, own)
    fixed = [number for number in range(len(inputs)) if number < 2 or (number - 2) % 3]
    return node("QLinearConcat", inputs, constant=fixed, axis=axis - len(shape) * g.pick(0, 1))


@draws("QLinearWhere", count=6, closeness=QUANTUM)
def where(g: Random) -> Drawn:
    dtype = g.pick(np.uint8, np.int8)
    shape = g.sizes(g.size(1, 3), 1, 7)
    condition = g.integers(np.uint8, *g.broadcast(shape), least=0, most=1).astype(bool)
    x, y = operand(g, dtype, shape), operand(g, dtype, g.broadcast(shape))
    return node("QLinearWhere", [condition, *x, *y, *parameters(g, dtype)], constant=(2, 3, 5, 6, 7, 8))


@draws("QLinearAveragePool", count=10, closeness=QUANTUM)
def average_pool(g: Random) -> Drawn:
    dtype, last, spatial = g.pick(np.uint8, np.int8), g.pick(0, 1), g.pick(1, 2, 2)
    sizes, channels = g.sizes(spatial, 4, 8), g.size(1, 5)
    shape = [g.size(1, 2), *sizes, channels] if last else [g.size(1, 2), channels, *sizes]
    pads = g.sizes(2 * spatial, 0, 1) if g.maybe() else None
    return node("QLinearAveragePool", [*operand(g, dtype, shape), *parameters(g, dtype)], constant=(1, 2, 3, 4),
                kernel_shape=g.sizes(spatial, 2, 3), strides=g.sizes(spatial, 1, 2), pads=pads, channels_last=last,
                ceil_mode=g.pick(0, 1), count_include_pad=g.pick(0, 1))


@draws("QLinearGlobalAveragePool", count=8, closeness=QUANTUM)
def global_average_pool(g: Random) -> Drawn:
    dtype, last = g.pick(np.uint8, np.int8), g.pick(0, 1)
    sizes, channels = g.sizes(g.pick(1, 2, 2, 3), 1, 8), g.size(1, 5)
    shape = [g.size(1, 2), *sizes, channels] if last else [g.size(1, 2), channels, *sizes]
    return node("QLinearGlobalAveragePool", [*operand(g, dtype, shape), *parameters(g, dtype)], constant=(1, 2, 3, 4),
                channels_last=last)


@draws("QLinearConv", count=12, closeness=QUANTUM)
def quantised_convolution(g: Random) -> Drawn:
    x, w, bias, attributes = convolution(g)
    left, right = g.pick((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    last = g.pick(0, 0, 1)
    shape = [x.shape[0], *x.shape[2:], x.shape[1]] if last else list(x.shape)
    each = [w.shape[0]] if g.maybe() else []
    w_scale, w_zero = parameters(g, right, *each, centre=bool(each) or right == np.int8)
    x_value, x_scale, x_zero = operand(g, left, shape)
    depth = int(np.prod(w.shape[1:]))
    y_scale, y_zero = np.float32(0.05 * np.sqrt(depth)), parameters(g, left)[1]
    bias = None if bias is None else g.integers(np.int32, w.shape[0], least=-2000, most=2000)
    return node("QLinearConv", [x_value, x_scale, x_zero, g.integers(right, *w.shape), w_scale, w_zero, y_scale, y_zero, bias],
                constant=(1, 2, 3, 4, 5, 6, 7, 8), channels_last=last or None, **attributes)


@draws("QGemm", count=10, closeness=QUANTUM)
def gemm(g: Random) -> Drawn:
    rows, depth, columns = g.sizes(3, 1, 9)
    left, right = g.pick((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    flip = (g.maybe(), g.maybe())
    a = g.integers(left, *([depth, rows] if flip[0] else [rows, depth]))
    b = g.integers(right, *([columns, depth] if flip[1] else [depth, columns]))
    each = [columns] if g.maybe() else []
    c = g.integers(np.int32, *g.pick([columns], [rows, columns], [1, columns]), least=-3000, most=3000) if g.maybe() else None
    scaled = [np.float32(0.1 * np.sqrt(depth)), parameters(g, left)[1]] if g.maybe(0.7) else [None, None]
    drawn = node("QGemm", [a, *parameters(g, left), b, *parameters(g, right, *each), c, *scaled],
                 constant=(1, 2, 3, 4, 5, 6, 7, 8), alpha=g.pick(None, 0.5), transA=int(flip[0]), transB=int(flip[1]))
    drawn.closeness = EXACT if scaled[0] is None else QUANTUM
    return drawn


@draws("MatMulIntegerToFloat", count=10)
def matmul_integer_to_float(g: Random) -> Drawn:
    rows, depth, columns = g.sizes(3, 1, 9)
    left, right = g.pick((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    batch = g.sizes(g.size(0, 2), 1, 3)
    each = [columns] if g.maybe() else []
    (a_scale, a_zero), (b_scale, b_zero) = parameters(g, left), parameters(g, right, *each)
    a_zero, b_zero = [None if g.maybe(0.3) else zero for zero in (a_zero, b_zero)]
    a, b = g.integers(left, *batch, rows, depth), g.integers(right, depth, columns)
    return node("MatMulIntegerToFloat", [a, b, a_scale, b_scale, a_zero, b_zero, g.floats(columns) if g.maybe() else None],
                constant=g.pick((), (1, 3, 5, 6)))


# What is rounded to the other side of a half changes a term of the sum by one quantum.
@draws("DynamicQuantizeMatMul", count=10, closeness=Closeness(1e-2, 5e-2))
def dynamic_quantize_matmul(g: Random) -> Drawn:
    rows, depth, columns = g.sizes(3, 1, 9)
    right = g.pick(np.uint8, np.int8)
    batch = g.sizes(g.size(0, 2), 1, 3)
    each = [columns] if g.maybe() else []
    scale, zero = parameters(g, right, *each)
    zero = None if g.maybe(0.3) else zero
    return node("DynamicQuantizeMatMul", [g.floats(*batch, rows, depth), g.integers(right, depth, columns), scale, zero,
                g.floats(columns) if g.maybe() else None], constant=(1, 2, 3, 4))


@draws("DynamicQuantizeLSTM", count=12)
def dynamic_quantize_lstm(g: Random) -> Drawn:
    steps, batch, features, hidden = g.size(1, 5), g.size(1, 3), g.size(1, 9), g.size(1, 8)
    direction = g.pick("forward", "reverse", "bidirectional")
    count = 2 if direction == "bidirectional" else 1
    dtype = g.pick(np.int8, np.uint8)
    each = [count, 4 * hidden] if g.maybe() else [count]
    def weights(rows: int):
        zero = np.zeros(each, dtype) if dtype == np.int8 else np.full(each, 128, dtype)
        return g.integers(dtype, count, rows, 4 * hidden), g.positive(*each, least=0.002, most=0.01), zero

    w, w_scale, w_zero = weights(features)
    r, r_scale, r_zero = weights(hidden)
    bias = g.floats(count, 8 * hidden) if g.maybe() else None
    states = [g.floats(count, batch, hidden) if g.maybe() else None for _ in range(2)]
    peepholes = g.floats(count, 3 * hidden) if g.maybe(0.2) else None
    lengths = g.integers(np.int32, batch, least=1, most=steps) if g.maybe() else None
    return node("DynamicQuantizeLSTM", [g.floats(steps, batch, features), w, r, bias, lengths, *states, peepholes,
                w_scale, w_zero, r_scale, r_zero], outputs=3, constant=(1, 2, 3, 7, 8, 9, 10, 11), hidden_size=hidden, direction=direction)


def linear(op: str):
    def draw(g: Random) -> Drawn:
        dtype = g.pick(np.uint8, np.int8, np.uint16, np.int16)
        shape = g.sizes(g.size(1, 3), 1, 7)
        axis = g.pick(None, *range(-len(shape), len(shape)))
        each = [] if axis is None else [shape[axis]]
        scale, zero = g.positive(*each), g.integers(dtype, *each, least=0, most=50)
        x = g.floats(*shape, span=8.0) if op == "QuantizeLinear" else g.integers(dtype, *shape)
        return node(op, [x, scale, zero], constant=g.pick((), (1, 2)), axis=axis)

    return draw


draws("QuantizeLinear", count=6, closeness=QUANTUM)(linear("QuantizeLinear"))
draws("DequantizeLinear", count=6)(linear("DequantizeLinear"))
