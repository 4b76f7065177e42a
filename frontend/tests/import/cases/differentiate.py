"""Fills in gradients for the cases in a file of this folder, by differences of the function in f64.

    python differentiate.py gradients.txt

A case ends with a node `Gradient` whose results are its outputs; the function before it is what
ONNX's reference evaluator computes, with the error function in f64 as well.
"""

import math
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from bless import attribute, tensor, text


class Erf(OpRun):
    op_domain = ""

    def _run(self, x):
        return (np.vectorize(math.erf, otypes=[np.float64])(x),)


def gradients(lines):
    opset, nodes, feeds, constants, outputs, xs = 0, [], {}, [], [], []
    for words in lines:
        if words[0] == "case":
            opset = int(words[words.index("opset") + 1])
        elif words[0] in ("input", "const"):
            array = tensor(words[2:])[2]
            array = array.astype(np.float64) if array.dtype == np.float32 else array
            if words[0] == "input":
                feeds[words[1]] = array
            else:
                constants.append(numpy_helper.from_array(array, words[1]))
        elif words[0] == "node" and words[1].endswith(":Gradient"):
            xs, outputs = words[2].split(","), words[4].split(",")
        elif words[0] == "node":
            names = lambda w: ["" if n == "_" else n for n in w.split(",")]
            attributes = [helper.make_attribute(*attribute(text)) for text in words[5:]]
            node = helper.make_node(words[1], names(words[2]), names(words[4]))
            node.attribute.extend(attributes)
            nodes.append(node)
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    run = ReferenceEvaluator(model, new_ops=[Erf])
    value = lambda feeds: float(np.sum(run.run(None, feeds)[0]))
    results = {}
    for name, output in zip(xs, outputs):
        result = np.zeros_like(feeds[name])
        for at in np.ndindex(result.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = feeds[name].copy()
                moved[at] += step
                ends.append(value({**feeds, name: moved}))
            result[at] = (ends[0] - ends[1]) / 2e-5
        result[np.abs(result) < 1e-9] = 0
        results[output] = result.astype(np.float32)
    return results


def differentiate(path):
    blessed = []
    for case in open(path).read().split("\n\n"):
        lines = [line.split() for line in case.splitlines() if line and not line.startswith("#")]
        results = gradients(lines) if lines else {}
        fill = lambda line: f"output {line.split()[1]} {text(results[line.split()[1]])}" if line.startswith("output") else line
        blessed.append("\n".join(map(fill, case.splitlines())))
    open(path, "w").write("\n\n".join(blessed).rstrip() + "\n")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        differentiate(path)
