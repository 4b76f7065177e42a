#!/usr/bin/env python3
"""How far whole runs of Kokoro-82M lie apart: ONNX Runtime's from its own with weights that are moved by
their rounding, or without the rounding noise of its Fourier transform; and Kiln's from both. Prints
the figures of docs/kokoro.md; takes the `kiln` command.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import cases
import roundings

FILES = cases.MODELS / "files" / "kokoro"
TEXTS = {"short": "koɲɲiʨiβa", "long": "koɲɲiʨiβa, kʲoː βa iː teɴki desɯ ne. sampo ni ikimaɕoː!"}
WINDOW, HOP = 1024, 256
MOVES, SEEDS = (6e-8, 3e-7), (0, 1, 2)
# Imaginary parts of the transform below this are 0 but for rounding: its results are of the order of 1.
NOISE, IMAGINARY = 2e-6, "/decoder/decoder/generator/Gather_5"


def spectrum(wave: np.ndarray) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(wave.ravel(), WINDOW)[::HOP]
    return np.abs(np.fft.rfft(frames * np.hanning(WINDOW)))


def apart(wave: np.ndarray, other: np.ndarray) -> str:
    """Relative distances, in the 2-norm, of magnitudes and of their means over time."""
    a, b = spectrum(wave), spectrum(other)
    relative = lambda a, b: f"{np.linalg.norm(a - b) / np.linalg.norm(a):8.2%}"
    frames = relative(a, b) if a.shape == b.shape else f"{other.size} samples, not {wave.size}"
    return f"{frames} by frames, {relative(a.mean(0), b.mean(0))} in the mean"


def moved(model: onnx.ModelProto, size: float, seed: int) -> onnx.ModelProto:
    """The model with the scales and biases of its layer normalisations multiplied by 1 + size·normal."""
    result, generator = onnx.ModelProto(), np.random.default_rng(seed)
    result.CopyFrom(model)
    kinds = ("LayerNormalization", "SkipLayerNormalization")
    names = {name for node in model.graph.node if node.op_type in kinds for name in node.input[1:]}
    for tensor in result.graph.initializer:
        if tensor.name in names:
            values = numpy_helper.to_array(tensor)
            values = values * (1 + size * generator.standard_normal(values.shape))
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return result


def quiet(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with 0 where the imaginary part of its Fourier transform is noise."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes = result.graph.node
    place = next(number for number, node in enumerate(nodes) if node.name == IMAGINARY)
    name, nodes[place].output[0] = nodes[place].output[0], "with_noise"
    constants = {"noise": np.float32(NOISE), "nothing": np.float32(0)}
    result.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
    for step in (helper.make_node("Where", ["is_noise", "nothing", "with_noise"], [name]),
                 helper.make_node("Less", ["size", "noise"], ["is_noise"]),
                 helper.make_node("Abs", ["with_noise"], ["size"])):
        nodes.insert(place + 1, step)
    return result


def by_kiln(kiln: Path, model: Path, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        arguments = []
        for name, value in feeds.items():
            np.save(place / f"{name}.npy", value)
            arguments += ["--input", f"{name}={place / name}.npy"]
        start = time.perf_counter()
        subprocess.run([kiln, "run", model, "--threads", "1", *arguments, "--outputs", place], check=True, capture_output=True)
        return np.load(place / "output_0.npy"), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kiln", type=Path)
    parser.add_argument("--backend", default="llvm")
    parser.add_argument("--runs", type=int, default=3, help="runs by turns, of which the median is told")
    arguments = parser.parse_args()
    model = onnx.load(FILES / "kokoro.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = lambda model: onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    plain, silent = session(model), session(quiet(model))
    others = [(f"scales moved by {size:.0e}, seed {seed}", session(moved(model, size, seed))) for size in MOVES for seed in SEEDS]
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "kokoro.kiln"
        command = [arguments.kiln, "compile", FILES / "kokoro.onnx", "--backend", arguments.backend, "--threads", "1", "-o", compiled]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        for name, sounds in TEXTS.items():
            feeds = roundings.say(FILES, sounds)
            wave, without = plain.run(None, feeds)[0], silent.run(None, feeds)[0]
            for what, other in others:
                print(f"{name}: ONNX Runtime, {what}: {apart(wave, other.run(None, feeds)[0])}")
            print(f"{name}: ONNX Runtime without noise: {apart(wave, without)}")
            theirs, ours = [], []
            for _ in range(arguments.runs):
                start = time.perf_counter()
                plain.run(None, feeds)
                theirs.append(time.perf_counter() - start)
                result, seconds = by_kiln(arguments.kiln, compiled, feeds)
                ours.append(seconds)
            print(f"{name}: Kiln from ONNX Runtime: {apart(wave, result)}")
            print(f"{name}: Kiln from ONNX Runtime without noise: {apart(without, result)}")
            print(f"{name}: ONNX Runtime {np.median(theirs):.2f} s, Kiln with its start {np.median(ours):.2f} s, by turns")


if __name__ == "__main__":
    main()
