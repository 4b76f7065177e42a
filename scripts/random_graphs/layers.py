"""The layers of networks: products, convolutions, pools, normalisations, recurrences, resizing."""

from collections.abc import Callable

import numpy as np

from .draw import FINITE, EXACT_FINITE, REAL, SMALL, Draw, Need, Node, Unfit, exactly, finite
from .operator import Operator

# Enough variation that a normalisation does not blow rounding errors up.
SPREAD = exactly(Need(lambda x: bool(np.isfinite(x).all() and (x.size < 2 or x.std() > 0.2)), finite))


def matmul(draw: Draw) -> Node:
    types = REAL + (("int32", "int64") if draw.opset >= 9 else ())
    a = draw.value(types, rank=range(1, 5), need=FINITE)
    inner = a.shape[-1]
    if draw.chance(0.2):
        shape = (inner,)
    else:
        batch = [draw.pick([1, size]) for size in a.shape[:-2]]
        batch = batch[draw.integer(0, len(batch)) :]
        if not a.shape[:-2] and draw.chance(0.2):
            batch = [draw.size(1)]
        shape = (*batch, inner, draw.size())
    return Node([a.name, draw.like(a, shape, FINITE).name])


def gemm(draw: Draw) -> Node:
    a = draw.value(REAL, rank=2, need=FINITE)
    attributes = draw.maybe({
        "transA": lambda: draw.integer(0, 1), "transB": lambda: draw.integer(0, 1),
        "alpha": lambda: draw.number(-2, 2), "beta": lambda: draw.number(-2, 2),
    })
    rows, inner = a.shape[::-1] if attributes.get("transA") else a.shape
    columns = draw.size()
    b = draw.like(a, (columns, inner) if attributes.get("transB") else (inner, columns), FINITE)
    inputs = [a.name, b.name]
    if draw.opset < 11 or draw.chance(0.6):
        shape = draw.pick([(rows, columns), (columns,), (1, columns), (rows, 1), (1,), ()])
        inputs.append(draw.like(a, shape, FINITE).name)
    return Node(inputs, attributes)


EQUATIONS = {
    "ij,jk->ik": 2, "bij,bjk->bik": 2, "ij->ji": 1, "ij->": 1, "ii->i": 1, "ij,ij->i": 2, "i,j->ij": 2,
    "bhid,bhjd->bhij": 2, "...ij,...jk->...ik": 2, "ij,jk,kl->il": 3, "i,i->": 2, "ijk->kj": 1, "ij,kj": 2,
}


def einsum(draw: Draw) -> Node:
    equation = draw.pick(list(EQUATIONS))
    sizes = {letter: draw.size(1) for letter in "ijkl" + "bhd"}
    outer = draw.shape(draw.integer(0, 2), 1)
    dtype = draw.dtype(REAL)
    inputs = []
    for term in equation.split("->")[0].split(","):
        shape = (outer if "..." in term else ()) + tuple(sizes[letter] for letter in term if letter != ".")
        if np.prod(shape) > 3000:
            raise Unfit
        inputs.append(draw.value((dtype,), shape=shape, need=FINITE).name)
    return Node(inputs, {"equation": equation})


def window(draw: Draw, spatial: tuple[int, ...], dilated: bool, most: int = 3) -> dict:
    """A kernel's extent, strides, padding, dilations, so that it lies on the image somewhere."""
    rank = len(spatial)
    kernel = [draw.integer(1, min(most, max(1, size))) for size in spatial]
    attributes = {"kernel_shape": kernel}
    if draw.chance(0.5):
        attributes["strides"] = [draw.integer(1, 3) for _ in spatial]
    if dilated and draw.chance(0.3):
        attributes["dilations"] = [draw.integer(1, 2) for _ in spatial]
    match draw.pick(["none", "pads", "pads", "auto"]):
        case "pads":
            attributes["pads"] = [draw.integer(0, kernel[axis % rank] - 1) for axis in range(2 * rank)]
        case "auto":
            attributes["auto_pad"] = draw.pick(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
            if attributes["auto_pad"].startswith("SAME"):
                attributes.pop("dilations", None)
                strides = attributes.get("strides", [1] * rank)
                # Where strides leave elements out, the standard's padding is negative: ONNX Runtime's
                # poolings crop the image by it or refuse it, its convolutions do not.
                if any((-(-size // stride) - 1) * stride + k < size for size, stride, k in zip(spatial, strides, kernel)):
                    raise Unfit
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, attributes.get("dilations", [1] * rank))]
    pads = attributes.get("pads", [0] * (2 * rank))
    padded = [size + before + after for size, before, after in zip(spatial, pads, pads[rank:])]
    # By the standard's formula one that is larger has no place; ONNX Runtime rounds towards one.
    if any(r > size for r, size in zip(reach, padded)):
        raise Unfit
    return attributes


def image(draw: Draw, need: Need = FINITE, types=REAL, channels: int | None = None):
    return draw.value(types, rank=range(3, 6 if channels is None else 5), need=need, least=1,
                      suits=lambda shape: 0 not in shape[1:] and max(shape[2:]) > 1 and (channels is None or shape[1] == channels))


def conv(draw: Draw) -> Node:
    x = image(draw, types=("float32", "float32", "float64"))
    groups = draw.pick([group for group in range(1, 5) if x.shape[1] % group == 0] + ([x.shape[1]] if x.shape[1] < 20 else []))
    attributes = window(draw, x.shape[2:], dilated=True)
    filters = groups * draw.integer(1, 3)
    w = draw.like(x, (filters, x.shape[1] // groups, *attributes["kernel_shape"]), FINITE)
    inputs = [x.name, w.name] + ([draw.like(x, (filters,), FINITE).name] if draw.chance(0.5) else [])
    if draw.chance(0.4):
        del attributes["kernel_shape"]
    return Node(inputs, attributes | ({"group": groups} if groups > 1 else {}))


def conv_transpose(draw: Draw) -> Node:
    x = draw.value(("float32",), rank=range(3, 5), need=FINITE, least=1, suits=lambda shape: 0 not in shape and shape[1] < 10)
    groups = draw.pick([group for group in range(1, 4) if x.shape[1] % group == 0])
    rank = x.rank - 2
    kernel = [draw.integer(1, 3) for _ in range(rank)]
    strides = [draw.integer(1, 3) for _ in range(rank)]
    attributes: dict = {"strides": strides} if draw.chance(0.7) else {}
    strides = attributes.get("strides", [1] * rank)
    if draw.chance(0.3):
        attributes["dilations"] = [draw.integer(1, 2) for _ in range(rank)]
    match draw.pick(["none", "pads", "auto", "out"]):
        case "pads":
            attributes["pads"] = [draw.integer(0, min(1, kernel[axis % rank] - 1)) for axis in range(2 * rank)]
        case "auto":
            attributes["auto_pad"] = draw.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
            reach = [(k - 1) * d + 1 for k, d in zip(kernel, attributes.get("dilations", [1] * rank))]
            if any(r < stride for r, stride in zip(reach, strides)):
                # By the standard the result is made larger; ONNX Runtime leaves it as it is.
                raise Unfit
        case "out":
            attributes["output_padding"] = [draw.integer(0, stride - 1) for stride in strides]
    per_group = draw.integer(1, 3)
    shape = (x.shape[1], per_group, *kernel)
    if draw.chance(0.5):
        attributes["kernel_shape"] = kernel
        w = draw.like(x, shape, FINITE)
    else:
        w = draw.leaf(draw.numbers(x.dtype, shape, FINITE), fixed=True)
    inputs = [x.name, w.name] + ([draw.like(x, (per_group * groups,), FINITE).name] if draw.chance(0.5) else [])
    return Node(inputs, attributes | ({"group": groups} if groups > 1 else {}))


def max_pool(draw: Draw) -> Node:
    outputs = 2 if draw.opset >= 8 and draw.chance(0.2) else 1
    types = REAL if draw.opset < 12 else REAL + ("int8", "uint8")
    x = image(draw, EXACT_FINITE if outputs == 2 else FINITE, types)
    attributes = window(draw, x.shape[2:], dilated=draw.opset >= 10)
    if draw.opset >= 10 and draw.chance(0.3):
        attributes["ceil_mode"] = 1
    if outputs == 2 and draw.chance(0.3):
        attributes["storage_order"] = 1
    return Node([x.name], attributes, outputs)


def average_pool(draw: Draw) -> Node:
    x = image(draw)
    attributes = window(draw, x.shape[2:], dilated=draw.opset >= 19)
    if draw.opset >= 10 and draw.chance(0.3):
        attributes["ceil_mode"] = 1
    return Node([x.name], attributes | draw.maybe({"count_include_pad": lambda: draw.integer(0, 1)}))


def lp_pool(draw: Draw) -> Node:
    x = image(draw, EXACT_FINITE)
    attributes = window(draw, x.shape[2:], dilated=draw.opset >= 18)
    if draw.opset >= 18 and draw.chance(0.3):
        attributes["ceil_mode"] = 1
    return Node([x.name], attributes | draw.maybe({"p": lambda: draw.integer(1, 3)}))


def global_pool(draw: Draw) -> Node:
    return Node([image(draw).name])


def batch_norm(draw: Draw) -> Node:
    x = draw.value(REAL, rank=range(2, 5), need=FINITE, least=1)
    channels = (x.shape[1],)
    positive = np.abs(draw.numbers(x.dtype, channels)) + x.array.dtype.type(0.5)
    inputs = [draw.like(x, channels, FINITE).name for _ in range(3)]
    variance = draw.leaf(finite(positive).astype(x.array.dtype)).name
    return Node([x.name, *inputs, variance], draw.maybe({"epsilon": lambda: draw.integer(1, 9) / 1024}))


def instance_norm(draw: Draw) -> Node:
    x = draw.value(("float32",), rank=range(3, 5), need=SPREAD, least=2, suits=lambda shape: np.prod(shape[2:]) > 2)
    return Node([x.name] + [draw.like(x, (x.shape[1],), FINITE).name for _ in range(2)], {"epsilon": 0.125})


def layer_norm(draw: Draw) -> Node:
    x = draw.value(REAL, rank=range(1, 5), need=SPREAD, least=2)
    axis = draw.axis(x.rank)
    inner = x.shape[axis:]
    inputs = [x.name, draw.like(x, inner, FINITE).name] + ([draw.like(x, inner, FINITE).name] if draw.chance(0.6) else [])
    outputs = draw.pick([1, 1, 3]) if x.dtype == "float32" else 1
    return Node(inputs, {"axis": axis, "epsilon": 0.0625}, outputs)


def rms_norm(draw: Draw) -> Node:
    x = draw.value(REAL, rank=range(1, 5), need=SPREAD, least=1)
    axis = draw.axis(x.rank)
    return Node([x.name, draw.like(x, x.shape[axis:], FINITE).name], {"axis": axis, "epsilon": 0.0625})


def group_norm(draw: Draw) -> Node:
    x = draw.value(("float32",), rank=range(3, 5), need=SPREAD, least=2)
    groups = draw.pick([group for group in range(1, 5) if x.shape[1] % group == 0])
    scales = (x.shape[1],) if draw.opset >= 21 else (groups,)
    return Node([x.name] + [draw.like(x, scales, FINITE).name for _ in range(2)], {"num_groups": groups, "epsilon": 0.0625})


def lrn(draw: Draw) -> Node:
    x = draw.value(("float32",), rank=4, need=SMALL, least=1)
    sizes = {"alpha": lambda: draw.number(0.125, 1), "beta": lambda: draw.pick([0.5, 0.75, 1.0]), "bias": lambda: 1.5}
    return Node([x.name], {"size": draw.pick([1, 3, 5])} | draw.maybe(sizes))


def mean_variance(draw: Draw) -> Node:
    x = draw.value(("float32",), rank=4, need=SPREAD, least=2)
    axes = sorted(draw.axes(4)) if draw.chance(0.5) else [0, 2, 3]
    if (x.array.std(tuple(axes)) < 0.2).any():
        # By the standard zero, because a little is added to the deviation; NaN in ONNX Runtime.
        raise Unfit
    return Node([x.name], {"axes": axes} if axes != [0, 2, 3] or draw.chance(0.5) else {})


def recurrence(gates: int) -> Callable[[Draw], Node]:
    def build(draw: Draw) -> Node:
        x = draw.value(("float32",), rank=3, need=SMALL, least=1, suits=lambda shape: 0 not in shape)
        direction = draw.pick(["forward", "reverse", "bidirectional"])
        ways = 2 if direction == "bidirectional" else 1
        hidden = draw.integer(1, 5)
        steps, batch, width = x.shape
        attributes = {"hidden_size": hidden} | ({"direction": direction} if direction != "forward" or draw.chance(0.3) else {})
        inputs = [x.name, draw.like(x, (ways, gates * hidden, width), SMALL).name,
                  draw.like(x, (ways, gates * hidden, hidden), SMALL).name]
        inputs.append(draw.like(x, (ways, 2 * gates * hidden), SMALL).name if draw.chance(0.5) else "")
        lengths = draw.generator.integers(1, steps + 1, batch).astype(np.int32)
        inputs.append(draw.leaf(lengths).name if draw.chance(0.4) else "")
        for _ in range(2 if gates == 4 else 1):
            inputs.append(draw.like(x, (ways, batch, hidden), SMALL).name if draw.chance(0.5) else "")
        if gates == 4 and draw.chance(0.3):
            inputs.append(draw.like(x, (ways, 3 * hidden), SMALL).name)
        while not inputs[-1]:
            inputs.pop()
        if gates == 3 and draw.chance(0.5):
            attributes["linear_before_reset"] = 1
        if gates == 4 and draw.chance(0.2):
            attributes["input_forget"] = 1
        if gates == 1 and draw.chance(0.4):
            attributes["activations"] = [draw.pick(["Tanh", "Relu", "Sigmoid"]) for _ in range(ways)]
        if draw.chance(0.2):
            attributes["clip"] = draw.number(1, 3)
        count = 3 if gates == 4 else 2
        absent = tuple(i for i in range(count) if draw.chance(0.3))
        return Node(inputs, attributes, count, absent if len(absent) < count else ())

    return build


def resize(draw: Draw) -> Node:
    mode = draw.pick(["nearest", "linear", "cubic"])
    rank = 4 if mode == "cubic" else draw.pick([3, 4])
    x = draw.value(("float32",), rank=rank, need=FINITE, least=1, suits=lambda shape: 0 not in shape)
    attributes: dict = {"mode": mode}
    inner = [draw.pick([0.5, 1, 1.5, 2, 3, 0.75, 1.25]) for _ in x.shape[2:]]
    scales = [1.0, 1.0, *inner]
    if all(int(size * scale) == size for size, scale in zip(x.shape[2:], inner)):
        # ONNX Runtime copies what keeps its size; by the standard the scale moves the places.
        raise Unfit
    if draw.opset == 10:
        attributes["mode"] = draw.pick(["nearest", "linear"])
        return Node([x.name, draw.constant(scales, "float32")], attributes)
    places = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"] + (["half_pixel_symmetric"] if draw.opset >= 19 else [])
    attributes |= draw.maybe({"coordinate_transformation_mode": lambda: draw.pick(places)}, 0.7)
    if mode == "nearest":
        roundings = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        attributes |= draw.maybe({"nearest_mode": lambda: draw.pick(roundings)}, 0.7)
    if mode == "cubic":
        attributes |= draw.maybe({"cubic_coeff_a": lambda: draw.pick([-0.5, -0.75]), "exclude_outside": lambda: draw.integer(0, 1)})
    if draw.opset >= 18 and draw.chance(0.2) and mode != "nearest":
        attributes["antialias"] = 1
        if any(scale != 1 and int(size * scale) == size for size, scale in zip(x.shape[2:], inner)):
            # The same for each dimension by itself.
            raise Unfit
    roi = "" if draw.opset >= 13 else draw.constant([], "float32")
    if draw.chance(0.5):
        corners = attributes.get("coordinate_transformation_mode") == "align_corners"
        if corners and any(size * scale % 1 for size, scale in zip(x.shape[2:], inner)):
            # By the standard's cases the scale sets the places; ONNX Runtime takes the size, rounded down.
            raise Unfit
        return Node([x.name, roi, draw.constant(scales, "float32")], attributes)
    sizes = [*x.shape[:2], *(draw.integer(1, 9) for _ in inner)]
    return Node([x.name, roi, "" if draw.opset >= 13 else draw.constant([], "float32"), draw.constant(sizes)], attributes)


def grid_sample(draw: Draw) -> Node:
    x = draw.value(("float32",), rank=4, need=FINITE, least=1, suits=lambda shape: 0 not in shape)
    grid = draw.generator.integers(-20, 21, (x.shape[0], draw.integer(1, 4), draw.integer(1, 4), 2)) / 16
    modes = ["bilinear", "nearest", "bicubic"] if draw.opset < 20 else ["linear", "nearest", "cubic"]
    attributes = {"mode": draw.pick(modes)} | draw.maybe({
        "padding_mode": lambda: draw.pick(["zeros", "border", "reflection"]), "align_corners": lambda: draw.integer(0, 1),
    })
    if attributes["mode"].endswith("cubic") and attributes.get("padding_mode") == "border":
        # ONNX moves the place to the border, as Kiln does; ONNX Runtime only what it is made of.
        raise Unfit
    return Node([x.name, draw.leaf(grid.astype(np.float32)).name], attributes)


def rotary(draw: Draw) -> Node:
    x = draw.value(("float32",), rank=4, need=FINITE, least=2, suits=lambda shape: shape[3] % 2 == 0 and 0 not in shape)
    batch, _, length, width = x.shape
    positions = draw.chance(0.5)
    rows = (draw.integer(length, length + 4),) if positions else (batch, length)
    caches = [draw.leaf(draw.generator.integers(-8, 9, (*rows, width // 2)).astype(np.float32) / 8).name for _ in range(2)]
    places = [draw.leaf(draw.generator.integers(0, rows[0], (batch, length))).name] if positions else []
    return Node([x.name, *caches, *places], draw.maybe({"interleaved": lambda: draw.integer(0, 1)}))


def attention(draw: Draw) -> Node:
    q = draw.value(("float32",), rank=4, need=SMALL, least=1, suits=lambda shape: 0 not in shape)
    batch, heads, length, width = q.shape
    groups = draw.pick([group for group in (1, 2, heads) if heads % group == 0])
    keys, values = draw.integer(1, 6), draw.integer(1, 6)
    inputs = [q.name, draw.like(q, (batch, groups, keys, width), SMALL).name,
              draw.like(q, (batch, groups, keys, values), SMALL).name]
    if draw.chance(0.4):
        shape = (length, keys) if draw.chance(0.5) else (batch, 1, length, keys)
        inputs.append(draw.leaf(draw.numbers("float32", shape, FINITE)).name)
    attributes = draw.maybe({"is_causal": lambda: draw.integer(0, 1), "scale": lambda: draw.number(0.125, 1),
                             "softcap": lambda: 4.0}, 0.3)
    return Node(inputs, attributes)


OPERATORS = [
    Operator("MatMul", matmul, weight=4),
    Operator("Gemm", gemm, weight=2),
    Operator("Einsum", einsum, since=12),
    Operator("Conv", conv, weight=4),
    Operator("ConvTranspose", conv_transpose, weight=2),
    Operator("MaxPool", max_pool, weight=2),
    Operator("AveragePool", average_pool, rounds=True, weight=2),
    Operator("LpPool", lp_pool, rounds=True),
    Operator("GlobalAveragePool", global_pool, rounds=True),
    Operator("GlobalMaxPool", global_pool),
    Operator("BatchNormalization", batch_norm, rounds=True),
    Operator("InstanceNormalization", instance_norm, rounds=True),
    Operator("LayerNormalization", layer_norm, since=17, rounds=True),
    Operator("RMSNormalization", rms_norm, since=23, rounds=True),
    Operator("GroupNormalization", group_norm, since=18, rounds=True),
    Operator("LRN", lrn, rounds=True),
    Operator("MeanVarianceNormalization", mean_variance, since=9, rounds=True),
    Operator("RNN", recurrence(1), rounds=True),
    Operator("GRU", recurrence(3), rounds=True),
    Operator("LSTM", recurrence(4), rounds=True),
    Operator("Resize", resize, since=10, rounds=True, weight=2),
    Operator("GridSample", grid_sample, since=16, rounds=True),
    Operator("RotaryEmbedding", rotary, since=23, rounds=True),
    Operator("Attention", attention, since=23, rounds=True),
]
