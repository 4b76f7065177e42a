#!/usr/bin/env python3
"""Checks scripts/minilm.py: every variant against the network's definition in float64 NumPy.

The definition below follows the paper and the configuration (BERT, Devlin et al. 2018; mean pooling
and unit length as sentence-transformers does), not the generated graph.
"""

import math
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import minilm
import safetensors

ERF = np.vectorize(math.erf, otypes=[np.float64])


def embed(weights: dict[str, np.ndarray], tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def normal(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][tokens]
    x = x + w["embeddings.token_type_embeddings.weight"][0]
    x = x + w["embeddings.position_embeddings.weight"][: tokens.shape[1]]
    x = normal(x, "embeddings.LayerNorm")
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        parts = ("query", "key", "value")
        query, key, value = (linear(x, f"{name}.attention.self.{part}") for part in parts)
        context = np.empty_like(x)
        for head in range(12):
            part = slice(32 * head, 32 * head + 32)
            scores = query[..., part] @ key[..., part].swapaxes(1, 2) / math.sqrt(32)
            scores = np.where(mask[:, None, :] == 1, scores, -np.inf)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            context[..., part] = shares / shares.sum(-1, keepdims=True) @ value[..., part]
        context = linear(context, f"{name}.attention.output.dense")
        x = normal(x + context, f"{name}.attention.output.LayerNorm")
        hidden = linear(x, f"{name}.intermediate.dense")
        hidden = hidden * (1 + ERF(hidden / math.sqrt(2))) / 2
        x = normal(x + linear(hidden, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def main(weights: Path) -> None:
    generator = np.random.default_rng(7)
    tokens = generator.integers(1000, 30000, (3, 24))
    mask = (np.arange(24) < np.array([[24], [9], [1]])).astype(np.int64)
    expected = embed(safetensors.read(weights), tokens, mask)
    feeds = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
    for options in [{}, {"hidden": True}, {"decomposed": True}, {"decomposed": True, "external": True}]:
        model = minilm.build(weights, **options)
        data = model.SerializeToString(deterministic=True)
        if data != minilm.build(weights, **options).SerializeToString(deterministic=True):
            raise SystemExit(f"error: {options}: two runs wrote different bytes")
        if options.get("external"):
            # ONNX Runtime resolves external data against the model's folder.
            path = weights.with_name("check.onnx")
            path.write_bytes(data)
            session = onnxruntime.InferenceSession(path)
            path.unlink()
        else:
            onnx.checker.check_model(model, full_check=True)
            session = onnxruntime.InferenceSession(data)
        actual = session.run(["sentence_embedding"], feeds)[0]
        if (error := np.abs(actual - expected).max()) > 1e-6:
            raise SystemExit(f"error: {options}: off by {error}")
        nodes = len(model.graph.node)
        print(f"minilm {options}: {nodes} nodes, largest difference {error:.1e}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
