#!/usr/bin/env python3
"""Runs a model with ONNX Runtime on the CPU: all graph optimisations, threads as given and otherwise its defaults
(threads spin while they wait). Inputs and outputs are bound once, so that no run copies them through Python.
"""

import time

import onnxruntime

import timed


def main() -> None:
    arguments = timed.parser(__doc__).parse_args()
    model = timed.Model(arguments.folder)
    before = timed.peak_bytes()
    start = time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.file, options, providers=["CPUExecutionProvider"])
    load = timed.milliseconds(start)
    binding = session.io_binding()
    for name, array in zip(model.inputs, model.arrays()):
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    for name in model.outputs:
        binding.bind_output(name)
    latency = timed.latency(lambda: session.run_with_iobinding(binding), arguments.runs)
    timed.write(arguments.outputs, binding.copy_outputs_to_cpu())
    timed.report(load_ms=load, latency_ms=latency, peak_rss_bytes=timed.peak_bytes(), empty_rss_bytes=before)


if __name__ == "__main__":
    main()
