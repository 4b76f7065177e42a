"""Weights quantised by blocks, packed into bytes, and mixtures of experts."""

import numpy as np

from .draw import EXACT, HALF, Closeness, Drawn, Random, draws, ml_dtypes, node


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of so many bits in bytes along the last axis, the lowest first."""
    each = 8 // bits
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % each)]
    apart = np.pad(values, padding).reshape(*values.shape[:-1], -1, each).astype(np.uint32)
    return (apart << (np.arange(each) * bits)).sum(-1).astype(np.uint8)


@draws("MatMulNBits", count=28)
def matmul_n_bits(g: Random) -> Drawn:
    bits, block = g.pick(4, 4, 8, 2), g.pick(16, 32, 64)
    dtype = g.pick(np.float32, np.float32, np.float32, np.float16)
    depth, columns = g.pick(block, 2 * block, 3 * block, block + 8, 96), g.size(1, 20)
    blocks = -(-depth // block)
    a = g.floats(*g.sizes(g.size(1, 2), 1, 4), depth, dtype=dtype)
    values = g.integers(np.uint8, columns, blocks, block, most=2**bits - 1)
    scales = g.positive(columns, blocks, dtype=dtype) / dtype(2 ** max(bits - 4, 0))
    zero_kind = g.pick("none", "packed", "packed", "apart")
    zeros = None
    if zero_kind == "packed":
        zeros = packed(g.integers(np.uint8, columns, blocks, most=2**bits - 1), bits)
    elif zero_kind == "apart":
        zeros = g.integers(np.uint8, columns, blocks, most=2**bits - 1).astype(dtype)
    order = None
    # In halves ONNX Runtime leaves zero points out where it is given an order.
    if g.maybe(0.15) and (dtype == np.float32 or zeros is None):
        order = g.integers(np.int32, depth, least=0, most=blocks - 1)
    bias = g.floats(columns, dtype=dtype) if g.maybe(0.4) else None
    level = g.pick(None, 0, 1, 4)
    flat = g.maybe(0.3)
    def at(level: int | None) -> Drawn:
        return node("MatMulNBits", [a, packed(values, bits), scales.reshape(-1) if flat else scales,
                    None if zeros is None else zeros.reshape(-1) if flat else zeros, order, bias],
                    constant=(1, 2, 3, 4, 5), K=depth, N=columns, bits=bits, block_size=block, accuracy_level=level)

    drawn = at(level)
    # Level 4 permits to round activations to eight bits, which ONNX Runtime does for 4 bits, a block
    # at a time; level 1 does not.
    drawn.exact = at(1).model if level == 4 else None
    drawn.closeness = HALF if dtype == np.float16 else EXACT
    return drawn


@draws("GatherBlockQuantized", count=30)
def gather_block_quantized(g: Random) -> Drawn:
    kind = g.pick("bytes", "bytes", "uint4", "int4", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn")
    dtype = g.pick(np.float32, np.float32, np.float16)
    if kind == "bytes":
        return rows_of_bytes(g, dtype)
    rank = g.size(1, 3)
    gathered, along = g.size(0, rank - 1), g.size(0, rank - 1)
    whole = kind.startswith("float") and g.maybe(0.3)
    shape = [g.pick(16, 24, 40) if axis == along else g.size(1, 5) for axis in range(rank)]
    blocks = [(1 if whole else -(-size // 16)) if axis == along else size for axis, size in enumerate(shape)]
    element, zeros = getattr(ml_dtypes, kind), None
    if kind.startswith("float"):
        data = g.floats(*shape, span=4.0).astype(element)
        blocks = [1 if axis != along and g.maybe(0.2) else size for axis, size in enumerate(blocks)]
    else:
        low, high = (0, 15) if kind == "uint4" else (-8, 7)
        data = g.generator.integers(low, high + 1, shape).astype(np.int8).astype(element)
        if g.maybe():
            zeros = g.generator.integers(low, high + 1, blocks).astype(np.int8).astype(element)
    size = shape[gathered]
    indices = g.integers(g.pick(np.int32, np.int64), *g.sizes(g.size(0, 2), 1, 4), least=-size, most=size - 1)
    return node("GatherBlockQuantized", [data, indices, g.positive(*blocks, dtype=dtype), zeros], constant=(0, 2, 3),
                gather_axis=g.pick(gathered, gathered - rank), quantize_axis=g.pick(along, along - rank),
                block_size=0 if whole else 16)


def rows_of_bytes(g: Random, dtype) -> Drawn:
    bits, block, rows, width = g.pick(4, 8, 2), 16, g.size(2, 9), g.pick(16, 32, 40, 48)
    middle = g.sizes(g.size(0, 1), 1, 4)
    # A row that there is not is one of zeros.
    least, most = (-rows - 2, rows + 1) if g.maybe(0.3) else (-rows, rows - 1)
    indices = g.integers(g.pick(np.int32, np.int64), *g.sizes(g.size(0, 2), 1, 4), least=least, most=most)
    scales = g.positive(rows, *middle, -(-width // block), dtype=dtype)
    values = g.integers(np.uint8, rows, *middle, width, most=2**bits - 1)
    zeros = packed(g.integers(np.uint8, *scales.shape, most=2**bits - 1), bits) if g.maybe() else None
    last = len(middle) + 1
    return node("GatherBlockQuantized", [packed(values, bits), indices, scales, zeros], constant=(0, 2, 3),
                gather_axis=g.pick(0, 0, -last - 1), quantize_axis=g.pick(last, -1), block_size=block, bits=bits)


def routing(g: Random):
    tokens, experts = g.size(1, 6), g.size(2, 5)
    return tokens, experts, g.floats(tokens, experts, span=3.0)


@draws("MoE", count=10)
def experts(g: Random) -> Drawn:
    tokens, count, router = routing(g)
    width, inner = g.size(2, 9), g.size(2, 9)
    activation = g.pick("relu", "gelu", "silu", "identity", "swiglu", "swiglu")
    fused = 2 * inner if activation == "swiglu" else inner
    fusion = g.pick(1, 2) if activation == "swiglu" else None
    biased = g.maybe()
    shape = g.pick([tokens, width], [1, tokens, width])
    inputs = [g.floats(*shape), router, g.floats(count, fused, width), g.floats(count, fused) if biased else None,
              g.floats(count, width, inner), g.floats(count, width) if biased else None]
    return node("MoE", inputs, constant=(2, 3, 4, 5), k=g.size(1, 2), activation_type=activation,
                normalize_routing_weights=g.pick(0, 1), swiglu_fusion=fusion,
                activation_alpha=1.702 if fusion else None, activation_beta=1.0 if fusion else None,
                swiglu_limit=g.pick(None, 0.7) if fusion else None)


@draws("QMoE", count=12)
def quantised_experts(g: Random) -> Drawn:
    tokens, count, router = routing(g)
    bits, block = g.pick(4, 8), g.pick(None, 16)
    width, inner = g.pick(16, 32), g.pick(16, 32)
    activation = g.pick("relu", "silu", "gelu", "swiglu", "swiglu")
    fusion = 1 if activation == "swiglu" else None
    fused = 2 * inner if fusion else inner
    biased, zeroed = g.maybe(), g.maybe(0.3)

    def weights(rows: int, depth: int):
        values = g.integers(np.uint8, count, rows, depth, most=2**bits - 1)
        shape = [count, rows] + ([depth // block] if block else [])
        zeros = g.integers(np.uint8, *shape, most=2**bits - 1) if zeroed else None
        scales = g.positive(*shape, least=0.08, most=0.3) / np.float32(2**bits)

        def spread(v):
            return np.repeat(v, block, -1) if block else v[..., None]

        centred = values.astype(np.float32) - (2 ** (bits - 1) if zeros is None else spread(zeros).astype(np.float32))
        return packed(values, bits), scales, None if zeros is None else packed(zeros, bits), centred * spread(scales)

    first, first_scale, first_zero, first_numbers = weights(fused, width)
    second, second_scale, second_zero, second_numbers = weights(width, inner)
    tokens, biases = g.floats(tokens, width), [g.floats(count, size) if biased else None for size in (fused, width)]
    inputs = [tokens, router, first, first_scale, biases[0], second, second_scale, biases[1], None, None, None,
              first_zero, second_zero]
    shared = dict(k=g.size(1, 2), activation_type=activation, swiglu_fusion=fusion,
                  activation_alpha=1.702 if fusion else None, activation_beta=1.0 if fusion else None,
                  swiglu_limit=g.pick(None, 0.7) if fusion else None)
    drawn = node("QMoE", inputs, constant=(2, 3, 4, 5, 6, 7, 11, 12), normalize_routing_weights=g.pick(0, 1),
                 expert_weight_bits=bits, block_size=block, **shared)
    if bits == 8 and block:
        # ONNX Runtime rounds activations to eight bits here, whatever the accuracy level; the same
        # experts in floating point do not. Shares are among those chosen in any case.
        plain = [tokens, router, first_numbers, biases[0], second_numbers, biases[1]]
        drawn.exact = node("MoE", plain, constant=(2, 3, 4, 5), normalize_routing_weights=1, **shared).model
    drawn.closeness = Closeness(1e-3, 1e-4)
    return drawn
