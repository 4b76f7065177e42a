#!/usr/bin/env python3
"""How near single kernels come to what the machine allows, and beside ONNX Runtime: models of one operation each, with
random weights, by turns, with one thread and with two. Prints a table.

    scripts/kernels.py target/release/kiln [--kinds product …] [--turns 3]

The floor of a kernel is the greater of two times: its multiply-adds at the measured peak of f32 (four times that for
bytes, twice for bf16, which is what `vpdpbusd` and `vdpbf16ps` do in an instruction), and the bytes that it must move
at the measured rate of a copy.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SEED = 7
TYPES = {
    "float32": TensorProto.FLOAT,
    "bfloat16": TensorProto.BFLOAT16,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
}
# Multiply-adds of a type in an instruction, beside those of f32.
RATES = {"float32": 1, "bfloat16": 2, "uint8": 4}


@dataclass
class Kernel:
    """A model of one operation."""

    kind: str
    name: str
    operator: str
    # Type and sizes of what is given in each run, and of what is a constant of the model.
    inputs: list[tuple[str, list[int]]]
    weights: list[tuple[str, list[int]]] = field(default_factory=list)
    attributes: dict = field(default_factory=dict)
    output: str = "float32"
    # Multiply-adds count as two.
    flops: int = 0
    # What the output has, where it has not the sizes of the first input.
    sizes: list[int] | None = None

    def bytes(self) -> int:
        """What must be read and written."""
        result = (self.output, self.sizes or self.inputs[0][1])
        operands = [*self.inputs, *self.weights, result]
        return sum(numpy.prod(sizes, dtype=int) * numpy.dtype(numpy_type(dtype)).itemsize for dtype, sizes in operands)

    def model(self) -> onnx.ModelProto:
        generator = numpy.random.default_rng(SEED)
        names = [f"x{number}" for number in range(len(self.inputs))]
        given = [helper.make_tensor_value_info(n, TYPES[t], s) for n, (t, s) in zip(names, self.inputs)]
        constants = [
            numpy_helper.from_array(values(generator, dtype, sizes), f"w{number}")
            for number, (dtype, sizes) in enumerate(self.weights)
        ]
        operands = [*names, *(constant.name for constant in constants)]
        node = helper.make_node(self.operator, operands, ["y"], **self.attributes)
        result = helper.make_tensor_value_info("y", TYPES[self.output], self.sizes or self.inputs[0][1])
        graph = helper.make_graph([node], self.name, given, [result], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def numpy_type(dtype: str) -> object:
    return ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype


def values(generator: numpy.random.Generator, dtype: str, sizes: list[int]) -> numpy.ndarray:
    if dtype in ("uint8", "int8"):
        least = 0 if dtype == "uint8" else -64
        return generator.integers(least, 64, sizes, dtype=dtype)
    return generator.standard_normal(sizes, dtype="float32").astype(numpy_type(dtype))


def product(m: int, n: int, k: int, kind: str = "product", dtype: str = "float32") -> Kernel:
    shape = {"inputs": [(dtype, [m, k])], "weights": [(dtype, [k, n])], "sizes": [m, n], "flops": 2 * m * n * k}
    if dtype == "uint8":
        shape["weights"] = [("int8", [k, n])]
        return Kernel(kind, f"{m}×{n}×{k} of bytes", "MatMulInteger", output="int32", **shape)
    name = f"{m}×{n}×{k}" + (" of bf16" if dtype == "bfloat16" else "")
    return Kernel(kind, name, "MatMul", output=dtype, **shape)


def convolution(size: int, channels: int, filters: int, window: int) -> Kernel:
    return Kernel(
        "convolution",
        f"{window}×{window}, {channels} to {filters} channels, {size}²",
        "Conv",
        [("float32", [1, channels, size, size])],
        [("float32", [filters, channels, window, window])],
        {"pads": [window // 2] * 4},
        sizes=[1, filters, size, size],
        flops=2 * size * size * channels * filters * window * window,
    )


def kernels() -> Iterator[Kernel]:
    for size in (256, 512, 1024, 2048):
        yield product(size, size, size)
    for n, k in ((768, 768), (2304, 768), (3072, 768), (768, 3072)):
        yield product(128, n, k)
    for size, channels, filters, window in (
        (56, 64, 64, 1),
        (56, 64, 256, 1),
        (56, 256, 64, 1),
        (28, 512, 128, 1),
        (14, 256, 1024, 1),
        (7, 2048, 512, 1),
        (56, 64, 64, 3),
        (28, 128, 128, 3),
        (14, 256, 256, 3),
        (7, 512, 512, 3),
    ):
        yield convolution(size, channels, filters, window)
    for rows in (1, 2, 4, 8, 16):
        yield product(rows, 8192, 2048, "few rows")
    for size in (512, 1024):
        yield product(size, size, size, "bytes", "uint8")
        yield product(size, size, size, "bf16", "bfloat16")
    square = ("float32", [4096, 4096])
    yield Kernel("memory", "Relu", "Relu", [square])
    yield Kernel("memory", "Add", "Add", [square, square])
    yield Kernel("memory", "Gelu-like Erf", "Erf", [square])
    yield Kernel("memory", "Softmax of rows", "Softmax", [square], attributes={"axis": -1})
    norm = [("float32", [4096]), ("float32", [4096])]
    yield Kernel("memory", "LayerNormalization", "LayerNormalization", [square], norm)
    yield Kernel("memory", "ReduceMean of rows", "ReduceMean", [square], attributes={"axes": [1]}, sizes=[4096, 1])
    yield Kernel("memory", "ReduceMean of columns", "ReduceMean", [square], attributes={"axes": [0]}, sizes=[1, 4096])
    yield Kernel("memory", "Transpose", "Transpose", [square], attributes={"perm": [1, 0]})
    heads = ("float32", [1024, 16, 1024])
    yield Kernel(
        "memory", "Transpose of heads", "Transpose", [heads], attributes={"perm": [1, 0, 2]}, sizes=[16, 1024, 1024]
    )
    yield Kernel("memory", "Concat", "Concat", [square, square], attributes={"axis": 1}, sizes=[4096, 8192])


def kiln(command: Path, file: Path, threads: int, runs: int) -> dict:
    flags = ["--threads", threads, "--runs", runs, "--schedules", "none", "--cache", "none", "--json", "-"]
    said = subprocess.run([command, "bench", file, *map(str, flags)], check=True, capture_output=True, text=True)
    return json.loads(said.stdout)


def ort(file: Path, kernel: Kernel, threads: int, runs: int) -> float | None:
    """Milliseconds, or nothing if it does not take the model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001: whatever it says, it does not run this model
        return None
    generator = numpy.random.default_rng(SEED)
    binding = session.io_binding()
    for number, (dtype, sizes) in enumerate(kernel.inputs):
        binding.bind_cpu_input(f"x{number}", values(generator, dtype, sizes))
    binding.bind_output("y")
    times = []
    for _ in range(runs + 3):
        begin = time.perf_counter()
        session.run_with_iobinding(binding)
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kiln", type=Path, help="the command")
    parser.add_argument("--kinds", nargs="*", help="product, convolution, few rows, bytes, bf16, memory; all without")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    print("| kernel | 1 thread, ms | of the floor | ONNX Runtime ÷ Kiln | 2 threads, ms | times as fast as 1 | ONNX Runtime ÷ Kiln |")
    print("|---|---|---|---|---|---|---|")
    for kernel in kernels():
        if arguments.kinds and kernel.kind not in arguments.kinds:
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            onnx.save(kernel.model(), file)
            cells, single = [], None
            for threads in (1, 2):
                turns, theirs, shares = [], [], []
                for _ in range(arguments.turns):
                    said = kiln(arguments.kiln, file, threads, 20)
                    ms = said["latency_ms"]["median"]
                    rate = 1e9 * said["peak_gflops"] * RATES[kernel.inputs[0][0]]
                    floor = max(kernel.flops / rate, kernel.bytes() / (1e9 * said["copy_gbytes_per_s"]))
                    turns.append(ms)
                    shares.append(1e3 * floor / ms)
                    theirs.append(ort(file, kernel, threads, 20))
                ms = statistics.median(turns)
                ratio = "–" if None in theirs else f"{statistics.median(theirs) / ms:.2f}"
                if single is None:
                    single = ms
                    cells += [f"{ms:.3f}", f"{100 * statistics.median(shares):.0f} %", ratio]
                else:
                    cells += [f"{ms:.3f}", f"{single / ms:.2f}", ratio]
        print(f"| {kernel.kind}: {kernel.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
