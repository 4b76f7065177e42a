"""What else exporters emit; by definition where ONNX Runtime's CPU provider has no kernel."""

import math

import numpy as np

from .draw import Closeness, Drawn, Random, draws, node


@draws("Trilu", count=6)
def trilu(g: Random) -> Drawn:
    x = g.floats(*g.sizes(g.size(2, 4), 1, 6), dtype=g.pick(np.float32, np.float64))
    k = np.array(g.size(-4, 4), np.int64) if g.maybe(0.7) else None
    return node("Trilu", [x, k], constant=(1,), upper=g.pick(None, 0, 1))


@draws("Pad", count=6)
def pad(g: Random) -> Drawn:
    rank, mode = g.size(1, 3), g.pick(None, "constant", "reflect", "edge")
    pads = g.sizes(2 * rank, 0 if mode else -1, 2)
    value = np.float32(g.number(-1, 1)) if mode in (None, "constant") and g.maybe() else None
    return node("Pad", [g.floats(*g.sizes(rank, 3, 6)), np.array(pads, np.int64), value], constant=(1, 2), mode=mode)


@draws("Range", count=6)
def range_of(g: Random) -> Drawn:
    dtype = g.pick(np.int32, np.int64, np.float32, np.float64)
    start, step = g.size(-5, 5), g.pick(1, 2, -1, 3)
    limit = start + step * g.size(0, 6)
    given = [np.array(start, dtype), np.array(limit, dtype), np.array(step, dtype) if step != 1 or g.maybe() else None]
    return node("Range", given, constant=(0, 1, 2))


@draws("ExpandDims", count=6)
def expand_dims(g: Random) -> Drawn:
    rank = g.size(0, 3)
    axis = np.array(g.size(-rank - 1, rank), np.int32)
    return node("ExpandDims", [g.floats(*g.sizes(rank, 1, 4)), axis], constant=(1,))


@draws("GatherND", count=5)
def gather_nd(g: Random) -> Drawn:
    shape = g.sizes(3, 1, 5)
    depth = g.size(1, 3)
    rows = g.sizes(g.size(0, 2), 1, 3)
    indices = np.stack([g.integers(np.int64, *rows, least=0, most=size - 1) for size in shape[:depth]], -1)
    return node("GatherND", [g.floats(*shape), indices.astype(g.pick(np.int32, np.int64))])


# ONNX Runtime inverts by elimination in the element type.
@draws("Inverse", count=8, closeness=Closeness(2e-3, 1e-4))
def inverse(g: Random) -> Drawn:
    size, dtype = g.size(1, 5), g.pick(np.float32, np.float64)
    x = g.floats(*g.sizes(g.size(0, 2), 1, 3), size, size, dtype=dtype) + 2 * np.eye(size, dtype=dtype)
    # A zero on the diagonal asks for another row.
    x[..., 0, 0] = 0 if size > 1 and g.maybe() else x[..., 0, 0]
    return node("Inverse", [x.astype(dtype)])


@draws("CDist", count=6)
def distances(g: Random) -> Drawn:
    rows, columns, depth = g.sizes(3, 1, 8)
    dtype = g.pick(np.float32, np.float64)
    return node("CDist", [g.floats(rows, depth, dtype=dtype), g.floats(columns, depth, dtype=dtype)],
                metric=g.pick(None, "euclidean", "sqeuclidean"))


@draws("CropAndResize", count=8)
def crop_and_resize(g: Random) -> Drawn:
    batch, boxes = g.size(1, 3), g.size(1, 4)
    corners = g.generator.uniform(-0.2, 1.2, (boxes, 4)).astype(np.float32)
    image = g.floats(batch, g.size(1, 3), *g.sizes(2, 2, 8))
    size = np.array(g.sizes(2, 1, 5), np.int32)
    return node("CropAndResize", [image, corners, g.integers(np.int32, boxes, least=0, most=batch - 1), size], constant=(3,),
                mode=g.pick(None, "bilinear", "nearest"), extrapolation_value=g.pick(None, 0.5))


@draws("GridSample", count=6)
def grid_sample(g: Random) -> Drawn:
    batch = g.size(1, 2)
    image = g.floats(batch, g.size(1, 3), *g.sizes(2, 2, 7))
    grid = g.floats(batch, *g.sizes(2, 1, 5), 2, span=1.2)
    return node("GridSample", [image, grid], mode=g.pick(None, "bilinear", "nearest", "bicubic"),
                padding_mode=g.pick(None, "zeros", "border", "reflection"), align_corners=g.pick(None, 0, 1))


def defined(drawn: Drawn, *results: np.ndarray) -> Drawn:
    drawn.results = list(results)
    return drawn


def group_normalised(x: np.ndarray, gamma, beta, groups: int, epsilon: float, activated: int) -> np.ndarray:
    """`x` has its channels last."""
    batch, *plane, channels = x.shape
    apart = x.astype(np.float64).reshape(batch, -1, groups, channels // groups)
    mean, variance = apart.mean((1, 3), keepdims=True), apart.var((1, 3), keepdims=True)
    y = ((apart - mean) / np.sqrt(variance + epsilon)).reshape(x.shape) * gamma + beta
    return (y / (1 + np.exp(-y)) if activated else y).astype(x.dtype)


def group_norm(skipped: bool):
    def draw(g: Random) -> Drawn:
        groups, batch, last = g.size(1, 3), g.size(1, 2), g.pick(None, 0, 1)
        channels, plane, activated = groups * g.size(1, 4), g.sizes(2, 1, 5), g.pick(0, 1)
        x, gamma, beta = g.floats(batch, *plane, channels), g.floats(channels), g.floats(channels)
        order = (0, 3, 1, 2) if last == 0 else (0, 1, 2, 3)
        inputs, total = [x.transpose(order), gamma, beta], x
        if skipped:
            skip = g.floats(*g.pick([batch, *plane, channels], [batch, 1, 1, channels], [batch, channels]))
            bias = g.floats(channels) if g.maybe() else None
            whole = skip.reshape(batch, 1, 1, channels) if skip.ndim == 2 else skip
            total = x + whole + (0 if bias is None else bias)
            inputs += [skip.transpose(order) if skip.ndim == 4 else skip, bias]
        y = group_normalised(total, gamma, beta, groups, 1e-5, activated).transpose(order)
        name, results = ("SkipGroupNorm", [y, total.transpose(order)]) if skipped else ("GroupNorm", [y])
        drawn = node(name, inputs, outputs=len(results), constant=(1, 2), groups=groups, activation=activated, channels_last=last)
        return defined(drawn, *results)

    return draw


draws("GroupNorm", count=6)(group_norm(False))
draws("SkipGroupNorm", count=6)(group_norm(True))


@draws("BiasAdd", count=3)
def bias_add(g: Random) -> Drawn:
    shape = g.sizes(3, 1, 6)
    x, bias, skip = g.floats(*shape), g.floats(shape[-1]), g.floats(*shape)
    return defined(node("BiasAdd", [x, bias, skip]), x + bias + skip)


@draws("BiasSplitGelu", count=3)
def bias_split_gelu(g: Random) -> Drawn:
    batch, length, half = g.sizes(3, 1, 6)
    x, bias = g.floats(batch, length, 2 * half), g.floats(2 * half)
    left, right = np.split(x + bias, 2, axis=-1)
    gelu = right * 0.5 * (1 + np.vectorize(math.erf)(right / math.sqrt(2)))
    return defined(node("BiasSplitGelu", [x, bias]), (left * gelu).astype(np.float32))


@draws("ReduceSumInteger", count=4)
def reduce_sum_integer(g: Random) -> Drawn:
    x = g.integers(g.pick(np.uint8, np.int8), *g.sizes(3, 1, 5))
    axes, keep = g.pick([0], [-1], [0, 2], [1, 2]), g.pick(0, 1)
    total = x.sum(tuple(axes), dtype=np.int32, keepdims=bool(keep))
    return defined(node("ReduceSumInteger", [x], axes=axes, keepdims=keep), total)


@draws("QLinearReduceMean", count=4, closeness=Closeness(0.0, 1.0))
def quantised_mean(g: Random) -> Drawn:
    x = g.integers(np.uint8, *g.sizes(3, 1, 5))
    axes, keep = g.pick([0], [-1], [0, 2], [1, 2]), g.pick(0, 1)
    (scale, zero), (to_scale, to_zero) = (0.05, 120), (0.04, 110)
    mean = ((x.astype(np.float64) - zero) * scale).mean(tuple(axes), keepdims=bool(keep))
    y = np.clip(np.rint(mean / to_scale) + to_zero, 0, 255).astype(np.uint8)
    inputs = [x, np.float32(scale), np.array(zero, np.uint8), np.float32(to_scale), np.array(to_zero, np.uint8)]
    return defined(node("QLinearReduceMean", inputs, constant=(1, 2, 3, 4), axes=axes, keepdims=keep), y)
