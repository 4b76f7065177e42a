"""A drawn graph as a case folder, with what ONNX Runtime computes."""

import shutil
from pathlib import Path

import numpy as np

import cases

from .graph import Drawn, run, to_model


def accuracy(drawn: Drawn) -> list[dict[str, float]]:
    """What is known of the errors behind each output: see `kiln::check::Accuracy`."""
    values = {value.name: value for step in drawn.steps for value in step.values}
    return [{"unit": values[name].unit, "magnitude": values[name].magnitude, "nodes": values[name].nodes}
            for name in drawn.outputs]


def write(drawn: Drawn, folder: Path) -> None:
    """Writes the case; raises what ONNX Runtime has against the graph as a whole."""
    model = to_model(drawn)
    feeds = {leaf.value.name: leaf.value.array for leaf in drawn.leaves if leaf.kind == "input"}
    outputs = run(model, feeds)
    shutil.rmtree(folder, ignore_errors=True)
    data_set = ([feeds[value.name] for value in model.graph.input], [np.asarray(array) for array in outputs])
    cases.write(folder, "", model.SerializeToString(deterministic=True), [data_set])
    cases.write_settings(folder, {"accuracy": accuracy(drawn)})
