#!/usr/bin/env python3
"""Runs a model with OpenVINO on the CPU: for latency, with threads as given, and in f32, where its default would
be 16 bits on processors that have products of those. Inputs are bound once.
"""

import time

import openvino

import timed


def main() -> None:
    arguments = timed.parser(__doc__).parse_args()
    model = timed.Model(arguments.folder)
    before = timed.peak_bytes()
    start = time.perf_counter()
    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": arguments.threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(model.file), "CPU", settings)
    load = timed.milliseconds(start)
    request = compiled.create_infer_request()
    arrays = model.arrays()
    for name, array in zip(model.inputs, arrays):
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def run() -> None:
        request.start_async()
        request.wait()

    latency = timed.latency(run, arguments.runs)
    timed.write(arguments.outputs, [request.get_tensor(name).data for name in model.outputs])
    timed.report(load_ms=load, latency_ms=latency, peak_rss_bytes=timed.peak_bytes(), empty_rss_bytes=before)


if __name__ == "__main__":
    main()
