"""Fills in what ONNX Runtime computes for the cases in this folder, or ONNX's reference evaluator
where there are types that ONNX Runtime's interface does not pass.

    python bless.py FILE.txt …

A case is a model with its inputs; each `output` line is replaced by the result of running it. See
`written.rs` for the form of the lines.
"""

import re
import sys

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "bool": (TensorProto.BOOL, np.bool_), "u8": (TensorProto.UINT8, np.uint8),
    "i8": (TensorProto.INT8, np.int8), "u16": (TensorProto.UINT16, np.uint16),
    "i16": (TensorProto.INT16, np.int16), "u32": (TensorProto.UINT32, np.uint32),
    "i32": (TensorProto.INT32, np.int32), "u64": (TensorProto.UINT64, np.uint64),
    "i64": (TensorProto.INT64, np.int64), "f16": (TensorProto.FLOAT16, np.float16),
    "f32": (TensorProto.FLOAT, np.float32), "f64": (TensorProto.DOUBLE, np.float64),
}

BEYOND = {
    "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "u2": (TensorProto.UINT2, ml_dtypes.uint2), "i2": (TensorProto.INT2, ml_dtypes.int2),
    "u4": (TensorProto.UINT4, ml_dtypes.uint4), "i4": (TensorProto.INT4, ml_dtypes.int4),
    "f4e2m1": (TensorProto.FLOAT4E2M1, ml_dtypes.float4_e2m1fn),
    "f6e2m3": (TensorProto.FLOAT6E2M3, ml_dtypes.float6_e2m3fn),
    "f6e3m2": (TensorProto.FLOAT6E3M2, ml_dtypes.float6_e3m2fn),
    "f8e4m3fn": (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
    "f8e4m3fnuz": (TensorProto.FLOAT8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz),
    "f8e5m2": (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
    "f8e5m2fnuz": (TensorProto.FLOAT8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz),
    "f8e8m0": (TensorProto.FLOAT8E8M0, ml_dtypes.float8_e8m0fnu),
}
TYPES |= BEYOND


def wave(count, floats, unsigned):
    """Numbers that look like data: -2.5 to 2.5 in halves, -5 to 5 or 0 to 10."""
    steps = [(i * 7 + 3) % 11 - 5 for i in range(count)]
    return [s / 2 if floats else s + 5 if unsigned else s for s in steps]


def tensor(words):
    """`TYPE[sizes] values…`; a size may be named, as in `n=3`."""
    name, sizes = re.fullmatch(r"(\w+)\[(.*?)\]", words[0]).groups()
    number, dtype = TYPES[name]
    dims, shape = [], []
    for size in filter(None, sizes.split(",")):
        label, _, value = size.rpartition("=")
        shape.append(int(value))
        dims.append(label or int(value))
    count = int(np.prod(shape))
    values = words[1:]
    if values == ["wave"]:
        values = wave(count, name[0] == "f", name[0] == "u")
    elif len(values) == 1:
        values = values * count
    array = np.array([float(v) for v in values]) if name[0] in "fb" and name != "bool" else np.array([int(v) for v in values])
    return number, dims, array.astype(dtype).reshape(shape)


def attribute(text):
    name, value = text.split("=", 1)
    if re.match(r"\w+\[.*\]:", value):
        head, _, values = value.partition(":")
        return name, numpy_helper.from_array(tensor([head, *values.split(",")])[2])
    one = lambda v: v[1:-1] if v[0] == "'" else float(v) if re.search(r"[.e]|nan", v) else int(v)
    if value[0] == "[":
        return name, [one(v) for v in value[1:-1].split(",") if v]
    return name, one(value)


def run(lines):
    opset, ml, nodes, inputs, constants, feeds, outputs = 0, 3, [], [], [], {}, []
    for words in lines:
        if words[0] == "case":
            opset = int(words[words.index("opset") + 1])
            ml = int(words[words.index("ml") + 1]) if "ml" in words else 3
        elif words[0] == "node":
            arrow = words.index(">")
            names = lambda w: [("" if n == "_" else n) for n in w.split(",")] if w else []
            domain, _, op = words[1].rpartition(":")
            node = helper.make_node(op, names(words[2]) if arrow == 3 else [], names(words[arrow + 1]), domain=domain)
            for text in words[arrow + 2:]:
                node.attribute.append(helper.make_attribute(*attribute(text)))
            nodes.append(node)
        elif words[0] in ("input", "const"):
            number, dims, array = tensor(words[2:])
            if words[0] == "input":
                inputs.append(helper.make_tensor_value_info(words[1], number, dims))
                feeds[words[1]] = array
            else:
                constants.append(numpy_helper.from_array(array, words[1]))
        elif words[0] == "output":
            outputs.append(words[1])
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=o) for o in outputs], constants)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.ml", ml)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    if any(f"{name}[" in word for line in lines for word in line for name in BEYOND):
        return dict(zip(outputs, onnx.reference.ReferenceEvaluator(model).run(outputs, feeds)))
    options = onnxruntime.SessionOptions()
    # Some kernels round what each thread has by itself.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(outputs, feeds)))


def text(array):
    names = {np.dtype(dtype): name for name, (_, dtype) in TYPES.items()}
    whole = array.dtype.kind in "iub" or "int" in array.dtype.name
    show = lambda v: str(int(v)) if whole else f"{float(v):.8g}"
    values = [show(v) for v in array.flatten()]
    values = values[:1] if len(values) > 1 and len(set(values)) == 1 else values
    return " ".join([f"{names[array.dtype]}[{','.join(map(str, array.shape))}]", *values])


def bless(path):
    cases = open(path).read().split("\n\n")
    blessed = []
    for case in cases:
        lines = [line.split() for line in case.splitlines() if line and not line.startswith("#")]
        if not lines:
            blessed.append(case)
            continue
        try:
            results = run(lines)
        except Exception as error:
            raise SystemExit(f"{path}: {case}\n{error}")
        fill = lambda line: f"output {line.split()[1]} {text(results[line.split()[1]])}" if line.startswith("output") else line
        blessed.append("\n".join(map(fill, case.splitlines())))
    open(path, "w").write("\n\n".join(blessed).rstrip() + "\n")


if __name__ == "__main__":
    onnxruntime.set_default_logger_severity(3)
    for path in sys.argv[1:]:
        bless(path)
