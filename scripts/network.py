"""Networks that are written as ONNX graphs, node by node."""

import numpy as np
from onnx import helper, numpy_helper


class Nodes:
    """The nodes and initialisers so far, named as PyTorch's exporter names them."""

    def __init__(self) -> None:
        self.nodes, self.initializers, self.known = [], [], set()

    def node(self, op: str, *inputs: str, **attributes) -> str:
        return self.nodes_of(op, 1, *inputs, **attributes)[0]

    def nodes_of(self, op: str, count: int, *inputs: str, **attributes) -> list[str]:
        """One node with several results."""
        name = f"/{op}_{len(self.nodes)}"
        outputs = [f"{name}_output_{number}" for number in range(count)]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        return outputs

    def initializer(self, name: str, array: np.ndarray) -> str:
        if name not in self.known:
            self.known.add(name)
            self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        return self.initializer("i64_" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        return self.initializer(f"f32_{value!r}", np.array(value, np.float32))
