"""Weights quantised by blocks, packed into bytes, and mixtures of experts."""

import numpy as np

from .draw import EXACT, HALF, Closeness, Drawn, Random, draws, ml_dtypes, node

# With accuracy level 4 ONNX Runtime rounds activations to eight bits, a block at a time.
ROUNDED = Closeness(2e-2, 0.15)


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
    drawn = node("MatMulNBits", [a, packed(values, bits), scales.reshape(-1) if flat else scales,
                 None if zeros is None else zeros.reshape(-1) if flat else zeros, order, bias],
                 constant=(1, 2, 3, 4, 5), K=depth, N=columns, bits=bits, block_size=block, accuracy_level=level)
    drawn.closeness = ROUNDED if level == 4 else HALF if dtype == np.float16 else EXACT
    return drawn


@draws("GatherBlockQuantized", count=14)
def gather_block_quantized(g: Random) -> Drawn:
    bits, block = g.pick(4, 8, 2), 16
    kind = g.pick("bytes", "bytes", "uint4", "int4")
    dtype = g.pick(np.float32, np.float32, np.float16)
    rows, width = g.size(2, 9), g.pick(16, 32, 48)
    middle = g.sizes(g.size(0, 1), 1, 4)
    indices = g.integers(g.pick(np.int32, np.int64), *g.sizes(g.size(0, 2), 1, 4), least=-rows, most=rows - 1)
    scales = g.positive(rows, *middle, width // block, dtype=dtype)
    last = len(middle) + 1
    if kind == "bytes":
        values = g.integers(np.uint8, rows, *middle, width, most=2**bits - 1)
        zeros = g.integers(np.uint8, *scales.shape, most=2**bits - 1)
        data, zeros = packed(values, bits), packed(zeros, bits)
    else:
        element = getattr(ml_dtypes, kind)
        low, high = (0, 15) if kind == "uint4" else (-8, 7)
        data = g.generator.integers(low, high + 1, (rows, *middle, width)).astype(np.int8).astype(element)
        zeros = g.generator.integers(low, high + 1, scales.shape).astype(np.int8).astype(element)
    zeros = zeros if g.maybe() else None
    gather = g.pick(0, 0, -len(data.shape))
    return node("GatherBlockQuantized", [data, indices, scales, zeros], constant=(0, 2, 3), gather_axis=gather,
                quantize_axis=g.pick(last, -1), block_size=block, bits=bits if kind == "bytes" else None)


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
        zeros = packed(g.integers(np.uint8, *shape, most=2**bits - 1), bits) if zeroed else None
        return packed(values, bits), g.positive(*shape, least=0.08, most=0.3) / np.float32(2**bits), zeros

    (first, first_scale, first_zero), (second, second_scale, second_zero) = weights(fused, width), weights(width, inner)
    inputs = [g.floats(tokens, width), router, first, first_scale, g.floats(count, fused) if biased else None,
              second, second_scale, g.floats(count, width) if biased else None, None, None, None, first_zero, second_zero]
    drawn = node("QMoE", inputs, constant=(2, 3, 4, 5, 6, 7, 11, 12), k=g.size(1, 2), activation_type=activation,
                 normalize_routing_weights=g.pick(0, 1), swiglu_fusion=fusion, expert_weight_bits=bits, block_size=block,
                 activation_alpha=1.702 if fusion else None, activation_beta=1.0 if fusion else None,
                 swiglu_limit=g.pick(None, 0.7) if fusion else None)
    # For blocks of 8 bits ONNX Runtime has activations of 8 bits only, at every accuracy level.
    drawn.closeness = ROUNDED if bits == 8 and block else Closeness(1e-3, 1e-4)
    return drawn
