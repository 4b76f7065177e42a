#!/usr/bin/env python3
"""The operators of com.microsoft and ai.onnx.ml and quantised models, drawn at random: cases in
target/conformance/microsoft, target/conformance/learning and target/conformance/qdq.

The same operator draws the same models, whatever else is asked for. Beside each model stands
data.json with the tolerance that its results need; refused.json lists the combinations that were
drawn and that ONNX Runtime's CPU provider refuses, with its reason.
"""

import argparse
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper

import cases
from contrib import attention, blocks, learning, others, products, qdq, quantised
from contrib.draw import OPERATORS, ROUNDED, Drawn, Operator, Random, type_of

SOURCES = [Path(module.__file__) for module in (attention, blocks, learning, others, products, qdq, quantised, cases)]
SOURCES += [Path(__file__), Path(__file__).parent / "contrib" / "draw.py"]
FOLDER = cases.ROOT / "target" / "conformance"
REFUSALS = (
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
)


def by_onnxruntime(graph: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    model = graph.SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def expected(drawn: Drawn) -> list[np.ndarray]:
    if drawn.results:
        return drawn.results
    results = by_onnxruntime(drawn.model, drawn.feeds)
    if drawn.exact is None:
        return results
    exact = by_onnxruntime(drawn.exact, drawn.feeds)
    for rounded, result in zip(results, exact):
        np.testing.assert_allclose(rounded, result, rtol=ROUNDED.rtol, atol=ROUNDED.atol)
    return exact


def typed(model: onnx.ModelProto, results: list[np.ndarray]) -> bytes:
    """The model with the types that its results turned out to have."""
    for value, result in zip(model.graph.output, results):
        value.CopyFrom(helper.make_value_info(value.name, type_of(result)))
    return model.SerializeToString(deterministic=True)


def make(operator: Operator, place: Path, stamp: str) -> list[str]:
    """Draws until there are as many cases as are wanted; reasons of what was refused."""
    refused, made = [], 0
    for attempt in range(8 * operator.count):
        if made == operator.count:
            break
        drawn = operator.draw(Random(zlib.crc32(f"{operator.name} {attempt}".encode())))
        try:
            results = expected(drawn)
        except REFUSALS as refusal:
            refused.append(str(refusal).splitlines()[0])
            continue
        folder = place / f"{operator.name}_{made}"
        inputs = [drawn.feeds[value.name] for value in drawn.model.graph.input]
        cases.write(folder, stamp, typed(drawn.model, results), [(inputs, results)])
        closeness = drawn.closeness or operator.closeness
        cases.write_settings(folder, {"rtol": closeness.rtol, "atol": closeness.atol})
        made += 1
    if made < operator.count:
        raise SystemExit(f"error: {operator.name}: ONNX Runtime took {made} of {operator.count} draws: {refused}")
    return refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", help="names of operators; all without any")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(OPERATORS):
        raise SystemExit(f"error: nothing draws {', '.join(sorted(unknown))}; there are {sorted(OPERATORS)}")
    for operator in OPERATORS.values():
        if arguments.only and operator.name not in arguments.only:
            continue
        kinds = {"qdq": qdq.NAMES, "learning": learning.NAMES}
        kind = next((kind for kind, names in kinds.items() if operator.name in names), "microsoft")
        place = FOLDER / kind
        stamp = cases.stamp_of(operator.name, onnxruntime.__version__, *SOURCES)
        folders = [place / f"{operator.name}_{number}" for number in range(operator.count)]
        if all(cases.is_current(folder, stamp) and (folder / "data.json").is_file() for folder in folders):
            continue
        place.mkdir(parents=True, exist_ok=True)
        listed = place / "refused.json"
        refusals = json.loads(listed.read_text()) if listed.is_file() else {}
        refusals[operator.name] = sorted(set(make(operator, place, stamp)))
        listed.write_text(json.dumps(refusals, indent=1, sort_keys=True) + "\n")
        print(f"  {place.relative_to(cases.ROOT)}/{operator.name}: {operator.count}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
