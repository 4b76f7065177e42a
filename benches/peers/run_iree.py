#!/usr/bin/env python3
"""Runs a model with IREE: imported and compiled for this machine's CPU by LLVM at O3, then run by `local-sync` on
one thread, by `local-task` on several. Inputs are put on the device once.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import iree.runtime as runtime

import timed

# Of the threads that run kernels, in bytes.
STACK = 1 << 20
FLAGS = [
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
    "--iree-opt-level=O3",
    # No part of O3, and a fifth faster here.
    "--iree-opt-data-tiling",
    # With the default, 32 KiB, several models are not compiled for AVX-512.
    f"--iree-llvmcpu-stack-allocation-limit={STACK // 4}",
]
# Takes convolutions to the layout that it vectorises. Most models with them are twice as fast for it; those that
# are not compiled with it are compiled without.
CHANNELS_LAST = "builtin.module(util.func(iree-preprocessing-convert-conv-to-channels-last))"
# Its importer is made for this version of ONNX's operators and newer ones; it converts models to it.
OPSET = 17


def tool(name: str, *flags: object) -> None:
    """Runs a program of the package; if it fails, ends with the first error that it tells."""
    found = subprocess.run([Path(sys.executable).parent / name, *map(str, flags)], capture_output=True, text=True)
    if found.returncode:
        lines = [line for line in found.stderr.splitlines() if line.strip()]
        told = [line for line in lines if "error:" in line.lower()] or lines[-1:] or [f"status {found.returncode}"]
        raise RuntimeError(f"{name}: {told[0].split('error: ', 1)[-1]}")


def translate(imported: Path, module: Path) -> float:
    """The milliseconds that the way took that succeeded."""
    start = time.perf_counter()
    try:
        tool("iree-compile", imported, "-o", module, *FLAGS, f"--iree-preprocessing-pass-pipeline={CHANNELS_LAST}")
    except RuntimeError:
        start = time.perf_counter()
        tool("iree-compile", imported, "-o", module, *FLAGS)
    return timed.milliseconds(start)


def build(model: timed.Model, work: Path) -> tuple[Path, float]:
    """The compiled module, and the milliseconds that importing and compiling it took."""
    module, record = work / "model.vmfb", work / "compiled.json"
    if not record.exists():
        imported = work / "model.mlir"
        start = time.perf_counter()
        tool("iree-import-onnx", model.file, "-o", imported, "--opset-version", OPSET)
        importing = timed.milliseconds(start)
        record.write_text(json.dumps(importing + translate(imported, module)))
        imported.unlink()
    return module, json.loads(record.read_text())


def main() -> None:
    arguments = timed.parser(__doc__).parse_args()
    model = timed.Model(arguments.folder)
    module, compiling = build(model, arguments.work)
    before = timed.peak_bytes()
    start = time.perf_counter()
    runtime.flags.parse_flags(f"--task_topology_group_count={arguments.threads}", f"--task_worker_stack_size={STACK}")
    device = runtime.get_device("local-sync" if arguments.threads == 1 else "local-task")
    instance = runtime.VmInstance()
    loaded = runtime.VmModule.mmap(instance, str(module))
    context = runtime.VmContext(instance, [runtime.create_hal_module(instance, device), loaded])
    name = next(name for name in loaded.function_names if not name.endswith("$async") and not name.startswith("__"))
    function = loaded.lookup_function(name)
    load = timed.milliseconds(start)
    inputs = runtime.VmVariantList(len(model.inputs))
    arrays = [runtime.asdevicearray(device, array) for array in model.arrays()]
    for array in arrays:
        inputs.push_ref(array._buffer_view)
    found = []

    def run() -> None:
        outputs = runtime.VmVariantList(len(model.outputs))
        context.invoke(function, inputs, outputs)
        found[:] = [outputs]

    latency = timed.latency(run, arguments.runs)
    peak = timed.peak_bytes()
    views = [found[0].get_as_object(number, runtime.HalBufferView) for number in range(len(model.outputs))]
    timed.write(arguments.outputs, [runtime.DeviceArray(device, view).to_host() for view in views])
    timed.report(compile_ms=compiling, load_ms=load, latency_ms=latency, peak_rss_bytes=peak, empty_rss_bytes=before)
    # Its threads are taken down in an order that sometimes aborts; by then all is measured.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
