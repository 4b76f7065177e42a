#!/usr/bin/env python3
"""How long it takes from a model's file to its first results, in milliseconds: medians over turns, each way of each
turn a process of its own, one after the other. Inputs are made up. What a process takes to start is not counted.

    scripts/startup.py target/release/kiln MODEL.onnx…
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ONNXRUNTIME = """
import sys, time
import numpy, onnxruntime
types = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64, "tensor(bool)": numpy.bool_}
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
begin = time.perf_counter()
session = onnxruntime.InferenceSession(sys.argv[1], options)
sizes = lambda given: [size if isinstance(size, int) else 8 for size in given.shape]
session.run(None, {given.name: numpy.zeros(sizes(given), types[given.type]) for given in session.get_inputs()})
print(1e3 * (time.perf_counter() - begin))
"""


def onnxruntime(model: Path) -> float:
    command = [ROOT / "target" / "venv" / "bin" / "python", "-c", ONNXRUNTIME, model]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run(kiln: Path, model: Path, *flags: object) -> float:
    """What `kiln run` says of loading, compiling and running."""
    command = [kiln, "run", model, "--schedules", "none", "--json", "-", *flags]
    words = [str(word) for word in command]
    said = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return said["load_ms"] + said["run_ms"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kiln", type=Path, help="the command")
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    print("| model | LLVM's code | both tiers | both, compiled before | compiled model | ONNX Runtime |")
    print("|---|---|---|---|---|---|")
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            compiled, full = Path(folder) / "model.kiln", Path(folder) / "full"
            sizes = ["--cache", full, "--schedules", "none"]
            made = [arguments.kiln, "compile", model, "-o", compiled, *sizes]
            subprocess.run(made, check=True, capture_output=True)
            ways = {
                "llvm": lambda: run(arguments.kiln, model, "--tier", "best", "--cache", "none"),
                "both": lambda: run(arguments.kiln, model, "--tier", "both", "--cache", "none"),
                "warm": lambda: run(arguments.kiln, model, "--tier", "both", "--cache", full),
                "compiled": lambda: run(arguments.kiln, compiled),
                "onnxruntime": lambda: onnxruntime(model),
            }
            times: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(arguments.turns):
                for way, measure in ways.items():
                    times[way].append(measure())
                print(f"{model}: turn {turn + 1} of {arguments.turns}", file=sys.stderr)
        cells = [f"{statistics.median(found):.1f}" for found in times.values()]
        name = model.parent.name if model.stem == "model" else model.stem
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
