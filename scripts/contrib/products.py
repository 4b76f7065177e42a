"""Matrix products, convolutions and activations of ONNX Runtime's own."""

import numpy as np

from .draw import EXACT, HALF, Drawn, Random, draws, node


def matrices(g: Random, dtype=np.float32, transposed=(False, False)) -> tuple[np.ndarray, np.ndarray]:
    rows, depth, columns = g.sizes(3, 1, 9)
    batch = g.sizes(g.size(0, 2), 1, 3)
    a = batch + ([depth, rows] if transposed[0] else [rows, depth])
    b = (batch if g.maybe() else batch[len(batch):]) + ([columns, depth] if transposed[1] else [depth, columns])
    return g.floats(*a, dtype=dtype), g.floats(*b, dtype=dtype)


@draws("FusedMatMul", count=14)
def fused_matmul(g: Random) -> Drawn:
    alpha, dtype = g.pick(None, 0.5, -2.0), g.pick(np.float32, np.float32, np.float64)
    if g.maybe(0.3):
        # Batch dimensions between the rows and the rest.
        batch, rows, depth, columns = g.sizes(4, 1, 6)
        first, second = g.maybe(), g.maybe()
        flip = [g.maybe(), g.maybe()]
        a = [rows, batch, depth] if first else [batch, rows, depth]
        b = [depth, batch, columns] if second else [batch, depth, columns]
        if flip[0]:
            a = [depth, batch, rows] if first else [batch, depth, rows]
        if flip[1]:
            b = [columns, batch, depth] if second else [batch, columns, depth]
        return node("FusedMatMul", [g.floats(*a, dtype=dtype), g.floats(*b, dtype=dtype)], alpha=alpha,
                    transA=int(flip[0]), transB=int(flip[1]), transBatchA=int(first), transBatchB=int(second))
    transposed = (g.maybe(), g.maybe())
    a, b = matrices(g, dtype, transposed)
    return node("FusedMatMul", [a, b], constant=g.pick((), (1,)), alpha=alpha,
                transA=int(transposed[0]), transB=int(transposed[1]))


@draws("TransposeMatMul", count=4)
def transpose_matmul(g: Random) -> Drawn:
    transposed = (g.maybe(), g.maybe())
    a, b = matrices(g, transposed=transposed)
    return node("TransposeMatMul", [a, b], alpha=g.pick(None, 1.5),
                transA=int(transposed[0]), transB=int(transposed[1]))


@draws("MatMulInteger16", count=4)
def matmul_integer16(g: Random) -> Drawn:
    rows, depth, columns = g.sizes(3, 1, 9)
    return node("MatMulInteger16", [g.integers(np.int16, rows, depth), g.integers(np.int16, depth, columns, least=-99, most=99)])


@draws("FusedGemm", count=10)
def fused_gemm(g: Random) -> Drawn:
    rows, depth, columns = g.sizes(3, 1, 9)
    flip = (g.maybe(), g.maybe())
    a = g.floats(*([depth, rows] if flip[0] else [rows, depth]))
    b = g.floats(*([columns, depth] if flip[1] else [depth, columns]))
    c = g.floats(*g.broadcast([rows, columns])) if g.maybe(0.7) else None
    activation, parameters = activation_of(g)
    named = dict(zip(("activation_alpha", "activation_beta"), parameters))
    return node("FusedGemm", [a, b, c], alpha=g.pick(None, 0.5), beta=g.pick(None, 2.0), transA=int(flip[0]),
                transB=int(flip[1]), activation=activation, **named)


def activation_of(g: Random) -> tuple[str, list[float]]:
    name = g.pick("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSigmoid")
    parameters = {"LeakyRelu": [0.2], "Clip": [-0.25, 0.5], "HardSigmoid": [0.3, 0.4]}
    return name, parameters.get(name, [])


def convolution(g: Random) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, dict]:
    spatial, groups = g.pick(1, 2, 2), g.pick(1, 1, 2)
    kernel = g.sizes(spatial, 1, 3)
    depth, filters = g.size(1, 3), groups * g.size(1, 4)
    x = g.floats(g.size(1, 2), depth * groups, *g.sizes(spatial, 5, 9))
    w = g.floats(filters, depth, *kernel)
    attributes = dict(kernel_shape=kernel, group=groups, strides=g.sizes(spatial, 1, 2),
                      dilations=g.sizes(spatial, 1, 2))
    if g.maybe():
        attributes["pads"] = g.sizes(2 * spatial, 0, 1)
    elif g.maybe():
        attributes["auto_pad"] = "SAME_UPPER"
        attributes["dilations"] = [1] * spatial
    return x, w, g.floats(filters) if g.maybe() else None, attributes


@draws("FusedConv", count=12)
def fused_conv(g: Random) -> Drawn:
    x, w, bias, attributes = convolution(g)
    activation, parameters = activation_of(g)
    added = None
    if g.maybe(0.3):
        # The shape of the result, where it is that of the operand.
        attributes = dict(kernel_shape=list(w.shape[2:]), group=attributes["group"], auto_pad="SAME_UPPER")
        added = g.floats(x.shape[0], w.shape[0], *x.shape[2:])
    return node("FusedConv", [x, w, bias, added], constant=g.pick((), (1, 2)), activation=activation,
                activation_params=parameters or None, **attributes)


@draws("NhwcMaxPool", count=6)
def nhwc_max_pool(g: Random) -> Drawn:
    spatial = g.pick(1, 2, 2)
    dtype = g.pick(np.int8, np.uint8)
    x = g.integers(dtype, g.size(1, 2), *g.sizes(spatial, 4, 9), g.size(1, 5))
    pads = g.sizes(2 * spatial, 0, 1) if g.maybe() else None
    return node("NhwcMaxPool", [x], kernel_shape=g.sizes(spatial, 2, 3), strides=g.sizes(spatial, 1, 2), pads=pads,
                dilations=g.sizes(spatial, 1, 2), ceil_mode=g.pick(0, 1))


def elementwise(op: str, biased: bool | None, **attributes):
    def draw(g: Random) -> Drawn:
        shape = g.sizes(g.size(1, 4), 1, 9)
        has_bias = g.maybe() if biased is None else biased
        bias = g.floats(shape[-1]) if has_bias else None
        return node(op, [g.floats(*shape, span=4.0), bias], **{key: g.pick(*values) for key, values in attributes.items()})

    return draw


draws("Gelu", count=4)(elementwise("Gelu", False))
draws("BiasGelu", count=4)(elementwise("BiasGelu", True))
draws("FastGelu", count=6)(elementwise("FastGelu", None))
draws("QuickGelu", count=4)(elementwise("QuickGelu", False, alpha=(None, 1.0, 0.5, -1.0)))


def normalised(op: str, centred: bool):
    def draw(g: Random) -> Drawn:
        dtype = g.pick(np.float32, np.float32, np.float64, np.float16)
        shape = [g.size(1, 3), g.size(1, 5), g.size(1, 33)]
        skip = g.pick(shape, [1] + shape[1:], shape[1:])
        rest = [g.floats(shape[-1], dtype=dtype)]
        if centred:
            rest.append(g.floats(shape[-1], dtype=dtype) if g.maybe() else None)
        rest.append(g.floats(shape[-1], dtype=dtype) if g.maybe() else None)
        drawn = node(op, [g.floats(*shape, dtype=dtype), g.floats(*skip, dtype=dtype), *rest],
                     outputs=g.pick([True], [True, False, False, True]), epsilon=g.pick(None, 1e-5, 0.1))
        drawn.closeness = HALF if dtype == np.float16 else EXACT
        return drawn

    return draw


draws("SkipLayerNormalization", count=10)(normalised("SkipLayerNormalization", True))
draws("SkipSimplifiedLayerNormalization", count=8)(normalised("SkipSimplifiedLayerNormalization", False))


@draws("SimplifiedLayerNormalization", count=6)
def simplified_layer_normalization(g: Random) -> Drawn:
    dtype = g.pick(np.float32, np.float32, np.float16, np.float64)
    shape = g.sizes(g.size(1, 3), 1, 17)
    axis = g.pick(-1, len(shape) - 1)
    drawn = node("SimplifiedLayerNormalization", [g.floats(*shape, dtype=dtype), g.floats(shape[-1], dtype=dtype)],
                 domain="", outputs=g.pick([True], [True, True]), axis=axis, epsilon=g.pick(None, 1e-5, 0.1), stash_type=1)
    drawn.closeness = HALF if dtype == np.float16 else EXACT
    return drawn


@draws("EmbedLayerNormalization", count=8)
def embed_layer_normalization(g: Random) -> Drawn:
    batch, length, width, words = g.size(1, 3), g.size(1, 6), g.size(1, 17), g.size(2, 9)
    segments = g.maybe()
    ids = lambda count: g.integers(np.int32, batch, length, least=0, most=count - 1)
    mask = g.integers(np.int32, batch, length, least=0, most=1) if g.maybe() else None
    positions = None
    if g.maybe(0.4):
        rows = g.pick(1, batch)
        positions = g.integers(np.int32, rows, length, least=0, most=length)
    inputs = [ids(words), ids(2) if segments else None, g.floats(words, width), g.floats(length + 2, width),
              g.floats(2, width) if segments else None, g.floats(width), g.floats(width), mask, positions]
    return node("EmbedLayerNormalization", inputs, outputs=g.pick([True, True], [True, True, True]),
                constant=(2, 3, 4, 5, 6), epsilon=g.pick(None, 0.1))
