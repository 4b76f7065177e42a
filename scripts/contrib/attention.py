"""Attention in its forms, and rotary embedding."""

import numpy as np

from .draw import EXACT, HALF, Drawn, Random, draws, node


def mask_of(g: Random, batch: int, queries: int, keys: int, pairs: bool):
    """A mask of one of the kinds that there are; every query sees a key."""
    kind = g.pick("none", "none", "lengths", "keys", "scores", "packed", *(["ranges"] if pairs else []))
    if kind == "none":
        return None
    if kind in ("lengths", "packed"):
        lengths = g.integers(np.int32, batch, least=1, most=keys)
        starts = [number * length for length in (queries, keys) for number in range(batch + 1)]
        return lengths if kind == "lengths" else np.concatenate([lengths, starts]).astype(np.int32)
    if kind == "ranges":
        ends = g.integers(np.int32, batch, least=1, most=keys)
        return np.concatenate([ends, [g.size(0, int(end) - 1) for end in ends]]).astype(np.int32)
    mask = g.integers(np.int32, batch, *([queries] if kind == "scores" else []), keys, least=0, most=1)
    mask[..., 0] = 1
    return mask


def bias_of(g: Random, batch: int, heads: int, queries: int, keys: int):
    return g.floats(g.pick(1, batch), g.pick(1, heads), queries, keys) if g.maybe(0.3) else None


@draws("Attention", count=20)
def attention(g: Random) -> Drawn:
    batch, length, heads, size, features = g.size(1, 2), g.size(1, 6), g.size(1, 3), g.pick(4, 8), g.size(3, 12)
    width, before = heads * size, g.size(1, 4) if g.maybe(0.4) else 0
    narrow = heads * g.pick(4, 12) if not before and g.maybe(0.3) else width
    keys = before + length
    past = g.floats(2, batch, heads, before, size) if before else None
    inputs = [g.floats(batch, length, features), g.floats(features, 2 * width + narrow),
              g.floats(2 * width + narrow) if g.maybe(0.8) else None, mask_of(g, batch, length, keys, True), past,
              bias_of(g, batch, heads, length, keys)]
    return node("Attention", inputs, outputs=2 if before else 1, constant=(1, 2), num_heads=heads,
                unidirectional=g.pick(0, 1), scale=g.pick(None, None, 0.3), mask_filter_value=g.pick(None, None, -3.0),
                qkv_hidden_sizes=[width, width, narrow] if narrow != width else None)


@draws("MultiHeadAttention", count=24)
def multi_head_attention(g: Random) -> Drawn:
    batch, queries, heads, size = g.size(1, 2), g.size(1, 6), g.size(1, 3), g.pick(4, 8)
    length = queries if g.maybe(0.6) else g.size(1, 6)
    width, narrow = heads * size, heads * (size if g.maybe(0.7) else g.pick(4, 12))
    before = g.size(1, 4) if g.maybe(0.3) and narrow == width else 0
    keys = before + length
    ahead = not before and g.maybe(0.2)
    if ahead:
        # Key and value by heads, as another attention left them.
        key, value = g.floats(batch, heads, length, size), g.floats(batch, heads, length, narrow // heads)
    else:
        key, value = g.floats(batch, length, width), g.floats(batch, length, narrow)
    past = [g.floats(batch, heads, before, size) for _ in range(2)] if before else [None, None]
    bias = g.floats(2 * width + narrow) if not ahead and g.maybe() else None
    inputs = [g.floats(batch, queries, width), key, value, bias, mask_of(g, batch, queries, keys, False),
              bias_of(g, batch, heads, queries, keys), *past]
    # Only a sequence that attends to itself has an order.
    causal = g.pick(0, 0, 1) if queries == length else 0
    outputs = [True, True, True] if before else g.pick([True], [True, True, True])
    if ahead:
        outputs = [True]
    return node("MultiHeadAttention", inputs, outputs=outputs, num_heads=heads, unidirectional=causal,
                scale=g.pick(None, None, 0.3), mask_filter_value=g.pick(None, None, -3.0))


def angles(g: Random, positions: int, half: int, dtype):
    angle = g.floats(positions, half, span=3.0)
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)


@draws("GroupQueryAttention", count=48)
def group_query_attention(g: Random) -> Drawn:
    dtype = g.pick(np.float32, np.float32, np.float32, np.float16)
    batch, own, group, size = g.size(1, 2), g.size(1, 2), g.size(1, 3), g.pick(16, 32)
    heads = own * group
    first = g.maybe(0.4)
    length = g.size(1, 6)
    before = 0 if first else g.size(1, 6)
    total = before + length
    # Sequences of a batch may be of different lengths where they continue.
    lengths = np.full(batch, total - 1, np.int32)
    if not first and g.maybe(0.5) and length == 1:
        lengths = g.integers(np.int32, batch, least=length - 1, most=total - 1)
        lengths[0] = total - 1
    rotary = g.maybe()
    packed = g.maybe(0.3)
    if packed:
        query = [g.floats(batch, length, (heads + 2 * own) * size, dtype=dtype), None, None]
    else:
        query = [g.floats(batch, length, count * size, dtype=dtype) for count in (heads, own, own)]
    past = [g.floats(batch, own, before, size, dtype=dtype) for _ in range(2)] if not first else [None, None]
    cos, sin = angles(g, total + 2, size // 2, dtype) if rotary else (None, None)
    positions = None
    if rotary and g.maybe(0.2) and batch == 1 and length > 1:
        positions = np.arange(before, total, dtype=np.int64)[None]
    bias = g.floats(g.pick(1, batch), g.pick(1, heads), length, total, dtype=dtype) if g.maybe(0.2) else None
    sink = g.floats(heads, dtype=dtype) if g.maybe(0.15) else None
    # Keys and values that are kept in 8 bits, with a quantum for all or one for each of their numbers.
    rounded = None if first or not g.maybe(0.2) else g.pick("PER_TENSOR", "PER_CHANNEL")
    scales = [None, None]
    if rounded:
        past = [g.integers(np.int8, *half.shape) for half in past]
        scales = [g.positive(*([1] if rounded == "PER_TENSOR" else [1, own, 1, size]), least=0.004, most=0.01) for _ in past]
    shown = g.pick(None, None, None, 1, 2)
    interleaved = g.pick(0, 1) if rotary else None
    causal = g.pick(None, None, None, None, 0)
    scale, softcap = g.pick(None, None, 0.3), g.pick(None, None, None, 0.5)
    smooth = 1 if sink is None and g.maybe(0.15) else None
    window = g.pick(None, 1, 2, 3) if causal is None else None
    # Prompts of different lengths. What queries of padding see in a window, or where scores are kept,
    # differs from one of ONNX Runtime's kernels to the next.
    plain = dtype == np.float32 and smooth is None and sink is None
    if first and shown is None and (window is None or plain) and g.maybe(0.7):
        lengths = g.integers(np.int32, batch, least=0, most=total - 1)
    # A cache with room for more than there is.
    if past[0] is not None and not rounded and g.maybe(0.3):
        room = ((0, 0), (0, 0), (0, length + g.size(0, 3)), (0, 0))
        past = [np.pad(half, room) for half in past]
    inputs = [*query, *past, lengths, np.array(total, np.int32), cos, sin, positions, bias, sink, *scales]
    drawn = node("GroupQueryAttention", inputs, outputs=4 if shown else 3, constant=(6, 7, 8, 12, 13), num_heads=heads, kv_num_heads=own,
                 k_quant_type=rounded, v_quant_type=rounded, kv_cache_bit_width=8 if rounded else None, qk_output=shown,
                 do_rotary=int(rotary), rotary_interleaved=interleaved, causal=causal,
                 scale=scale, softcap=softcap, smooth_softmax=smooth, local_window_size=window)
    drawn.closeness = HALF if dtype == np.float16 else EXACT
    return drawn


@draws("RotaryEmbedding", count=12)
def rotary_embedding(g: Random) -> Drawn:
    dtype = g.pick(np.float32, np.float32, np.float16)
    batch, heads, length, size = g.size(1, 3), g.size(1, 3), g.size(1, 6), g.pick(8, 16)
    turned = g.pick(0, 0, size // 2)
    by_heads = g.maybe()
    shape = [batch, heads, length, size] if by_heads else [batch, length, heads * size]
    cos, sin = angles(g, length + 3, (turned or size) // 2, dtype)
    positions = np.array([g.size(0, 3)], np.int64) if g.maybe() else \
        g.integers(np.int64, batch, length, least=0, most=length + 2)
    count = heads if turned or (not by_heads and g.maybe()) else None
    drawn = node("RotaryEmbedding", [g.floats(*shape, dtype=dtype), positions, cos, sin], constant=(2, 3),
                 interleaved=g.pick(0, 1), num_heads=count, rotary_embedding_dim=turned or None, scale=None)
    drawn.closeness = HALF if dtype == np.float16 else EXACT
    return drawn


@draws("QAttention", count=10)
def quantised_attention(g: Random) -> Drawn:
    batch, length, heads, size, features = g.size(1, 2), g.size(1, 6), g.size(1, 3), g.pick(4, 8), g.size(3, 12)
    width, before = heads * size, g.size(1, 4) if g.maybe(0.3) else 0
    right, each = g.pick(np.uint8, np.int8), [3 * heads * size] if g.maybe() else []
    zero = g.integers(right, *each, least=0, most=9)
    inputs = [g.integers(np.uint8, batch, length, features), g.integers(right, features, 3 * width), g.floats(3 * width),
              np.float32(0.01), g.positive(*each, least=0.002, most=0.02), mask_of(g, batch, length, before + length, False),
              np.array(g.size(100, 150), np.uint8) if g.maybe(0.8) else None, zero if g.maybe(0.8) else None,
              g.floats(2, batch, heads, before, size) if before else None]
    return node("QAttention", inputs, outputs=2 if before else 1, constant=(1, 2, 3, 4, 6, 7), num_heads=heads,
                unidirectional=g.pick(0, 1))


