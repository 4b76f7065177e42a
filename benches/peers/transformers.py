"""Transformers as ONNX graphs, with weights drawn from a fixed seed.

The graphs are what PyTorch's exporter writes for these networks at opset 17 with fixed sizes: linear layers are
MatMul and Add (Gemm between two Reshapes in GPT-2), GELU is spelt out, LayerNormalization and Softmax are operators.
What weights are does not change how long a run takes; drawn by their fan-in, they keep activations in range.
"""

import math
import zlib
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

import network

LOWEST = float(np.finfo(np.float32).min)


class Graph(network.Nodes):
    """Its nodes and initialisers so far."""

    def __init__(self, name: str):
        super().__init__()
        self.name, self.inputs, self.outputs = name, [], []
        self.generator = np.random.default_rng(zlib.crc32(name.encode()))

    # Building blocks.

    def weight(self, name: str, *sizes: int, fan_in: int = 0) -> str:
        deviation = 1 / math.sqrt(fan_in) if fan_in else 0.02
        return self.initializer(name, self.generator.normal(0, deviation, sizes).astype(np.float32))

    def input(self, name: str, kind: int, *sizes: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, sizes))
        return name

    def output(self, value: str, name: str, *sizes: int) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"/{name}"))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "main_graph", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="transformers.py")

    # Layers.

    def linear(self, x: str, name: str, width: int, to: int) -> str:
        product = self.node("MatMul", x, self.weight(f"{name}.weight", width, to, fan_in=width))
        return self.node("Add", self.weight(f"{name}.bias", to), product)

    def gemm(self, x: str, name: str, sizes: tuple[int, int, int], to: int) -> str:
        """A linear layer on rows, as GPT-2 has it."""
        batch, length, width = sizes
        rows = self.node("Reshape", x, self.ints(-1, width))
        weights = self.weight(f"{name}.weight", width, to, fan_in=width), self.weight(f"{name}.bias", to)
        return self.node("Reshape", self.node("Gemm", rows, *weights), self.ints(batch, length, to))

    def normalise(self, x: str, name: str, width: int, epsilon: float) -> str:
        scale = self.initializer(f"{name}.weight", 1 + self.generator.normal(0, 0.02, width).astype(np.float32))
        return self.node("LayerNormalization", x, scale, self.weight(f"{name}.bias", width), axis=-1, epsilon=epsilon)

    def gelu(self, x: str) -> str:
        error = self.node("Erf", self.node("Div", x, self.scalar(math.sqrt(2.0))))
        return self.node("Mul", self.node("Mul", x, self.node("Add", error, self.scalar(1.0))), self.scalar(0.5))

    def gelu_by_tanh(self, x: str) -> str:
        cube = self.node("Mul", self.node("Pow", x, self.scalar(3.0)), self.scalar(0.044715))
        inner = self.node("Mul", self.node("Add", x, cube), self.scalar(math.sqrt(2 / math.pi)))
        shares = self.node("Add", self.node("Tanh", inner), self.scalar(1.0))
        return self.node("Mul", self.node("Mul", x, self.scalar(0.5)), shares)

    def attention(self, projected: list[str], sizes: tuple[int, int, int], heads: int,
                  mask: Callable[[str], str] = lambda scores: scores) -> str:
        """Of queries, keys and values, each [batch, length, width]."""
        batch, length, width = sizes
        query, key, value = (self.node("Reshape", x, self.ints(batch, length, heads, width // heads)) for x in projected)
        query, value = (self.node("Transpose", x, perm=[0, 2, 1, 3]) for x in (query, value))
        scores = self.node("MatMul", query, self.node("Transpose", key, perm=[0, 2, 3, 1]))
        scores = mask(self.node("Div", scores, self.scalar(math.sqrt(width // heads))))
        context = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        return self.node("Reshape", self.node("Transpose", context, perm=[0, 2, 1, 3]), self.ints(batch, length, width))

    def project(self, x: str, name: str, width: int) -> list[str]:
        return [self.linear(x, f"{name}.{part}", width, width) for part in ("query", "key", "value")]


def bert(name: str, batch: int, layers: int, width: int, heads: int, length: int = 128) -> tuple[Graph, str]:
    """The encoder, normalised after each half of a layer; the graph and its last hidden state."""
    graph, sizes, epsilon = Graph(name), (batch, length, width), 1e-12
    ids, attended, kinds = (graph.input(name, TensorProto.INT64, batch, length)
                            for name in ("input_ids", "attention_mask", "token_type_ids"))
    mask = graph.node("Unsqueeze", graph.node("Unsqueeze", attended, graph.ints(1)), graph.ints(2))
    mask = graph.node("Sub", graph.scalar(1.0), graph.node("Cast", mask, to=TensorProto.FLOAT))
    mask = graph.node("Mul", mask, graph.scalar(LOWEST))
    masked = lambda scores: graph.node("Add", scores, mask)
    places = graph.initializer("position_ids", np.arange(length, dtype=np.int64)[None])
    x = graph.node("Add", graph.node("Gather", graph.weight("embeddings.word", 30522, width), ids),
                   graph.node("Gather", graph.weight("embeddings.token_type", 2, width), kinds))
    x = graph.node("Add", x, graph.node("Gather", graph.weight("embeddings.position", 512, width), places))
    x = graph.normalise(x, "embeddings.norm", width, epsilon)
    for layer in range(layers):
        at = f"layer.{layer}"
        context = graph.attention(graph.project(x, at, width), sizes, heads, masked)
        x = graph.node("Add", graph.linear(context, f"{at}.projection", width, width), x)
        x = graph.normalise(x, f"{at}.attention.norm", width, epsilon)
        hidden = graph.gelu(graph.linear(x, f"{at}.up", width, 4 * width))
        x = graph.node("Add", graph.linear(hidden, f"{at}.down", 4 * width, width), x)
        x = graph.normalise(x, f"{at}.norm", width, epsilon)
    return graph, x


def minilm(batch: int) -> onnx.ModelProto:
    """All-MiniLM-L6: the mean over tokens, with unit length."""
    width = 384
    graph, x = bert("minilm", batch, 6, width, 12)
    mask = graph.node("Unsqueeze", "attention_mask", graph.ints(-1))
    mask = graph.node("Cast", graph.node("Expand", mask, graph.ints(batch, 128, width)), to=TensorProto.FLOAT)
    total = graph.node("ReduceSum", graph.node("Mul", x, mask), graph.ints(1), keepdims=0)
    count = graph.node("Clip", graph.node("ReduceSum", mask, graph.ints(1), keepdims=0), graph.scalar(1e-9))
    mean = graph.node("Div", total, count)
    norm = graph.node("Clip", graph.node("ReduceL2", mean, axes=[1]), graph.scalar(1e-12))
    norm = graph.node("Expand", norm, graph.ints(batch, width))
    graph.output(graph.node("Div", mean, norm), "sentence_embedding", batch, width)
    return graph.model()


def bert_base() -> onnx.ModelProto:
    """BERT-base with its pooler."""
    width = 768
    graph, x = bert("bert-base", 1, 12, width, 12)
    first = graph.node("Gather", x, graph.initializer("first", np.array(0, np.int64)), axis=1)
    graph.output(x, "last_hidden_state", 1, 128, width)
    weights = graph.weight("pooler.weight", width, width, fan_in=width), graph.weight("pooler.bias", width)
    graph.output(graph.node("Tanh", graph.node("Gemm", first, *weights, transB=1)), "pooler_output", 1, width)
    return graph.model()


def gpt2() -> onnx.ModelProto:
    """GPT-2 of 124 million parameters: scores of all tokens after each of a prompt's 128."""
    graph, length, width, heads, words, epsilon = Graph("gpt2"), 128, 768, 12, 50257, 1e-5
    sizes = (1, length, width)
    seen = graph.initializer("seen", np.tril(np.ones((1, 1, length, length), bool)))
    causal = lambda scores: graph.node("Where", seen, scores, graph.scalar(LOWEST))
    table = graph.generator.normal(0, 0.02, (words, width)).astype(np.float32)
    ids = graph.input("input_ids", TensorProto.INT64, 1, length)
    places = graph.initializer("position_ids", np.arange(length, dtype=np.int64)[None])
    x = graph.node("Add", graph.node("Gather", graph.initializer("tokens", table), ids),
                   graph.node("Gather", graph.weight("positions", 1024, width), places))
    for layer in range(12):
        at = f"h.{layer}"
        projected = graph.gemm(graph.normalise(x, f"{at}.ln_1", width, epsilon), f"{at}.attn", sizes, 3 * width)
        parts = graph.nodes_of("Split", 3, projected, graph.ints(width, width, width), axis=2)
        context = graph.attention(parts, sizes, heads, causal)
        x = graph.node("Add", graph.gemm(context, f"{at}.attn.proj", sizes, width), x)
        hidden = graph.gemm(graph.normalise(x, f"{at}.ln_2", width, epsilon), f"{at}.fc", sizes, 4 * width)
        hidden = graph.gemm(graph.gelu_by_tanh(hidden), f"{at}.proj", (1, length, 4 * width), width)
        x = graph.node("Add", x, hidden)
    x = graph.normalise(x, "ln_f", width, epsilon)
    # The table again: the exporter folds the transpose, so that the file has it twice.
    graph.output(graph.node("MatMul", x, graph.initializer("tokens.T", table.T)), "logits", 1, length, words)
    return graph.model()


def vit() -> onnx.ModelProto:
    """ViT-B/16 on an image of 224 × 224, which classifies."""
    graph, width, patches, epsilon = Graph("vit-b16"), 768, 14 * 14, 1e-12
    sizes = (1, patches + 1, width)
    image = graph.input("pixel_values", TensorProto.FLOAT, 1, 3, 224, 224)
    kernel = graph.weight("patch.weight", width, 3, 16, 16, fan_in=3 * 16 * 16), graph.weight("patch.bias", width)
    x = graph.node("Conv", image, *kernel, kernel_shape=[16, 16], strides=[16, 16])
    x = graph.node("Transpose", graph.node("Reshape", x, graph.ints(1, width, patches)), perm=[0, 2, 1])
    x = graph.node("Concat", graph.weight("class_token", 1, 1, width), x, axis=1)
    x = graph.node("Add", x, graph.weight("positions", *sizes))
    for layer in range(12):
        at = f"layer.{layer}"
        projected = graph.project(graph.normalise(x, f"{at}.norm_1", width, epsilon), at, width)
        context = graph.attention(projected, sizes, 12)
        x = graph.node("Add", graph.linear(context, f"{at}.projection", width, width), x)
        hidden = graph.linear(graph.normalise(x, f"{at}.norm_2", width, epsilon), f"{at}.up", width, 4 * width)
        x = graph.node("Add", graph.linear(graph.gelu(hidden), f"{at}.down", 4 * width, width), x)
    x = graph.normalise(x, "norm", width, epsilon)
    first = graph.node("Gather", x, graph.initializer("first", np.array(0, np.int64)), axis=1)
    weights = graph.weight("classifier.weight", 1000, width, fan_in=width), graph.weight("classifier.bias", 1000)
    graph.output(graph.node("Gemm", first, *weights, transB=1), "logits", 1, 1000)
    return graph.model()
