"""Writes frontend/src/import/schemas.txt: what operators take.

    python scripts/schemas.py [--check]

From the schemas of the onnx package, and of ONNX Runtime for its own operators. A line `set N …`
names element types; a line `op DOMAIN NAME SINCE` is what holds from an operator set version on, in
parts: its type parameters; the parameter of each input and of each output, followed by `?` if it may
be left out, or `*` if it stands for any number of them (`~` if those may differ in type); its
attributes with their types, followed by `!` if they must be given. With --check the file is compared
instead of written.
"""

import argparse
import sys
from pathlib import Path

from onnx import defs
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

FILE = Path(__file__).parent.parent / "frontend/src/import/schemas.txt"
NAMES = {
    "bool": "bool", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "float16": "f16", "bfloat16": "bf16", "float": "f32", "double": "f64",
    "uint2": "u2", "uint4": "u4", "int2": "i2", "int4": "i4",
    "float4e2m1": "f4e2m1", "float6e2m3": "f6e2m3", "float6e3m2": "f6e3m2",
    "float8e4m3fn": "f8e4m3fn", "float8e4m3fnuz": "f8e4m3fnuz",
    "float8e5m2": "f8e5m2", "float8e5m2fnuz": "f8e5m2fnuz", "float8e8m0": "f8e8m0",
    "complex64": "c64", "complex128": "c128", "string": "string",
}
ORDER = list(NAMES.values())
OLDEST = 1


def elements(types):
    """Element types of the tensors among types such as `tensor(float)`, in the order of NAMES."""
    inner = (t[len("tensor("):-1] for t in types if t.startswith("tensor("))
    return tuple(sorted({NAMES[t] for t in inner if t in NAMES}, key=ORDER.index))


def formals(parameters, type_of, option_of, same_of, constraints):
    names = []
    for parameter in parameters:
        name = type_of(parameter)
        if name not in constraints:
            constraints[name] = elements([name])
        option = str(option_of(parameter))
        many = "*" if same_of(parameter) else "~"
        suffix = many if "Variadic" in option else "?" if "Optional" in option else ""
        names.append(clean(name) + suffix)
    return " ".join(names)


def attributes(schema):
    """Names and types, as ONNX calls them: `float`, `ints`, `type_proto`."""
    found = sorted(schema.attributes.items())
    types = {name: str(attribute.type).rpartition(".")[2].lower() for name, attribute in found}
    return " ".join(f"{name}:{types[name]}{'!' if attribute.required else ''}" for name, attribute in found)


def clean(name):
    """A name for a parameter that is one type: the type's."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return NAMES.get(inner, "other") if "(" in name else name


def schemas():
    of_onnx = [(s.domain or "ai.onnx", s.name, s.since_version, s, False)
               for s in defs.get_all_schemas_with_history()]
    known = {(domain, name) for domain, name, *_ in of_onnx}
    own = [(s.domain or "ai.onnx", s.name, s.since_version, s, True)
           for s in runtime.get_all_operator_schema()]
    own = [s for s in own if s[0] in ("com.microsoft", "ai.onnx") and s[:2] not in known]
    return sorted(of_onnx + own, key=lambda s: s[:3])


def text():
    sets, lines = {}, []
    found = schemas()
    for place, (domain, name, since, schema, own) in enumerate(found):
        later = found[place + 1] if place + 1 < len(found) else None
        is_standard = domain == "ai.onnx"
        if is_standard and later and later[:2] == (domain, name) and later[2] <= OLDEST:
            continue
        constraints = {c.type_param_str: elements(c.allowed_type_strs) for c in schema.type_constraints}
        type_of = (lambda p: p.typeStr) if own else (lambda p: p.type_str)
        same_of = (lambda p: p.isHomogeneous) if own else (lambda p: p.is_homogeneous)
        inputs, outputs = (
            formals(parameters, type_of, lambda p: p.option, same_of, constraints)
            for parameters in (schema.inputs, schema.outputs)
        )
        used = {clean(p): types for p, types in constraints.items()}
        spelled = " ".join(f"{p}={sets.setdefault(types, len(sets))}" for p, types in used.items())
        parts = " | ".join([spelled, inputs, outputs, attributes(schema)])
        lines.append(f"op {domain} {name} {since} {parts}".replace("  ", " ").rstrip(" |"))
    heads = [f"set {number} {' '.join(types)}".rstrip() for types, number in sets.items()]
    return "\n".join(heads + lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        FILE.write_text(text())
    elif FILE.read_text() != text():
        sys.exit(f"{FILE.name} differs from the schemas; scripts/schemas.py writes it anew")


if __name__ == "__main__":
    main()
