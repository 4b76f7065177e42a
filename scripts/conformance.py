#!/usr/bin/env python3
"""ONNX's backend test suite, as case folders in target/conformance/CATEGORY/CASE; and each case with
its input dimensions made symbolic, in target/conformance-symbolic.

Nothing is left out and nothing is added: node cases and the generated simple ones are what the
package's collectors give, the others are the package's files. A category appears whole or not at
all, under a stamp of the package's version and these scripts.
"""

import os
import random
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case import model as simple_cases
from onnx.backend.test.case import node as node_cases
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import DATA_DIR, load_model_tests

import cases
import symbolic

SUITE = cases.ROOT / "target" / "conformance"
SYMBOLIC = cases.ROOT / "target" / "conformance-symbolic"
CATEGORIES = ("node", "simple", "pytorch-converted", "pytorch-operator")

# Of these the standard says that results need not be equal, even under the same seed.
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def collect(category: str) -> list[TestCase]:
    if category == "node":
        # Many inputs are drawn as the cases are made.
        np.random.seed(0)
        random.seed(0)
        return node_cases.collect_testcases()
    found = load_model_tests(kind=category)
    if category == "simple":
        names = {case.name for case in found}
        generated = simple_cases.collect_testcases() or simple_cases._SimpleModelTestCases
        found += [case for case in generated if case.kind == "simple" and case.name not in names]
    return found


def serialised(value: Any, info: onnx.ValueInfoProto) -> bytes:
    """A value of a data set in the message that the declared type asks for."""
    if isinstance(value, onnx.TensorProto):
        return value.SerializeToString()
    kind = info.type.WhichOneof("value")
    make = {
        "map_type": numpy_helper.from_dict,
        "sequence_type": numpy_helper.from_list,
        "optional_type": numpy_helper.from_optional,
        "tensor_type": lambda array, name: numpy_helper.from_array(np.asarray(array), name),
    }[kind]
    return make(value, info.name).SerializeToString()


def write_generated(case: TestCase, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(case.model.SerializeToString(deterministic=True))
    graph = case.model.graph
    for number, data_set in enumerate(case.data_sets):
        place = folder / f"test_data_set_{number}"
        place.mkdir()
        for kind, values, infos in zip(("input", "output"), data_set, (graph.input, graph.output)):
            for index, (value, info) in enumerate(zip(values, infos)):
                (place / f"{kind}_{index}.pb").write_bytes(serialised(value, info))


def draws(graph: onnx.GraphProto) -> bool:
    """Whether the graph makes random numbers."""
    return any(
        node.op_type in RANDOM
        or any(draws(inner) for attribute in node.attribute for inner in [attribute.g, *attribute.graphs])
        for node in graph.node
    )


# Cases whose expected zeros are rounding errors of the suite's own arithmetic in single precision
# (1.9e-7 where the transform of these very inputs, computed in double precision, has 7e-16), so
# that its absolute tolerance refuses an exact result.
OWN_NOISE = {"test_dft_inverse": 1e-6, "test_dft_inverse_opset19": 1e-6}


def settings(case: TestCase, model: onnx.ModelProto) -> dict[str, Any]:
    """How the outputs are to be compared, where that is not the suite's usual way; in the file that
    the suite has for it."""
    unusual = {}
    if case.name in OWN_NOISE:
        unusual |= {"atol": OWN_NOISE[case.name]}
    elif (case.rtol, case.atol) != (1e-3, 1e-7):
        unusual |= {"rtol": case.rtol, "atol": case.atol}
    if draws(model.graph):
        unusual |= {"random": True}
    return unusual


def write_case(case: TestCase, folder: Path, mirror: Path, source: onnx.ModelProto | None) -> None:
    """Writes a case and its symbolic variant; `source` is the model that this one was expanded
    from, which says more about its inputs."""
    folder.mkdir(parents=True)
    if case.model_dir is None:
        write_generated(case, folder)
        model = case.model
    else:
        shutil.copytree(case.model_dir, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("data.json"))
        model = onnx.load(folder / "model.onnx")
    mirror.mkdir(parents=True)
    variant = symbolic.variant(model, source or model)
    (mirror / "model.onnx").write_bytes(variant.SerializeToString(deterministic=True))
    if unusual := settings(case, model):
        cases.write_settings(folder, unusual)
        cases.write_settings(mirror, unusual)
    # A whole path from the top would break when the folder is moved.
    for data_set in folder.glob("test_data_set_*"):
        target = Path("../../..") / SUITE.name / mirror.parent.name.removesuffix(".partial") / folder.name
        os.symlink(target / data_set.name, mirror / data_set.name)


def write_category(category: str, stamp: str) -> int:
    found = collect(category)
    partial = [place / f"{category}.partial" for place in (SUITE, SYMBOLIC)]
    for place in partial:
        shutil.rmtree(place, ignore_errors=True)
    models = {case.name: case.model for case in found}
    for case in found:
        unexpanded = models.get(case.name.partition("_expanded")[0])
        write_case(case, partial[0] / case.name, partial[1] / case.name, unexpanded)
    for place in partial:
        (place / "stamp").write_text(stamp)
    for place, name in zip(partial, (SUITE / category, SYMBOLIC / category)):
        shutil.rmtree(name, ignore_errors=True)
        os.replace(place, name)
    return len(found)


def stale() -> Iterator[tuple[str, str]]:
    scripts = [Path(module.__file__) for module in (cases, symbolic)] + [Path(__file__)]
    stamp = cases.stamp_of(onnx.__version__, np.__version__, DATA_DIR, *scripts)
    for category in CATEGORIES:
        if not all(cases.is_current(place / category, stamp) for place in (SUITE, SYMBOLIC)):
            yield category, stamp


def main() -> None:
    warnings.filterwarnings("ignore")
    for category, stamp in stale():
        count = write_category(category, stamp)
        print(f"  {(SUITE / category).relative_to(cases.ROOT)}: {count} cases", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
