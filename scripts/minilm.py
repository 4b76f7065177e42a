#!/usr/bin/env python3
"""Writes the sentence-embedding network all-MiniLM-L6-v2 as an ONNX model.

The package ships weights only. The graph is the one that PyTorch's exporter writes for this network
at opset 17: sizes taken from Shape, weights of linear layers transposed beforehand, GELU spelt out
with Erf. The same weights and options give the same bytes.
"""

import argparse
import math
import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import network
import safetensors

LAYERS, HEADS, WIDTH = 6, 12, 384
HEAD = WIDTH // HEADS
EPSILON = 1e-12


class Network(network.Nodes):
    """Its nodes and initialisers so far."""

    def __init__(self, weights: Path, decomposed: bool, external: bool):
        super().__init__()
        self.weights = safetensors.read(weights)
        self.places = safetensors.places(weights)
        self.decomposed, self.external, self.file = decomposed, external, weights.name

    # Building blocks.

    def index(self, value: int) -> str:
        return self.initializer(f"index_{value}", np.array(value, np.int64))

    def weight(self, name: str) -> str:
        if not self.external:
            return self.initializer(name, self.weights[name])
        if name not in self.known:
            self.known.add(name)
            _, shape, offset, length = self.places[name]
            tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in [("location", self.file), ("offset", offset), ("length", length)]:
                tensor.external_data.add(key=key, value=str(value))
            self.initializers.append(tensor)
        return name

    # Layers.

    def linear(self, x: str, name: str) -> str:
        if self.external:
            kernel = self.node("Transpose", self.weight(f"{name}.weight"), perm=[1, 0])
        else:
            kernel = self.initializer(f"{name}.weight.T", self.weights[f"{name}.weight"].T)
        return self.node("Add", self.weight(f"{name}.bias"), self.node("MatMul", x, kernel))

    def layer_normalisation(self, x: str, name: str) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        if not self.decomposed:
            return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)
        centred = self.node("Sub", x, self.node("ReduceMean", x, axes=[-1]))
        square = self.node("Pow", centred, self.scalar(2.0))
        variance = self.node("Add", self.node("ReduceMean", square, axes=[-1]), self.scalar(EPSILON))
        normal = self.node("Div", centred, self.node("Sqrt", variance))
        return self.node("Add", self.node("Mul", normal, scale), bias)

    def softmax(self, x: str) -> str:
        if not self.decomposed:
            return self.node("Softmax", x, axis=-1)
        powers = self.node("Exp", self.node("Sub", x, self.node("ReduceMax", x, axes=[-1])))
        return self.node("Div", powers, self.node("ReduceSum", powers, self.ints(-1)))

    def gelu(self, x: str) -> str:
        error = self.node("Erf", self.node("Div", x, self.scalar(math.sqrt(2.0))))
        product = self.node("Mul", x, self.node("Add", error, self.scalar(1.0)))
        return self.node("Mul", product, self.scalar(0.5))

    def size(self, x: str, axis: int) -> str:
        size = self.node("Gather", self.node("Shape", x), self.index(axis))
        return self.node("Unsqueeze", size, self.ints(0))

    def reshape(self, x: str, *trailing: int) -> str:
        """Keeps the first two axes, whose sizes are only known at run time."""
        sizes = [self.size(x, 0), self.size(x, 1), *(self.ints(size) for size in trailing)]
        return self.node("Reshape", x, self.node("Concat", *sizes, axis=0))

    def attention(self, x: str, mask: str, name: str) -> str:
        query = self.linear(x, f"{name}.self.query")
        key = self.reshape(self.linear(x, f"{name}.self.key"), HEADS, HEAD)
        value = self.reshape(self.linear(x, f"{name}.self.value"), HEADS, HEAD)
        value = self.node("Transpose", value, perm=[0, 2, 1, 3])
        query = self.node("Transpose", self.reshape(query, HEADS, HEAD), perm=[0, 2, 1, 3])
        scores = self.node("MatMul", query, self.node("Transpose", key, perm=[0, 2, 3, 1]))
        scores = self.node("Div", scores, self.scalar(math.sqrt(HEAD)))
        shares = self.softmax(self.node("Add", scores, mask))
        context = self.node("Transpose", self.node("MatMul", shares, value), perm=[0, 2, 1, 3])
        output = self.linear(self.reshape(context, WIDTH), f"{name}.output.dense")
        return self.layer_normalisation(self.node("Add", output, x), f"{name}.output.LayerNorm")

    def encoder_layer(self, x: str, mask: str, name: str) -> str:
        x = self.attention(x, mask, f"{name}.attention")
        hidden = self.gelu(self.linear(x, f"{name}.intermediate.dense"))
        output = self.linear(hidden, f"{name}.output.dense")
        return self.layer_normalisation(self.node("Add", output, x), f"{name}.output.LayerNorm")

    def embeddings(self) -> str:
        ids = self.initializer("embeddings.position_ids", np.arange(512, dtype=np.int64)[None])
        length = self.size("input_ids", 1)
        positions = self.node("Slice", ids, self.ints(0), length, self.ints(1), self.ints(1))

        def table(name: str, indices: str) -> str:
            return self.node("Gather", self.weight(f"embeddings.{name}_embeddings.weight"), indices)

        total = self.node("Add", table("word", "input_ids"), table("token_type", "token_type_ids"))
        total = self.node("Add", total, table("position", positions))
        return self.layer_normalisation(total, "embeddings.LayerNorm")

    def mask(self) -> str:
        """0 where a token may be looked at, the lowest float where not."""
        mask = self.node("Unsqueeze", "attention_mask", self.ints(1))
        mask = self.node("Unsqueeze", mask, self.ints(2))
        mask = self.node("Sub", self.scalar(1.0), self.node("Cast", mask, to=TensorProto.FLOAT))
        return self.node("Mul", mask, self.scalar(float(np.finfo(np.float32).min)))

    def mean_pooling(self, x: str) -> str:
        mask = self.node("Unsqueeze", "attention_mask", self.ints(-1))
        mask = self.node("Expand", mask, self.node("Shape", x))
        mask = self.node("Cast", mask, to=TensorProto.FLOAT)
        total = self.node("ReduceSum", self.node("Mul", x, mask), self.ints(1), keepdims=0)
        count = self.node("ReduceSum", mask, self.ints(1), keepdims=0)
        return self.node("Div", total, self.node("Clip", count, self.scalar(1e-9)))

    def unit_length(self, x: str) -> str:
        if self.decomposed:
            square = self.node("ReduceSum", self.node("Mul", x, x), self.ints(1))
            norm = self.node("Sqrt", square)
        else:
            norm = self.node("ReduceL2", x, axes=[1])
        norm = self.node("Clip", norm, self.scalar(1e-12))
        return self.node("Div", x, self.node("Expand", norm, self.node("Shape", x)))


def build(weights: Path, decomposed=False, external=False, hidden=False) -> onnx.ModelProto:
    network = Network(weights, decomposed, external)
    x, mask = network.embeddings(), network.mask()
    for layer in range(LAYERS):
        x = network.encoder_layer(x, mask, f"encoder.layer.{layer}")
    results = {network.unit_length(network.mean_pooling(x)): ("sentence_embedding", ["batch", WIDTH])}
    if hidden:
        results[x] = ("last_hidden_state", ["batch", "sequence", WIDTH])
    for node in network.nodes:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = results.get(name, (name,))[0]
    value = helper.make_tensor_value_info
    names = ["input_ids", "attention_mask", "token_type_ids"]
    inputs = [value(name, TensorProto.INT64, ["batch", "sequence"]) for name in names]
    outputs = [value(name, TensorProto.FLOAT, shape) for name, shape in results.values()]
    graph = helper.make_graph(network.nodes, "main_graph", inputs, outputs, network.initializers)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="minilm.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", type=Path, help="model.safetensors")
    parser.add_argument("model", type=Path, help="the ONNX file to write")
    parser.add_argument("--decomposed", action="store_true",
                        help="spell LayerNormalization, Softmax and ReduceL2 out")
    parser.add_argument("--external", action="store_true",
                        help="refer to the weights' file, in the model's folder, instead of copying "
                             "it; linear layers then transpose in the graph")
    parser.add_argument("--hidden", action="store_true",
                        help="give the last hidden state as a second output")
    arguments = parser.parse_args()
    model = build(arguments.weights, arguments.decomposed, arguments.external, arguments.hidden)
    partial = arguments.model.with_name(arguments.model.name + ".partial")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    os.replace(partial, arguments.model)


if __name__ == "__main__":
    main()
