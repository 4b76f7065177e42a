#!/usr/bin/env python3
"""Models that break a rule of an operator, one each, as target/damaged/refused/DOMAIN/OPERATOR/KIND.onnx.

Made from ONNX's node cases and those of ONNX Runtime's operators: for every operator and version, one
thing of its node is damaged at a time (an input left out, one too many, an element type, a number of
dimensions, a size, an axis, an attribute's type, an attribute left out). Refused are the models that
ONNX's checker refuses, with strict shape inference, or ONNX Runtime when it loads one with an operator
of its own. One that they take is no damage, or none that the operator's own rules tell; it is written,
too, below target/damaged/taken.
"""

import copy
import os
import shutil
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime
from onnx import AttributeProto, TensorProto, checker, defs, helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

import cases

FOLDER = cases.ROOT / "target" / "damaged"
CONFORMANCE = cases.ROOT / "target" / "conformance"
MICROSOFT = "com.microsoft"
OWN = {schema.name: schema for schema in runtime.get_all_operator_schema() if schema.domain == MICROSOFT}
# Cases that are damaged, for each operator and version: those that differ in which inputs they have.
MOST_CASES = 3
TYPES = [TensorProto.STRING, TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE]
AXES = {"axis", "axes", "dim", "perm", "batch_axis", "time_axis", "batch_dims"}


def single(model: onnx.ModelProto) -> onnx.NodeProto | None:
    return model.graph.node[0] if len(model.graph.node) == 1 else None


Schema = defs.OpSchema | runtime.schemadef.OpSchema


def schema_of(model: onnx.ModelProto) -> Schema | None:
    node = model.graph.node[0]
    if node.domain == MICROSOFT:
        return OWN.get(node.op_type)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    try:
        return defs.get_schema(node.op_type, versions[node.domain], node.domain)
    except (KeyError, defs.SchemaError):
        return None


def input_info(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto | None:
    return next((info for info in model.graph.input if info.name == name), None)


def drop(model: onnx.ModelProto, name: str) -> None:
    kept = [info for info in model.graph.input if info.name != name]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def option(schema: Schema, index: int) -> str:
    """`Single`, `Optional` or `Variadic`; the enumerations of ONNX and ONNX Runtime are two."""
    return schema.inputs[min(index, len(schema.inputs) - 1)].option.name


def tensor(info: onnx.ValueInfoProto | None) -> onnx.TypeProto.Tensor | None:
    if info is None or info.type.WhichOneof("value") != "tensor_type":
        return None
    return info.type.tensor_type


def damages(model: onnx.ModelProto, schema: Schema) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Damaged copies, with what is damaged."""

    def damaged(change) -> onnx.ModelProto:
        other = copy.deepcopy(model)
        change(other, other.graph.node[0])
        return other

    node = model.graph.node[0]
    variadic = bool(schema.inputs) and option(schema, len(schema.inputs)) == "Variadic"
    for index, name in enumerate(node.input):
        if not name:
            continue
        if option(schema, index) == "Single":

            def leave_out(other, of, index=index, name=name):
                of.input[index] = ""
                while of.input and not of.input[-1]:
                    of.input.pop()
                if name not in of.input:
                    drop(other, name)

            yield f"missing-input-{index}", damaged(leave_out)
        ty = tensor(input_info(model, name))
        if ty is None:
            continue
        for wrong in TYPES:
            if wrong != ty.elem_type:

                def retype(other, _, name=name, wrong=wrong):
                    input_info(other, name).type.tensor_type.elem_type = wrong

                yield f"type-{index}-{TensorProto.DataType.Name(wrong).lower()}", damaged(retype)
        if not ty.HasField("shape"):
            continue
        sizes = [dim.dim_value for dim in ty.shape.dim]
        shapes = [("rank-0", []), ("rank-more", [*sizes, 2]), ("rank-many", [2] * 7)]
        if sizes:
            shapes.append(("rank-less", sizes[1:]))
        shapes += [(f"size-{axis}", [*sizes[:axis], size + 3, *sizes[axis + 1:]]) for axis, size in enumerate(sizes)]
        for kind, shape in shapes:
            if shape != sizes:

                def reshape(other, _, name=name, shape=shape):
                    dims = input_info(other, name).type.tensor_type.shape
                    del dims.dim[:]
                    for size in shape:
                        dims.dim.add().dim_value = size

                yield f"{kind}-of-{index}", damaged(reshape)
    if not variadic and any(node.input):

        def add_input(other, of):
            of.input.extend([""] * (len(schema.inputs) - len(of.input)))
            of.input.append(next(name for name in of.input if name))

        yield "extra-input", damaged(add_input)
    for place, attribute in enumerate(node.attribute):
        if attribute.name in AXES:
            for far in (100, -100):

                def move(_, of, place=place, far=far):
                    target = of.attribute[place]
                    if target.type == AttributeProto.INTS and target.ints:
                        target.ints[0] = far
                    else:
                        target.i = far

                yield f"far-{attribute.name}-{far}", damaged(move)
        value = 1 if attribute.type == AttributeProto.STRING else "text"

        def replace(_, of, place=place, value=value):
            of.attribute[place].CopyFrom(helper.make_attribute(of.attribute[place].name, value))

        yield f"attribute-{attribute.name}", damaged(replace)
        declared = schema.attributes.get(attribute.name)
        if declared is not None and declared.required:

            def remove(_, of, place=place):
                del of.attribute[place]

            yield f"missing-{attribute.name}", damaged(remove)
    yield "unknown-attribute", damaged(lambda _, of: of.attribute.append(helper.make_attribute("no_such", 1)))


def refused_by_runtime(model: onnx.ModelProto) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except runtime.NotImplemented:
        # Its own limit, and no rule.
        return False
    except Exception:  # Its errors have no common type.
        return True
    return False


def refused(model: onnx.ModelProto) -> bool:
    if model.graph.node[0].domain == MICROSOFT:
        return refused_by_runtime(model)
    schema = schema_of(model)
    # What is declared of results is no rule of the operator.
    of_results = ["existing", *(f"): {result.name} has inconsistent type" for result in schema.outputs)]
    try:
        checker.check_model(model, full_check=True)
    except Exception as error:  # Its errors are of several unrelated types.
        return not any(text in str(error) for text in of_results)
    return False


def verdicts(damaged: list[onnx.ModelProto]) -> list[bool]:
    """Which of the models are refused; not those by which the checker itself is brought down."""
    found: list[bool] = []
    while len(found) < len(damaged):
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            for model in damaged[len(found):]:
                os.write(sink, bytes([refused(model)]))
            os._exit(0)
        os.close(sink)
        with open(source, "rb") as pipe:
            found += map(bool, pipe.read())
        os.waitpid(child, 0)
        if len(found) < len(damaged):
            found.append(False)
    return found


def models() -> dict[Path, bytes]:
    seen = defaultdict(int)
    found = {}
    known = set()
    folders = [folder for kind in ("node", "microsoft") for folder in sorted((CONFORMANCE / kind).iterdir())]
    for folder in folders:
        if "_expanded" in folder.name or not (folder / "model.onnx").exists():
            continue
        model = onnx.load(folder / "model.onnx")
        node = single(model)
        schema = node and schema_of(model)
        if not schema:
            continue
        key = (schema.domain or "ai.onnx", schema.name, schema.since_version)
        given = (key, tuple(bool(name) for name in node.input), tuple(a.name for a in node.attribute))
        if given in known or seen[key] == MOST_CASES or refused(model):
            continue
        known.add(given)
        seen[key] += 1
        made = list(damages(model, schema))
        for (kind, damaged), is_refused in zip(made, verdicts([damaged for _, damaged in made])):
            name = f"{kind}-v{schema.since_version}-{seen[key]}.onnx"
            place = Path("refused" if is_refused else "taken", *key[:2], name)
            found[place] = damaged.SerializeToString(deterministic=True)
    return found


def main() -> None:
    warnings.filterwarnings("ignore")
    stamp = cases.stamp_of(onnx.__version__, onnxruntime.__version__, Path(cases.__file__), Path(__file__))
    if cases.is_current(FOLDER, stamp):
        return
    found = models()
    shutil.rmtree(FOLDER, ignore_errors=True)
    for place, content in found.items():
        (FOLDER / place).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / place).write_bytes(content)
    (FOLDER / "stamp").write_text(stamp)
    print(f"  target/damaged: {len(found)} models", file=sys.stderr)


if __name__ == "__main__":
    main()
