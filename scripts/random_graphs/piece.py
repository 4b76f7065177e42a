"""Several nodes that are drawn together: graphs inside of operators, and chains over lists or sizes.

What is made in between may be of any type; what the rest of a graph can read are tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .draw import Draw


@dataclass
class Piece:
    """Nodes in their order, and the tensors among what they make."""

    draw: Draw
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    # Whether the nodes only make tensors, so that each can stand for itself.
    loose: bool = False

    def add(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """The name of the output, or a list of them."""
        names = [self.draw.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=f"n{names[0]}", **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, values: Any, dtype: str = "int64") -> str:
        """A node, since a graph inside cannot have what the rest of the graph calls an initialiser."""
        return self.add("Constant", [], value=numpy_helper.from_array(np.array(values, dtype)))

    def graph(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.GraphProto:
        return helper.make_graph(self.nodes, self.draw.name(), list(inputs), list(outputs))

    def inside(self) -> "Piece":
        """An empty one for a graph inside."""
        return Piece(self.draw)


def free(nodes: Sequence[onnx.NodeProto], bound: Sequence[str] = ()) -> list[str]:
    """What the nodes read and do not make, each once, in order."""
    made, found = set(bound), {}
    for node in nodes:
        read = list(node.input)
        for attribute in node.attribute:
            for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                read += free(graph.node, [value.name for value in graph.input])
                # A graph inside may hand on what it has from outside.
                own = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
                read += [value.name for value in graph.output if value.name not in own]
        found.update((name, None) for name in read if name and name not in made)
        made.update(node.output)
    return list(found)


def tensor(name: str, dtype: str, rank: int | None = None) -> onnx.ValueInfoProto:
    """Its declaration, without sizes."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, None if rank is None else [None] * rank)


def sequence(name: str, dtype: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
